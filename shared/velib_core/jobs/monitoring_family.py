"""What the monitoring jobs share: which day files they read, and writing a family together.

A family is a folder of documents and the manifest that says what they were made from. It is
written under the rules of `velib_core.lake.Lake.publish`, as one: the live generations are noted
before any input is looked up, and where another run came first everything is done again. The
manifest is written last and names the checksum of every document, so a reader can tell a family
that is being replaced from a complete one.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import dataclasses
import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import PreconditionFailed

from velib_core import lake as store
from velib_core import logs
from velib_core.grid import Day, bin_start, day_after, first_bin
from velib_core.jobs.history import snapshot_entries
from velib_core.jobs.result import JobResult
from velib_core.lake import Artefact, InputChangedError, RaceLostError
from velib_core.layout import Events, Layout, Ledger, ModelFile, Monitoring, Perf
from velib_core.model_registry import POINTER
from velib_core.settings import SettingsError, bucket_and_folder
from velib_core.windows import complete_days, days_before, share_of_history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from velib_core.events import Publisher
    from velib_core.lake import Entry, Lake, Outcome
    from velib_core.settings import Settings
    from velib_core.windows import LocalDays

MANIFEST = "manifest.json"
CACHE = "no-cache, max-age=0"
WRITERS = 8

Documents = dict[str, Any]


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


class Plan(NamedTuple):
    """What a family is to be made from, its mark, and how to make it."""

    mark: str
    inputs: Sequence[Entry]
    make: Callable[[], Documents]


def closed_days(lake: Lake, settings: Settings, view: type[Events | Perf]) -> ClosedDays:
    """Look up the day files of a kind. The instant is that of the events, whichever the kind."""
    layout = Layout(settings)
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    newest = max(layout.by_day(Events, entries), default=None)
    files = {day: entries[name] for day, name in layout.by_day(view, entries).items()}
    as_of = dt.datetime.now(dt.UTC)
    if newest is not None:
        as_of = bin_start(first_bin(day_after(newest)))
        files = {day: entry for day, entry in files.items() if day <= newest}
    return ClosedDays(as_of, dict(sorted(files.items())), settings.tz)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a family is to be made from: day files in order, and other objects by what they are."""

    closed: ClosedDays
    files: list[Entry]
    beside: Mapping[str, list[Entry]] = dataclasses.field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """Every object, in a fixed order."""
        return [*self.files, *(entry for entries in self.beside.values() for entry in entries)]


def look_up(lake: Lake, settings: Settings, family: Family) -> Inputs:
    """Return what the documents of a family are to be made from now."""
    closed = closed_days(lake, settings, family.view)
    limits = settings.monitoring
    if family is DRIFT:
        window, reference = drift_windows(closed, settings)
        return Inputs(closed, closed.of([*reference.utc_days(), *window.utc_days()]))
    if family is DYNAMICS:
        return Inputs(closed, closed.of(dynamics_days(closed, settings)))
    window = closed.window(getattr(limits, f"{family.settings}_days"))
    files = closed.of(window.utc_days())
    if family is HEALTH:
        earlier = days_before(window, limits.drift_reference_days).utc_days()[:-1]
        after = _snapshot_after(lake, settings, closed)
        return Inputs(closed, files, {"earlier": closed.of(earlier), "after": after})
    if family is STATIONS:
        return Inputs(closed, files)
    beside = {"names": _newest_events(lake, settings)}
    if family is PERFORMANCE:
        beside["ledger"] = _ledgers(lake, settings, window.utc_days())
        beside["clusters"] = _found(lake, [_clusters_name(settings)])
    else:
        pointers = (ModelFile(h, None, POINTER) for h in limits.explain_horizons)
        beside["models"] = _found(lake, [Layout(settings).name(key) for key in pointers])
    return Inputs(closed, files, beside)


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


def _snapshot_after(lake: Lake, settings: Settings, closed: ClosedDays) -> list[Entry]:
    """Return the first snapshot after the newest closed day: the one that closed it."""
    if not closed.files:
        return []
    entries = snapshot_entries(lake, Layout(settings), day_after(max(closed.files)))
    return [entries[min(entries)]] if entries else []


def _newest_events(lake: Lake, settings: Settings) -> list[Entry]:
    """Return the newest events view: it knows the names and places of stations."""
    files = closed_days(lake, settings, Events).files
    return [files[max(files)]] if files else []


def _ledgers(lake: Lake, settings: Settings, days: Iterable[Day]) -> list[Entry]:
    layout = Layout(settings)
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/served_")}
    by_day = layout.by_day(Ledger, entries)
    return [entries[by_day[day]] for day in days if day in by_day]


def _clusters_name(settings: Settings) -> str:
    """Return the object name that PERF_CLUSTERS_CSV gives, below the exports or none at all."""
    address = settings.monitoring.performance_clusters
    prefix = f"{settings.exports_prefix}/"
    if address and not address.startswith(prefix):
        raise SettingsError("PERF_CLUSTERS_CSV", address, f"an object below {prefix}")
    return bucket_and_folder(address)[1] if address else ""


def _found(lake: Lake, names: Iterable[str]) -> list[Entry]:
    stats = (lake.stat(name) for name in names if name)
    return [entry for entry in stats if entry is not None]


def mark_of(settings: Settings, family: Family, inputs: Inputs) -> str:
    """Return the fingerprint that a family's manifest must carry when it is up to date."""
    told = settings.monitoring.of(family.settings, but=())
    bounds = (settings.penury_bikes, settings.saturation_docks)
    recipe = f"{family.job} 1 {settings.tz} {bounds} {sorted(told.items())}"
    return store.fingerprint(recipe, inputs.entries)


def is_stale(lake: Lake, settings: Settings, family: Family) -> bool:
    """Tell whether a family has inputs that its manifest was not made from."""
    inputs = look_up(lake, settings, family)
    if not inputs.files:
        return False
    manifest = lake.stat(Layout(settings).name(Monitoring(family.folder, MANIFEST)))
    return manifest is None or manifest.fingerprint != mark_of(settings, family, inputs)


def read_day(lake: Lake, entry: Entry, columns: Sequence[str]) -> pa.Table:
    """Read columns of a day file; strings stay dictionaries, at a fraction of the memory."""
    return pq.read_table(
        io.BytesIO(lake.read(entry)),
        columns=list(columns),
        read_dictionary=["station_id", "name", "model_version"],
    )


def read_days(lake: Lake, entries: Iterable[Entry], columns: Sequence[str]) -> Iterator[pa.Table]:
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


def publish(
    lake: Lake,
    settings: Settings,
    folder: str,
    job: str,
    plan: Callable[[], Plan],
    *,
    publisher: Publisher | None = None,
    force: bool = False,
    copies: Mapping[str, str] | None = None,
) -> JobResult:
    """Bring a family up to date, its manifest last.

    Parameters
    ----------
    folder
        Of the family, below the monitoring prefix.
    plan
        Looks up the inputs afresh; what it returns is made only where it is due.
    publisher
        Where changed alerts are told; ``None`` for a family that has none.
    copies
        Object names that repeat a document, by the document.

    Raises `RaceLostError` after too many lost races.

    """
    layout, result = Layout(settings), JobResult(job)
    manifest = layout.name(Monitoring(folder, MANIFEST))
    below = manifest.removesuffix(MANIFEST)
    for _ in range(store.RACES):
        live = {entry.name: entry for entry in lake.entries(below)}
        due = plan()
        held = live.get(manifest)
        if held and held.fingerprint == due.mark and not force:
            result.outputs[manifest] = "fresh"
            return result
        try:
            documents = due.make()
            last = documents.pop(MANIFEST)
            blobs = {name: store.json_bytes(document) for name, document in documents.items()}
            targets = {layout.name(Monitoring(folder, name)): data for name, data in blobs.items()}
            for name, target in (copies or {}).items():
                targets[target] = blobs[name]
                repeated = lake.stat(target)
                live |= {target: repeated} if repeated else {}
            outcomes = _write_all(lake, targets, due.mark, live)
            if publisher is not None:
                _tell_alerts(lake, settings, publisher, folder, last, held, result)
            last["checksums"] = {name: store.crc32c(data) for name, data in blobs.items()}
            outcomes |= _write_all(lake, {manifest: store.json_bytes(last)}, due.mark, live)
        except (InputChangedError, PreconditionFailed):
            continue
        result.outputs |= outcomes
        result.counts["inputs"] = len(due.inputs)
        return result
    raise RaceLostError(f"{below} was replaced by others {store.RACES} times in a row")


def _write_all(
    lake: Lake, targets: Mapping[str, bytes], mark: str, live: Mapping[str, Entry]
) -> dict[str, Outcome]:
    """Write objects side by side, each if its live generation is still the one noted."""

    def write(item: tuple[str, bytes]) -> tuple[str, Outcome]:
        name, data = item
        artefact = Artefact(data, store.JSON, mark)
        current = live.get(name)
        if current and store.is_same(current, artefact):
            return name, "fresh"
        generation = current.generation if current else 0
        lake.write(name, artefact, expected_generation=generation, cache=CACHE)
        return name, "written"

    # Each thread is told which event it works for: its log lines and objects say so.
    event = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        return dict(pool.map(lambda item: event.copy().run(write, item), targets.items()))


def _tell_alerts(
    lake: Lake,
    settings: Settings,
    publisher: Publisher,
    folder: str,
    manifest: Mapping[str, Any],
    held: Entry | None,
    result: JobResult,
) -> None:
    """Publish the alerts that the manifest on its way raises or clears against the live one."""
    before = {_identity(alert): alert for alert in _alerts_in(lake, held)}
    after = {_identity(alert): alert for alert in manifest["alerts"]}
    changes = [("raised", after[key]) for key in after if key not in before]
    changes += [("cleared", before[key]) for key in before if key not in after]
    for state, alert in changes:
        body = {
            "network": settings.network,
            "family": folder,
            "state": state,
            "generated_at": manifest["generated_at"],
            **alert,
        }
        publisher.tell_alert(body)
        logs.log("WARNING" if state == "raised" else "INFO", f"alert {state}: {alert['text']}")
        result.published.append(f"alert {state} {folder} {alert['code']}")


def _alerts_in(lake: Lake, manifest: Entry | None) -> list[dict[str, Any]]:
    """Return the alerts of a live manifest; none where it cannot be read as one."""
    if manifest is None:
        return []
    try:
        alerts = json.loads(lake.read(manifest))["alerts"]
        return [dict(alert) for alert in alerts if {"code", "artefact", "text"} <= set(alert)]
    except (ValueError, KeyError, TypeError):
        return []


def _identity(alert: Mapping[str, Any]) -> tuple[str, str]:
    return str(alert["artefact"]), str(alert["code"])
