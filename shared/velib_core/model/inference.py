"""Inference: from the panel and a model to what is published for every station."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from velib_core.features.profile_features import ACTIVITY_FEATURES, activity_damping
from velib_core.features.stack import feature_rows, lookback_bins
from velib_core.model.blending import calibrated
from velib_core.model.change_distribution import (
    ceiling,
    chance_of_fall,
    chance_of_rise,
    crps,
    mean_change,
    median_change,
)
from velib_core.tables.panel import capacities, free_docks
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import (
    BIN_MINUTES,
    BIN_SECONDS,
    BINS_PER_DAY,
    Bin,
    first_bin,
    horizon_minutes,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.features.profiles import Profiles
    from velib_core.features.stack import SharedColumns
    from velib_core.model.blending import Calibration
    from velib_core.model.pack import ModelPack
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day, HorizonBins

STALE_AFTER_MINUTES = 15
"""A station that was not observed for longer gets no forecast."""

SILENT_AFTER_MINUTES = 24 * 60
"""A station whose own last report is older gets no forecast. Healthy feeds pass on reports up to
an hour old, broken stations report for the last time years ago."""


HINDCAST_BINS = 24
"""Bins of a day that are hindcast at a time: bounds the memory of their features."""


class ForecastNumbers(NamedTuple):
    """The numbers of a forecast, arrays of one shape.

    ``median`` is clipped to [0, `ceiling`], ``rounded`` its rounding half to even, ``mean``
    clipped alike; ``p_bike`` and ``p_dock`` are the probabilities of at least one bike and of at
    least one free dock at the target time, ``p_dock`` NaN where nothing is known of docks.
    """

    median: NDArray[np.float32]
    rounded: NDArray[np.float32]
    mean: NDArray[np.float32]
    p_bike: NDArray[np.float32]
    p_dock: NDArray[np.float32]


FORECAST_COLUMNS = dict(
    zip(
        ForecastNumbers._fields,
        ("bikes_pred", "bikes_pred_int", "bikes_mean", "p_bike", "p_dock"),
        strict=True,
    )
)
"""The public name of each number in forecast documents and frames."""


def ceilings(panel: Panel) -> NDArray[np.float32]:
    """Return the most bikes that each station is taken to hold, ``float32[T, S]``.

    That is its capacity; where that is unknown (it is optional), the bikes and free docks there;
    and where docks are unknown too, the most bikes seen there so far.
    """
    known = capacities(panel)
    stated = panel.values.get("docks_available")
    docks = np.full_like(known, np.nan) if stated is None else stated
    seen = np.fmax.accumulate(panel["bikes"], axis=0) if panel.bins else panel["bikes"]
    guessed = np.where(np.isnan(docks), seen, panel["bikes"] + docks)
    return np.where(np.isnan(known), guessed, known)


def class_probabilities(pack: ModelPack, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of each class of change, ``float32[n, C]``.

    ``features`` is ``float32[n, F]`` in the order of ``pack.feat_cols``. The booster's odds of any
    movement are scaled down where the network was less active than usual over the last hour and
    over yesterday, as far as what is usual is known (`activity_damping`). Trees do not extrapolate:
    in a week with less activity than any in training they would still forecast the usual commute.
    """
    if not len(features):
        return np.zeros((0, len(pack.classes.lows)), np.float32)
    found: NDArray[np.float32] = pack.model.inplace_predict(np.ascontiguousarray(features))
    place = pack.feat_cols.index
    seen = (features[:, place(name)] for name in (*ACTIVITY_FEATURES, "profile_weight"))
    damping = activity_damping(*seen)
    unchanged = pack.classes.unchanged
    scaled: NDArray[np.float32] = found * damping[:, None]
    scaled[:, unchanged] = found[:, unchanged]
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def blend_with_persistence(
    pack: ModelPack,
    calibration: Calibration,
    probability: NDArray[np.float32],
    bikes: NDArray[np.float32],
    capacity: NDArray[np.float32],
    docks: NDArray[np.float32],
) -> ForecastNumbers:
    """Turn class probabilities into the published numbers.

    Median and mean are mixed with persistence by the calibration's weights; the probabilities of
    a bike and of a dock are the model's own, corrected by how often such ones came true.
    """
    most = ceiling(bikes, capacity)
    blend_weight = calibration.blend_weight(pack.horizon_bins)
    median = np.clip(bikes + median_change(pack.classes, probability, blend_weight), 0, most)
    change = calibration.mean_blend_weight * mean_change(pack.classes, probability)
    mean = np.clip(bikes + change, 0, most)
    has_bike = chance_of_rise(pack.classes, probability, 1 - bikes)
    known = ~np.isnan(docks)
    has_dock = chance_of_fall(pack.classes, probability, np.where(known, docks, 0) - 1)
    p_bike = calibrated(has_bike, calibration.bike)
    p_dock = np.where(known, calibrated(has_dock, calibration.dock), np.nan)
    found = (median, np.rint(median), mean, p_bike, p_dock)
    return ForecastNumbers(*(np.asarray(column, np.float32) for column in found))


def predict(
    pack: ModelPack,
    panel: Panel,
    profiles: Profiles,
    at: Bin,
    calibration: Calibration | None = None,
    stale_after_minutes: int = STALE_AFTER_MINUTES,
    shared: SharedColumns | None = None,
) -> pa.Table:
    """Forecast every station of a panel from its newest observation.

    Parameters
    ----------
    pack
        The model of one horizon.
    panel
        History up to ``at`` or beyond (what is beyond is not looked at), at least
        ``lookback_bins(horizon)`` and the staleness before it.
    profiles
        The network's past through the day before ``at``.
    at
        The newest bin.
    calibration
        The model's latest blend weights; those of its training when ``None``.
    stale_after_minutes
        Oldest observation that a forecast may start from.
    shared
        Features computed for another horizon of the same panel; see `feature_rows`.

    Returns
    -------
    pa.Table
        One row a station of the panel, and each that the model has learnt from and that is in the
        profiles, in order of id: ``station_id``, ``tbin_latest`` (the bin it starts from; of a
        station not seen in the look-back the newest on a closed day, null if never seen),
        ``target_ts_utc``, ``horizon_min``, ``bikes`` and ``capacity_bin`` (`ceiling`) there,
        ``age_min`` of the station's own report, the `FORECAST_COLUMNS`, and ``reason``: null, or
        why the forecast is null: ``never_seen``, ``stale``, ``closed``, ``no_capacity``,
        ``silent``.

    """
    panel = panel.with_stations(np.intersect1d(pack.static_features.ids, profiles.stations))
    recent = panel.window(Bin(at - lookback_bins(pack.horizon_bins)), Bin(at + 1))
    base = _newest_rows(recent["bikes"])
    picked = (np.maximum(base, 0), np.arange(len(base)))
    seen = base >= 0
    bikes, capacity, ok, age = (
        np.where(seen, values[picked], np.nan)
        for values in (recent["bikes"], ceilings(recent), recent["ok"], recent["age_min"])
    )
    no_docks = seen & (capacities(recent)[picked] == 0)
    origins = np.where(seen, recent.start + base, profiles.last_seen_of(panel.stations.ids))
    reason = np.select(
        [
            origins < 0,
            base < recent.bins - 1 - stale_after_minutes // BIN_MINUTES,
            ok == 0,
            no_docks,
            age > SILENT_AFTER_MINUTES,
        ],
        ["never_seen", "stale", "closed", "no_capacity", "silent"],
        default="",
    )
    usable = reason == ""
    calibration = calibration or pack.calibration
    numbers = _no_numbers((len(base),))
    docks = free_docks(recent)
    for row in np.unique(base[usable]):
        where = np.flatnonzero(usable & (base == row))
        features = feature_rows(
            panel,
            np.array([recent.start + row]),
            pack.horizon_bins,
            pack.static_features,
            profiles,
            pack.feat_cols,
            shared,
        )
        probability = class_probabilities(pack, features[:, 0, where].T)
        found = blend_with_persistence(
            pack, calibration, probability, bikes[where], capacity[where], docks[row, where]
        )
        for number, values in zip(numbers, found, strict=True):
            number[where] = values
    return _table(
        panel,
        pack.horizon_bins,
        origins,
        (bikes, capacity, age),
        numbers,
        reason,
    )


def _no_numbers(shape: tuple[int, ...]) -> ForecastNumbers:
    return ForecastNumbers(*(np.full(shape, np.nan, np.float32) for _ in ForecastNumbers._fields))


def hindcast_day(
    pack: ModelPack, panel: Panel, day: Day, profiles: Profiles, calibration: Calibration
) -> tuple[ForecastNumbers, NDArray[np.float32]]:
    """Forecast every observation of a day that is over, as serving would have, and its CRPS.

    ``panel`` holds the day, the look-back before it and a horizon after it; ``profiles`` and
    ``calibration`` end before it. The arrays are ``float32[288, S]``, NaN where a station was not
    in service; the CRPS (`velib_core.model.change_distribution.crps`) where no truth is known.
    """
    start = first_bin(day)
    today = panel.window(start, Bin(start + BINS_PER_DAY))
    after = Bin(start + pack.horizon_bins)
    truth = panel.window(after, Bin(after + BINS_PER_DAY))["bikes"]
    usable = observed_in_service(today)
    looked_at = panel.window(Bin(start - lookback_bins(pack.horizon_bins)), today.stop)
    most = ceilings(looked_at)[-BINS_PER_DAY:]
    docks = free_docks(today)
    out = _no_numbers(usable.shape)
    scores = np.full(usable.shape, np.nan, np.float32)
    for first in range(0, BINS_PER_DAY, HINDCAST_BINS):
        block = slice(first, first + HINDCAST_BINS)
        keep = usable[block]
        if not keep.any():
            continue
        at = start + np.arange(first, first + HINDCAST_BINS)
        features = feature_rows(
            panel, at, pack.horizon_bins, pack.static_features, profiles, pack.feat_cols
        )
        probability = class_probabilities(
            pack, features.reshape(len(features), -1)[:, keep.ravel()].T
        )
        bikes, highest, true = (part[block][keep] for part in (today["bikes"], most, truth))
        found = blend_with_persistence(
            pack, calibration, probability, bikes, highest, docks[block][keep]
        )
        for array, values in zip(out, found, strict=True):
            array[block][keep] = values
        weight = calibration.mean_blend_weight
        score = crps(pack.classes, probability, weight, bikes, highest, true)
        scores[block][keep] = np.where(np.isnan(true), np.nan, score)
    return out, scores


def no_forecast(panel: Panel, horizon: HorizonBins, at: Bin, reason: str) -> pa.Table:
    """Return the table of `predict` with null forecasts for one reason, for every station."""
    recent = panel.window(panel.start, Bin(at + 1))
    base = _newest_rows(recent["bikes"])
    picked = (np.maximum(base, 0), np.arange(len(base)))
    seen = base >= 0
    known = tuple(
        np.where(seen, values[picked], np.nan)
        for values in (recent["bikes"], ceilings(recent), recent["age_min"])
    )
    reasons = np.full(len(base), reason)
    numbers = _no_numbers((len(base),))
    origins = np.where(seen, recent.start + base, -1)
    return _table(panel, horizon, origins, known, numbers, reasons)


def _newest_rows(bikes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of each station's newest observation, −1 without one."""
    seen = ~np.isnan(bikes)
    newest = len(bikes) - 1 - np.argmax(seen[::-1], axis=0)
    return np.where(seen.any(axis=0), newest, -1)


def _table(
    panel: Panel,
    horizon: HorizonBins,
    origins: NDArray[np.int64],
    known: tuple[NDArray[np.float32], ...],
    numbers: ForecastNumbers,
    reason: NDArray[np.str_],
) -> pa.Table:
    bikes, capacity, age = known
    seconds = origins * BIN_SECONDS
    ahead = horizon * BIN_SECONDS

    def stamps(values: NDArray[np.int64]) -> pa.Array:
        return pa.array(values * 1_000_000_000, pa.timestamp("ns"), mask=origins < 0)

    def rounded(values: NDArray[np.float32]) -> pa.Array:
        missing = np.isnan(values)
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)

    def real(values: NDArray[np.float32]) -> pa.Array:
        return pa.array(values.astype(np.float32), mask=np.isnan(values))

    minutes = int(horizon_minutes(horizon))
    return pa.table(
        {
            "station_id": pa.array(panel.stations.ids.tolist(), pa.string()),
            "tbin_latest": stamps(seconds),
            "target_ts_utc": stamps(seconds + ahead),
            "horizon_min": pa.array([minutes] * len(origins), pa.int64()),
            "bikes": rounded(bikes),
            "capacity_bin": rounded(ceiling(bikes, capacity)),
            "age_min": real(age),
            "bikes_pred": real(numbers.median),
            "bikes_pred_int": rounded(numbers.rounded),
            "bikes_mean": real(numbers.mean),
            "p_bike": real(numbers.p_bike),
            "p_dock": real(numbers.p_dock),
            "reason": pa.array(reason.tolist(), pa.string(), mask=reason == ""),
        }
    )
