"""Arrival and departure rates: how many bikes usually come to and leave a station, by half hour.

A station's own counts of one half hour are few, so its rate is shrunk towards the network's
course of the day times the station's own level (a gamma prior on a Poisson rate). What is left is
a rate for every station and half hour, from the first day on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR_EVENTS = 4.0
"""Arrivals (or departures) that the prior of one half hour counts for."""

PRIOR_EVENTS_OF_ALL = 10.0
"""The same for a station's level over the whole day, and for the network's course of the day."""

OTHER_DAY_TYPES = 0.15
"""Weight of a half hour's counts on the other day types."""


def smoothed_rates(exposure: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return bikes per bin, ``float32[DAY_TYPES, SLOTS, S]``, out of sums of the same shape.

    The network's rate of each day type and half hour is its shape; a station's level is its
    counts over those that the shape lets expect; and its rate of a half hour is the counts of
    that half hour over the expected ones, those of the other day types at `OTHER_DAY_TYPES`. All
    ratios are shrunk towards 1. NaN where the network has no exposure at all.
    """
    seen, moved = exposure.astype(np.float64), counts.astype(np.float64)
    total = seen.sum()
    if not total:
        return np.full(exposure.shape, np.nan, np.float32)
    mean = moved.sum() / total
    of_network = _pooled(moved.sum(-1)), mean * _pooled(seen.sum(-1))
    shape = mean * _ratio(*of_network, PRIOR_EVENTS_OF_ALL)[..., None]
    expected = seen * shape
    level = _ratio(moved.sum((0, 1)), expected.sum((0, 1)), PRIOR_EVENTS_OF_ALL)
    own = _ratio(_pooled(moved), level * _pooled(expected), PRIOR_EVENTS)
    return np.asarray(shape * level * own, np.float32)


def _ratio(
    counted: NDArray[np.float64], expected: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    """Return the posterior mean of a Poisson rate over the expected one, gamma prior of mean 1."""
    return (counted + prior) / (expected + prior)


def _pooled(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums by day type with those of the other day types added at their weight."""
    others = sums.sum(0) - sums
    pooled: NDArray[np.float64] = sums + OTHER_DAY_TYPES * others
    return pooled
