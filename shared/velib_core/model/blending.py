"""The weight of a model against persistence, and its probabilities, from its recent hindcasts.

A model meets weeks quieter than any that it was trained on, and then sees movement where there
is none. Each closed day shows how much it would have gained, mixed with persistence by this
weight or that. Serving uses the weights that did best of late, with a bias towards persistence
that evidence has to overcome. Probabilities of a bike and of a dock have a calibration of their
own: how often what was stated came true.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.errors import ModelError, shorten
from velib_core.model.change_distribution import (
    ChangeClasses,
    ceiling,
    chance_of_fall,
    chance_of_rise,
    mean_change,
    median_change,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.timeline.bins import HorizonBins

BLEND_WEIGHTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Weights of the model in the median that are compared; 0.5 publishes persistence."""

CAUTIOUS_BLEND_WEIGHT = 0.9
"""A weight above this one costs more than it has shown to gain, until hindcasts of days after
training confirm it: the days that tuned a model flatter it."""

SHORT_HORIZON_BINS = 6
"""Half an hour: a median that moves so soon is nearly sure of itself."""

COST_OF_BOLDNESS, COST_OF_BOLDNESS_BEYOND = 0.3, 4.0
"""Share of persistence's error that a weight must gain more, times the square of its excess over
`CAUTIOUS_BLEND_WEIGHT`, up to `SHORT_HORIZON_BINS` and beyond: 0.3% and 4% at a weight of 1."""

DOUBT_LEFT = 0.1
"""Factor on that cost for each day hindcast after training."""

MEMORY_DAYS = 5.0
"""Days after which a closed day counts 1/e."""

COST_OF_MOVING = 0.05
"""Bikes of gain that a forecast other than persistence must bring on average to be published."""

PROBABILITY_EDGES = (
    0.003,
    0.01,
    0.03,
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    0.97,
    0.99,
    0.997,
)
"""Between them lie the bins of stated probability that are compared with what came true."""

PROBABILITY_MEMORY_DAYS = 7.0
"""Days after which a closed day counts 1/e in the calibration of probabilities."""

PRIOR_ROWS = 50.0
"""Rows of a bin of stated probability that its correction is shrunk by."""

PRIOR_SQUARE = 0.05
"""Pseudo-observations of a mean change right on average, as a share of a day's squares."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Decayed sums over hindcasts.

    ``gain`` is ``float64[len(BLEND_WEIGHTS)]``, the absolute error saved against persistence less
    `COST_OF_MOVING` for each forecast that moved; ``persistence`` the absolute error of
    persistence; ``cross`` and ``square`` the sums of predicted times true change and of the square
    of the predicted mean change; ``n`` the hindcasts and ``days`` the days hindcast after training,
    not decayed. ``bike`` and ``dock`` are
    ``float64[3, B]``, by bin of stated probability: rows, the sum of what was stated, and how often
    it came true.
    """

    gain: NDArray[np.float64]
    persistence: float
    cross: float
    square: float
    n: float
    days: int
    bike: NDArray[np.float64]
    dock: NDArray[np.float64]

    def blend_weight(self, horizon: HorizonBins) -> float:
        """Return the weight for the median: the best of late, the most cautious of equals."""
        beyond = horizon > SHORT_HORIZON_BINS
        cost = COST_OF_BOLDNESS_BEYOND if beyond else COST_OF_BOLDNESS
        excess = np.maximum(np.array(BLEND_WEIGHTS) - CAUTIOUS_BLEND_WEIGHT, 0)
        gain = self.gain - cost * DOUBT_LEFT**self.days * excess**2 * self.persistence
        return BLEND_WEIGHTS[len(BLEND_WEIGHTS) - 1 - int(np.argmax(gain[::-1]))]

    @property
    def mean_blend_weight(self) -> float:
        """The weight for the mean: least squares through the origin, within [0, 1]."""
        prior = PRIOR_SQUARE * self.square
        return float(np.clip((self.cross + prior) / (self.square + prior + 1e-9), 0, 1))

    def as_json(self) -> dict[str, Any]:
        """Return the sums as a JSON object."""
        arrays = {name: getattr(self, name).tolist() for name in ("gain", "bike", "dock")}
        return dataclasses.asdict(self) | arrays


MOST_DAYS = 100_000
"""No calibration has counted as many."""


def fresh_calibration() -> Calibration:
    """Return a calibration that has seen nothing: it publishes persistence."""
    return Calibration(np.zeros(len(BLEND_WEIGHTS)), 0.0, 0.0, 0.0, 0.0, 0, _no_rows(), _no_rows())


def _no_rows() -> NDArray[np.float64]:
    return np.zeros((3, len(PROBABILITY_EDGES) + 1))


def calibration_from_json(document: object) -> Calibration:
    """Read what `Calibration.as_json` wrote; raise `ModelError` for anything else.

    Days, probabilities and the error of persistence were not counted once: a document without
    them has none.
    """
    try:
        held: dict[str, Any] = {"days": 0, "persistence": 0.0, "bike": _no_rows()}
        held["dock"] = _no_rows()
        held.update(document)  # type: ignore[call-overload]
        gain, bike, dock = (np.array(held[name], np.float64) for name in ("gain", "bike", "dock"))
        persistence, cross, square, n = (
            float(held[name]) for name in ("persistence", "cross", "square", "n")
        )
        days = int(held["days"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"calibration: {error!r:.200}") from error
    expected = (len(BLEND_WEIGHTS),), _no_rows().shape, _no_rows().shape
    shapes = tuple(sums.shape for sums in (gain, bike, dock))
    if shapes != expected:
        raise ModelError(f"calibration: sums of shapes {shapes}, expected {expected}")
    if not 0 <= days <= MOST_DAYS:
        raise ModelError(f"calibration: days: got {shorten(days)}, expected 0…{MOST_DAYS}")
    if not np.isfinite([*gain, *bike.ravel(), *dock.ravel(), persistence, cross, square, n]).all():
        raise ModelError(f"calibration: got {shorten(document)}, expected finite numbers")
    return Calibration(gain, persistence, cross, square, n, days, bike, dock)


def calibrated(stated: NDArray[np.float64], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities corrected by how often such ones came true, ``float64[n]``.

    Each bin is off by (came true − stated) / (rows + `PRIOR_ROWS`); between the bins' mean
    probabilities the correction is interpolated, and at 0 and 1 it is none.
    """
    rows, total, true = sums
    edges = np.array([0.0, *PROBABILITY_EDGES, 1.0])
    middle = np.where(rows > 0, total / np.maximum(rows, 1e-9), (edges[:-1] + edges[1:]) / 2)
    off = (true - total) / (rows + PRIOR_ROWS)
    correction = np.interp(stated, [0.0, *middle, 1.0], [0.0, *off, 0.0])
    correction[(stated <= 0) | (stated >= 1)] = 0  # where a bin's mean is 0 or 1 itself
    return np.asarray(np.clip(stated + correction, 0, 1), np.float64)


def add_day(
    calibration: Calibration,
    classes: ChangeClasses,
    probability: NDArray[np.float32],
    bikes: NDArray[np.float32],
    capacity: NDArray[np.float32],
    docks: NDArray[np.float32],
    true_bikes: NDArray[np.float32],
    true_docks: NDArray[np.float32],
) -> Calibration:
    """Return the calibration with one more closed day of hindcasts.

    ``probability`` is ``float32[n, C]`` as the model gave it, the others ``float32[n]``: bikes,
    capacity and docks at the origin, bikes and docks a horizon later. Unknown docks are NaN.
    """
    keep = float(np.exp(-1 / MEMORY_DAYS))
    true = true_bikes.astype(np.float64)
    persistence = np.abs(true - bikes)
    most = ceiling(bikes, capacity)
    gain = []
    for blend_weight in BLEND_WEIGHTS:
        median = bikes + median_change(classes, probability, blend_weight)
        rounded = np.rint(np.clip(median, 0, most))
        moved = int((rounded != bikes).sum())
        gain.append((persistence - np.abs(true - rounded)).sum() - COST_OF_MOVING * moved)
    mean = mean_change(classes, probability)
    keep_longer = float(np.exp(-1 / PROBABILITY_MEMORY_DAYS))
    has_bike = chance_of_rise(classes, probability, 1 - bikes)
    known = ~np.isnan(docks) & ~np.isnan(true_docks)
    has_dock = chance_of_fall(classes, probability[known], docks[known] - 1)
    return Calibration(
        keep * calibration.gain + np.array(gain),
        keep * calibration.persistence + float(persistence.sum()),
        keep * calibration.cross + float((mean * (true - bikes)).sum()),
        keep * calibration.square + float((mean * mean).sum()),
        keep * calibration.n + len(bikes),
        calibration.days + 1,
        keep_longer * calibration.bike + _by_stated(has_bike, true_bikes >= 1),
        keep_longer * calibration.dock + _by_stated(has_dock, true_docks[known] >= 1),
    )


def _by_stated(stated: NDArray[np.float64], true: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return rows, what was stated and what came true, by bin of stated probability."""
    place = np.digitize(stated, PROBABILITY_EDGES)
    width = len(PROBABILITY_EDGES) + 1
    return np.stack([np.bincount(place, w, width) for w in (np.ones(len(place)), stated, true)])
