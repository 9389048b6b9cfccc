"""How the forecasts err: distribution, memory, where errors grow, and where they last."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.monitoring.stats import run_lengths
from velib_core.monitoring.stats.integer_histogram import IntegerHistogram
from velib_core.timeline.bins import BIN_MINUTES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.monitoring.model.forecast_grid import Hindcasts

    Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ResidualLimits:
    """Sizes of the diagrams; ``episode_bikes``: a residual that large is a miss."""

    qq_points: int = 512
    acf_lags: int = 144
    min_acf_pairs: int = 48
    quantile_bins: int = 20
    episode_bikes: float = 4.0
    episodes_topk: int = 64


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Every pair of truth and whole-number forecast of a window, flat and in order of time.

    ``at`` is the issue bin (offset in the window) and ``station`` the column. All are
    ``int32[n]``: there are millions.
    """

    at: NDArray[np.int32]
    station: NDArray[np.int32]
    truth: NDArray[np.int32]
    integer: NDArray[np.int32]

    @classmethod
    def of(cls, hindcasts: Hindcasts) -> Pairs:
        """Collect the pairs that are known."""
        at, station = np.nonzero(np.isfinite(hindcasts.truth) & np.isfinite(hindcasts.integer))
        columns = (at, station, hindcasts.truth[at, station], hindcasts.integer[at, station])
        return cls(*(np.rint(column).astype(np.int32) for column in columns))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.at)

    @property
    def residual(self) -> NDArray[np.int32]:
        """Truth − forecast, in bikes."""
        return self.truth - self.integer


def residual_document(pairs: Pairs, hindcasts: Hindcasts, limits: ResidualLimits) -> dict[str, Any]:
    """Return the body of ``residuals.json``; empty lists where there is no pair."""
    residual = pairs.residual
    counts = IntegerHistogram.of(residual)
    return {
        "hist": _histogram(counts) if len(pairs) else [],
        "qq": _qq(counts, limits.qq_points) if len(pairs) else {"th": [], "emp": []},
        "acf": autocorrelation(_network_mean(pairs, hindcasts.window.bins), limits),
        "hetero": _by_forecast(pairs, residual, limits.quantile_bins),
        "episodes": _episodes(hindcasts, limits),
        "n": len(pairs),
    }


def range_of_residuals(counts: IntegerHistogram) -> int:
    """Return the 99th percentile of the size of residuals, in whole bikes, at least 1."""
    sizes = np.bincount(np.abs(counts.values), counts.counts).astype(np.int64)
    return max(int(np.ceil(IntegerHistogram(0, sizes).quantile(np.array([0.99]))[0])), 1)


def _histogram(counts: IntegerHistogram) -> list[dict[str, Any]]:
    lookback = range_of_residuals(counts)
    found = dict(zip(counts.values.tolist(), counts.counts.tolist(), strict=True))
    return [
        {"bin_left": bikes - 0.5, "bin_right": bikes + 0.5, "count": found.get(bikes, 0)}
        for bikes in range(-lookback, lookback + 1)
    ]


def _qq(counts: IntegerHistogram, points: int) -> dict[str, Any]:
    """Compare quantiles of standardised residuals with those of the normal distribution."""
    mean = float(np.average(counts.values, weights=counts.counts))
    spread = float(np.average((counts.values - mean) ** 2, weights=counts.counts)) ** 0.5
    if spread == 0:
        return {"th": [], "emp": []}
    probability = (np.arange(points) + 0.5) / points
    normal = statistics.NormalDist()
    empirical = (counts.quantile(probability) - mean) / spread
    return {"th": [normal.inv_cdf(p) for p in probability.tolist()], "emp": empirical}


def _network_mean(pairs: Pairs, bins: int) -> Floats:
    """Return the mean residual of each bin of the window, NaN where there is none."""
    count = np.bincount(pairs.at, minlength=bins)
    total = np.bincount(pairs.at, pairs.residual, bins)
    mean: Floats = np.full(bins, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def autocorrelation(series: Floats, limits: ResidualLimits) -> list[float]:
    """Return the autocorrelation at lags of whole bins, as far as there are pairs enough.

    The mean product of the deviations of all pairs a lag apart, over the variance. NaN are
    holes. Empty for a constant series. A network that is polled less often than every bin has no
    pairs at the lags in between: those lie on the straight line between their neighbours, so
    that the place in the list is the lag.
    """
    known = np.isfinite(series)
    if known.sum() < limits.min_acf_pairs or not series[known].std():
        return []
    deviation = np.where(known, series - series[known].mean(), 0)
    variance = float((deviation**2).sum() / known.sum())
    lags, acf = [], []
    for lag in range(min(limits.acf_lags, len(series) - 1) + 1):
        stop = len(series) - lag
        pairs = int((known[:stop] & known[lag:]).sum())
        if pairs >= limits.min_acf_pairs:
            product = float((deviation[:stop] * deviation[lag:]).sum() / pairs)
            lags.append(lag)
            acf.append(min(max(product / variance, -1.0), 1.0))
    reported: list[float] = np.interp(np.arange(lags[-1] + 1), lags, acf).tolist()
    return reported


def quantile_groups(values: NDArray[np.signedinteger], count: int) -> NDArray[np.int64]:
    """Split whole numbers at their quantiles: the group of each, 0 … at most ``count`` − 1.

    Equal values stay together, so there may be fewer groups; none is empty.
    """
    if not len(values):
        return np.zeros(0, np.int64)
    counts = IntegerHistogram.of(values)
    edges = np.unique(counts.quantile(np.arange(1, count) / count))
    group = np.searchsorted(edges, counts.values, side="left")
    _, dense = np.unique(np.where(counts.counts > 0, group, group.max() + 1), return_inverse=True)
    return np.asarray(dense[values - counts.low], np.int64)


def _by_forecast(pairs: Pairs, residual: NDArray[np.int32], count: int) -> list[dict[str, Any]]:
    if not len(pairs):
        return []
    group = quantile_groups(pairs.integer, count)
    n = np.bincount(group)
    mae = np.bincount(group, np.abs(residual)) / n
    level = np.bincount(group, pairs.integer) / n
    return [
        {"quantile": f"q{g + 1}", "mae": mae[g], "n": n[g], "y_pred_mean": level[g]}
        for g in range(len(n))
    ]


def _episodes(hindcasts: Hindcasts, limits: ResidualLimits) -> list[dict[str, Any]]:
    """Return each station's longest run of misses, the longest first."""
    residual = hindcasts.truth - hindcasts.integer
    observed = np.isfinite(residual)
    lookback = run_lengths.lookback_of(observed)
    found = run_lengths.find_runs(np.abs(residual) >= limits.episode_bikes, observed, lookback)
    longest = np.zeros(len(hindcasts.ids), np.int64)
    np.maximum.at(longest, found.station, found.rows)
    n = observed.sum(axis=0)
    rows: list[dict[str, Any]] = [
        {
            "station_id": str(hindcasts.ids[s]),
            "max_run": int(longest[s]),
            "max_run_min": int(longest[s]) * (lookback + 1) // 2 * BIN_MINUTES,
            "n": int(n[s]),
        }
        for s in np.flatnonzero(longest).tolist()
    ]
    rows.sort(key=lambda row: (-row["max_run"], row["station_id"]))
    return rows[: limits.episodes_topk]
