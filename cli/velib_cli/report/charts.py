"""From published objects to the series that the network page draws.

Pure functions: each returns plain values for JSON, unknown numbers as ``None``. A block that has
nothing to show is ``None`` or empty, with the publisher's own reason where it gave one.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    BINS_PER_HOUR,
    Bin,
    bin_start,
    day_of,
    first_bin,
    iso_z,
)
from velib_core.timeline.local_time import SLOTS_PER_DAY, local_times, slot_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray
    from velib_core.features.profiles import Profiles
    from velib_core.lake.lineage import LineageRecord
    from velib_core.tables.panel import Panel, Stations
    from velib_core.timeline.bins import Day

    from velib_cli.report.sources import Horizon, Sources

EARTH_RADIUS_KM = 6371.0
SLOT_BINS = BINS_PER_DAY // SLOTS_PER_DAY
AHEAD_BINS = 2 * BINS_PER_HOUR
"""How far beyond now the usual profile is drawn: past the longest forecast."""

LINEAGE_SHOWN = 400
"""Newest objects of the timeline; the page says how many there are."""

LOWEST_COVERAGE = 8
"""Stations listed with the most missing observations."""

FORECAST_COLUMNS = ("bikes_pred", "p_bike", "p_dock", "reason", "target_ts_utc")


def report_data(sources: Sources, made_at: dt.datetime) -> dict[str, Any]:
    """Return everything that the page shows, for JSON."""
    panel = sources.panel
    return {
        "network": sources.network,
        "tz": sources.tz,
        "made_at": iso_z(made_at),
        "newest": iso_z(bin_start(Bin(panel.stop - 1))) if panel else None,
        "stations": stations_block(panel) if panel else None,
        "usual": usual_block(sources.profiles, panel) if panel and sources.profiles else None,
        "horizons": [horizon_block(horizon, panel) for horizon in sources.horizons],
        "overview": sources.documents.get("network/overview/kpis.json"),
        "curve": curve_block(sources.documents),
        "statuses": statuses_block(sources.documents.get("intro/intro.json")),
        "freshness": sources.documents.get("data/freshness/freshness.json"),
        "coverage": coverage_block(sources.coverage, panel),
        "health": health_block(sources.documents),
        "drift": drift_block(sources.documents),
        "reasons": {
            family: _reason(sources.documents.get(f"{family}/manifest.json"))
            for family in ("data/health", "data/drift", "model/performance")
        },
        "pipeline": pipeline_block(sources.lineage_records),
        "quarantine": {"total": sources.quarantined, "rows": quarantine_rows(sources.quarantine)},
        "dead_letters": sources.dead_letters,
    }


def stations_block(panel: Panel) -> dict[str, Any]:
    """Return each station's place, its state in the newest bin and its last 24 hours.

    ``x`` and ``y`` are kilometres east and north of the stations' middle in the equirectangular
    projection, which keeps a city's distances to a few parts in a thousand.
    """
    stations = panel.stations
    x, y = projected(stations)
    bikes = panel["bikes"]
    return {
        "id": stations.ids.tolist(),
        "name": stations.names.tolist(),
        "x": _rounded(x, 4),
        "y": _rounded(y, 4),
        "capacity": _integers(stations.capacity),
        "bikes": _integers(bikes[-1]),
        "docks": _integers(panel["docks_available"][-1]),
        "open": [None if math.isnan(v) else bool(v) for v in panel["ok"][-1].tolist()],
        "history": {"start": iso_z(bin_start(panel.start)), "bikes": _integer_rows(bikes.T)},
    }


def projected(stations: Stations) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return kilometres east and north of the middle of the stations, ``float64[S]`` each."""
    known = np.isfinite(stations.lat) & np.isfinite(stations.lon)
    if not known.any():
        return np.full(len(stations), np.nan), np.full(len(stations), np.nan)
    lat0, lon0 = (float(np.median(a[known])) for a in (stations.lat, stations.lon))
    east = np.radians(stations.lon - lon0) * math.cos(math.radians(lat0)) * EARTH_RADIUS_KM
    return east, np.radians(stations.lat - lat0) * EARTH_RADIUS_KM


def usual_block(profiles: Profiles, panel: Panel) -> dict[str, Any]:
    """Return the mean bikes of each station at the half hours of the panel and two hours on.

    Means are over the earlier days of the same type (working day, Saturday, Sunday or holiday),
    stamped at the middle of the half hour.
    """
    first = -(-panel.start // SLOT_BINS) * SLOT_BINS
    starts = np.arange(first, panel.stop + AHEAD_BINS, SLOT_BINS)
    local = local_times(starts, profiles.tz)
    seen, bikes = profiles.level[:, local.day_type, slot_of(local)]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(seen > 0, bikes / seen, np.nan)
    column = {station: n for n, station in enumerate(profiles.stations.tolist())}
    nothing = np.full(len(starts), np.nan)
    of_station = [
        means[:, column[station]] if station in column else nothing
        for station in panel.stations.ids.tolist()
    ]
    return {
        "start": iso_z(bin_start(Bin(int(starts[0]) + SLOT_BINS // 2))),
        "step_min": 24 * 60 // SLOTS_PER_DAY,
        "through": str(profiles.through),
        "bikes": [_rounded(series, 1) for series in of_station],
    }


def horizon_block(horizon: Horizon, panel: Panel | None) -> dict[str, Any]:
    """Return one horizon: forecasts in the order of the panel's stations, accuracy, models."""
    documents = horizon.performance
    forecast = horizon.forecast or {}
    rows = {row["station_id"]: row for row in forecast.get("data", [])}
    ids = panel.stations.ids.tolist() if panel else []
    columns = {key: [rows.get(i, {}).get(key) for i in ids] for key in FORECAST_COLUMNS}
    targets = columns.pop("target_ts_utc")
    truth = documents.get("station_timeseries.json") or {}
    histogram = documents.get("hist_residuals.json") or {}
    return {
        "minutes": horizon.minutes,
        "generated_at": forecast.get("generated_at"),
        "model_version": forecast.get("model_version"),
        "target": next((stamp for stamp in targets if stamp), None),
        "forecast": columns if horizon.forecast else None,
        "kpis": documents.get("kpis.json"),
        "truth": _truth(truth),
        "by_hour": _rows(documents.get("by_hour.json"), "hour", "mae_model", "mae_baseline", "n"),
        "by_day": _rows(
            documents.get("daily_metrics.json"), "date", "mae_model", "mae_baseline", "n"
        ),
        "residuals": (
            {"bins": histogram["bins"], "counts": histogram["counts"]}
            if sum(histogram.get("counts", []))
            else None
        ),
        "models": [
            _model(model.record, model.version, live=model.version == live)
            for live in [horizon.live.version if horizon.live else None]
            for model in reversed(horizon.models)
        ],
    }


def curve_block(documents: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how full the network is today by the local clock, and how full it usually is."""
    today = (documents.get("network/overview/today_curve.json") or {}).get("points") or []
    usual = (documents.get("network/overview/ref_median_curve.json") or {}).get("median") or []
    if not today:
        return None
    return {
        "today": [[p["hhmm"] for p in today], [p["pct"] for p in today]],
        "usual": [[p["hhmm"] for p in usual], [p["pct_median"] for p in usual]],
    }


def statuses_block(intro: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """Return the lights of the front page, each with what it says of itself."""
    if intro is None:
        return None
    kept = ("led", "age_min", "source_generated_at", "valid_until", "psi_global")
    return [
        {"name": name} | {key: status.get(key) for key in kept}
        for name, status in intro.get("statuses", {}).items()
        if name != "batch_forecast"  # the worst of the horizons, which are there themselves
    ]


def coverage_block(
    coverage: Mapping[Day, tuple[int, list[int]]], panel: Panel | None
) -> dict[str, Any] | None:
    """Return the share of expected observations by UTC day and hour, per cent.

    Expected is every station of the day in every bin; of the day under way only what is over
    counts.
    """
    days = {
        day: _hourly(np.array(counts), stations) for day, (stations, counts) in coverage.items()
    }
    if panel is not None:
        today = day_of(Bin(panel.stop - 1))
        if today not in days:
            inside = panel.window(first_bin(today), panel.stop)["bikes"]
            days[today] = _hourly((~np.isnan(inside)).sum(1), len(panel.stations))
    if not days:
        return None
    return {"days": [str(day) for day in sorted(days)], "pct": [days[d] for d in sorted(days)]}


def health_block(documents: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the health figures, the alerts, and the stations with the most missing."""
    kpis = documents.get("data/health/kpis.json")
    if kpis is None:
        return None
    stations = documents.get("data/health/station_health.json") or []
    worst = sorted((row for row in stations if row["missing"]), key=lambda r: -r["missing"])
    manifests = ("data/health", "data/drift", "model/performance")
    return {
        "kpis": {
            key: kpis.get(key)
            for key in (
                "coverage_global_pct",
                "freshness_age_p95_min",
                "report_lag_p95_min",
                "dups_pct",
                "missing_stations",
                "stations",
            )
        },
        "lowest": [
            {key: row.get(key) for key in ("station_id", "name", "coverage_pct", "missing")}
            for row in worst[:LOWEST_COVERAGE]
        ],
        "alerts": [
            {"family": family}
            | {
                key: alert.get(key)
                for key in ("level", "code", "text", "artefact", "value", "threshold")
            }
            for family in manifests
            for alert in (documents.get(f"{family}/manifest.json") or {}).get("alerts", [])
        ],
    }


def drift_block(documents: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return PSI by feature and by day, with the thresholds that its publisher used."""
    rows = documents.get("data/drift/psi_by_feature.json")
    if not rows:
        return None
    summary = documents.get("data/drift/summary.json") or {}
    daily = documents.get("data/drift/psi_global_daily_ema.json") or []
    ranked = sorted(rows, key=lambda r: (r["psi"] is None, -(r["psi"] or 0)))
    return {
        "features": [{key: row.get(key) for key in ("feature", "psi", "reason")} for row in ranked],
        "daily": [[row["date_local"] for row in daily], [row.get("psi") for row in daily]],
        "psi_global": summary.get("psi_global"),
        "thresholds": summary.get("thresholds") or {},
        "window_days": summary.get("window_days"),
        "reference_days": summary.get("reference_days"),
    }


def pipeline_block(lineage_records: Iterable[LineageRecord]) -> dict[str, Any]:
    """Return the newest objects and, by function, how many there are and how long they took.

    Objects are newest first, each as name, time, function, cause, seconds and size in bytes.
    Objects without a note are counted and left out.
    """
    noted = [
        lineage_record for lineage_record in lineage_records if lineage_record.function is not None
    ]
    ordered = sorted(noted, key=lambda m: (m.written_at, m.name), reverse=True)
    by_function: dict[str, list[float]] = {}
    for lineage_record in ordered:
        by_function.setdefault(str(lineage_record.function), []).append(
            lineage_record.seconds or 0.0
        )
    return {
        "total": len(ordered),
        "functions": [
            [name, len(took), round(statistics.median(took), 3), max(took)]
            for name, took in sorted(by_function.items())
        ],
        "rows": [
            [m.name, m.written_at, m.function, m.cause, m.seconds, m.size]
            for m in ordered[:LINEAGE_SHOWN]
        ],
    }


def quarantine_rows(reasons: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Return what was refused and why: source, reason, number of defects."""
    return [[r.get("source"), str(r.get("reason", ""))[:300], r.get("defects")] for r in reasons]


def _truth(document: Mapping[str, Any]) -> dict[str, Any] | None:
    if not any(value is not None for value in document.get("y_pred", [])):
        return None
    return {key: document.get(key) for key in ("station_id", "name", "ts")} | {
        "truth": document["y_true"],
        "forecast": document["y_pred"],
        "persistence": document["y_base"],
    }


def _rows(document: Mapping[str, Any] | None, *keys: str) -> dict[str, list[Any]] | None:
    """Return columns of a document's rows, or ``None`` where no row has a forecast to evaluate."""
    rows = [row for row in (document or {}).get("rows", []) if row.get("mae_model") is not None]
    return {key: [row.get(key) for row in rows] for key in keys} if rows else None


def _model(record: Mapping[str, Any], version: str, *, live: bool) -> dict[str, Any]:
    candidate = (record.get("verdict") or {}).get("candidate") or {}
    kept = ("model_type", "feature_count", "start_date", "end_date", "n_train", "built_at_utc")
    return {
        "version": version,
        "live": live,
        "mae": candidate.get("mae"),
        "mae_persistence": candidate.get("mae_persistence"),
        "reason": (record.get("verdict") or {}).get("reason"),
    } | {key: record.get(key) for key in kept}


def _reason(manifest: Mapping[str, Any] | None) -> str | None:
    return None if manifest is None else manifest.get("reason")


def _hourly(counts: NDArray[np.integer[Any]], stations: int) -> list[float | None]:
    hours = -(-len(counts) // BINS_PER_HOUR)
    parts = np.array_split(counts, range(BINS_PER_HOUR, len(counts), BINS_PER_HOUR))
    pct = [round(100 * float(part.sum()) / (len(part) * max(stations, 1)), 2) for part in parts]
    return [*pct, *[None] * (24 - hours)]


def _integers(values: NDArray[np.float32]) -> list[int | None]:
    return [None if math.isnan(value) else round(value) for value in values.tolist()]


def _integer_rows(values: NDArray[np.float32]) -> list[list[int | None]]:
    return [_integers(row) for row in values]


def _rounded(values: NDArray[np.floating[Any]], digits: int) -> list[float | None]:
    return [round(v, digits) if math.isfinite(v) else None for v in values.tolist()]
