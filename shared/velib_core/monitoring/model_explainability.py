"""Model explainability: how the forecasts err, how sure they are, and what moved them.

Residuals are truth − published forecast, on pairs where both are known. What moved a forecast is
told twice: by the loss that the trees' splits on a feature removed in training (total gain), and
exactly, forecast by forecast, by SHAP values (Lundberg et al., From local explanations to global
understanding with explainable AI for trees, 2020).
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.grid import BIN_MINUTES, Bin, bin_start, horizon_minutes, iso_z
from velib_core.monitoring import hindcasts, runs
from velib_core.monitoring.documents import Documents, Edition, Status, publish, status_of_days
from velib_core.monitoring.importance import Importance, importance_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.grid import HorizonBins
    from velib_core.monitoring.hindcasts import Hindcasts
    from velib_core.panel import Stations
    from velib_core.windows import LocalDays

VERSION = "1.5"

COLUMNS = hindcasts.COLUMNS
"""Columns of the perf view that are read."""

LEVELS = ("Bas", "Moyen", "Haut")


@dataclasses.dataclass(frozen=True)
class ExplainThresholds:
    """Sizes of the diagrams, and below how many pairs a figure is not told.

    ``episode_bikes``: a residual that large is a miss. ``pi_nominal``: the coverage that the
    prediction interval aims at. ``fit_share``: share of the window's days, the first ones, that
    the interval is fitted on; it is tested on the others.
    """

    qq_points: int = 512
    acf_lags: int = 144
    min_acf_pairs: int = 48
    quantile_bins: int = 20
    episode_bikes: float = 4.0
    episodes_topk: int = 64
    pi_nominal: float = 0.90
    fit_share: float = 0.7
    min_pairs: int = 30
    features_topk: int = 60
    station_topk: int = 5


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Every pair of the window, flat and in order of time: bins (offsets), stations, values."""

    at: NDArray[np.int64]
    station: NDArray[np.int64]
    truth: NDArray[np.float64]
    published: NDArray[np.float64]
    median: NDArray[np.float64]
    mean: NDArray[np.float64]

    @property
    def residual(self) -> NDArray[np.float64]:
        return self.truth - self.published


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    horizons: Sequence[HorizonBins],
    edition: Edition,
    thresholds: ExplainThresholds | None = None,
    importance: Mapping[HorizonBins, Importance] | None = None,
    stations: Stations | None = None,
) -> Documents:
    """Make the documents of ``model/explainability``, a folder ``h{minutes}/`` a horizon.

    Parameters
    ----------
    tables
        Perf views with `COLUMNS`, one a day, in time order.
    window
        Complete local days of issue.
    horizons
        In bins; each gets its documents, whether it has forecasts or not.
    importance
        What moved the live model, where there is one.
    stations
        Gives stations their names and places.

    """
    limits = thresholds or ExplainThresholds()
    laid_out = hindcasts.lay_out(tables, window, horizons)
    documents: dict[str, Any] = {}
    info = []
    for h in horizons:
        cast = laid_out.pop(h)
        minutes = horizon_minutes(h)
        head = edition.head(VERSION) | {"horizon_min": minutes, "window_days": len(window.days)}
        made = _documents(cast, head, edition.tz, limits, stations)
        made["feature_importance"] = head | importance_document(
            (importance or {}).get(h), limits.features_topk, limits.station_topk
        )
        documents |= {f"h{minutes}/{name}.json": document for name, document in made.items()}
        info.append(
            {
                "horizon_min": minutes,
                "prefix_latest": f"{edition.latest_prefix}/h{minutes}",
                "artifacts": list(made),
                "reason": made["overview"]["reason"],
                "days": made["overview"]["days"],
            }
        )
    return publish(
        documents,
        edition,
        VERSION,
        status=_status(info, window),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits,),
        extra={"horizons": [row["horizon_min"] for row in info], "horizons_info": info},
    )


def _status(info: Sequence[Mapping[str, Any]], window: LocalDays) -> Status:
    status = status_of_days(max((row["days"] for row in info), default=0), len(window.days))
    without = [f"h{row['horizon_min']}: {row['reason']}" for row in info if row["reason"]]
    if status.status != "no_data" and without:
        return Status("partial", "; ".join(filter(None, [status.reason, *without])))
    return status


def _documents(
    cast: Hindcasts,
    head: Mapping[str, Any],
    tz: str,
    limits: ExplainThresholds,
    stations: Stations | None,
) -> dict[str, dict[str, Any]]:
    pairs = _pairs(cast)
    hours = cast.window.local().minute // 60
    uncertainty = _uncertainty(pairs, cast, hours, limits)
    overview = _overview(pairs, cast, tz) | {"has_uncertainty": uncertainty["method"] != "none"}
    return {
        "overview": dict(head) | overview,
        "residuals": dict(head) | _residuals(pairs, cast, limits),
        "calibration": dict(head) | _calibration(pairs, hours, cast, limits, stations),
        "uncertainty": dict(head) | uncertainty,
    }


def _pairs(cast: Hindcasts) -> _Pairs:
    at, station = np.nonzero(np.isfinite(cast.truth) & np.isfinite(cast.published))
    columns = (cast.truth, cast.published, cast.median, cast.mean)
    return _Pairs(at, station, *(c[at, station].astype(np.float64) for c in columns))


def _overview(pairs: _Pairs, cast: Hindcasts, tz: str) -> dict[str, Any]:
    observed = np.isfinite(cast.base)
    at = np.flatnonzero(observed.any(axis=1))
    days = np.unique(cast.window.local().day[at])
    reason = None if len(pairs.at) else "no forecast with a truth in the window"
    return {
        "tz": tz,
        "anchor_day_perf": bin_start(Bin(cast.window.start + int(at[-1]))).date().isoformat()
        if len(at)
        else None,
        "perf_rows": int(observed.sum()),
        "perf_stations": int(observed.any(axis=0).sum()),
        "pairs": len(pairs.at),
        "days": len(days),
        "ts_min_perf": _stamp(cast, int(at[0])) if len(at) else None,
        "ts_max_perf": _stamp(cast, int(at[-1])) if len(at) else None,
        "has_y_pred": bool(np.isfinite(cast.published).any()),
        "model_versions": cast.versions,
        "reason": reason,
    }


def _residuals(pairs: _Pairs, cast: Hindcasts, limits: ExplainThresholds) -> dict[str, Any]:
    residual = pairs.residual
    return {
        "hist": _histogram(residual),
        "qq": _qq(residual, limits.qq_points),
        "acf": _acf(_network_mean(pairs, cast.window.bins), limits),
        "hetero": [
            {
                "quantile": f"q{n + 1}",
                "mae": float(np.abs(residual[inside]).mean()),
                "n": int(inside.sum()),
                "y_pred_mean": float(pairs.published[inside].mean()),
            }
            for n, inside in enumerate(_quantile_groups(pairs.published, limits.quantile_bins))
        ],
        "episodes": _episodes(cast, limits),
        "n": len(residual),
    }


def _histogram(residual: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Count residuals by whole bikes, out to the 99th percentile of their size."""
    if not len(residual):
        return []
    reach = max(int(np.ceil(np.quantile(np.abs(residual), 0.99))), 1)
    whole = np.rint(residual).astype(np.int64)
    counts = np.bincount(whole[np.abs(whole) <= reach] + reach, minlength=2 * reach + 1)
    return [
        {"bin_left": n - reach - 0.5, "bin_right": n - reach + 0.5, "count": int(count)}
        for n, count in enumerate(counts)
    ]


def _qq(residual: NDArray[np.float64], points: int) -> dict[str, Any]:
    """Set quantiles of the standardised residuals beside those of the normal distribution."""
    spread = float(residual.std()) if len(residual) else 0.0
    if spread == 0:
        return {"th": [], "emp": []}
    probability = (np.arange(points) + 0.5) / points
    normal = statistics.NormalDist()
    empirical = (np.quantile(residual, probability) - residual.mean()) / spread
    return {"th": [normal.inv_cdf(p) for p in probability.tolist()], "emp": empirical}


def _network_mean(pairs: _Pairs, bins: int) -> NDArray[np.float64]:
    """Return the mean residual of each bin of the window, NaN where there is none."""
    count = np.bincount(pairs.at, minlength=bins)
    total = np.bincount(pairs.at, pairs.residual, bins)
    mean: NDArray[np.float64] = np.full(bins, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _acf(series: NDArray[np.float64], limits: ExplainThresholds) -> list[float]:
    """Return the autocorrelation at lags of whole bins, as far as there are pairs enough.

    The mean product of the deviations of all pairs a lag apart, over the variance.
    """
    known = np.isfinite(series)
    if known.sum() < limits.min_acf_pairs or not np.nanstd(series):
        return []
    deviation = np.where(known, series - series[known].mean(), 0)
    variance = float((deviation**2).sum() / known.sum())
    acf = []
    for lag in range(min(limits.acf_lags, len(series) - 1) + 1):
        stop = len(series) - lag
        pairs = int((known[:stop] & known[lag:]).sum())
        if pairs < limits.min_acf_pairs:
            break
        product = float((deviation[:stop] * deviation[lag:]).sum() / pairs)
        acf.append(min(max(product / variance, -1.0), 1.0))
    return acf


def _quantile_groups(values: NDArray[np.float64], count: int) -> list[NDArray[np.bool_]]:
    """Split values at their quantiles; equal values stay together, so there may be fewer groups."""
    if not len(values):
        return []
    edges = np.unique(np.quantile(values, np.arange(1, count) / count))
    group = np.searchsorted(edges, values, side="left")
    return [group == g for g in np.unique(group).tolist()]


def _episodes(cast: Hindcasts, limits: ExplainThresholds) -> list[dict[str, Any]]:
    """Return each station's longest run of misses, the longest first."""
    residual = cast.truth - cast.published
    observed = np.isfinite(residual)
    reach = runs.reach_of(observed)
    found = runs.find_runs(np.abs(residual) >= limits.episode_bikes, observed, reach)
    longest = np.zeros(len(cast.stations), np.int64)
    np.maximum.at(longest, found.station, found.rows)
    n = observed.sum(axis=0)
    rows: list[dict[str, Any]] = [
        {
            "station_id": str(cast.stations.ids[s]),
            "max_run": int(longest[s]),
            "max_run_min": int(longest[s]) * (reach + 1) // 2 * BIN_MINUTES,
            "n": int(n[s]),
        }
        for s in np.flatnonzero(longest).tolist()
    ]
    rows.sort(key=lambda row: (-row["max_run"], row["station_id"]))
    return rows[: limits.episodes_topk]


def _calibration(
    pairs: _Pairs,
    hours: NDArray[np.int64],
    cast: Hindcasts,
    limits: ExplainThresholds,
    stations: Stations | None,
) -> dict[str, Any]:
    hour = hours[pairs.at]
    forecast = np.where(np.isfinite(pairs.median), pairs.median, pairs.published)
    has_mean = np.isfinite(pairs.mean)
    return {
        "fit": _line(forecast, pairs.truth, 2),
        "fit_mean": _line(pairs.mean[has_mean], pairs.truth[has_mean], 2),
        "binned": [
            {
                "quantile": f"[{forecast[inside].min():.2f}, {forecast[inside].max():.2f}]",
                "y_pred_mean": float(forecast[inside].mean()),
                "y_true_mean": float(pairs.truth[inside].mean()),
                "n": int(inside.sum()),
            }
            for inside in _quantile_groups(forecast, limits.quantile_bins)
        ],
        "by_hour": [
            {"hour": h} | _line(forecast[hour == h], pairs.truth[hour == h], limits.min_pairs)
            for h in range(24)
        ],
        "rel_error_levels": _levels(pairs),
        "bias_by_station": _bias(pairs, cast, stations),
    }


def _line(x: NDArray[np.float64], y: NDArray[np.float64], least: int) -> dict[str, Any]:
    """Fit y = alpha + beta · x by least squares; null for too few or equal forecasts."""
    variance = float(x.var()) if len(x) >= least else 0.0
    if variance <= 0:
        return {"alpha": None, "beta": None, "n": len(x)}
    beta = float(((x - x.mean()) * (y - y.mean())).mean()) / variance
    return {"alpha": float(y.mean() - beta * x.mean()), "beta": beta, "n": len(x)}


def _levels(pairs: _Pairs) -> list[dict[str, Any]]:
    """Return the relative error by terciles of the truth; fewer where terciles coincide."""
    groups = _quantile_groups(pairs.truth, len(LEVELS))
    relative = np.abs(pairs.residual) / np.maximum(pairs.truth, 1)
    return [
        {"level": level, "mape_like": float(relative[inside].mean()), "n": int(inside.sum())}
        for level, inside in zip(LEVELS, groups, strict=False)
    ]


def _bias(pairs: _Pairs, cast: Hindcasts, stations: Stations | None) -> list[dict[str, Any]]:
    width = len(cast.stations)
    n = np.bincount(pairs.station, minlength=width)
    total = np.bincount(pairs.station, pairs.residual, width)
    place = {} if stations is None else {str(i): s for s, i in enumerate(stations.ids)}
    rows = []
    for s in np.flatnonzero(n).tolist():
        station = str(cast.stations.ids[s])
        row: dict[str, Any] = {"station_id": station, "name": None, "lat": None, "lon": None}
        if stations is not None and station in place:
            at = place[station]
            row["name"] = str(stations.names[at]) or None
            row |= {"lat": float(stations.lat[at]), "lon": float(stations.lon[at])}
        rows.append(row | {"bias": float(total[s] / n[s]), "n": int(n[s])})
    return rows


def _uncertainty(
    pairs: _Pairs, cast: Hindcasts, hours: NDArray[np.int64], limits: ExplainThresholds
) -> dict[str, Any]:
    """Fit a band of residual quantiles by local hour on the first days, test it on the last."""
    nothing = {"method": "none", "nominal": limits.pi_nominal, "coverage": None, "band": []}
    days = np.unique(cast.window.local().day[np.unique(pairs.at)])
    if len(days) < 2:
        return nothing | {"reason": "two days with forecasts are needed"}
    split = days[min(max(round(len(days) * limits.fit_share), 1), len(days) - 1)]
    day, hour = cast.window.local().day[pairs.at], hours[pairs.at]
    fitted, residual = day < split, pairs.residual
    tail = (1 - limits.pi_nominal) / 2
    low, high = np.quantile(residual[fitted], [tail, 1 - tail])
    band = []
    for h in range(24):
        values = residual[fitted & (hour == h)]
        own = len(values) >= limits.min_pairs
        edges = np.quantile(values, [tail, 1 - tail]).tolist() if own else [low, high]
        band.append({"hour": h, "low": edges[0], "high": edges[1], "n": len(values)})
    lows, highs = (np.array([row[key] for row in band]) for key in ("low", "high"))
    inside = (residual >= lows[hour]) & (residual <= highs[hour])
    tested = ~fitted
    return nothing | {
        "method": "residual_quantiles/by_hour",
        "coverage": {"empirical": float(inside[tested].mean()), "n": int(tested.sum())},
        "band": band,
        "fitted_days": int((days < split).sum()),
        "tested_days": int((days >= split).sum()),
        "reason": None,
    }


def _stamp(cast: Hindcasts, offset: int) -> str:
    return iso_z(bin_start(Bin(cast.window.start + offset)))
