"""Model performance: the error of the forecasts against what happened, and against persistence.

The *hindcast* is what the newest model that had not seen a day says of every bin of it; the
``served`` figures are of the forecasts as published (the forecast log), scored the same
way. Model and baseline are always compared on the same pairs. Hours, weekdays and dates are local
and those of the issue time.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.monitoring.documents import (
    Alert,
    Documents,
    RunMetadata,
    Status,
    partly,
    percent,
    ratio,
    repeat_at_root,
    status_of_days,
    with_manifest,
    with_values,
)
from velib_core.monitoring.model import forecast_grid
from velib_core.monitoring.model.residuals import range_of_residuals
from velib_core.monitoring.model.scored_log import (
    LoggedForecastScores,
    score_forecast_log,
)
from velib_core.monitoring.model.station_series import series_document
from velib_core.monitoring.stats.integer_histogram import IntegerHistogram
from velib_core.tables.climatology import Climatology
from velib_core.timeline.bins import Bin, bin_start, horizon_minutes, iso_z

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.monitoring.model.forecast_grid import Hindcasts
    from velib_core.tables.panel import Stations
    from velib_core.timeline.bins import HorizonBins
    from velib_core.timeline.windows import LocalDays

    Floats = NDArray[np.float64]

VERSION = "1.2"

COLUMNS = forecast_grid.COLUMNS
"""Columns of the evaluation table that are read;
`velib_core.monitoring.model.scored_log.FORECAST_LOG_COLUMNS` of the
forecast log."""


@dataclasses.dataclass(frozen=True)
class PerformanceThresholds:
    """When forecasts are called bad.

    ``min_lift``: a model worse than persistence. ``min_coverage_pct``: forecasts missing for
    pairs with a truth. ``min_points`` within 24 hours make a station's series worth drawing.
    """

    min_lift: float = 0.0
    min_coverage_pct: float = 95.0
    min_points: int = 24


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    horizons: Sequence[HorizonBins],
    run_metadata: RunMetadata,
    thresholds: PerformanceThresholds | None = None,
    forecast_log: Iterable[pa.Table] = (),
    stations: Stations | None = None,
    clusters: Mapping[str, int | str] | None = None,
) -> Documents:
    """Make the documents of ``model/performance``, a folder ``h{minutes}/`` a horizon.

    Those of the first horizon stand at the root of the folder too.

    Parameters
    ----------
    tables
        Evaluation tables with `COLUMNS`, one per day, in time order.
    window
        Complete local days of issue.
    horizons
        In bins; each gets its documents, whether it has forecasts or not.
    forecast_log
        The forecasts as published, with `FORECAST_LOG_COLUMNS`, one table a day.
    stations
        Gives stations their names.
    clusters
        Group of each station; makes ``by_cluster.json``.

    """
    limits = thresholds or PerformanceThresholds()
    laid_out = forecast_grid.to_grid(tables, window, horizons)
    logged_forecasts = score_forecast_log(forecast_log, laid_out)
    documents: dict[str, Any] = {}
    info, alerts = [], []
    for h, hindcasts in laid_out.items():
        minutes = horizon_minutes(h)
        folder = f"h{minutes}"
        made = _documents(hindcasts, logged_forecasts[h], run_metadata, limits, stations, clusters)
        documents |= {f"{folder}/{name}.json": document for name, document in made.items()}
        info.append(
            {
                "horizon_min": minutes,
                "prefix_latest": f"{run_metadata.latest_prefix}/{folder}",
                "artifacts": list(made),
                "reason": made["kpis"]["reason"],
            }
        )
        alerts += _alerts(made["kpis"], folder, limits)
    return with_manifest(
        repeat_at_root(documents, f"h{horizon_minutes(horizons[0])}"),
        run_metadata,
        VERSION,
        status=_status(laid_out, info, window),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits,),
        alerts=alerts,
        extra={
            "window": window.as_json(),
            "horizons": [horizon_minutes(h) for h in horizons],
            "horizons_info": info,
        },
    )


class ErrorSums:
    """Sums of errors by bin or by station, from which every figure of a group is made.

    ``fields`` is ``float64[8, n]``: pairs compared; pairs with a truth; then sums of absolute,
    squared and signed error (truth − forecast) of model and of baseline.
    """

    def __init__(self, fields: Floats) -> None:
        self.fields = fields

    @classmethod
    def over(cls, hindcasts: Hindcasts, axis: int) -> ErrorSums:
        """Sum over stations (``axis`` 1) or bins (``axis`` 0)."""
        scored = hindcasts.scored
        known = np.isfinite(hindcasts.truth) & np.isfinite(hindcasts.persistence)
        columns = [scored.sum(axis=axis), known.sum(axis=axis)]
        for forecast in (hindcasts.integer, hindcasts.persistence):
            error = np.where(scored, hindcasts.truth - forecast, np.float32(0))
            columns += [
                part.sum(axis=axis, dtype=np.float64) for part in (np.abs(error), error**2, error)
            ]
        return cls(np.stack(columns).astype(np.float64))

    def grouped(self, label: NDArray[np.int64], count: int) -> list[dict[str, Any]]:
        """Return the figures of each group ``0 … count − 1``; labels below 0 are left out."""
        keep = label >= 0
        sums = np.stack([np.bincount(label[keep], f[keep], count) for f in self.fields])
        return [figures(column) for column in sums.T]

    def total(self) -> dict[str, Any]:
        """Return the figures of everything."""
        return figures(self.fields.sum(axis=1))


def figures(sums: Floats) -> dict[str, Any]:
    """Return the contract's figures from one column of `ErrorSums`; null where there is none."""
    n, n_truth = int(sums[0]), int(sums[1])
    found: dict[str, Any] = {"n": n, "n_truth": n_truth}
    found["coverage_pred_pct"] = percent(n, n_truth)
    for name, (absolute, squared, signed) in (("model", sums[2:5]), ("baseline", sums[5:8])):
        found[f"mae_{name}"] = ratio(absolute, n)
        found[f"rmse_{name}"] = float(squared / n) ** 0.5 if n else None
        found[f"me_{name}"] = ratio(signed, n)
    found["lift_vs_baseline"] = ratio(sums[5] - sums[2], sums[5])
    return found


def _documents(
    hindcasts: Hindcasts,
    logged_forecasts: LoggedForecastScores,
    run_metadata: RunMetadata,
    limits: PerformanceThresholds,
    stations: Stations | None,
    clusters: Mapping[str, int | str] | None,
) -> dict[str, Any]:
    by_bin, by_station = ErrorSums.over(hindcasts, 1), ErrorSums.over(hindcasts, 0)
    local = hindcasts.window.local()
    days = [day.isoformat() for day in hindcasts.window.days]
    of_day = local.day - hindcasts.window.days[0].toordinal()
    daily = _rows("date", days, by_bin.grouped(of_day, len(days)))
    head = run_metadata.head(VERSION) | {"horizon_min": horizon_minutes(hindcasts.horizon)}
    groups = {
        "daily_metrics": daily,
        "by_hour": _rows("hour", range(24), by_bin.grouped(local.minute // 60, 24)),
        "by_dow": _rows("dow", range(7), by_bin.grouped(local.dow, 7)),
        "by_station": _rows(
            "station_id", hindcasts.ids.tolist(), [figures(f) for f in by_station.fields.T]
        ),
    }
    made = {"kpis": _kpis(hindcasts, by_bin, logged_forecasts, head)}
    made |= {
        name: head | {"time": "issue", "rows": with_values(rows, "mae_model")}
        for name, rows in groups.items()
    }
    made["lift_curve"] = head | {
        "points": [
            {k: row[k] for k in ("date", "lift_vs_baseline")}
            for row in with_values(daily, "lift_vs_baseline")
        ]
    }
    made["hist_residuals"] = head | _histogram(hindcasts)
    made["station_timeseries"] = run_metadata.head(VERSION) | series_document(
        hindcasts, run_metadata.tz, limits.min_points, stations
    )
    if clusters is not None:
        made["by_cluster"] = head | {"rows": _by_cluster(hindcasts, by_station, clusters)}
    return made


def _rows(
    key: str, values: Iterable[object], found: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    return [{key: value} | dict(row) for value, row in zip(values, found, strict=True)]


def _kpis(
    hindcasts: Hindcasts,
    by_bin: ErrorSums,
    logged_forecasts: LoggedForecastScores,
    head: dict[str, Any],
) -> dict[str, Any]:
    total = by_bin.total()
    scored = hindcasts.scored
    at = np.flatnonzero(scored.any(axis=1))
    known = np.isfinite(hindcasts.truth) & np.isfinite(hindcasts.persistence)
    persistence = np.abs(hindcasts.truth - hindcasts.persistence)[known]
    return {
        **head,
        "window_days": len(hindcasts.window.days),
        **total,
        "n_rows": total["n"],
        "n_stations": int(scored.any(axis=0).sum()),
        "ts_min_utc": _stamp(hindcasts, int(at[0])) if len(at) else None,
        "ts_max_utc": _stamp(hindcasts, int(at[-1])) if len(at) else None,
        "coverage_since_first_pct": _coverage_since_first(by_bin),
        "reason": _reason(total),
        "is": "hindcast",
        "mae_baseline_all": float(persistence.mean(dtype=np.float64)) if len(persistence) else None,
        **_continuous(hindcasts),
        **_distribution(hindcasts),
        "model_versions": hindcasts.versions,
        "served": logged_forecasts.as_json(),
    }


def _coverage_since_first(by_bin: ErrorSums) -> float | None:
    """Return `coverage_pred_pct` from the first forecast on: before it there was no model."""
    scored, known = by_bin.fields[:2]
    first = int((scored > 0).argmax())
    return percent(scored[first:].sum(), known[first:].sum())


def _continuous(hindcasts: Hindcasts) -> dict[str, float | None]:
    """Return the errors of the numbers behind the published integer."""
    found: dict[str, float | None] = {}
    for name, forecast in (("median", hindcasts.median), ("mean", hindcasts.mean)):
        error = (hindcasts.truth - forecast)[hindcasts.scored & np.isfinite(forecast)].astype(
            np.float64
        )
        found[f"mae_{name}"] = float(np.abs(error).mean()) if len(error) else None
        found[f"rmse_{name}"] = float((error**2).mean() ** 0.5) if len(error) else None
    return found


def _distribution(hindcasts: Hindcasts) -> dict[str, float | None]:
    """Return the CRPS of the forecasts' distributions and, on the same pairs, of two others.

    Persistence is sure of itself, so its CRPS is its absolute error. The climatology of a day is
    that of the window's days before it, so the first day has none.
    """
    pairs = hindcasts.scored & np.isfinite(hindcasts.crps)
    model = _mean(hindcasts.crps[pairs])
    persistence = _mean(np.abs(hindcasts.truth - hindcasts.persistence)[pairs])
    climatology = _climatological_scores(hindcasts)[pairs]
    return {
        "crps_model": model,
        "crps_persistence": persistence,
        "crps_climatology": _mean(climatology[np.isfinite(climatology)]),
        "crps_lift": None if model is None or not persistence else 1 - model / persistence,
    }


def _climatological_scores(hindcasts: Hindcasts) -> NDArray[np.float32]:
    """Return the CRPS of the past days' levels at each pair's target, ``float32[T, S]``."""
    scores = np.full(hindcasts.truth.shape, np.nan, np.float32)
    climatology = Climatology(hindcasts.window.tz)
    day_of_bin = hindcasts.window.local().day
    for day in np.unique(day_of_bin):
        rows = np.flatnonzero(day_of_bin == day)
        truth = hindcasts.truth[rows]
        first = Bin(int(hindcasts.window.start + rows[0] + hindcasts.horizon))
        t, station = np.nonzero(np.isfinite(truth))
        scores[rows[t], station] = climatology.crps(
            hindcasts.ids, station, first + t, truth[t, station]
        )
        climatology.add(hindcasts.ids, first, truth)
    return scores


def _mean(values: NDArray[np.float32]) -> float | None:
    return float(values.mean(dtype=np.float64)) if len(values) else None


def _reason(total: Mapping[str, Any]) -> str | None:
    if not total["n_truth"]:
        return "no observation has a truth a horizon later"
    return None if total["n"] else "no forecast in the window"


def _histogram(hindcasts: Hindcasts) -> dict[str, Any]:
    """Count residuals by whole bikes, out to the 99th percentile of their size."""
    error = (hindcasts.truth - hindcasts.integer)[hindcasts.scored]
    counts = IntegerHistogram.of(np.rint(error).astype(np.int64))
    lookback = range_of_residuals(counts) if len(error) else 1
    inside = np.abs(counts.values) <= lookback
    return {
        "bins": (np.arange(2 * lookback + 2) - lookback - 0.5).tolist(),
        "counts": np.bincount(
            counts.values[inside] + lookback, counts.counts[inside], 2 * lookback + 1
        ).astype(np.int64),
        "n": len(error),
    }


def _by_cluster(
    hindcasts: Hindcasts, by_station: ErrorSums, clusters: Mapping[str, int | str]
) -> list[dict[str, Any]]:
    names = sorted(set(clusters.values()), key=str)
    place = {name: n for n, name in enumerate(names)}
    label = [place[clusters[s]] if s in clusters else -1 for s in hindcasts.ids.tolist()]
    return _rows("cluster", names, by_station.grouped(np.array(label, np.int64), len(names)))


def _alerts(kpis: Mapping[str, Any], folder: str, limits: PerformanceThresholds) -> list[Alert]:
    alerts = []
    artefact, lift = f"{folder}/kpis.json", kpis["lift_vs_baseline"]
    coverage = kpis["coverage_since_first_pct"]
    if lift is not None and lift < limits.min_lift:
        text = f"{folder}: the forecast is {-100 * lift:.1f}% worse than persistence"
        alerts.append(Alert("high", "lift", text, artefact, lift, limits.min_lift))
    if kpis["n"] and coverage < limits.min_coverage_pct:
        text = f"{folder}: {coverage:.1f}% of the observations have a forecast"
        alerts.append(
            Alert("medium", "coverage_pred", text, artefact, coverage, limits.min_coverage_pct)
        )
    logged_forecasts = kpis["served"]["lift_vs_baseline"]
    if logged_forecasts is not None and logged_forecasts < limits.min_lift:
        text = f"{folder}: what users got is {-100 * logged_forecasts:.1f}% worse than persistence"
        alerts.append(
            Alert("high", "served_lift", text, artefact, logged_forecasts, limits.min_lift)
        )
    return alerts


def _status(
    laid_out: Mapping[HorizonBins, Hindcasts], info: list[dict[str, Any]], window: LocalDays
) -> Status:
    seen = np.zeros(window.bins, bool)
    for hindcasts in laid_out.values():
        seen |= np.isfinite(hindcasts.persistence).any(axis=1)
    status = status_of_days(window.days_with(seen[:, None]), len(window.days))
    return partly(
        status, [f"h{row['horizon_min']}: {row['reason']}" for row in info if row["reason"]]
    )


def _stamp(hindcasts: Hindcasts, offset: int) -> str:
    return iso_z(bin_start(Bin(hindcasts.window.start + offset)))
