"""What is in a lake: how fresh, what is missing, stale or damaged, and what to do about it."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core.errors import ModelError, PermanentError
from velib_core.events.messages import ReplayRequested
from velib_core.jobs import reconcile
from velib_core.lake.keys import Daily, Events, ForecastLog, ForecastLogPartition, Monitoring, Perf
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.lake.readable import ReadableNetwork
from velib_core.model import registry
from velib_core.monitoring.documents import MANIFEST
from velib_core.tables.snapshots_index import newest_snapshot, observed_days
from velib_core.timeline.bins import bin_start, day_after, first_bin, iso_z, parse_day

from velib_cli.lake_checks import (
    Finding,
    Place,
    check_documents,
    check_forecasts,
    check_models,
)
from velib_cli.printed import age, counted
from velib_cli.table_checks import check_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.readable import ReadableLake
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day, HorizonMinutes

    from velib_cli.dead_letters import DeadLetters

LATELY = dt.timedelta(days=1)

NAMED = 3
"""Names of missing objects that a finding is about."""


_KEYS = {
    "observations_tables": "events_views",
    "evaluation_tables": "perf_views",
    "forecast_log_days": "ledger_days",
    "forecast_log_newest": "ledger_newest",
    "fixes": "repairs",
}
"""Fields that programs know by another key: the keys of the JSON do not change."""


@dataclasses.dataclass(frozen=True)
class LiveModel:
    """The live model of a horizon; all but ``horizon_min`` is ``None`` where there is none.

    ``age_days`` passed since the end of the last day that it was trained on; ``problem`` says
    why a pointer cannot be followed.
    """

    horizon_min: int
    version: str | None
    folder: str | None
    trained_through: str | None
    age_days: float | None
    problem: str | None


@dataclasses.dataclass(frozen=True)
class Alert:
    """An alert that stands, as the manifest of its family has it; numbers where it has them."""

    family: str
    level: str
    code: str
    text: str
    as_of: str
    value: float | None = None
    threshold: float | None = None


@dataclasses.dataclass(frozen=True)
class LakeStatus:
    """The state of one network's lake.

    ``newest_snapshot`` is an ISO 8601 stamp and ``age_min`` its age by ``now``; ``missing_days``
    lie between the first and the last observed day without any snapshot; ``forecast_log_days``
    counts the days whose published forecasts are united, and ``forecast_log_newest`` is the bin
    that the newest published forecast was made from; ``quarantined_lately`` are those of the last
    24 hours; ``repairs`` is what `velib_core.jobs.reconcile` would publish; ``findings`` are what
    a person should look at, each with what to type, and ``attention`` their words alone. Of a
    ``live`` lake ages are by the clock; a finished one is described as of its newest snapshot.
    ``silence_max_min`` is the age of the newest snapshot beyond which there is an alert.
    """

    network: str
    newest_snapshot: str | None
    age_min: float | None
    first_day: str | None
    last_day: str | None
    missing_days: list[str]
    dailies: int
    observations_tables: int
    evaluation_tables: int
    forecast_log_days: int
    forecast_log_newest: str | None
    models: list[LiveModel]
    alerts: list[Alert]
    quarantined: int
    quarantined_lately: int
    dead_letters: DeadLetters
    fixes: list[str]
    attention: list[str]
    findings: list[Finding]
    tz: str
    live: bool
    silence_max_min: float

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return not self.attention

    def as_json(self) -> dict[str, object]:
        """Return the status as a JSON object."""
        fields = {_KEYS.get(name, name): value for name, value in dataclasses.asdict(self).items()}
        return fields | {"healthy": self.healthy}


def inspect_lake(
    lake: ReadableLake,
    settings: Settings,
    now: dt.datetime,
    dead_letters: DeadLetters,
    *,
    live: bool,
    place: str | None = None,
    remake: str | None = None,
) -> LakeStatus:
    """Read the state of a lake; costs listings, and the live models and manifests.

    A ``live`` lake is expected to grow: an old newest snapshot needs attention there. ``place``
    is the option by which commands name the lake, as in ``--dir out/demo``, and ``remake`` the
    command that made a folder.
    """
    layout = Layout(settings)
    days = observed_days(lake, layout)
    newest = newest_snapshot(lake, layout)
    start = bin_start(newest.bin) if newest else None
    span = (days[-1] - days[0]).days + 1 if days else 0
    expected = [day_after(days[0], n) for n in range(span)] if days else []
    exports = [entry.name for entry in lake.entries(f"{layout.exports}/")]
    dailies = [entry.name for entry in lake.entries(f"{layout.daily}/")]
    refused, lately = _quarantined(lake, layout, now)
    as_of = now if live or start is None else start
    option = place or f"--bucket {settings.root}"
    where = Place(option, settings.network, settings.project, live, remake)
    fixes, unplanned = _fixes(lake, settings)
    state = LakeStatus(
        network=settings.network,
        newest_snapshot=iso_z(start) if start else None,
        age_min=round((now - start).total_seconds() / 60, 1) if start else None,
        first_day=str(days[0]) if days else None,
        last_day=str(days[-1]) if days else None,
        missing_days=[str(day) for day in expected if day not in set(days)],
        dailies=len(layout.by_day(Daily, dailies)),
        observations_tables=len(layout.by_day(Events, exports)),
        evaluation_tables=len(layout.by_day(Perf, exports)),
        forecast_log_days=len(layout.by_day(ForecastLog, exports)),
        forecast_log_newest=_newest_published(lake, layout),
        models=[_live_model(lake, layout, horizon, as_of) for horizon in settings.horizons],
        alerts=list(_alerts(lake, layout)),
        quarantined=refused,
        quarantined_lately=lately,
        dead_letters=dead_letters,
        fixes=fixes,
        attention=[],
        findings=unplanned,
        tz=settings.tz,
        live=live,
        silence_max_min=settings.monitoring.silence_max_min,
    )
    lost = _lost_dailies(layout, days, dailies, exports, settings.bucket, where)
    findings = [*_findings(state, where), *lost, *unplanned, *_content(lake, settings, where)]
    return dataclasses.replace(
        state, findings=findings, attention=[finding.text for finding in findings]
    )


def _fixes(lake: ReadableLake, settings: Settings) -> tuple[list[str], list[Finding]]:
    """Return what `reconcile` would publish, or why that cannot be said."""
    network = ReadableNetwork(settings, lake)
    try:
        return [str(fix) for fix in reconcile.plan(network, ReplayRequested())], []
    except PermanentError as error:
        text = f"what is missing or stale is unknown: {error}"
        return [], [Finding("artefacts", "artefacts_unknown", "", text)]


def _content(lake: ReadableLake, settings: Settings, place: Place) -> Iterator[Finding]:
    yield from check_documents(lake, settings, place)
    for horizon in settings.horizons:
        yield from check_models(lake, settings, horizon, place)
    yield from check_forecasts(lake, settings, place)
    yield from check_tables(lake, settings, place)


def _findings(state: LakeStatus, place: Place) -> Iterator[Finding]:
    """Yield what the figures themselves say; `lake_checks` looks at contents."""
    if state.age_min is None:
        yield Finding("snapshots", "no_snapshot", "", "there is no snapshot", _doctor(place))
    elif state.live and state.age_min > state.silence_max_min:
        limit = age(state.silence_max_min)
        text = f"the newest snapshot is {age(state.age_min)} old, expected at most {limit}"
        yield Finding("snapshots", "old_snapshot", age(state.age_min), text, _doctor(place))
    if state.missing_days:
        missing = len(state.missing_days)
        text = f"{counted(missing, 'day has', 'days have')} no snapshot"
        yield Finding("snapshots", "missing_days", str(missing), text)
    if state.alerts:
        stand = counted(len(state.alerts), "alert stands", "alerts stand")
        first = min(state.alerts, key=lambda alert: alert.level != "high")
        text, command = f"{stand}: {first.text}", place.velib("report")
        yield Finding("alerts", "alerts", str(len(state.alerts)), text, command)
    if state.quarantined_lately:
        lately = counted(state.quarantined_lately, "object was", "objects were")
        text = f"{lately} quarantined in the last 24 hours"
        number = str(state.quarantined_lately)
        yield Finding("quarantine", "quarantined", number, text, place.velib("report"))
    if state.dead_letters.count:
        dead_lettered = counted(state.dead_letters.count, "message was", "messages were")
        more = " or more" if state.dead_letters.more else ""
        text, number = f"{dead_lettered}{more} dead-lettered", str(state.dead_letters.count)
        yield Finding("dead letters", "dead_lettered", number, text, _pull(place))
    if state.fixes:
        yield _to_be_made(state.fixes, place)


def _lost_dailies(
    layout: Layout,
    days: list[Day],
    dailies: list[str],
    exports: list[str],
    bucket: str,
    place: Place,
) -> Iterator[Finding]:
    """Yield the dailies that nothing can make again: there are views of them, and no snapshots."""
    known = {*days, *layout.by_day(Daily, dailies)}
    for day in sorted(layout.by_day(Events, exports).keys() - known):
        name = layout.name(Daily(day))
        text = f"{name} is missing, and its snapshots are deleted"
        restore = f"gcloud storage restore gs://{bucket}/{name}"
        command = restore if place.deployed else place.remake
        yield Finding("artefacts", "missing", name, text, command)


def _to_be_made(fixes: list[str], place: Place) -> Finding:
    """Return what is missing or stale: how many, and the first of them by name."""
    about, reasons = zip(*(fix.split(": ", 1) for fix in fixes), strict=True)
    names = [name.partition(" ")[2] for name in about]
    number = counted(len(fixes), "artefact is", "artefacts are")
    text = f"{number} missing or stale, the first: {names[0]} ({reasons[0]})"
    shown = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    return Finding("artefacts", "artefacts", shown, text, place.again())


def _doctor(place: Place) -> str | None:
    return place.velib("doctor") if place.deployed else None


def _pull(place: Place) -> str | None:
    if not place.deployed:
        return None
    project = f"--project={place.project or 'PROJECT'}"
    return f"gcloud pubsub subscriptions pull {place.network}-dead-letter {project} --limit=10"


def _quarantined(lake: ReadableLake, layout: Layout, now: dt.datetime) -> tuple[int, int]:
    """Return how many objects were refused, and how many of them lately."""
    since = iso_z(now - LATELY)
    names = [e.name for e in lake.entries(f"{layout.quarantine}/") if e.name.endswith(".json")]
    written = {m.name: m.written_at for m in lake.lineage_records(f"{layout.quarantine}/")}
    return len(names), sum(written.get(name, "") >= since for name in names)


def _newest_published(lake: ReadableLake, layout: Layout) -> str | None:
    folders = lake.folders(f"{layout.forecast_log}/")
    names = [entry.name for entry in lake.entries(folders[-1])] if folders else []
    found = [key for name in names if isinstance(key := _key(layout, name), ForecastLogPartition)]
    return iso_z(bin_start(max(key.bin for key in found))) if found else None


def _key(layout: Layout, name: str) -> object:
    try:
        return layout.key(name)
    except ForeignNameError:
        return None


def _live_model(
    lake: ReadableLake, layout: Layout, horizon: HorizonMinutes, now: dt.datetime
) -> LiveModel:
    try:
        model = registry.live(lake, layout, horizon)
    except ModelError as error:
        return LiveModel(horizon, None, None, None, None, f"the pointer is damaged: {error}")
    if model is None:
        return LiveModel(horizon, None, None, None, None, None)
    end = str(model.record.get("end_date"))
    try:
        ended = bin_start(first_bin(day_after(parse_day(end))))
    except ValueError:
        return LiveModel(horizon, model.version, model.folder, None, None, f"trained until {end!r}")
    age = round(max((now - ended).total_seconds(), 0.0) / 86400, 1)
    return LiveModel(horizon, model.version, model.folder, end, age, None)


def _alerts(lake: ReadableLake, layout: Layout) -> Iterator[Alert]:
    for entry in lake.entries(f"{layout.monitoring}/"):
        key = _key(layout, entry.name)
        if not isinstance(key, Monitoring) or key.document != MANIFEST:
            continue
        try:
            manifest = lake.fetch_json(entry.name)
        except PermanentError:
            continue
        yield from _alerts_of(key.family, manifest)


def _alerts_of(family: str, manifest: Any) -> Iterator[Alert]:  # noqa: ANN401 -- JSON is any value
    reported = manifest.get("alerts") if isinstance(manifest, dict) else None
    for alert in reported if isinstance(reported, list) else []:
        if isinstance(alert, dict):
            level, code, text = (str(alert.get(key, "?")) for key in ("level", "code", "text"))
            value, threshold = (_number(alert.get(key)) for key in ("value", "threshold"))
            as_of = str(manifest.get("generated_at"))
            yield Alert(family, level, code, text, as_of, value, threshold)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
