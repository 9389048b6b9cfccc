"""Monitoring intro: one page that says whether the system is alive.

It is made of other documents. Every status carries when its source was made and until when it
is valid: a document that was built once must not stay green for ever.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from velib_core.monitoring.data.drift import DriftThresholds
from velib_core.monitoring.documents import Alert, Documents, RunMetadata, Status, with_manifest
from velib_core.timeline.bins import YEARS, HorizonMinutes, iso_z

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = "1.3"

DOCUMENT = "intro.json"

Led = Literal["ok", "warn", "down"]

DRIFT = DriftThresholds()


DAYS_BEFORE_A_MODEL = 3
"""Closed days after which the first model is trained."""


@dataclasses.dataclass(frozen=True)
class IntroThresholds:
    """Ages in minutes up to which a status is ok, and up to which it is a warning.

    ``forecast_*`` as existing clients know them. ``weather_*``: current weather comes every quarter
    of an hour. ``snapshot_*`` for the network overview, which follows every snapshot; ``daily_*``
    for what is made once a day: two days old means that a day was missed. ``psi_*`` are those of
    the drift alerts.
    """

    forecast_ok_min: float = 7.0
    forecast_warn_min: float = 20.0
    weather_ok_min: float = 30.0
    weather_warn_min: float = 90.0
    snapshot_ok_min: float = 15.0
    snapshot_warn_min: float = 60.0
    daily_ok_min: float = 26 * 60.0
    daily_warn_min: float = 50 * 60.0
    psi_ok: float = DRIFT.psi_medium
    psi_warn: float = DRIFT.psi_high


@dataclasses.dataclass(frozen=True)
class IntroSources:
    """The documents that the intro is made of; ``None`` for one that does not exist.

    ``overview`` and ``health`` are the ``kpis.json`` of their families, ``drift`` the
    ``summary.json``, ``models`` the ``latest.json`` and ``forecasts`` the published forecast of
    each horizon. ``uris`` says where each was read, by any name.
    """

    overview: Mapping[str, Any] | None = None
    health: Mapping[str, Any] | None = None
    freshness: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] | None = None
    models: Mapping[HorizonMinutes, Mapping[str, Any] | None] = dataclasses.field(
        default_factory=dict
    )
    forecasts: Mapping[HorizonMinutes, Mapping[str, Any] | None] = dataclasses.field(
        default_factory=dict
    )
    uris: Mapping[str, str] = dataclasses.field(default_factory=dict)


def build(
    sources: IntroSources,
    *,
    horizons: Sequence[HorizonMinutes],
    now: dt.datetime,
    run_metadata: RunMetadata,
    thresholds: IntroThresholds | None = None,
) -> Documents:
    """Make the documents of ``intro``.

    Parameters
    ----------
    sources
        What the other families and jobs published.
    horizons
        In minutes; existing clients read 15 and 60, which are always present.
    now
        The instant at which ages are computed.

    """
    limits = thresholds or IntroThresholds()
    reported = sorted({*horizons, HorizonMinutes(15), HorizonMinutes(60)})
    statuses = _statuses(sources, reported, now, limits)
    kpis = {
        "stations_active": _number(sources.overview, "stations_active"),
        "freshness_p95_min": _number(sources.freshness, "stations", "freshness", "p95_min"),
        "coverage_7d_pct": _number(sources.health, "coverage_global_pct"),
        "coverage_days": _number(sources.health, "current_days"),
        "psi_global": _number(sources.drift, "psi_global"),
        "model_versions": _versions(sources),
    }
    document = {
        **run_metadata.head(VERSION),
        "tz": run_metadata.tz,
        "kpis": kpis,
        "statuses": statuses,
        "activity": _activity(sources, kpis),
        "sources": dict(sources.uris),
    }
    missing = [
        name
        for name in ("overview", "health", "freshness", "drift")
        if getattr(sources, name) is None
    ]
    status = Status("partial", f"no {', '.join(missing)}") if missing else Status("ok")
    return with_manifest(
        {DOCUMENT: document},
        run_metadata,
        VERSION,
        status=Status("no_data", status.reason) if len(missing) == 4 else status,
        window_days=None,
        windows={},
        thresholds=(limits,),
        alerts=_alerts(statuses, limits, model_due=_model_due(sources, kpis)),
    )


def _statuses(
    sources: IntroSources,
    horizons: Sequence[HorizonMinutes],
    now: dt.datetime,
    limits: IntroThresholds,
) -> dict[str, dict[str, Any]]:
    statuses = {"api_stations": _stations(sources, now, limits)}
    for h in horizons:
        statuses[f"batch_forecast_h{h}"] = _forecast(sources.forecasts.get(h), now, limits) | {
            "horizon_min": h
        }
    # A horizon that never had a model, such as one below the step of a slow feed, says so itself.
    with_model = [h for h in horizons if sources.models.get(h) and h in sources.forecasts]
    asked = with_model or [h for h in horizons if h in sources.forecasts] or list(horizons)
    worst = max(
        (statuses[f"batch_forecast_h{h}"] for h in asked), key=lambda s: _RANK.index(s["led"])
    )
    statuses["batch_forecast"] = {k: v for k, v in worst.items() if k != "horizon_min"}
    statuses["weather_provider"] = _weather(sources, now, limits)
    statuses["data_drift"] = _drift(sources, now, limits)
    return statuses


IMPOSSIBLE = 1e12
"""No number of a document is as large; one that is, or is none (NaN), is missing."""

_RANK: tuple[Led, ...] = ("ok", "warn", "down")


def _stations(sources: IntroSources, now: dt.datetime, limits: IntroThresholds) -> dict[str, Any]:
    active = _number(sources.overview, "stations_active")
    age = _age(_get(sources.overview, "snapshot_ts_utc"), now)
    led = _led(age, limits.snapshot_ok_min, limits.snapshot_warn_min) if active else "down"
    return {
        "led": led,
        "stations_active": active,
        "age_min": age,
        "source_generated_at": _get(sources.overview, "generated_at"),
    } | _believe(_get(sources.overview, "snapshot_ts_utc"), limits.snapshot_warn_min)


def _forecast(
    forecast: Mapping[str, Any] | None, now: dt.datetime, limits: IntroThresholds
) -> dict[str, Any]:
    made = _get(forecast, "generated_at")
    age = _age(made, now)
    rows = _rows(forecast)
    reported = [row for row in rows or [] if row.get("bikes_pred_int") is not None]
    led = _led(age, limits.forecast_ok_min, limits.forecast_warn_min)
    return {
        # A document whose rows all say why they have no number is fresh, but no forecast.
        "led": led if reported else "down",
        "age_min": age,
        "source_generated_at": made,
        "rows": None if rows is None else len(rows),
        "rows_with_forecast": None if rows is None else len(reported),
    } | _believe(made, limits.forecast_warn_min)


def _weather(sources: IntroSources, now: dt.datetime, limits: IntroThresholds) -> dict[str, Any]:
    seen = _get(sources.freshness, "now_utc")
    then = _number(sources.freshness, "weather", "freshness_min")
    since = _age(seen, now)
    # The weather was that old when the snapshot was taken, and has aged since.
    age = None if then is None or since is None else then + since
    return {
        "led": _led(age, limits.weather_ok_min, limits.weather_warn_min),
        "freshness_p95_min": age,
        "source_generated_at": seen,
    } | _believe(seen, limits.weather_warn_min)


def _drift(sources: IntroSources, now: dt.datetime, limits: IntroThresholds) -> dict[str, Any]:
    psi, made = _number(sources.drift, "psi_global"), _get(sources.drift, "generated_at")
    by_value: Led = "down"
    if psi is not None:
        by_value = "ok" if psi < limits.psi_ok else "warn" if psi < limits.psi_warn else "down"
    by_age = _led(_age(made, now), limits.daily_ok_min, limits.daily_warn_min)
    return {
        "led": max(by_value, by_age, key=_RANK.index),
        "psi_global": psi,
        "top_feature": _get(sources.drift, "top_feature"),
        "top_feature_psi": _number(sources.drift, "top_feature_psi"),
        "source_generated_at": made,
    } | _believe(made, limits.daily_warn_min)


def _led(age: float | None, ok: float, warn: float) -> Led:
    if age is None or age > warn:
        return "down"
    return "ok" if age <= ok else "warn"


def _believe(stamp: object, minutes: float) -> dict[str, str | None]:
    """Say until when a status may be shown; after that a reader must call it down."""
    made = instant_of(stamp)
    return {"valid_until": iso_z(made + dt.timedelta(minutes=minutes)) if made else None}


def _age(stamp: object, now: dt.datetime) -> float | None:
    made = instant_of(stamp)
    aware = now if now.tzinfo else now.replace(tzinfo=dt.UTC)
    return max((aware - made).total_seconds() / 60, 0.0) if made else None


def instant_of(stamp: object) -> dt.datetime | None:
    """Return the instant that a document states, UTC where it names no zone; else ``None``."""
    try:
        instant = dt.datetime.fromisoformat(stamp if isinstance(stamp, str) else "")
    except ValueError:
        return None
    if instant.year not in YEARS:
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)


def _versions(sources: IntroSources) -> str | None:
    """Return the live versions, by horizon; a horizon without a model says so."""
    if not any(sources.models.values()):
        return None
    versions = (_get(model, "version") for _, model in sorted(sources.models.items()))
    return " / ".join(str(version or "–") for version in versions)


LABELS = {
    "versions": "Versions modèle ({})",
    "coverage": "Couverture ({} jours)",
    "active": "Stations actives",
    "forecasts": "Prévisions générées (h{})",
    "psi": "PSI global (drift)",
}
"""Labels of the activity rows, which clients display: French in the contract."""


def _activity(sources: IntroSources, kpis: Mapping[str, Any]) -> list[dict[str, Any]]:
    horizons = "/".join(f"h{h}" for h in sorted(sources.models)) or "h15/h60"
    days = kpis["coverage_days"]
    rows = [
        (LABELS["versions"].format(horizons), kpis["model_versions"], None),
        (
            LABELS["coverage"].format(days or "–"),
            kpis["coverage_7d_pct"],
            _get(sources.health, "generated_at"),
        ),
        (LABELS["active"], kpis["stations_active"], _get(sources.overview, "generated_at")),
    ]
    for h, forecast in sorted(sources.forecasts.items()):
        found = _rows(forecast)
        count = None if found is None else len(found)
        rows.append((LABELS["forecasts"].format(h), count, _get(forecast, "generated_at")))
    rows.append((LABELS["psi"], kpis["psi_global"], _get(sources.drift, "generated_at")))
    return [{"label": label, "value": value, "generated_at": at} for label, value, at in rows]


def _model_due(sources: IntroSources, kpis: Mapping[str, Any]) -> bool:
    """Return whether there must be a model: one is live, or the first was due."""
    return any(sources.models.values()) or (kpis["coverage_days"] or 0) > DAYS_BEFORE_A_MODEL


def _alerts(
    statuses: Mapping[str, Mapping[str, Any]], limits: IntroThresholds, *, model_due: bool
) -> list[Alert]:
    """Return one alert where the forecast is down: it is what people look at.

    Before a model is due, a forecast without numbers is no failure: the alert is of medium level.
    """
    status = statuses["batch_forecast"]
    if status["led"] != "down":
        return []
    reported, age = status["rows_with_forecast"], status["age_min"]
    code, level = "batch_forecast_down", limits.forecast_warn_min
    if reported == 0 and age is not None and age <= level:
        text = "the forecast is fresh, but no station has a number"
        return [Alert("high" if model_due else "medium", code, text, DOCUMENT, reported, 1)]
    return [Alert("high", code, "no forecast is fresh enough", DOCUMENT, age, level)]


def _get(document: object, *path: str) -> Any:  # noqa: ANN401 -- JSON is any value
    for key in path:
        if not isinstance(document, Mapping):
            return None
        document = document.get(key)
    return document


def _number(document: object, *path: str) -> float | None:
    """Return a number of a document, ``None`` where it has none there."""
    found = _get(document, *path)
    if not isinstance(found, int | float) or isinstance(found, bool):
        return None
    return found if abs(found) < IMPOSSIBLE else None


def _rows(forecast: Mapping[str, Any] | None) -> list[Mapping[str, Any]] | None:
    """Return the rows of a forecast document, ``None`` where it has none."""
    rows = _get(forecast, "data")
    return [r for r in rows if isinstance(r, Mapping)] if isinstance(rows, list) else None
