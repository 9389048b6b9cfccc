"""Errors of models, persistence and climatology on days that none of the models has learnt from.

Models are compared on equal terms: the same rows, profiles of the same days, and for each the
calibration that it would have had in service, updated as each day closes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.model.change_distribution import ceiling, crps
from velib_core.model.inference import blend_with_persistence, class_probabilities
from velib_core.model.rows import paired_bins, rows_of_day
from velib_core.model.training import calibrate_day
from velib_core.timeline.bins import day_after, first_bin
from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from velib_core.model.blending import Calibration
    from velib_core.model.inference import ForecastNumbers
    from velib_core.model.pack import ModelPack
    from velib_core.model.rows import PastDay, Rows, Walk
    from velib_core.timeline.bins import Day

    Floats = NDArray[np.float64]

BINS_A_DAY = 92
"""About so many bins of a day are looked at: neighbouring ones say nearly the same."""

SIZES = (20, 35)
"""Stations of fewer docks than the first are small, of the second or more large."""

SIZE_NAMES = ("small", "medium", "large")


class Scored(NamedTuple):
    """Forecasts and what came true: arrays of length n.

    ``true`` and ``docks_true`` are bikes and free docks at the target, ``persistence`` and
    ``docks`` those at the origin. ``crps`` and ``crps_climatology`` are in bikes, the latter NaN
    where there is no climatology.
    """

    true: Floats
    persistence: Floats
    rounded: Floats
    mean: Floats
    p_bike: Floats
    p_dock: Floats
    docks: Floats
    docks_true: Floats
    crps: Floats
    crps_climatology: Floats

    def of(self, rows: NDArray[np.bool_]) -> Scored:
        """Return some of the rows."""
        return Scored(*(column[rows] for column in self))


@dataclasses.dataclass(frozen=True)
class Errors:
    """Errors of a model, of persistence and of climatology on the same rows, in bikes.

    ``mae`` is that of the published integers, ``rmse`` that of the published mean and ``crps``
    that of the whole distribution; persistence is sure of itself, so its CRPS is its MAE. ``n``
    counts the rows. The lifts are shares of persistence's error, null where that is 0.
    """

    n: int
    mae: float
    mae_persistence: float
    rmse: float
    rmse_persistence: float
    crps: float
    crps_climatology: float | None

    @property
    def mae_lift(self) -> float | None:
        """The share of persistence's absolute error that the model saves."""
        return _lift(self.mae, self.mae_persistence)

    @property
    def rmse_lift(self) -> float | None:
        """The share of persistence's root mean square error that the mean saves."""
        return _lift(self.rmse, self.rmse_persistence)

    def as_json(self) -> dict[str, Any]:
        """Return the errors and lifts as a JSON object."""
        return dataclasses.asdict(self) | {
            "crps_persistence": self.mae_persistence,
            "mae_lift": self.mae_lift,
            "rmse_lift": self.rmse_lift,
            "crps_lift": _lift(self.crps, self.mae_persistence),
        }


def _lift(error: float, of_persistence: float) -> float | None:
    return 1 - error / of_persistence if of_persistence else None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Errors overall, by local hour of the origin (0…23), by station size, and of probabilities."""

    overall: Errors
    by_hour: dict[str, Errors]
    by_size: dict[str, Errors]
    p_bike: dict[str, Any]
    p_dock: dict[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """Return the evaluation as a JSON object."""
        return self.overall.as_json() | {
            "by_hour": {name: errors.as_json() for name, errors in self.by_hour.items()},
            "by_size": {name: errors.as_json() for name, errors in self.by_size.items()},
            "p_bike": self.p_bike,
            "p_dock": self.p_dock,
        }


class Contender(NamedTuple):
    """A model, and the calibration that it would serve the first day with."""

    pack: ModelPack
    calibration: Calibration


def evaluate(
    contenders: Sequence[Contender], walk: Walk, days: Sequence[Day]
) -> list[Evaluation | None]:
    """Hindcast the next days of a walk with several models of one horizon, on the same rows.

    None of the models should have learnt from the days or been tuned on them. ``None`` where no
    station was seen a horizon apart on these days.
    """
    blocks: list[list[tuple[Rows, Scored]]] = [[] for _ in contenders]
    current = list(contenders)
    for past in walk.over(days):
        start, stop = first_bin(past.day), first_bin(day_after(past.day))
        at = paired_bins(past.panel, start, stop, walk.horizon)
        at = at[:: max(1, len(at) // BINS_A_DAY)]
        for n, (pack, calibration) in enumerate(current):
            for rows, _, scored in scored_rows(pack, calibration, walk, past, at):
                blocks[n].append((rows._replace(features=rows.features[:0]), scored))
            current[n] = Contender(pack, calibrate_day(pack, calibration, past))
    return [_evaluation(found, walk.tz) if found else None for found in blocks]


def scored_rows(
    pack: ModelPack,
    calibration: Calibration,
    walk: Walk,
    past: PastDay,
    at: NDArray[np.int64],
    bins_at_once: int = 24,
) -> Iterator[tuple[Rows, ForecastNumbers, Scored]]:
    """Yield the rows at some bins of the day that a walk stands at, their forecasts and scores.

    The calibration must end before the day. ``bins_at_once`` bounds the memory of the features.
    """
    ids = past.panel.stations.ids
    for first in range(0, len(at), bins_at_once):
        rows = rows_of_day(
            past,
            at[first : first + bins_at_once],
            walk.horizon,
            pack.static_features,
            pack.feat_cols,
        )
        if not len(rows.bins):
            continue
        probability = class_probabilities(pack, rows.features)
        numbers = blend_with_persistence(
            pack, calibration, probability, rows.bikes, rows.capacity, rows.docks
        )
        most = ceiling(rows.bikes, rows.capacity)
        weight = calibration.mean_blend_weight
        columns = (
            rows.target,
            rows.bikes,
            numbers.rounded,
            numbers.mean,
            numbers.p_bike,
            numbers.p_dock,
            rows.docks,
            rows.docks_later,
            crps(pack.classes, probability, weight, rows.bikes, most, rows.target),
            walk.climatology.crps(ids, rows.station, rows.bins + walk.horizon, rows.target),
        )
        yield rows, numbers, Scored(*(column.astype(np.float64) for column in columns))


def _evaluation(blocks: list[tuple[Rows, Scored]], tz: str) -> Evaluation:
    scored = Scored(*(np.concatenate(parts) for parts in zip(*(s for _, s in blocks), strict=True)))
    bins = np.concatenate([rows.bins for rows, _ in blocks])
    capacity = np.concatenate([rows.capacity for rows, _ in blocks])
    hours = local_times(bins, tz).minute // 60
    sizes = np.digitize(capacity, SIZES)
    return Evaluation(
        errors_of(scored),
        {f"{h:02d}": errors_of(scored.of(hours == h)) for h in np.unique(hours).tolist()},
        {SIZE_NAMES[n]: errors_of(scored.of(sizes == n)) for n in np.unique(sizes).tolist()},
        probability_scores(scored.p_bike, scored.persistence >= 1, scored.true >= 1),
        dock_scores(scored),
    )


def errors_of(scored: Scored) -> Errors:
    """Return the errors of some forecasts, and of persistence and climatology on the same rows."""
    true, persistence = scored.true, scored.persistence
    known = np.isfinite(scored.crps_climatology)
    return Errors(
        n=len(true),
        mae=float(np.abs(true - scored.rounded).mean()),
        mae_persistence=float(np.abs(true - persistence).mean()),
        rmse=float(np.sqrt(((true - scored.mean) ** 2).mean())),
        rmse_persistence=float(np.sqrt(((true - persistence) ** 2).mean())),
        crps=float(scored.crps.mean()),
        crps_climatology=float(scored.crps_climatology[known].mean()) if known.any() else None,
    )


def dock_scores(scored: Scored) -> dict[str, Any] | None:
    """Return `probability_scores` of the probability of a dock; ``None`` where none is known."""
    known = scored.of(np.isfinite(scored.p_dock + scored.docks + scored.docks_true))
    if not len(known.true):
        return None
    return probability_scores(known.p_dock, known.docks >= 1, known.docks_true >= 1)


def probability_scores(
    stated: NDArray[np.floating], now: NDArray[np.bool_], true: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return the Brier score of a stated probability, that of persistence, and reliability.

    ``reliability`` has, for each tenth of stated probability that occurs, the rows, the mean of
    what was stated and the share that came true.
    """
    stated = stated.astype(np.float64)
    tenth = np.minimum((stated * 10).astype(np.int64), 9)
    return {
        "brier": float(((stated - true) ** 2).mean()),
        "brier_persistence": float((now != true).mean()),
        "reliability": [
            {
                "n": int((tenth == i).sum()),
                "stated": float(stated[tenth == i].mean()),
                "observed": float(true[tenth == i].mean()),
            }
            for i in np.unique(tenth).tolist()
        ],
    }
