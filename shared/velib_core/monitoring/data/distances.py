"""How far two samples of one quantity are apart: PSI, Kolmogorov-Smirnov, Wasserstein.

The reference is weighted, so that it can be given the composition of the current sample (as many
Sundays, as many nights): like is then compared with like.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMOOTHING = 0.5
"""Added to each bin's count (the Jeffreys prior), so that an empty bin is rare, not impossible."""

MIN_BINS = 2


@dataclasses.dataclass(frozen=True)
class Bins:
    """Bins of a quantity, the outer ones open.

    ``inner`` are the rising inner edges (a value on an edge belongs to the bin above);
    ``zero`` gives exact zeros a bin of their own, the first.
    """

    inner: Floats
    zero: bool

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self.inner) + 1 + self.zero

    def of(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return the bin of each finite value."""
        place = np.searchsorted(self.inner, values, side="right")
        return np.where(values == 0, 0, place + 1) if self.zero else place


def fit_bins(reference: NDArray[np.floating], most: int) -> Bins | None:
    """Choose at most so many bins at the quantiles of a reference sample.

    Zeros that would fill a bin get their own, and the quantiles are those of the rest: rain and
    stockouts are mostly absent. Returns ``None`` for a constant or empty sample.
    """
    if not len(reference) or reference.min() == reference.max():
        return None
    zeros = float(np.mean(reference == 0))
    zero = zeros > 1 / most
    rest = reference[reference != 0] if zero else reference
    count = max(1, round((most - 1) * (1 - zeros))) if zero else most
    edges = np.unique(np.quantile(rest, np.arange(1, count) / count).astype(np.float64))
    bins = Bins(edges[edges > rest.min()], zero)
    if len(bins) >= MIN_BINS:
        return bins
    # One value holds almost everything: separate it from the rest.
    return Bins(np.array([np.nextafter(rest.min(), np.inf)], np.float64), zero=False)


def psi(reference: NDArray[np.floating], current: NDArray[np.floating]) -> float:
    """Return the population stability index of two histograms over the same bins.

    ``Σ (p − q) · ln(p / q)`` with shares p, q smoothed by `SMOOTHING`; at least 0, symmetric,
    finite. Usual reading: below 0.1 stable, from 0.25 on a shift (Siddiqi, Credit Risk
    Scorecards, 2006).
    """
    p, q = (
        (np.asarray(counts, np.float64) + SMOOTHING) / (np.sum(counts) + SMOOTHING * len(counts))
        for counts in (reference, current)
    )
    return float(np.sum((p - q) * np.log(p / q)))


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A sample as its distinct values, rising, and the weight of each.

    Hourly means of counts take few values: a million of them shrink to some thousands.
    """

    values: Floats
    weights: Floats

    @classmethod
    def of(
        cls, values: NDArray[np.floating], weights: NDArray[np.floating] | None = None
    ) -> Weighted:
        """Collapse a sample; every value weighs 1 where no weights are given."""
        order = np.argsort(values)
        ordered = values[order]
        heavy = np.ones(len(values)) if weights is None else weights[order].astype(np.float64)
        first = np.flatnonzero(np.append(True, np.diff(ordered) > 0)[: len(ordered)])
        sums = np.add.reduceat(heavy, first) if len(first) else heavy
        return cls(ordered[first].astype(np.float64), sums)

    def mean(self) -> float:
        """Return the weighted mean."""
        return float(np.average(self.values, weights=self.weights))

    def variance(self) -> float:
        """Return the variance with the sum of weights as the count (ddof 1 where all are 1)."""
        squares = float((self.weights * (self.values - self.mean()) ** 2).sum())
        return squares / (float(self.weights.sum()) - 1)


def kolmogorov_smirnov(
    reference: Weighted, current: Weighted, units: tuple[float, float]
) -> tuple[float, float]:
    """Return the largest distance of the two distribution functions, and its p-value.

    ``units`` are how many independent observations each sample stands for: values of one station
    on one day hang together, so it is fewer than there are values. The p-value is the one that
    ``scipy.stats.ks_2samp`` gives samples of these sizes.
    """
    from scipy.stats import kstwo  # noqa: PLC0415 -- a third of a second to import

    # Both functions are steps: their distance is largest at a value of one of them.
    points = np.union1d(reference.values, current.values)
    ours, theirs = (
        np.append(0, np.cumsum(sample.weights))[
            np.searchsorted(sample.values, points, side="right")
        ]
        / sample.weights.sum()
        for sample in (reference, current)
    )
    distance = min(float(np.abs(ours - theirs).max()), 1.0)
    size = units[0] * units[1] / (units[0] + units[1])
    return distance, float(kstwo.sf(distance, max(round(size), 1)))


def wasserstein(reference: Weighted, current: Weighted) -> float | None:
    """Return the first Wasserstein distance in standard deviations of the reference.

    ``None`` where the reference is constant.
    """
    from scipy.stats import wasserstein_distance  # noqa: PLC0415 -- a third of a second to import

    spread = math.sqrt(reference.variance())
    if not spread:
        return None
    distance = wasserstein_distance(
        reference.values, current.values, reference.weights, current.weights
    )
    return float(distance) / spread
