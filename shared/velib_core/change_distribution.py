"""The change over the horizon as a distribution over whole bikes.

The model tells the probability of each *class* of change (an interval of whole bikes); within a
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

REACH = 60
"""Changes beyond so many bikes within a horizon count as so many."""

EDGES = (1, 2, 3, 4, 6, 9, 14)
"""Smallest magnitude of each class: single bikes where most changes are, wider far out."""

SMALLEST_CLASS = 0.002
"""Share of the training rows that a class must hold; a rarer one joins its inner neighbour."""


@dataclasses.dataclass(frozen=True)
class ChangeClasses:
    """Intervals of change and what is inside them.

    ``lows`` is ``int64[C]``, the smallest change of each class in rising order; ``shares``
    ``float64[C, 2·REACH+1]`` how training changes spread over −REACH…REACH within each.
    """

    lows: NDArray[np.int64]
    shares: NDArray[np.float64]

    def of(self, change: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the class of each change."""
        clipped = np.clip(np.rint(change).astype(np.int64), -REACH, REACH)
        return np.searchsorted(self.lows, clipped, side="right") - 1


def count_changes(change: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how often each change −REACH…REACH occurs, ``int64[2·REACH+1]``; NaN are left out."""
    known = change[np.isfinite(change)]
    whole = np.clip(np.rint(known).astype(np.int64), -REACH, REACH)
    return np.bincount(whole + REACH, minlength=2 * REACH + 1)


def fit_classes(counts: NDArray[np.int64]) -> ChangeClasses:
    """Choose the classes for a histogram of changes (`count_changes`).

    Raises ``ValueError`` where no change was counted.
    """
    total = counts.sum()
    if not total:
        raise ValueError("no change to learn from: no station was seen a horizon apart")
    upper = _outward(counts[REACH + 1 :] / total)
    lower = _outward(counts[:REACH][::-1] / total)
    # A class of falls starts where the next one further out ends.
    falls = [-REACH, *(1 - edge for edge in reversed(lower[1:]))]
    lows = np.array([*falls, 0, *upper], np.int64)
    owner = np.searchsorted(lows, np.arange(-REACH, REACH + 1), side="right") - 1
    shares = np.zeros((len(lows), 2 * REACH + 1))
    # A thousandth of a count keeps possible what training happened not to see.
    shares[owner, np.arange(2 * REACH + 1)] = np.maximum(counts, 1e-3)
    return ChangeClasses(lows, shares / shares.sum(1, keepdims=True))


def _outward(shares: NDArray[np.float64]) -> list[int]:
    """Return the smallest magnitude of each class on one side, inner first."""
    edges: list[int] = []
    for edge in EDGES:
        if not edges or shares[edge - 1 :].sum() >= SMALLEST_CLASS:
            edges.append(edge)
    return edges


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What is published of a distribution, ``float32[n]`` each, before the clip.

    ``median`` and ``mean`` are changes in bikes; ``median`` is continuous and rounds to the
    distribution's integer median. ``p_bike`` and ``p_dock`` are the probabilities of at least one
    bike and at least one free dock at the target time.
    """

    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    p_bike: NDArray[np.float32]
    p_dock: NDArray[np.float32]


def outcome(
    classes: ChangeClasses,
    probability: NDArray[np.float32],
    bikes: NDArray[np.float32],
    docks: NDArray[np.float32],
    trust: float = 1.0,
    mean_trust: float = 1.0,
) -> Outcome:
    """Read the published numbers off class probabilities.

    Parameters
    ----------
    classes
        What the classes mean.
    probability
        ``float32[n, C]``, rows sum to 1.
    bikes, docks
        Bikes and free docks now, ``float32[n]``.
    trust
        Weight of the model against persistence in the median: at 0.5 or less the median change
        is 0 whatever the model says.
    mean_trust
        The same weight for the mean and the probabilities.

    """
    spread = probability.astype(np.float64) @ classes.shares
    spread /= spread.sum(1, keepdims=True)
    changes = np.arange(-REACH, REACH + 1)
    below = np.cumsum(spread, axis=1)
    # First change whose cumulated probability reaches what is left of a half.
    with_rest = trust * below
    with_rest[:, REACH:] += 1 - trust
    place = np.argmax(with_rest >= 0.5, axis=1)
    rows = np.arange(len(spread))
    reached = with_rest[rows, place]
    before = np.where(place > 0, with_rest[rows, np.maximum(place - 1, 0)], 0)
    inside = np.clip((0.5 - before) / np.maximum(reached - before, 1e-12), 0.001, 0.999)
    median = changes[place] + inside - 0.5
    mean = mean_trust * (spread @ changes)
    has_bike = np.where(changes[None, :] >= 1 - bikes[:, None], spread, 0).sum(1)
    has_dock = np.where(changes[None, :] <= docks[:, None] - 1, spread, 0).sum(1)
    p_bike = mean_trust * has_bike + (1 - mean_trust) * (bikes >= 1)
    p_dock = mean_trust * has_dock + (1 - mean_trust) * (docks >= 1)
    return Outcome(*(np.asarray(x, np.float32) for x in (median, mean, p_bike, p_dock)))
