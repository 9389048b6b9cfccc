"""Evaluate a model on held-out days against persistence and another model.

Two models are compared on equal terms: the same rows, profiles of the same days, and for each the
blend weight from its own hindcasts of the held-out days.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.features.profiles import empty_profiles, update_with_day
from velib_core.features.stack import lookback_bins
from velib_core.model.blending import add_day, fresh_calibration
from velib_core.model.inference import blend_with_persistence, class_probabilities
from velib_core.model.training import paired_bins, rows_of_day
from velib_core.timeline.bins import Bin, Day, day_after, first_bin
from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from velib_core.model.blending import Calibration
    from velib_core.model.pack import ModelPack
    from velib_core.model.training import History, Rows

BINS_A_DAY = 92
"""About so many bins of a day are looked at: neighbouring ones say nearly the same."""

SIZES = (20, 35)
"""Stations of fewer docks than the first are small, of the second or more large."""

SIZE_NAMES = ("small", "medium", "large")


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of a model and of persistence on the same rows.

    ``mae`` is that of the published integers and ``rmse`` that of the published mean, in bikes;
    ``n`` counts the rows. The lifts are shares of persistence's error, null where that is 0.
    """

    n: int
    mae: float
    mae_persistence: float
    rmse: float
    rmse_persistence: float

    @property
    def mae_lift(self) -> float | None:
        """The share of persistence's absolute error that the model saves."""
        return 1 - self.mae / self.mae_persistence if self.mae_persistence else None

    @property
    def rmse_lift(self) -> float | None:
        """The share of persistence's root mean square error that the mean saves."""
        return 1 - self.rmse / self.rmse_persistence if self.rmse_persistence else None

    def as_json(self) -> dict[str, Any]:
        """Return the errors and lifts as a JSON object."""
        return dataclasses.asdict(self) | {"mae_lift": self.mae_lift, "rmse_lift": self.rmse_lift}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors overall, by local hour of the origin (0…23), and by station size."""

    overall: Errors
    by_hour: dict[str, Errors]
    by_size: dict[str, Errors]

    def as_json(self) -> dict[str, Any]:
        """Return the evaluation as a JSON object."""
        return self.overall.as_json() | {
            "by_hour": {name: errors.as_json() for name, errors in self.by_hour.items()},
            "by_size": {name: errors.as_json() for name, errors in self.by_size.items()},
        }


def evaluate(
    pack: ModelPack, history: History, days: Sequence[Day], held_out: Sequence[Day]
) -> Evaluation | None:
    """Hindcast held-out days with a model.

    Parameters
    ----------
    pack
        The model; none of its targets should lie in the held-out days.
    history
        Reads the panel of a window of bins.
    days
        Consecutive days from which profiles are built, the held-out ones at their end.
    held_out
        The days to hindcast, in order.

    Returns
    -------
    Evaluation | None
        ``None`` where no station was seen a horizon apart on these days.

    """
    blocks: list[tuple[Rows, NDArray[np.float32]]] = []
    profiles = empty_profiles(pack.tz, (pack.horizon_bins,))
    before = lookback_bins(pack.horizon_bins)
    for day in days:
        start, stop = first_bin(day), first_bin(day_after(day))
        panel = history(Bin(start - before), Bin(stop + pack.horizon_bins))
        if day in held_out:
            at = paired_bins(panel, start, stop, pack.horizon_bins)
            at = at[:: max(1, len(at) // BINS_A_DAY)]
            rows = rows_of_day(panel, at, pack.horizon_bins, pack.static_features, profiles)
            if len(rows.bins):
                probability = class_probabilities(pack, rows.features)
                blocks.append((rows._replace(features=rows.features[:0]), probability))
        profiles = update_with_day(profiles, panel, day)
    if not blocks:
        return None
    calibration = fresh_calibration()
    for rows, probability in blocks:
        calibration = add_day(
            calibration, pack.classes, probability, rows.bikes, rows.capacity, rows.target
        )
    columns = np.concatenate([_columns(pack, calibration, *block) for block in blocks], axis=1)
    bins = np.concatenate([rows.bins for rows, _ in blocks])
    capacity = np.concatenate([rows.capacity for rows, _ in blocks])
    hours = local_times(bins, pack.tz).minute // 60
    sizes = np.digitize(capacity, SIZES)
    return Evaluation(
        errors_of(*columns),
        {f"{h:02d}": errors_of(*columns[:, hours == h]) for h in np.unique(hours).tolist()},
        {SIZE_NAMES[n]: errors_of(*columns[:, sizes == n]) for n in np.unique(sizes).tolist()},
    )


def errors_of(
    true: NDArray[np.float64],
    persistence: NDArray[np.float64],
    rounded: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> Errors:
    """Return the errors of integers and means, and of persistence, against what came true."""
    return Errors(
        n=len(true),
        mae=float(np.abs(true - rounded).mean()),
        mae_persistence=float(np.abs(true - persistence).mean()),
        rmse=float(np.sqrt(((true - mean) ** 2).mean())),
        rmse_persistence=float(np.sqrt(((true - persistence) ** 2).mean())),
    )


def _columns(
    pack: ModelPack, calibration: Calibration, rows: Rows, probability: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return truth, persistence, published integer and mean of each row, ``float64[4, n]``."""
    found = blend_with_persistence(
        pack, calibration, probability, rows.bikes, rows.capacity, rows.docks
    )
    return np.stack([rows.target, rows.bikes, found.rounded, found.mean]).astype(np.float64)
