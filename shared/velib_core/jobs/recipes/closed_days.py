"""What a monitoring family of closed days is made from; each says what it reads in its module."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.keys import Events, Monitoring, Perf
from velib_core.monitoring.documents import MANIFEST
from velib_core.timeline.bins import Day, bin_start, day_after, first_bin
from velib_core.timeline.windows import complete_days, share_of_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from velib_core.lake.readable import Entry, ReadableLake, ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.timeline.windows import LocalDays


@dataclasses.dataclass(frozen=True)
class ClosedDays:
    """The day files there are, and the instant that windows end at.

    ``as_of`` is the end of the newest closed day (aware, UTC), and not the time of the run: a
    replay looks at the same windows. Without any day it is the present.
    """

    as_of: dt.datetime
    files: Mapping[Day, Entry]
    tz: str

    def window(self, days: int) -> LocalDays:
        """Return the last so many complete local days."""
        return complete_days(self.as_of, days, self.tz)

    def share(self, days: int, reference_days: int) -> tuple[int, int]:
        """Return how many days to compare with how many before them, where history is short."""
        first = min(self.files, default=self.as_of.date())
        return share_of_history(self.as_of, first, days, reference_days, self.tz)

    def of(self, days: Iterable[Day]) -> list[Entry]:
        """Return the files of some days, in order; days without one are left out."""
        return [self.files[day] for day in sorted(set(days)) if day in self.files]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a family is to be made from: day files in order, and other objects by what they are."""

    closed: ClosedDays
    files: list[Entry]
    additional_inputs: Mapping[str, list[Entry]] = dataclasses.field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """Every object, in a fixed order."""
        return [
            *self.files,
            *(entry for entries in self.additional_inputs.values() for entry in entries),
        ]


@dataclasses.dataclass(frozen=True)
class Family:
    """A family that is made from the views of closed days.

    ``folder`` is its place below the monitoring prefix, ``view`` the kind of day file it reads,
    ``settings`` how its settings start, ``read`` what it reads of the closed days and besides.
    One that is ``alerting`` has alerts in its manifest.
    """

    job: str
    folder: str
    view: type[Events | Perf]
    settings: str
    read: Callable[[ReadableNetwork, ClosedDays], Inputs]
    alerting: bool = False

    def inputs(self, network: ReadableNetwork) -> Inputs:
        """Return what the documents are to be made from now."""
        return self.read(network, closed_days(network, self.view))

    def fingerprint(self, settings: Settings, inputs: Inputs) -> str:
        """Return the fingerprint that the manifest must carry when it is up to date."""
        reported = settings.monitoring.of(self.settings, but=())
        bounds = (settings.penury_bikes, settings.saturation_docks)
        recipe = f"{self.job} 1 {settings.tz} {bounds} {sorted(reported.items())}"
        return fingerprint_of(recipe, inputs.entries)

    def is_stale(self, network: ReadableNetwork) -> bool:
        """Return whether there are inputs that the manifest was not made from."""
        inputs = self.inputs(network)
        if not inputs.files:
            return False
        manifest = network.lake.stat(network.layout.name(Monitoring(self.folder, MANIFEST)))
        expected = self.fingerprint(network.settings, inputs)
        return manifest is None or manifest.fingerprint != expected


def closed_days(network: ReadableNetwork, view: type[Events | Perf]) -> ClosedDays:
    """Look up the day files of a kind. The instant is that of the events, whichever the kind."""
    layout = network.layout
    entries = {entry.name: entry for entry in network.lake.entries(f"{layout.exports}/")}
    newest = max(layout.by_day(Events, entries), default=None)
    files = {day: entries[name] for day, name in layout.by_day(view, entries).items()}
    as_of = dt.datetime.now(dt.UTC)
    if newest is not None:
        as_of = bin_start(first_bin(day_after(newest)))
        files = {day: entry for day, entry in files.items() if day <= newest}
    return ClosedDays(as_of, dict(sorted(files.items())), network.settings.tz)


def newest_events(network: ReadableNetwork) -> list[Entry]:
    """Return the newest observations table: it has the names and places of stations."""
    files = closed_days(network, Events).files
    return [files[max(files)]] if files else []


def found(lake: ReadableLake, names: Iterable[str]) -> list[Entry]:
    """Return the objects of these names that there are."""
    stats = (lake.stat(name) for name in names if name)
    return [entry for entry in stats if entry is not None]
