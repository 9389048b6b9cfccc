"""Blend weights of a model against persistence, from its errors on recent days.

A model meets weeks quieter than any that it was trained on, and then sees movement where there
is none. Each closed day shows: had the model been mixed with persistence by this weight or that,
how much would it have gained? The weights that serving uses are those that did best of late, with
a bias towards persistence that evidence has to overcome.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.errors import ModelError
from velib_core.model.change_distribution import (
    ChangeClasses,
    ceiling,
    mean_change,
    median_change,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.timeline.bins import HorizonBins

BLEND_WEIGHTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5)
"""Weights of the model in the median that are compared; 0.5 publishes persistence."""

SHORT_HORIZON_BINS = 6
"""Half an hour: up to this horizon the blend weight may be 1, since a median that moves so
soon is nearly sure of itself."""

MAX_BLEND_WEIGHT_BEYOND = 0.9
"""Beyond it, more weight gains half a point where all is well and costs whole points in the hours
of a week unlike those before it."""

MEMORY_DAYS = 3.0
"""Days after which a closed day counts 1/e."""

COST_OF_MOVING = 0.05
"""Bikes of gain that a forecast other than persistence must bring on average to be published."""

PRIOR_SQUARE = 0.05
"""Pseudo-observations of a mean change right on average, as a share of a day's squares."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Decayed sums over hindcasts.

    ``gain`` is ``float64[len(BLEND_WEIGHTS)]``, the absolute error saved against persistence less
    `COST_OF_MOVING` for each forecast that moved; ``cross`` and ``square`` the sums of predicted
    times true change and of the square of the predicted mean change; ``n`` the hindcasts.
    """

    gain: NDArray[np.float64]
    cross: float
    square: float
    n: float

    def blend_weight(self, horizon: HorizonBins) -> float:
        """Return the weight for the median: the best of late, the most cautious of equals."""
        first = 0 if horizon <= SHORT_HORIZON_BINS else BLEND_WEIGHTS.index(MAX_BLEND_WEIGHT_BEYOND)
        best = len(BLEND_WEIGHTS) - 1 - int(np.argmax(self.gain[first:][::-1]))
        return BLEND_WEIGHTS[best]

    @property
    def mean_blend_weight(self) -> float:
        """The weight for the mean: least squares through the origin, within [0, 1]."""
        prior = PRIOR_SQUARE * self.square
        return float(np.clip((self.cross + prior) / (self.square + prior + 1e-9), 0, 1))

    def as_json(self) -> dict[str, Any]:
        """Return the sums as a JSON object."""
        return dataclasses.asdict(self) | {"gain": self.gain.tolist()}


def fresh_calibration() -> Calibration:
    """Return a calibration that has seen nothing: it publishes persistence."""
    return Calibration(np.zeros(len(BLEND_WEIGHTS)), 0.0, 0.0, 0.0)


def calibration_from_json(document: object) -> Calibration:
    """Read what `Calibration.as_json` wrote; raise `ModelError` for anything else."""
    try:
        gain = np.array(document["gain"], np.float64)  # type: ignore[index]
        cross, square, n = (float(document[name]) for name in ("cross", "square", "n"))  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"calibration: {error!r}") from error
    if gain.shape != (len(BLEND_WEIGHTS),) or not np.isfinite([*gain, cross, square, n]).all():
        raise ModelError(
            f"calibration: gains {gain.tolist()}, expected {len(BLEND_WEIGHTS)} numbers"
        )
    return Calibration(gain, cross, square, n)


def add_day(
    calibration: Calibration,
    classes: ChangeClasses,
    probability: NDArray[np.float32],
    bikes: NDArray[np.float32],
    capacity: NDArray[np.float32],
    true_bikes: NDArray[np.float32],
) -> Calibration:
    """Return the calibration with one more closed day of hindcasts.

    ``probability`` is ``float32[n, C]`` as the model gave it, the others ``float32[n]``: bikes
    at the origin, capacity, and bikes a horizon later.
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
    return Calibration(
        keep * calibration.gain + np.array(gain),
        keep * calibration.cross + float((mean * (true - bikes)).sum()),
        keep * calibration.square + float((mean * mean).sum()),
        keep * calibration.n + len(bikes),
    )
