"""The change over the horizon as a distribution over whole bikes.

The model gives the probability of each *class* of change (an interval of whole bikes); within a
class the changes keep the shares they had in training. Mixed with persistence (a point mass on
"no change"), the distribution gives every published number: its median is the forecast with the
least absolute error, its mean the one with the least squared error, its tails the probabilities
of a bike and of a dock.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CHANGE = 60
"""Changes beyond so many bikes within a horizon count as so many."""

EDGES = (1, 2, 3, 4, 6, 9, 14)
"""Smallest magnitude of each class: single bikes where most changes are, wider far out."""

CRPS_ROWS = 1 << 14
"""Rows that are scored at a time: bounds the memory of their distributions."""

SMALLEST_CLASS = 0.002
"""Share of the training rows that a class must hold; a rarer one joins its inner neighbour."""


@dataclasses.dataclass(frozen=True)
class ChangeClasses:
    """Intervals of change and what is inside them.

    ``lows`` is ``int64[C]``, the smallest change of each class in rising order; ``shares``
    ``float64[C, 2·MAX_CHANGE+1]`` how training changes spread over −MAX_CHANGE…MAX_CHANGE within
    each.
    """

    lows: NDArray[np.int64]
    shares: NDArray[np.float64]

    @property
    def unchanged(self) -> int:
        """The class of no change."""
        return int(np.searchsorted(self.lows, 0))

    def of(self, change: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each change."""
        clipped = np.clip(np.rint(change).astype(np.int64), -MAX_CHANGE, MAX_CHANGE)
        return np.searchsorted(self.lows, clipped, side="right") - 1


def count_changes(change: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how often each change occurs, ``int64[2·MAX_CHANGE+1]``; NaN are left out."""
    known = change[np.isfinite(change)]
    rounded = np.clip(np.rint(known).astype(np.int64), -MAX_CHANGE, MAX_CHANGE)
    return np.bincount(rounded + MAX_CHANGE, minlength=2 * MAX_CHANGE + 1)


def fit_classes(counts: NDArray[np.int64]) -> ChangeClasses:
    """Choose the classes for a histogram of changes (`count_changes`).

    Raises ``ValueError`` where no change was counted.
    """
    total = counts.sum()
    if not total:
        raise ValueError("no change to learn from: no station was seen a horizon apart")
    upper = _outward(counts[MAX_CHANGE + 1 :] / total)
    lower = _outward(counts[:MAX_CHANGE][::-1] / total)
    # A class of falls starts where the next one further out ends.
    falls = [-MAX_CHANGE, *(1 - edge for edge in reversed(lower[1:]))]
    lows = np.array([*falls, 0, *upper], np.int64)
    owner = np.searchsorted(lows, np.arange(-MAX_CHANGE, MAX_CHANGE + 1), side="right") - 1
    shares = np.zeros((len(lows), 2 * MAX_CHANGE + 1))
    # A thousandth of a count keeps possible what training happened not to see.
    shares[owner, np.arange(2 * MAX_CHANGE + 1)] = np.maximum(counts, 1e-3)
    return ChangeClasses(lows, shares / shares.sum(1, keepdims=True))


def _outward(shares: NDArray[np.float64]) -> list[int]:
    """Return the smallest magnitude of each class on one side, inner first."""
    edges: list[int] = []
    for edge in EDGES:
        if not edges or shares[edge - 1 :].sum() >= SMALLEST_CLASS:
            edges.append(edge)
    return edges


def ceiling(bikes: NDArray[np.float32], capacity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ceiling of a forecast: the capacity, or the bikes there where more are reported.

    Feeds state capacities below the bikes at a station (bikes locked next to the docks,
    docks added since). A capacity of 0 stays what it is.
    """
    return np.where(capacity > 0, np.maximum(capacity, bikes), capacity)


def median_change(
    classes: ChangeClasses, probability: NDArray[np.float32], blend_weight: float = 1.0
) -> NDArray[np.float64]:
    """Return the median change, ``float64[n]``, continuous: it rounds to the integer median.

    ``probability`` is ``float32[n, C]``, rows sum to 1. ``blend_weight`` is the weight of the
    model against persistence: at 0.5 or less the integer median is 0 whatever the model says.
    """
    mixed = blend_weight * probability.astype(np.float64)
    mixed[:, classes.unchanged] += 1 - blend_weight
    upto = np.cumsum(mixed, axis=1)
    half = upto[:, -1] / 2
    # An exact tie between a fall or a rise and rest goes to rest.
    margin = np.where(np.arange(mixed.shape[1]) < classes.unchanged, 1e-9, -1e-9)
    place = np.argmax(upto >= half[:, None] + margin, axis=1)
    rows = np.arange(len(mixed))
    inside = mixed[rows, place]
    missing = half - (upto[rows, place] - inside)
    within = np.clip(missing / np.maximum(inside, 1e-12), 0.0, 1.0)
    out = np.empty(len(mixed))
    for kind, shares in enumerate(classes.shares):
        of_kind = place == kind
        rounded = np.flatnonzero(shares)
        upper = np.cumsum(shares[rounded])
        position = np.minimum(np.searchsorted(upper, within[of_kind]), len(rounded) - 1)
        share = shares[rounded][position]
        part = (within[of_kind] - (upper[position] - share)) / share
        out[of_kind] = rounded[position] - MAX_CHANGE + np.clip(part, 0.001, 0.999) - 0.5
    return out


def mean_change(classes: ChangeClasses, probability: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean change, ``float64[n]``."""
    return probability @ (classes.shares @ np.arange(-MAX_CHANGE, MAX_CHANGE + 1))


def chance_of_rise(
    classes: ChangeClasses, probability: NDArray[np.float32], least: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the probability of a change of at least ``least``, ``float64[n]``."""
    tails = np.zeros((2 * MAX_CHANGE + 2, len(classes.lows)))
    tails[:-1] = np.cumsum(classes.shares.T[::-1], axis=0)[::-1]
    first = np.clip(np.ceil(least).astype(np.int64) + MAX_CHANGE, 0, 2 * MAX_CHANGE + 1)
    chance: NDArray[np.float64] = (probability * tails[first]).sum(1)
    return np.minimum(chance, 1)


def chance_of_fall(
    classes: ChangeClasses, probability: NDArray[np.float32], most: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the probability of a change of at most ``most``, ``float64[n]``."""
    tails = np.zeros((2 * MAX_CHANGE + 2, len(classes.lows)))
    tails[1:] = np.cumsum(classes.shares.T, axis=0)
    last = np.clip(np.floor(most).astype(np.int64) + MAX_CHANGE + 1, 0, 2 * MAX_CHANGE + 1)
    chance: NDArray[np.float64] = (probability * tails[last]).sum(1)
    return np.minimum(chance, 1)


def crps(
    classes: ChangeClasses,
    probability: NDArray[np.float32],
    blend_weight: float,
    bikes: NDArray[np.float32],
    most: NDArray[np.float32],
    true_bikes: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the continuous ranked probability score of each forecast, ``float64[n]``, in bikes.

    The sum over k of (P(bikes ≤ k) − [truth ≤ k])², of the distribution mixed with persistence by
    ``blend_weight`` and clipped to [0, ``most``]. Of a sure forecast it is the absolute error, so
    that of persistence is its absolute error. Source: Gneiting and Raftery, Strictly proper
    scoring rules, prediction, and estimation, 2007.
    """
    found: NDArray[np.float64] = np.empty(len(probability))
    change = np.arange(-MAX_CHANGE, MAX_CHANGE + 1)
    for start in range(0, len(probability), CRPS_ROWS):
        rows = slice(start, start + CRPS_ROWS)
        mixed = blend_weight * (probability[rows].astype(np.float64) @ classes.shares)
        mixed[:, MAX_CHANGE] += 1 - blend_weight
        level = bikes[rows, None] + change
        upto = np.cumsum(mixed, axis=1)
        upto[level < 0] = 0
        upto[level >= most[rows, None]] = 1
        found[rows] = ((upto - (level >= true_bikes[rows, None])) ** 2).sum(axis=1)
    beyond = np.maximum(np.abs(true_bikes - bikes) - MAX_CHANGE, 0)
    found += beyond
    return found
