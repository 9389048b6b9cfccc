"""The newest snapshot → ``monitoring/network/overview``: the network now, today, and as usual.

What it needs of the past are small sums of each closed day, made once when the day's events are
exported; of today it reads the snapshots, each once an instance.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from velib_core.events.job import JobResult
from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_update import MANIFEST, Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.lake.bucket import Artefact, fingerprint_of
from velib_core.lake.keys import Events, Monitoring, OverviewDay
from velib_core.monitoring.network import overview
from velib_core.monitoring.network.day_sums import HISTORY_COLUMNS, DaySums, summarise
from velib_core.tables import history
from velib_core.tables import views as datasets
from velib_core.tables.snapshots_index import newest_snapshot, still_newest
from velib_core.timeline.bins import Bin, Day, bin_start, day_after, day_of
from velib_core.timeline.windows import today_so_far

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import Documents
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake, ReadableNetwork
    from velib_core.settings.network import Settings

JOB = "build_network_overview"
FOLDER = "network/overview"

KEPT_SNAPSHOTS = 320
"""Parsed snapshots that a warm instance keeps: more than the longest local day has."""

LAG_DAYS = 22
"""How far back same hours are compared: three weeks, and the day before them."""

_BINARY = "application/octet-stream"


@dataclasses.dataclass
class WarmState:
    """What an instance keeps between events: today's snapshots, and the sums of past days."""

    snapshots: history.SnapshotReader = dataclasses.field(
        default_factory=lambda: history.SnapshotReader(KEPT_SNAPSHOTS)
    )
    days: dict[tuple[str, int], DaySums | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """The snapshots of the local day of the newest one, and the sums of the days before."""

    newest: Bin
    today: dict[Bin, Entry]
    days: list[Entry]

    @property
    def entries(self) -> list[Entry]:
        return [*self.today.values(), *self.days]


def run(
    network: Network,
    warm: WarmState,
    arrived: Bin | None = None,
    *,
    force: bool = False,
) -> JobResult:
    """Tell the network as of the newest snapshot, if that is the one that arrived.

    ``arrived`` is the bin of the snapshot that the event is about; ``None`` asks for the newest,
    whichever it is.
    """
    if arrived is not None and still_newest(network.lake, network.layout, arrived) is None:
        return JobResult(JOB, counts={"overtaken": 1})

    def plan() -> Plan:
        inputs = _resolve_inputs(network, arrived)
        entries = inputs.entries if inputs else []
        return Plan(
            expected_fingerprint(network.settings, entries),
            entries,
            lambda: _make(network, warm, inputs),
        )

    return update_family(network, FOLDER, JOB, plan, force=force)


def run_for_day(network: Network, warm: WarmState, day: Day, *, force: bool = False) -> JobResult:
    """Sum a closed day up, and tell the network again where that is new to it."""
    summed = sum_day(network, day, force=force)
    result = run(network, warm, force=force)
    result.outputs |= summed.outputs
    return result


def run_for_days(network: Network, *, force: bool = False) -> JobResult:
    """Sum up the closed days that are not yet, and tell the network as it is."""
    result = JobResult(JOB)
    for day in days_to_sum(network):
        result.outputs |= sum_day(network, day).outputs
    result.outputs |= run(network, WarmState(), force=force).outputs
    return result


def days_to_sum(network: ReadableNetwork) -> list[Day]:
    """Return the days with events whose sums are missing or of other events, in order."""
    layout = network.layout
    views = {entry.name: entry for entry in network.lake.entries(f"{layout.exports}/")}
    sums = {entry.name: entry for entry in network.lake.entries(_sums_folder(layout))}
    found = []
    for day, name in sorted(layout.by_day(Events, views).items()):
        held = sums.get(layout.name(OverviewDay(day)))
        if held is None or held.fingerprint != _sums_fingerprint(views[name]):
            found.append(day)
    return found


def sum_day(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Sum a closed day up."""
    layout = network.layout
    name = layout.name(OverviewDay(day))

    def make(current: Entry | None) -> Artefact | None:
        events = network.lake.stat(layout.name(Events(day)))
        if events is None:
            return None
        fingerprint = _sums_fingerprint(events)
        if current and current.fingerprint == fingerprint and not force:
            return None
        sums = summarise(family.read_day(network.lake, events, HISTORY_COLUMNS))
        return Artefact(sums_to_bytes(sums), _BINARY, fingerprint)

    return JobResult(JOB, {name: network.lake.update(name, make, force=force)})


def expected_fingerprint(settings: Settings, entries: list[Entry]) -> str:
    """Return the fingerprint of an overview made from these objects."""
    reported = sorted(settings.monitoring.of("overview", but=()).items())
    bounds = (settings.penury_bikes, settings.saturation_docks)
    return fingerprint_of(f"{JOB} 1 {settings.tz} {bounds} {reported}", entries)


def is_stale(network: ReadableNetwork) -> bool:
    """Tell whether there are snapshots or sums that the overview was not made from."""
    inputs = _resolve_inputs(network)
    if inputs is None:
        return False
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    return manifest is None or manifest.fingerprint != expected_fingerprint(
        network.settings, inputs.entries
    )


def _sums_fingerprint(events: Entry) -> str:
    return fingerprint_of("overview day 1", [events])


def _sums_folder(layout: Layout) -> str:
    return layout.name(OverviewDay(Day(dt.date.min))).rpartition("/")[0] + "/"


def sums_to_bytes(sums: DaySums | None) -> bytes:
    """Write the sums of a day as named arrays; of an empty day none."""
    sink = io.BytesIO()
    arrays = {} if sums is None else {**vars(sums), "start": np.array(sums.start)}
    np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def sums_from_bytes(data: bytes) -> DaySums | None:
    """Read the sums of a day; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if "start" not in arrays:
            return None
        return DaySums(
            Bin(int(arrays["start"])), arrays["ids"], arrays["network"], arrays["stations"]
        )


def _resolve_inputs(network: ReadableNetwork, arrived: Bin | None = None) -> _Inputs | None:
    layout = network.layout
    newest = newest_snapshot(network.lake, layout, arrived)
    if newest is None:
        return None
    today = today_so_far(bin_start(newest.bin), network.settings.tz)
    snapshots = history.recent_entries(network.lake, layout, newest.bin, today.bins)
    limits = network.settings.monitoring
    back = max(limits.overview_window_days, limits.overview_reference_days, LAG_DAYS) + 1
    since = day_after(day_of(newest.bin), -back)
    sums = {entry.name: entry for entry in network.lake.entries(_sums_folder(layout))}
    days = layout.by_day(OverviewDay, sums)
    known = [sums[name] for day, name in sorted(days.items()) if since <= day]
    return _Inputs(newest.bin, snapshots, known)


def _make(network: Network, warm: WarmState, inputs: _Inputs | None) -> Documents:
    limits = network.settings.monitoring
    tables = list(warm.snapshots.tables(network.lake, inputs.today)) if inputs else []
    now = bin_start(inputs.newest) if inputs else dt.datetime.now(dt.UTC)
    entries = inputs.entries if inputs else []
    return overview.build(
        [_events(pa.concat_tables(tables), network.settings)] if tables else [],
        [_sums(network.lake, warm, entry) for entry in (inputs.days if inputs else [])],
        now=now,
        run_metadata=run_metadata(network.settings, FOLDER, now, entries),
        thresholds=overview.OverviewThresholds(**limits.of("overview")),
        bounds=stockout_bounds(network.settings),
    )


def _events(rows: pa.Table, settings: Settings) -> pa.Table:
    return datasets.events_view(
        rows,
        penury_bikes=settings.penury_bikes,
        saturation_docks=settings.saturation_docks,
    ).select(overview.COLUMNS)


def _sums(lake: ReadableLake, warm: WarmState, entry: Entry) -> DaySums | None:
    key = (entry.name, entry.generation)
    if key not in warm.days:
        for old in [known for known in warm.days if known[0] == entry.name]:
            del warm.days[old]
        warm.days[key] = sums_from_bytes(lake.read(entry))
    return warm.days[key]
