"""What is in a lake: how fresh, what is missing, what is stale, what was given up."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from velib_core.errors import ModelError, PermanentError
from velib_core.events.messages import ReplayRequested
from velib_core.jobs import reconcile
from velib_core.jobs.family_publish import MANIFEST
from velib_core.lake.keys import Daily, Events, ForecastLog, ForecastLogPartition, Monitoring, Perf
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.model import registry
from velib_core.tables.snapshots_index import newest_snapshot, observed_days
from velib_core.timeline.bins import bin_start, day_after, first_bin, iso_z, parse_day

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import HorizonMinutes

    from velib_cli.dead_letters import DeadLetters

LISTED = 10
"""Lines of a list that a person is shown."""

LATELY = dt.timedelta(days=1)


_KEYS = {
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
    """An alert that stands, as the manifest of its family tells it."""

    family: str
    level: str
    code: str
    text: str
    as_of: str


@dataclasses.dataclass(frozen=True)
class LakeStatus:
    """The state of one network's lake.

    ``newest_snapshot`` is an ISO 8601 stamp and ``age_min`` its age by ``now``; ``missing_days``
    lie between the first and the last observed day without any snapshot; ``forecast_log_days``
    counts the days whose published forecasts are united, and ``forecast_log_newest`` is the bin
    that the newest published forecast was made from; ``quarantined_lately`` are those of the last
    24 hours; ``repairs`` is what `velib_core.jobs.reconcile` would publish; ``attention`` says in
    words what a person should look at.
    """

    network: str
    newest_snapshot: str | None
    age_min: float | None
    first_day: str | None
    last_day: str | None
    missing_days: list[str]
    dailies: int
    events_views: int
    perf_views: int
    forecast_log_days: int
    forecast_log_newest: str | None
    models: list[LiveModel]
    alerts: list[Alert]
    quarantined: int
    quarantined_lately: int
    dead_letters: DeadLetters
    fixes: list[str]
    attention: list[str]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs attention."""
        return not self.attention

    def as_json(self) -> dict[str, object]:
        """Return the status as a JSON object."""
        fields = {_KEYS.get(name, name): value for name, value in dataclasses.asdict(self).items()}
        return fields | {"healthy": self.healthy}


def inspect_lake(
    lake: Lake, settings: Settings, now: dt.datetime, dead_letters: DeadLetters, *, live: bool
) -> LakeStatus:
    """Read the state of a lake; costs listings and some twenty small objects.

    A ``live`` lake is expected to grow: an old newest snapshot needs attention there.
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
    state = LakeStatus(
        network=settings.network,
        newest_snapshot=iso_z(start) if start else None,
        age_min=round((now - start).total_seconds() / 60, 1) if start else None,
        first_day=str(days[0]) if days else None,
        last_day=str(days[-1]) if days else None,
        missing_days=[str(day) for day in expected if day not in set(days)],
        dailies=len(layout.by_day(Daily, dailies)),
        events_views=len(layout.by_day(Events, exports)),
        perf_views=len(layout.by_day(Perf, exports)),
        forecast_log_days=len(layout.by_day(ForecastLog, exports)),
        forecast_log_newest=_newest_published(lake, layout),
        models=[_live_model(lake, settings, horizon, now) for horizon in settings.horizons],
        alerts=list(_alerts(lake, layout)),
        quarantined=refused,
        quarantined_lately=lately,
        dead_letters=dead_letters,
        fixes=[str(r) for r in reconcile.plan(lake, settings, ReplayRequested())],
        attention=[],
    )
    late = settings.monitoring.silence_max_min if live else math.inf
    return dataclasses.replace(state, attention=list(_attention(state, late)))


def rows(state: LakeStatus) -> Iterator[tuple[str, str]]:
    """Yield what a person reads: what it is about, and what there is, possibly in lines."""
    if state.newest_snapshot is None or state.age_min is None:
        yield "newest snapshot", "none yet"
    else:
        yield "newest snapshot", f"{state.newest_snapshot}, {_age(state.age_min)} old"
        yield "days observed", f"{state.first_day} … {state.last_day}"
    yield "days missing", _listed(state.missing_days) or "none"
    counts = [(state.dailies, "dailies"), (state.events_views, "events views")]
    counts += [
        (state.perf_views, "perf views"),
        (state.forecast_log_days, "of published forecasts"),
    ]
    yield "days made", ", ".join(f"{number} {what}" for number, what in counts)
    yield "last forecast from", state.forecast_log_newest or "none yet"
    yield "live models", "\n".join(map(_model_line, state.models))
    alerts = [f"{a.level}: {a.text} ({a.family}, as of {a.as_of})" for a in state.alerts]
    yield "alerts", "\n".join(alerts) or "none"
    yield "quarantined", f"{state.quarantined}, {state.quarantined_lately} in the last 24 hours"
    yield "dead letters", "\n".join(_dead_letter_lines(state.dead_letters))
    yield "to be made", _listed(state.fixes) or "nothing: all is up to date"


def _attention(state: LakeStatus, silence_max_min: float) -> Iterator[str]:
    if state.age_min is None:
        yield "there is no snapshot"
    elif state.age_min > silence_max_min:
        yield f"the newest snapshot is {_age(state.age_min)} old"
    if state.missing_days:
        yield f"{len(state.missing_days)} days have no snapshot"
    yield from (f"h{m.horizon_min}: {m.problem}" for m in state.models if m.problem)
    if state.alerts:
        yield f"{len(state.alerts)} alerts stand"
    if state.quarantined_lately:
        yield f"{state.quarantined_lately} objects were quarantined in the last 24 hours"
    if state.dead_letters.count:
        yield f"{_count(state.dead_letters)} messages were given up"
    if state.fixes:
        yield f"{len(state.fixes)} artefacts are missing or stale"


def _quarantined(lake: Lake, layout: Layout, now: dt.datetime) -> tuple[int, int]:
    """Return how many objects were refused, and how many of them lately."""
    since = iso_z(now - LATELY)
    names = [e.name for e in lake.entries(f"{layout.quarantine}/") if e.name.endswith(".json")]
    written = {m.name: m.written_at for m in lake.lineage_records(f"{layout.quarantine}/")}
    return len(names), sum(written.get(name, "") >= since for name in names)


def _newest_published(lake: Lake, layout: Layout) -> str | None:
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
    lake: Lake, settings: Settings, horizon: HorizonMinutes, now: dt.datetime
) -> LiveModel:
    try:
        model = registry.live(lake, settings, horizon)
    except ModelError as error:
        return LiveModel(horizon, None, None, None, None, f"the pointer is damaged: {error}")
    if model is None:
        return LiveModel(horizon, None, None, None, None, None)
    end = str(model.record.get("end_date"))
    try:
        ended = bin_start(first_bin(day_after(parse_day(end))))
    except ValueError:
        return LiveModel(horizon, model.version, model.folder, None, None, f"trained until {end!r}")
    age = round((now - ended).total_seconds() / 86400, 1)
    return LiveModel(horizon, model.version, model.folder, end, age, None)


def _alerts(lake: Lake, layout: Layout) -> Iterator[Alert]:
    for entry in lake.entries(f"{layout.monitoring}/"):
        key = _key(layout, entry.name)
        if not isinstance(key, Monitoring) or key.document != MANIFEST:
            continue
        try:
            manifest = lake.fetch_json(entry.name)
        except PermanentError as error:
            yield Alert(key.family, "high", "unreadable", str(error), "?")
            continue
        yield from _alerts_of(key.family, manifest)


def _alerts_of(family: str, manifest: Any) -> Iterator[Alert]:  # noqa: ANN401 -- JSON is any value
    reported = manifest.get("alerts") if isinstance(manifest, dict) else None
    for alert in reported if isinstance(reported, list) else []:
        if isinstance(alert, dict):
            level, code, text = (str(alert.get(key, "?")) for key in ("level", "code", "text"))
            yield Alert(family, level, code, text, str(manifest.get("generated_at")))


def _model_line(model: LiveModel) -> str:
    if model.problem or model.version is None:
        return f"{model.horizon_min} min: {model.problem or 'none: nothing was trained yet'}"
    return (
        f"{model.horizon_min} min: {model.version}, trained through {model.trained_through}, "
        f"{model.age_days} days ago"
    )


def _dead_letter_lines(dead: DeadLetters) -> Iterator[str]:
    if dead.count is None:
        yield f"unknown: {dead.reason}"
    else:
        yield _count(dead) if dead.count else "none"
    for letter in dead.letters[:LISTED]:
        yield f"{letter.source}: {letter.subject} after {letter.attempts or '?'} attempts"


def _listed(lines: list[str]) -> str:
    """Return the first lines, and how many more there are; all of them are in the JSON."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([*lines[:LISTED], *more])


def _count(dead: DeadLetters) -> str:
    return f"{dead.count} or more" if dead.more else str(dead.count)


def _age(minutes: float) -> str:
    """Return an age in the largest unit that it fills twice."""
    for unit, size in (("days", 24 * 60), ("hours", 60)):
        if minutes >= 2 * size:
            return f"{minutes / size:.0f} {unit}"
    return f"{minutes:.0f} minutes"
