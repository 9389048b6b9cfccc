"""Training: the distribution of the change over one horizon, learnt day by day.

The days are walked in order, so each row sees the profiles of the days before its own, as serving
does. Rows are quantised a day at a time and their number is bounded, and so is memory.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.features.profiles import Profiles, empty_profiles, update_with_day
from velib_core.features.spatial_features import StaticFeatures, fit_static_features
from velib_core.features.stack import FEATURES, feature_rows, lookback_bins
from velib_core.model.blending import Calibration, add_day, fresh_calibration
from velib_core.model.change_distribution import ChangeClasses, count_changes, fit_classes
from velib_core.model.inference import (
    blend_with_persistence,
    ceilings,
    class_probabilities,
    free_docks,
)
from velib_core.model.pack import ModelPack
from velib_core.tables.panel import FROZEN_BINS, is_frozen
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import Bin, Day, HorizonBins, day_after, first_bin

if TYPE_CHECKING:
    import xgboost as xgb
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel, Stations

History = Callable[[Bin, Bin], "Panel"]
"""Reads the panel of the bins ``[start, stop)``, always with the same stations. For a panel in
memory it is `Panel.window`."""

MAX_BIN = 128
"""Quantiles per feature in the booster's histograms."""

WARM_UP_DAYS = 3
"""First days of a window that fill profiles and are not learnt from."""


CALIBRATION_BINS = 46
"""About so many bins of a day are hindcast to calibrate."""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    ``max_rows`` bounds the rows learnt from, and with them memory and time; beyond it only every
    so-manyth bin is used. The booster's settings were chosen by measurement, see the model card.
    """

    max_rows: int = 300_000
    rounds: int = 120
    patience: int = 10
    eta: float = 0.1
    depth: int = 5
    threads: int = 2
    seed: int = 42


class Rows(NamedTuple):
    """Feature rows and what is known about each: arrays of length n.

    ``features`` is ``float32[n, F]``; ``bins`` the origins, ``station`` the panel column;
    ``bikes``, ``capacity``, ``docks`` at the origin and ``target`` the bikes a horizon later.
    """

    features: NDArray[np.float32]
    bins: NDArray[np.int64]
    station: NDArray[np.int64]
    bikes: NDArray[np.float32]
    capacity: NDArray[np.float32]
    docks: NDArray[np.float32]
    target: NDArray[np.float32]


def rows_of_day(
    panel: Panel,
    at: NDArray[np.int64],
    horizon: HorizonBins,
    static_features: StaticFeatures,
    profiles: Profiles,
) -> Rows:
    """Return the rows at some bins of a day whose station is in service and whose target is known.

    ``profiles`` must end before the day; ``panel`` must reach a horizon past the bins for the
    targets, which no feature sees.
    """
    if not len(at):
        none = np.empty(0, np.float32)
        return Rows(np.empty((0, len(FEATURES)), np.float32), at, at, none, none, none, none)
    now = panel.window(Bin(int(at.min())), Bin(int(at.max()) + 1))
    later = panel.window(Bin(now.start + horizon), Bin(now.stop + horizon))["bikes"]
    rows = at - now.start
    keep = observed_in_service(now)[rows] & ~np.isnan(later[rows])
    t, station = np.nonzero(keep)
    most = ceilings(panel.window(Bin(now.start - lookback_bins(horizon)), now.stop))[-now.bins :]
    features = feature_rows(panel, at, horizon, static_features, profiles)
    bikes, capacity = now["bikes"][rows][keep], most[rows][keep]
    return Rows(
        features.reshape(len(features), -1)[:, keep.ravel()].T,
        at[t],
        station,
        bikes,
        capacity,
        free_docks(now)[rows][keep],
        later[rows][keep],
    )


def paired_bins(panel: Panel, start: Bin, stop: Bin, horizon: HorizonBins) -> NDArray[np.int64]:
    """Return the bins ``[start, stop)`` in which something was seen, and a horizon later too.

    Picking every so-manyth of these, and not of all bins, a network that is polled every 10 or 15
    minutes is looked at as evenly as one that is polled at every bin. What a feed that stands
    still shows a horizon later is nothing to learn from.
    """
    bikes = panel.window(Bin(start - FROZEN_BINS), Bin(stop + horizon))["bikes"]
    seen = np.asarray(np.isfinite(bikes).any(axis=1))[FROZEN_BINS:]
    later = (seen & ~is_frozen(bikes)[FROZEN_BINS:])[horizon:]
    return start + np.flatnonzero(seen[:-horizon] & later)


def train(
    history: History,
    stations: Stations,
    days: Sequence[Day],
    horizon: HorizonBins,
    tz: str,
    options: TrainingOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> ModelPack:
    """Train the model of one horizon.

    The last days of the window validate: they stop the boosting and set its blend
    weights. No training target lies in them.

    Parameters
    ----------
    history
        Reads the network's past in windows of about a day.
    stations
        The stations of the history's panels.
    days
        Consecutive UTC days to learn from, oldest first.
    horizon
        How far ahead.
    tz
        IANA zone of the network's local time.
    options
        Row limit and booster settings.
    progress
        Called with the current step.

    Raises
    ------
    ValueError
        Where the window holds fewer than three days, or too few observations a horizon apart.

    """
    import xgboost as xgb  # noqa: PLC0415 -- ingestion must not load it

    options = options or TrainingOptions()
    split = _Split.of(days)
    static_features = fit_static_features(stations)
    counts, available = _survey(history, split, horizon)
    classes = fit_classes(counts)
    stride = max(1, -(-available // options.max_rows))
    source = _Source(history, horizon, static_features, tz, split, stride)
    progress(f"features of {len(split.learn)} days, one bin in {stride}")
    learn = _quantised(source, split.learn, classes, options, None)
    validate = _quantised(source, split.validate, classes, options, learn)
    progress(f"boosting {len(classes.lows)} classes on {learn.num_row()} rows")
    booster = xgb.train(
        _booster_settings(classes, options),
        learn,
        options.rounds,
        evals=[(validate, "validation")],
        early_stopping_rounds=options.patience,
        verbose_eval=False,
    )
    booster = booster[: booster.best_iteration + 1]
    progress("calibration on the last days")
    pack = ModelPack(
        booster, FEATURES, horizon, classes, static_features, fresh_calibration(), tz, {}
    )
    calibration, metrics = _validate(pack, source, split.validate)
    about = {
        "first_day": days[0].isoformat(),
        "last_day": days[-1].isoformat(),
        "first_validation_day": split.validate[0].isoformat(),
        "n_train": int(learn.num_row()),
        "n_valid": int(validate.num_row()),
        "stride_bins": stride,
        "rounds": booster.num_boosted_rounds(),
        "stations": len(stations),
        "metrics": metrics,
        "options": dataclasses.asdict(options),
        "versions": library_versions(),
    }
    return dataclasses.replace(pack, calibration=calibration, about=about)


def learning_rows(pack: ModelPack, history: History, days: Sequence[Day]) -> Iterator[Rows]:
    """Yield the rows that `train` learnt a pack from, a day at a time."""
    split = _Split.of(days)
    stride = int(pack.about["stride_bins"])
    source = _Source(history, pack.horizon_bins, pack.static_features, pack.tz, split, stride)
    return source.days(split.learn)


def calibrate_day(
    pack: ModelPack, calibration: Calibration, history: History, day: Day, profiles: Profiles
) -> Calibration:
    """Return the calibration with one more closed day of hindcasts.

    ``profiles`` must end before the day. A bin every half hour or so is looked at: neighbouring
    ones say nearly the same. A day without two observations a horizon apart changes nothing.
    """
    start, stop = first_bin(day), first_bin(day_after(day))
    panel = history(Bin(start - lookback_bins(pack.horizon_bins)), stop)
    at = paired_bins(panel, start, Bin(stop - pack.horizon_bins), pack.horizon_bins)
    at = at[:: max(1, len(at) // CALIBRATION_BINS)]
    rows = rows_of_day(panel, at, pack.horizon_bins, pack.static_features, profiles)
    if not len(rows.bins):
        return calibration
    return add_day(
        calibration,
        pack.classes,
        class_probabilities(pack, rows.features),
        rows.bikes,
        rows.capacity,
        rows.target,
    )


def library_versions() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    names = ("numpy", "xgboost-cpu", "scikit-learn", "scipy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


class _Split(NamedTuple):
    """Days by what they are for; all days fill profiles."""

    warm_up: tuple[Day, ...]
    learn: tuple[Day, ...]
    validate: tuple[Day, ...]

    @classmethod
    def of(cls, days: Sequence[Day]) -> _Split:
        if len(days) < 3:
            raise ValueError(f"{len(days)} days are too few to train and validate on, need 3")
        warm_up = min(WARM_UP_DAYS, len(days) // 4)
        held_out = max(1, min(3, len(days) // 5))
        return cls(tuple(days[:warm_up]), tuple(days[warm_up:-held_out]), tuple(days[-held_out:]))


@dataclasses.dataclass(frozen=True)
class _Source:
    """Rows of the training window, one day at a time."""

    history: History
    horizon: HorizonBins
    static_features: StaticFeatures
    tz: str
    split: _Split
    stride: int

    def days(self, wanted: Sequence[Day]) -> Iterator[Rows]:
        """Yield the rows of each wanted day that has any, in order.

        Targets of learning rows lie before the first day of validation.
        """
        profiles = empty_profiles(self.tz, (self.horizon,))
        end = first_bin(self.split.validate[0])
        before = lookback_bins(self.horizon)
        for number, day in enumerate(
            (*self.split.warm_up, *self.split.learn, *self.split.validate)
        ):
            if day > wanted[-1]:
                return
            start, stop = first_bin(day), first_bin(day_after(day))
            panel = self.history(Bin(start - before), Bin(stop + self.horizon))
            if day in wanted:
                at = paired_bins(panel, start, stop, self.horizon)
                if day in self.split.learn:
                    at = at[at + self.horizon < end]
                # A moving phase: all minutes of the hour are learnt from.
                at = at[number % min(self.stride, max(len(at), 1)) :: self.stride]
                rows = rows_of_day(panel, at, self.horizon, self.static_features, profiles)
                if len(rows.bins):
                    yield rows
            profiles = update_with_day(profiles, panel, day)


def _survey(history: History, split: _Split, horizon: HorizonBins) -> tuple[NDArray[np.int64], int]:
    """Return the histogram of changes on the learning days, and how many there are.

    Frozen bins are in it: their zeros touch no share within a class of changes.
    """
    counts = np.zeros_like(count_changes(np.array([], np.float32)))
    for day in split.learn:
        panel = history(first_bin(day), Bin(first_bin(day_after(day)) + horizon))
        bikes = np.where(observed_in_service(panel), panel["bikes"], np.nan)
        counts += count_changes(panel["bikes"][horizon:] - bikes[:-horizon])
    return counts, int(counts.sum())


def _quantised(
    source: _Source,
    days: Sequence[Day],
    classes: ChangeClasses,
    options: TrainingOptions,
    reference: xgb.QuantileDMatrix | None,
) -> xgb.QuantileDMatrix:
    """Return the rows of some days in quantised form, built a day at a time."""
    import xgboost as xgb  # noqa: PLC0415

    given = 0

    class Days(xgb.DataIter):
        def __init__(self) -> None:
            self.reset()
            super().__init__()

        def reset(self) -> None:
            self.blocks = source.days(days)

        def next(self, input_data: Callable[..., None]) -> bool:
            rows = next(self.blocks, None)
            if rows is None:
                return False
            nonlocal given
            given += len(rows.bins)
            label = classes.of(rows.target - rows.bikes).astype(np.float32)
            input_data(data=np.ascontiguousarray(rows.features), label=label)
            return True

    try:
        return xgb.QuantileDMatrix(Days(), max_bin=MAX_BIN, ref=reference, nthread=options.threads)
    except xgb.core.XGBoostError:
        if given:
            raise
        raise ValueError(
            f"no station was seen a horizon apart from {days[0]} to {days[-1]}"
        ) from None


def _booster_settings(classes: ChangeClasses, options: TrainingOptions) -> dict[str, Any]:
    return {
        "objective": "multi:softprob",
        "num_class": len(classes.lows),
        "tree_method": "hist",
        "max_bin": MAX_BIN,
        "eta": options.eta,
        "max_depth": options.depth,
        "min_child_weight": 20,
        "subsample": 0.7,
        "colsample_bytree": 0.5,
        "lambda": 5,
        "nthread": options.threads,
        "seed": options.seed,
    }


def _validate(
    pack: ModelPack, source: _Source, days: Sequence[Day]
) -> tuple[Calibration, dict[str, float]]:
    """Return the calibration after the validation days, and the errors on them."""
    calibration = pack.calibration
    errors = np.zeros(5)
    for rows in source.days(days):
        probability = class_probabilities(pack, rows.features)
        forecast = blend_with_persistence(
            pack, calibration, probability, rows.bikes, rows.capacity, rows.docks
        )
        calibration = add_day(
            calibration, pack.classes, probability, rows.bikes, rows.capacity, rows.target
        )
        true = rows.target.astype(np.float64)
        errors += (
            len(true),
            np.abs(true - forecast.rounded).sum(),
            np.abs(true - rows.bikes).sum(),
            ((true - forecast.mean) ** 2).sum(),
            ((true - rows.bikes) ** 2).sum(),
        )
    n = max(errors[0], 1)
    return calibration, {
        "mae": errors[1] / n,
        "rmse": float(np.sqrt(errors[3] / n)),
        "mae_persistence": errors[2] / n,
        "rmse_persistence": float(np.sqrt(errors[4] / n)),
    }
