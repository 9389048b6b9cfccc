"""What the network overview is made from: snapshots of today, sums of closed days."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import dated_fingerprint, fingerprint_of
from velib_core.lake.keys import Events, Monitoring, OverviewDay
from velib_core.monitoring.documents import MANIFEST
from velib_core.tables.snapshots_index import recent_snapshots
from velib_core.timeline.bins import Bin, Day, bin_start, day_after, day_of
from velib_core.timeline.windows import today_so_far

if TYPE_CHECKING:
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.tables.history import SnapshotReader

JOB = "build_network_overview"
FOLDER = "network/overview"

LAG_DAYS = 22
"""How far back same hours are compared: three weeks, and the day before them."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """The snapshots of the local day of the newest one, and the sums of the days before."""

    newest: Bin
    today: dict[Bin, Entry]
    days: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        """Every object, in a fixed order."""
        return [*self.today.values(), *self.days]


def days_to_sum(network: ReadableNetwork) -> list[Day]:
    """Return the days with events whose sums are missing or of other events, in order."""
    layout = network.layout
    views = {entry.name: entry for entry in network.lake.entries(f"{layout.exports}/")}
    sums = {entry.name: entry for entry in network.lake.entries(sums_folder(layout))}
    found = []
    for day, name in sorted(layout.by_day(Events, views).items()):
        held = sums.get(layout.name(OverviewDay(day)))
        if held is None or held.fingerprint != sums_fingerprint(views[name]):
            found.append(day)
    return found


def expected_fingerprint(settings: Settings, inputs: Inputs | None) -> str:
    """Return the fingerprint of an overview made from these; that of a snapshot begins with it."""
    reported = sorted(settings.monitoring.of("overview", but=()).items())
    bounds = (settings.penury_bikes, settings.saturation_docks)
    content = f"{JOB} 1 {settings.tz} {bounds} {reported}"
    if inputs is None:
        return fingerprint_of(content, [])
    return dated_fingerprint(inputs.newest, content, inputs.entries)


def is_stale(network: ReadableNetwork) -> bool:
    """Return whether there are snapshots or sums that the overview was not made from."""
    inputs = resolve_inputs(network)
    if inputs is None:
        return False
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    return manifest is None or manifest.fingerprint != expected_fingerprint(
        network.settings, inputs
    )


def sums_fingerprint(events: Entry) -> str:
    """Return the fingerprint that the sums of a day's events must carry."""
    return fingerprint_of("overview day 1", [events])


def sums_folder(layout: Layout) -> str:
    """Return the prefix of the sums of closed days."""
    return layout.name(OverviewDay(Day(dt.date.min))).rpartition("/")[0] + "/"


def resolve_inputs(
    network: ReadableNetwork, arrived: Bin | None = None, reader: SnapshotReader | None = None
) -> Inputs | None:
    """Return what the overview is to be made from now.

    ``None`` without a snapshot, or where a newer one is there than the one that arrived
    (`velib_core.tables.snapshots_index.recent_snapshots`).
    """
    layout = network.layout

    def bins_of_today(newest: Bin) -> int:
        return today_so_far(bin_start(newest), network.settings.tz).bins

    snapshots = recent_snapshots(network.lake, layout, arrived, bins_of_today, reader)
    if not snapshots:
        return None
    newest = max(snapshots)
    limits = network.settings.monitoring
    back = max(limits.overview_window_days, limits.overview_reference_days, LAG_DAYS) + 1
    since = day_after(day_of(newest), -back)
    sums = {entry.name: entry for entry in network.lake.entries(sums_folder(layout))}
    days = layout.by_day(OverviewDay, sums)
    known = [sums[name] for day, name in sorted(days.items()) if since <= day]
    return Inputs(newest, snapshots, known)
