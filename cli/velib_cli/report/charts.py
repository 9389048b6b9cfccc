"""From published objects to the series that the network page draws.

Pure functions: each returns plain values for JSON, unknown numbers as ``None``. A block that has
nothing to show is ``None`` or empty, with the publisher's own reason where it gave one.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    BINS_PER_HOUR,
    Bin,
    bin_start,
    iso_z,
)
from velib_core.timeline.local_time import SLOTS_PER_DAY, local_times, slot_of

from velib_cli.report.days import coverage_block, curve_block
from velib_cli.report.places import Projection, basemap_lines, quarters, tiles_block
from velib_cli.report.value import value_block

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray
    from velib_core.features.profiles import Profiles
    from velib_core.lake.lineage import LineageRecord
    from velib_core.tables.panel import Panel, Stations

    from velib_cli.report.sources import Horizon, Sources

EARTH_RADIUS_KM = 6371.0
SLOT_BINS = BINS_PER_DAY // SLOTS_PER_DAY
AHEAD_BINS = 2 * BINS_PER_HOUR
"""How far beyond now the usual profile is drawn: past the longest forecast."""

LINEAGE_SHOWN = 400
"""Newest objects of the timeline; the page says how many there are."""

LOWEST_COVERAGE = 8
"""Stations listed with the most missing observations."""

FAMILIES = (
    *("data/health", "data/drift", "data/freshness", "model/performance"),
    *("network/overview", "intro"),
)
"""Families whose manifests the page reads: status, reason, alerts."""

SHOWN_APART = ("alerts", "old_snapshot", "quarantined", "dead_lettered")
"""Findings of the status that have a place of their own on the page."""

FORECAST_COLUMNS = ("bikes_pred", "p_bike", "p_dock", "reason", "target_ts_utc")


def report_data(sources: Sources, made_at: dt.datetime) -> dict[str, Any]:
    """Return everything that the page shows, for JSON."""
    panel, horizons = sources.panel, sources.horizons
    minutes = [horizon.minutes for horizon in horizons]
    damaged = list(sources.unreadable)

    def block(name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 -- any value of JSON
        """Make a part of the page; a document of another shape costs its own part only."""
        try:
            return make()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            damaged.append(name)
            return None

    made = {
        "network": sources.network,
        "tz": sources.tz,
        "made_at": iso_z(made_at),
        "newest": iso_z(bin_start(Bin(panel.stop - 1))) if panel else None,
        "stations": stations_block(panel) if panel else None,
        "map": map_block(sources) if panel else None,
        "usual": usual_block(sources.profiles, panel) if panel and sources.profiles else None,
        "horizons": [
            block(f"h{horizon.minutes}", functools.partial(horizon_block, horizon, panel))
            or horizon_block(dataclasses.replace(horizon, forecast=None, performance={}), panel)
            for horizon in horizons
        ],
        "value": value_block(sources.logged, minutes, sources.tz),
        "overview": sources.documents.get("network/overview/kpis.json"),
        "curve": block("network/overview", lambda: curve_block(sources)),
        "statuses": block(
            "intro/intro.json", lambda: statuses_block(sources.documents.get("intro/intro.json"))
        ),
        "freshness": sources.documents.get("data/freshness/freshness.json"),
        "coverage": coverage_block(sources.coverage, panel, sources.tz),
        "health": block("data/health", lambda: health_block(sources.documents)),
        "alerts": block("alerts", lambda: alerts_block(sources.documents)) or [],
        "drift": block("data/drift", lambda: drift_block(sources.documents)),
        "reasons": {
            family: _reason(sources.documents.get(f"{family}/manifest.json")) for family in FAMILIES
        },
        "pipeline": pipeline_block(sources.lineage_records),
        "quarantine": {"total": sources.quarantined, "rows": quarantine_rows(sources.quarantine)},
        "dead_letters": sources.dead_letters,
    }
    found = [finding for finding in sources.findings if finding.code not in SHOWN_APART]
    known = [finding.about.replace("/latest/", "/") for finding in found]
    damaged = [name for name in set(damaged) if not any(k.endswith(name) for k in known)]
    fields = ("code", "about", "text", "command")
    findings = [{name: getattr(finding, name) for name in fields} for finding in found]
    return made | {"unreadable": sorted(damaged), "findings": findings}


def map_block(sources: Sources) -> dict[str, Any]:
    """Return what lies under the stations: quarters by name, lines and tiles where there are."""
    panel = sources.panel
    if panel is None:
        return {}
    stations = panel.stations
    x, y = projected(stations)
    named, quarter = quarters(x, y, stations)
    projection = Projection(stations, EARTH_RADIUS_KM)
    known = np.isfinite(x) & np.isfinite(y)
    made: dict[str, Any] = {"named": named, "quarter": quarter, "lines": None, "tiles": None}
    if not known.any():
        return made
    if sources.basemap is not None:
        box = [float(f(a[known])) for a in (x, y) for f in (np.min, np.max)]
        made["lines"] = basemap_lines(sources.basemap, projection, box)
    if sources.tiles:
        lat, lon = stations.lat[known].tolist(), stations.lon[known].tolist()
        made["tiles"] = tiles_block(sources.tiles, projection, lat, lon)
    return made


def stations_block(panel: Panel) -> dict[str, Any]:
    """Return each station's place, its state in the newest bin and its last 24 hours.

    ``x`` and ``y`` are kilometres east and north of the stations' middle in the equirectangular
    projection, which keeps a city's distances to a few parts in a thousand.
    """
    stations = panel.stations
    x, y = projected(stations)
    bikes = panel["bikes"]
    return {
        "lat": _rounded(stations.lat, 5),
        "lon": _rounded(stations.lon, 5),
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
    projection = Projection(stations, EARTH_RADIUS_KM)
    if not projection.known:
        return np.full(len(stations), np.nan), np.full(len(stations), np.nan)
    x, y = projection.place(stations.lon, stations.lat)
    return np.asarray(x, np.float64), np.asarray(y, np.float64)


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


def health_block(documents: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the health figures, the alerts, and the stations with the most missing."""
    kpis = documents.get("data/health/kpis.json")
    if kpis is None:
        return None
    stations = documents.get("data/health/station_health.json") or []
    worst = sorted((row for row in stations if row["missing"]), key=lambda r: -r["missing"])
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
    }


def alerts_block(documents: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the alerts that stand in any family, the high ones first."""
    kept = ("level", "code", "text", "artefact", "value", "threshold")
    found = [
        {"family": family, "as_of": manifest.get("generated_at")}
        | {key: alert.get(key) for key in kept}
        for family in FAMILIES
        if isinstance(manifest := documents.get(f"{family}/manifest.json"), dict)
        for alert in manifest.get("alerts") or []
    ]
    return sorted(found, key=lambda alert: alert["level"] != "high")


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
    return manifest.get("reason") if isinstance(manifest, dict) else None


def _integers(values: NDArray[np.float32]) -> list[int | None]:
    return [None if math.isnan(value) else round(value) for value in values.tolist()]


def _integer_rows(values: NDArray[np.float32]) -> list[list[int | None]]:
    return [_integers(row) for row in values]


def _rounded(values: NDArray[np.floating[Any]], digits: int) -> list[float | None]:
    return [round(v, digits) if math.isfinite(v) else None for v in values.tolist()]
