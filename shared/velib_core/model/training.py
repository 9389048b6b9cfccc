"""Training: the distribution of the change over one horizon, learnt from closed days.

The days are walked in order, once. Rows of the learning days and of the tuning days are kept, one
bin in so many, so that their number and the memory are bounded.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.features.spatial_features import fit_static_features
from velib_core.features.stack import FEATURES
from velib_core.model.blending import Calibration, add_day, fresh_calibration
from velib_core.model.change_distribution import ChangeClasses, count_changes, fit_classes
from velib_core.model.inference import blend_with_persistence, class_probabilities
from velib_core.model.pack import ModelPack
from velib_core.model.rows import PastDay, Rows, Walk, joined, paired_bins, rows_of_day
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import Bin, Day, HorizonBins, day_after, first_bin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import xgboost as xgb
    from numpy.typing import NDArray

    from velib_core.features.spatial_features import StaticFeatures
    from velib_core.model.rows import History
    from velib_core.tables.panel import Panel, Stations

WARM_UP_DAYS = 3
"""First days of a window that fill profiles and are not learnt from."""

MOST_HELD_OUT = 3
"""Days that tune, or judge, at most."""

CALIBRATION_BINS = 46
"""About so many bins of a day are hindcast to calibrate."""


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained; its record holds all of it.

    ``max_rows`` bounds the rows learnt from, and with them memory and time; beyond it only every
    so-manyth bin is used. ``max_bin`` are quantiles per feature in the booster's histograms. The
    booster's settings were chosen by measurement, see the model card.
    """

    max_rows: int = 300_000
    rounds: int = 240
    patience: int = 10
    eta: float = 0.1
    depth: int = 5
    min_child_weight: float = 20
    subsample: float = 0.7
    colsample: float = 0.5
    reg_lambda: float = 5
    max_bin: int = 128
    threads: int = 2
    seed: int = 42


class Split(NamedTuple):
    """The days of a window by what they are for, in order; all of them fill profiles.

    ``learn`` teaches the booster, ``tune`` stops it and sets the blend with persistence, ``judge``
    is not looked at before the decision whether the model goes live.
    """

    warm_up: tuple[Day, ...]
    learn: tuple[Day, ...]
    tune: tuple[Day, ...]
    judge: tuple[Day, ...]

    @classmethod
    def of(cls, days: Sequence[Day], *, judged: bool) -> Split:
        """Split consecutive days, oldest first.

        Raises ``ValueError`` for fewer than three days with judging, or two without.
        """
        least = 3 if judged else 2
        if len(days) < least:
            raise ValueError(f"{len(days)} days are too few to train on, need {least}")
        judge = max(1, min(MOST_HELD_OUT, len(days) // 7)) if judged else 0
        rest, last = days[: len(days) - judge], days[len(days) - judge :]
        tune = max(1, min(MOST_HELD_OUT, len(rest) // 5))
        warm_up = min(WARM_UP_DAYS, len(rest) // 4)
        learn = rest[warm_up : len(rest) - tune]
        return cls(tuple(rest[:warm_up]), tuple(learn), tuple(rest[-tune:]), tuple(last))


class Training(NamedTuple):
    """A trained model, and the rows that it learnt from."""

    pack: ModelPack
    learnt: Rows


def train(
    walk: Walk,
    static_features: StaticFeatures,
    split: Split,
    options: TrainingOptions | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Training:
    """Train the model of one horizon.

    Parameters
    ----------
    walk
        A walk that stands before the first day of the split; it is left before the days that
        judge, none of whose bins is looked at.
    static_features
        What does not change of the stations.
    split
        The days to learn from and to tune on.
    options
        Row limit and booster settings.
    progress
        Called with what is being done.

    Raises
    ------
    ValueError
        Where the days hold too few observations a horizon apart.

    """
    options = options or TrainingOptions()
    stride = _stride(walk.history, split.learn, walk.horizon, options.max_rows)
    progress(f"features of {len(split.learn)} days, one bin in {stride}")
    counts, learn, tune = _collect(walk, static_features, split, stride)
    if not learn or not tune:
        empty = split.tune if learn else split.learn
        raise ValueError(f"no station was seen a horizon apart from {empty[0]} to {empty[-1]}")
    classes = fit_classes(counts)
    learnt = joined(learn)
    progress(f"boosting {len(classes.lows)} classes on {len(learnt.bins)} rows")
    booster = _boost(classes, learnt, joined(tune), options)
    pack = ModelPack(
        booster, FEATURES, walk.horizon, classes, static_features, fresh_calibration(), walk.tz, {}
    )
    progress("calibration on the tuning days")
    calibration = pack.calibration
    for rows in tune:
        calibration = add_rows(calibration, pack, rows)
    # The days that stopped the boosting flatter the model: they earn no full weight.
    calibration = dataclasses.replace(calibration, days=0)
    pack = dataclasses.replace(pack, calibration=calibration)
    about = {
        "first_day": (*split.warm_up, *split.learn)[0].isoformat(),
        "first_tuning_day": split.tune[0].isoformat(),
        "last_day": split.tune[-1].isoformat(),
        "days": {name: len(days) for name, days in split._asdict().items()},
        "n_train": len(learnt.bins),
        "n_tune": sum(len(rows.bins) for rows in tune),
        "stride_bins": stride,
        "rounds": booster.num_boosted_rounds(),
        "tuning": _tuning_errors(pack, tune),
        "stations": len(static_features.ids),
        "options": dataclasses.asdict(options),
        "booster": _booster_settings(classes, options),
        "versions": library_versions(),
    }
    return Training(dataclasses.replace(pack, about=about), learnt)


def _tuning_errors(pack: ModelPack, tune: Sequence[Rows]) -> dict[str, float]:
    """Return the mean absolute errors on the days that tuned: lower than on days that judge."""
    rows = joined(tune)
    probability = class_probabilities(pack, rows.features)
    numbers = blend_with_persistence(
        pack, pack.calibration, probability, rows.bikes, rows.capacity, rows.docks
    )
    true = rows.target.astype(np.float64)
    return {
        "mae": float(np.abs(true - numbers.rounded).mean()),
        "mae_persistence": float(np.abs(true - rows.bikes).mean()),
    }


def train_on(
    history: History,
    stations: Stations,
    days: Sequence[Day],
    horizon: HorizonBins,
    tz: str,
    options: TrainingOptions | None = None,
) -> Training:
    """Train the model of one horizon on consecutive days, none of which judges it.

    Raises ``ValueError`` where there is too little to learn from.
    """
    split = Split.of(days, judged=False)
    return train(Walk(history, horizon, tz), fit_static_features(stations), split, options)


def calibrate_day(pack: ModelPack, calibration: Calibration, past: PastDay) -> Calibration:
    """Return the calibration with one more closed day of hindcasts.

    A bin every half hour or so is looked at: neighbouring ones say nearly the same. A day without
    two observations a horizon apart changes nothing, and no bin after the day is looked at.
    """
    start, stop = first_bin(past.day), first_bin(day_after(past.day))
    at = paired_bins(past.panel, start, Bin(stop - pack.horizon_bins), pack.horizon_bins)
    at = at[:: max(1, len(at) // CALIBRATION_BINS)]
    rows = rows_of_day(past, at, pack.horizon_bins, pack.static_features, pack.feat_cols)
    return add_rows(calibration, pack, rows) if len(rows.bins) else calibration


def add_rows(calibration: Calibration, pack: ModelPack, rows: Rows) -> Calibration:
    """Return the calibration with the rows of one more day."""
    return add_day(
        calibration,
        pack.classes,
        class_probabilities(pack, rows.features),
        rows.bikes,
        rows.capacity,
        rows.docks,
        rows.target,
        rows.docks_later,
    )


def library_versions() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    names = ("numpy", "xgboost-cpu", "scikit-learn", "scipy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in names
    }


def _stride(history: History, days: Sequence[Day], horizon: HorizonBins, max_rows: int) -> int:
    """Return of how many bins one is learnt from, so that there are at most ``max_rows`` rows."""
    start, stop = first_bin(days[0]), first_bin(day_after(days[-1]))
    seen = history.stations_seen(start, stop)
    pairs = int(np.minimum(seen[:-horizon], seen[horizon:]).sum())
    return max(1, -(-pairs // max_rows))


def _collect(
    walk: Walk, static_features: StaticFeatures, split: Split, stride: int
) -> tuple[NDArray[np.int64], list[Rows], list[Rows]]:
    """Walk up to the days that judge: the histogram of changes to learn, and the rows of each day.

    Targets of learning rows lie before the first tuning day, those of tuning rows before the first
    day that judges. Frozen feeds count in the histogram: their zeros touch no share within a class
    of changes.
    """
    counts = np.zeros_like(count_changes(np.array([], np.float32)))
    kept: dict[str, list[Rows]] = {"learn": [], "tune": []}
    days = (*split.warm_up, *split.learn, *split.tune)
    for number, past in enumerate(walk.over(days)):
        if past.day in split.warm_up:
            continue
        part = "learn" if past.day in split.learn else "tune"
        start = first_bin(past.day)
        end = first_bin(day_after(getattr(split, part)[-1]))
        stop = Bin(min(first_bin(day_after(past.day)), end - walk.horizon))
        if part == "learn":
            counts += _count_changes(past.panel, start, stop, walk.horizon)
        at = paired_bins(past.panel, start, stop, walk.horizon)
        # A moving phase: all minutes of the hour are learnt from.
        at = at[number % min(stride, max(len(at), 1)) :: stride]
        rows = rows_of_day(past, at, walk.horizon, static_features)
        if len(rows.bins):
            kept[part].append(rows)
    return counts, kept["learn"], kept["tune"]


def _count_changes(panel: Panel, start: Bin, stop: Bin, horizon: HorizonBins) -> NDArray[np.int64]:
    """Return the histogram of changes over the horizon of the stations in service."""
    now = panel.window(start, stop)
    later = panel.window(Bin(start + horizon), Bin(stop + horizon))["bikes"]
    return count_changes(later - np.where(observed_in_service(now), now["bikes"], np.nan))


def _boost(
    classes: ChangeClasses, learn: Rows, tune: Rows, options: TrainingOptions
) -> xgb.Booster:
    """Return the booster of the round that is best on the tuning rows."""
    import xgboost as xgb  # noqa: PLC0415 -- ingestion must not load it

    def quantised(rows: Rows, reference: xgb.QuantileDMatrix | None) -> xgb.QuantileDMatrix:
        label = classes.of(rows.target - rows.bikes).astype(np.float32)
        return xgb.QuantileDMatrix(
            rows.features,
            label,
            max_bin=options.max_bin,
            ref=reference,
            nthread=options.threads,
        )

    data = quantised(learn, None)
    booster = xgb.train(
        _booster_settings(classes, options),
        data,
        options.rounds,
        evals=[(quantised(tune, data), "tuning")],
        early_stopping_rounds=options.patience,
        verbose_eval=False,
    )
    return booster[: booster.best_iteration + 1]


def _booster_settings(classes: ChangeClasses, options: TrainingOptions) -> dict[str, Any]:
    """Return the parameters that XGBoost is called with."""
    return {
        "objective": "multi:softprob",
        "num_class": len(classes.lows),
        "tree_method": "hist",
        "max_bin": options.max_bin,
        "eta": options.eta,
        "max_depth": options.depth,
        "min_child_weight": options.min_child_weight,
        "subsample": options.subsample,
        "colsample_bytree": options.colsample,
        "lambda": options.reg_lambda,
        "nthread": options.threads,
        "seed": options.seed,
    }
