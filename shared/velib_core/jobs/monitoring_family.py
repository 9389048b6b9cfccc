"""What the monitoring jobs share: which day files they read, and writing a family together.

A family is a folder of documents and the manifest that says what they were made from. It is
written under the rules of `velib_core.lake.bucket.Lake.publish`, as one: the live generations are
noted before any input is looked up, and where another run came first everything is done again. The
manifest is written last and names the checksum of every document, so a reader can tell a family
that is being replaced from a complete one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velib_core import logs
from velib_core.jobs.family_update import MANIFEST
from velib_core.lake.bucket import (
    fingerprint_of,
)
from velib_core.lake.keys import Events, ForecastLog, ModelFile, Monitoring, Perf
from velib_core.model.registry import POINTER
from velib_core.monitoring.documents import RunMetadata, StockoutBounds
from velib_core.monitoring.panels import day_panel
from velib_core.settings.env import SettingsError
from velib_core.settings.network import bucket_and_folder
from velib_core.tables.history import snapshot_entries
from velib_core.timeline.bins import Day, bin_start, day_after, first_bin
from velib_core.timeline.windows import complete_days, days_before, share_of_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from velib_core.lake.readable import Entry, ReadableLake, ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.tables.panel import Stations
    from velib_core.timeline.windows import LocalDays


@dataclasses.dataclass(frozen=True)
class Family:
    """A family that is made from the views of closed days.

    ``folder`` is its place below the monitoring prefix, ``view`` the kind of day file it reads,
    ``settings`` how its settings start.
    """

    job: str
    folder: str
    view: type[Events | Perf]
    settings: str


HEALTH = Family("build_data_health", "data/health", Events, "health")
DRIFT = Family("build_data_drift", "data/drift", Events, "drift")
PERFORMANCE = Family("build_model_performance", "model/performance", Perf, "performance")
EXPLAINABILITY = Family("build_model_explainability", "model/explainability", Perf, "explain")
STATIONS = Family("build_network_stations", "network/stations", Events, "stations")
DYNAMICS = Family("build_network_dynamics", "network/dynamics", Events, "dynamics")

FAMILIES = (HEALTH, DRIFT, PERFORMANCE, EXPLAINABILITY, STATIONS, DYNAMICS)


@dataclasses.dataclass(frozen=True)
class ClosedDays:
    """The day files there are, and the instant that windows are told at.

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


REGULARITY_WEEKS = 5
"""How far back the dynamics compare a day with earlier ones of its weekday."""


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


def resolve_inputs(network: ReadableNetwork, family: Family) -> Inputs:
    """Return what the documents of a family are to be made from now."""
    closed = closed_days(network, family.view)
    limits = network.settings.monitoring
    if family is DRIFT:
        window, reference = drift_windows(closed, network.settings)
        return Inputs(closed, closed.of([*reference.utc_days(), *window.utc_days()]))
    if family is DYNAMICS:
        return Inputs(closed, closed.of(dynamics_days(closed, network.settings)))
    window = closed.window(getattr(limits, f"{family.settings}_days"))
    files = closed.of(window.utc_days())
    if family is HEALTH:
        earlier = days_before(window, limits.drift_reference_days).utc_days()[:-1]
        after = _snapshot_after(network, closed)
        return Inputs(closed, files, {"earlier": closed.of(earlier), "after": after})
    if family is STATIONS:
        return Inputs(closed, files)
    additional_inputs = {"names": _newest_events(network)}
    if family is PERFORMANCE:
        additional_inputs["forecast_log"] = _forecast_logs(network, window.utc_days())
        additional_inputs["clusters"] = _found(network.lake, [_clusters_name(network.settings)])
    else:
        pointers = (ModelFile(h, None, POINTER) for h in limits.explain_horizons)
        names = [network.layout.name(key) for key in pointers]
        additional_inputs["models"] = _found(network.lake, names)
    return Inputs(closed, files, additional_inputs)


def drift_windows(closed: ClosedDays, settings: Settings) -> tuple[LocalDays, LocalDays]:
    """Return the current window of the drift and the reference before it."""
    limits = settings.monitoring
    days, before = closed.share(limits.drift_days, limits.drift_reference_days)
    window = closed.window(days)
    return window, days_before(window, before)


def dynamics_days(closed: ClosedDays, settings: Settings) -> list[Day]:
    """Return the days of the dynamics' window, and those that regularity compares."""
    days = set(closed.window(settings.monitoring.dynamics_days).utc_days())
    newest = max(closed.files, default=None)
    if newest is not None:
        for week in range(REGULARITY_WEEKS + 1):
            at = day_after(newest, -7 * week)
            # A local day is in at most three UTC days.
            days |= {day_after(at, n) for n in (-1, 0, 1)}
    return sorted(days)


def _snapshot_after(network: ReadableNetwork, closed: ClosedDays) -> list[Entry]:
    """Return the first snapshot after the newest closed day: the one that closed it."""
    if not closed.files:
        return []
    entries = snapshot_entries(network.lake, network.layout, day_after(max(closed.files)))
    return [entries[min(entries)]] if entries else []


def _newest_events(network: ReadableNetwork) -> list[Entry]:
    """Return the newest events view: it knows the names and places of stations."""
    files = closed_days(network, Events).files
    return [files[max(files)]] if files else []


def _forecast_logs(network: ReadableNetwork, days: Iterable[Day]) -> list[Entry]:
    layout = network.layout
    entries = {entry.name: entry for entry in network.lake.entries(f"{layout.exports}/served_")}
    by_day = layout.by_day(ForecastLog, entries)
    return [entries[by_day[day]] for day in days if day in by_day]


def _clusters_name(settings: Settings) -> str:
    """Return the object name that PERF_CLUSTERS_CSV gives, below the exports or none at all."""
    address = settings.monitoring.performance_clusters
    prefix = f"{settings.exports_prefix}/"
    if address and not address.startswith(prefix):
        raise SettingsError("PERF_CLUSTERS_CSV", address, f"an object below {prefix}")
    return bucket_and_folder(address)[1] if address else ""


def _found(lake: ReadableLake, names: Iterable[str]) -> list[Entry]:
    stats = (lake.stat(name) for name in names if name)
    return [entry for entry in stats if entry is not None]


def expected_fingerprint(settings: Settings, family: Family, inputs: Inputs) -> str:
    """Return the fingerprint that a family's manifest must carry when it is up to date."""
    reported = settings.monitoring.of(family.settings, but=())
    bounds = (settings.penury_bikes, settings.saturation_docks)
    recipe = f"{family.job} 1 {settings.tz} {bounds} {sorted(reported.items())}"
    return fingerprint_of(recipe, inputs.entries)


def is_stale(network: ReadableNetwork, family: Family) -> bool:
    """Tell whether a family has inputs that its manifest was not made from."""
    inputs = resolve_inputs(network, family)
    if not inputs.files:
        return False
    manifest = network.lake.stat(network.layout.name(Monitoring(family.folder, MANIFEST)))
    return manifest is None or manifest.fingerprint != expected_fingerprint(
        network.settings, family, inputs
    )


def read_day(lake: ReadableLake, entry: Entry, columns: Sequence[str]) -> pa.Table:
    """Read columns of a day file; strings stay dictionaries, at a fraction of the memory."""
    return pq.read_table(
        io.BytesIO(lake.read(entry)),
        columns=list(columns),
        read_dictionary=["station_id", "name", "model_version"],
    )


def read_days(
    lake: ReadableLake, entries: Iterable[Entry], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Read day files one after another, in the order given.

    One that is no Parquet, or lacks a column, is named in the log and left out: its day is
    missing from the figures, which say so, and the others are told.
    """
    for entry in entries:
        try:
            table = read_day(lake, entry, columns)
        except (pa.ArrowException, OSError, ValueError) as error:
            logs.log("ERROR", f"{entry.name} is left out: {error}")
            continue
        yield table


_DESCRIBED = ("tbin_utc", "station_id", "bikes", "name", "lat", "lon", "capacity")


def run_metadata(
    settings: Settings, folder: str, generated_at: dt.datetime, inputs: Iterable[Entry]
) -> RunMetadata:
    """Return the edition of a family's folder, made from these objects."""
    return RunMetadata(
        generated_at=generated_at,
        tz=settings.tz,
        latest_prefix=f"{settings.monitoring_prefix}/{folder}/latest",
        exports_prefix=settings.exports_prefix,
        inputs={entry.name: entry.crc32c for entry in inputs},
    )


def instant_of(table: pa.Table) -> dt.datetime:
    """Return when the newest row of a table was observed, by the feed's clock (aware, UTC)."""
    newest: dt.datetime = pc.max(table["ts_utc"].cast(pa.timestamp("s"))).as_py()
    return newest.replace(tzinfo=dt.UTC)


def stations_in(lake: ReadableLake, views: Iterable[Entry]) -> Stations | None:
    """Return the stations that the last of these events views describes; ``None`` without any."""
    found = None
    for view in views:
        panel = day_panel(read_day(lake, view, _DESCRIBED), ("bikes",))
        found = panel.stations if panel is not None else found
    return found


def stockout_bounds(settings: Settings) -> StockoutBounds:
    """Return the bounds that the flags of the events views were made with."""
    return StockoutBounds(penury=settings.penury_bikes, saturation=settings.saturation_docks)
