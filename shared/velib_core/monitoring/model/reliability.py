"""Whether forecasts mean what they say: calibration, bias, and a prediction interval tested."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.monitoring.documents import with_values
from velib_core.monitoring.model.residuals import quantile_groups
from velib_core.monitoring.stats.integer_histogram import IntegerHistogram

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.monitoring.model.forecast_grid import Hindcasts
    from velib_core.monitoring.model.residuals import Pairs
    from velib_core.tables.panel import Stations

LEVELS = ("Bas", "Moyen", "Haut")
HOURS = 24
ROWS_AT_ONCE = 1 << 20
"""Millions of pairs in double precision would be the largest thing in memory."""


@dataclasses.dataclass(frozen=True)
class CalibrationLimits:
    """Sizes, and below how many pairs an hour has no figure.

    ``pi_nominal``: the coverage that the prediction interval aims at. ``fit_share``: share of
    the days with forecasts, the first ones, that it is fitted on; it is tested on the others.
    """

    calibration_bins: int = 20
    min_pairs: int = 30
    pi_nominal: float = 0.90
    fit_share: float = 0.7


def calibration_document(
    pairs: Pairs, hindcasts: Hindcasts, limits: CalibrationLimits, stations: Stations | None
) -> dict[str, Any]:
    """Return the body of ``calibration.json``.

    ``fit`` is of the forecast before rounding (the median), ``fit_mean`` of the mean, for which
    a slope of 1 is to be expected.
    """
    hour = (hindcasts.window.local().minute // 60)[pairs.at]
    median = hindcasts.median[pairs.at, pairs.station]
    mean = hindcasts.mean[pairs.at, pairs.station]
    forecast = np.where(np.isfinite(median), median, pairs.integer.astype(np.float32))
    reported = np.isfinite(mean)
    everything = np.zeros(len(pairs), np.int8)
    return {
        "fit": _lines(forecast, pairs.truth, everything, 1, 2)[0],
        "fit_mean": _lines(mean[reported], pairs.truth[reported], everything[reported], 1, 2)[0],
        "binned": _binned(forecast, pairs.truth, limits.calibration_bins),
        "by_hour": with_values(
            (
                {"hour": h} | line
                for h, line in enumerate(
                    _lines(forecast, pairs.truth, hour, HOURS, limits.min_pairs)
                )
            ),
            "beta",
        ),
        "rel_error_levels": _levels(pairs),
        "bias_by_station": _bias(pairs, hindcasts, stations),
    }


def _lines(
    x: NDArray[np.float32],
    y: NDArray[np.int32],
    group: NDArray[np.signedinteger],
    count: int,
    least: int,
) -> list[dict[str, Any]]:
    """Fit y = alpha + beta · x by least squares in each group; null for too few or equal x."""
    # Near their mean the squares lose no digits.
    centre = float(x.mean(dtype=np.float64)) if len(x) else 0.0
    n = np.bincount(group, minlength=count)
    sums = np.zeros((4, count))
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        u, v = x[rows].astype(np.float64) - centre, y[rows] - centre
        sums += [np.bincount(group[rows], w, count) for w in (u, v, u * u, u * v)]
    su, sv, suu, suv = sums
    lines: list[dict[str, Any]] = []
    for g in range(count):
        size = int(n[g])
        spread = float(suu[g] - su[g] ** 2 / size) if size >= least else 0.0
        if spread <= 1e-9 * size:
            lines.append({"alpha": None, "beta": None, "n": size})
            continue
        beta = float(suv[g] - su[g] * sv[g] / size) / spread
        alpha = float(sv[g] - beta * su[g]) / size + centre - beta * centre
        lines.append({"alpha": alpha, "beta": beta, "n": size})
    return lines


def _binned(
    forecast: NDArray[np.float32], truth: NDArray[np.int32], count: int
) -> list[dict[str, Any]]:
    if not len(forecast):
        return []
    edges = np.unique(np.quantile(forecast, np.arange(count + 1) / count))
    group = np.clip(np.searchsorted(edges, forecast, side="left") - 1, 0, max(len(edges) - 2, 0))
    n = np.bincount(group)
    sums = [np.bincount(group, column) for column in (forecast, truth)]
    last = len(edges) - 1
    return [
        {
            "quantile": f"({edges[g]:.2f}, {edges[min(g + 1, last)]:.2f}]",
            "y_pred_mean": sums[0][g] / n[g],
            "y_true_mean": sums[1][g] / n[g],
            "n": n[g],
        }
        for g in np.flatnonzero(n).tolist()
    ]


def _levels(pairs: Pairs) -> list[dict[str, Any]]:
    """Return the relative error by terciles of the truth; fewer where terciles coincide."""
    if not len(pairs):
        return []
    group = quantile_groups(pairs.truth, len(LEVELS))
    n = np.bincount(group)
    error = np.bincount(group, np.abs(pairs.residual) / np.maximum(pairs.truth, 1))
    return [
        {"level": level, "mape_like": error[g] / n[g], "n": n[g]}
        for g, level in enumerate(LEVELS[: len(n)])
    ]


def _bias(pairs: Pairs, hindcasts: Hindcasts, stations: Stations | None) -> list[dict[str, Any]]:
    width = len(hindcasts.ids)
    n = np.bincount(pairs.station, minlength=width)
    total = np.bincount(pairs.station, pairs.residual, width)
    place = {} if stations is None else {str(i): s for s, i in enumerate(stations.ids)}
    rows = []
    for s in np.flatnonzero(n).tolist():
        station = str(hindcasts.ids[s])
        row: dict[str, Any] = {"station_id": station, "name": None, "lat": None, "lon": None}
        if stations is not None and station in place:
            at = place[station]
            row["name"] = str(stations.names[at]) or None
            row |= {"lat": float(stations.lat[at]), "lon": float(stations.lon[at])}
        rows.append(row | {"bias": float(total[s] / n[s]), "n": int(n[s])})
    return rows


def uncertainty_document(
    pairs: Pairs, hindcasts: Hindcasts, limits: CalibrationLimits
) -> dict[str, Any]:
    """Return the body of ``uncertainty.json``: a band round the forecast, and how it held.

    The band of a local hour are quantiles of its residuals on the first days; the coverage is
    that on the last days, which the band has not seen.
    """
    nothing = {"method": "none", "nominal": limits.pi_nominal, "coverage": None, "band": []}
    local = hindcasts.window.local()
    days = np.unique(local.day[np.unique(pairs.at)])
    if len(days) < 2:
        return nothing | {"reason": "two days with forecasts are needed"}
    split = days[min(max(round(len(days) * limits.fit_share), 1), len(days) - 1)]
    fitted, hour = local.day[pairs.at] < split, (local.minute // 60)[pairs.at]
    low, counts = _residuals_by_hour(pairs.residual, hour, fitted)
    tails = np.array([(1 - limits.pi_nominal) / 2, (1 + limits.pi_nominal) / 2])
    overall = IntegerHistogram(low, counts[1].sum(axis=0)).quantile(tails)
    band, held = [], 0
    for h in range(HOURS):
        own = IntegerHistogram(low, counts[1, h])
        n = int(own.counts.sum())
        edges = own.quantile(tails) if n >= limits.min_pairs else overall
        inside = (own.values >= edges[0]) & (own.values <= edges[1])
        held += int(counts[0, h][inside].sum())
        band.append({"hour": h, "low": edges[0], "high": edges[1], "n": n})
    tested = int(counts[0].sum())
    return nothing | {
        "method": "residual_quantiles/by_hour",
        "coverage": {"empirical": held / tested, "n": tested},
        "band": band,
        "fitted_days": int((days < split).sum()),
        "tested_days": int((days >= split).sum()),
        "reason": None,
    }


def _residuals_by_hour(
    residual: NDArray[np.int32], hour: NDArray[np.int64], fitted: NDArray[np.bool_]
) -> tuple[int, NDArray[np.int64]]:
    """Return the smallest residual and ``int64[2, 24, K]``: counts of tested (0), fitted (1)."""
    low = int(residual.min())
    width = int(residual.max()) - low + 1
    cells = (fitted * HOURS + hour) * width + residual - low
    counts = np.bincount(cells, minlength=2 * HOURS * width)
    return low, np.asarray(counts.reshape(2, HOURS, width), np.int64)
