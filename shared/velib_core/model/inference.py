"""Inference: from the panel and a model to what is published for every station."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from velib_core.features.stack import FEATURES, feature_rows, lookback_bins
from velib_core.model.change_distribution import (
    ceiling,
    chance_of_fall,
    chance_of_rise,
    mean_change,
    median_change,
)
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
    from velib_core.model.blending import Calibration
    from velib_core.model.pack import ModelPack
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day, HorizonBins

STALE_AFTER_MINUTES = 15
"""A station that was not observed for longer gets no forecast."""

SILENT_AFTER_MINUTES = 24 * 60
"""A station whose own last report is older gets no forecast. Healthy feeds pass on reports up to
an hour old, broken stations report for the last time years ago."""


ACTIVITY_FEATURES = ("network_pace_1h", "network_pace_yesterday")
"""Movement over usual movement, network-wide; their product below 1 tempers the forecast."""

ACTIVITY_PRIOR = 6.0
"""Usual activity counts as far as it rests on more observations of this half hour than these:
one day's. The second Saturday of a network says little about the third."""


HINDCAST_BINS = 24
"""Bins of a day that are hindcast at a time: bounds the memory of their features."""


class ForecastLogPartition(NamedTuple):
    """What is published, arrays of length n.

    ``median`` is clipped to [0, `most_bikes`], ``whole`` its rounding half to even, ``mean``
    clipped alike; ``p_bike`` and ``p_dock`` the probabilities of a bike and of a dock at the
    target time, ``p_dock`` NaN where docks are unknown.
    """

    median: NDArray[np.float32]
    rounded: NDArray[np.float32]
    mean: NDArray[np.float32]
    p_bike: NDArray[np.float32]
    p_dock: NDArray[np.float32]


def capacities(panel: Panel) -> NDArray[np.float32]:
    """Return the docks of each station, ``float32[T, S]``: as published, else as last known.

    A feed loses stations from its information now and then; what a station is does not change.
    """
    return np.where(np.isnan(panel["capacity"]), panel.stations.capacity, panel["capacity"])


def free_docks(panel: Panel) -> NDArray[np.float32]:
    """Return the docks a bike can be returned to: as stated, else capacity less bikes.

    NaN where the feed says neither.
    """
    free = np.maximum(capacities(panel) - panel["bikes"], 0)
    stated = panel.values.get("docks_available")
    return free if stated is None else np.where(np.isnan(stated), free, stated)


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

    The booster's odds of any movement are scaled down as far as the network was less active than
    usual over the last hour and yesterday, as far as what is usual is known (`ACTIVITY_PRIOR`).
    Trees do not extrapolate: in a week quieter than any they were trained on they would go on
    forecasting the usual commute.
    """
    if not len(features):
        return np.zeros((0, len(pack.classes.lows)), np.float32)
    found: NDArray[np.float32] = pack.model.inplace_predict(np.ascontiguousarray(features))
    relative_activity = np.nan_to_num(
        features[:, [FEATURES.index(name) for name in ACTIVITY_FEATURES]], nan=1.0
    )
    weight = features[:, FEATURES.index("profile_weight")]
    known = weight / (weight + np.float32(ACTIVITY_PRIOR))
    activity_damping = np.minimum((1 + (relative_activity - 1) * known[:, None]).prod(axis=1), 1)
    unchanged = pack.classes.unchanged
    scaled: NDArray[np.float32] = found * activity_damping[:, None]
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
) -> ForecastLogPartition:
    """Turn class probabilities into the published numbers, blended with persistence."""
    most = ceiling(bikes, capacity)
    blend_weight = calibration.blend_weight(pack.horizon_bins)
    median = np.clip(bikes + median_change(pack.classes, probability, blend_weight), 0, most)
    weight = calibration.mean_blend_weight
    mean = np.clip(bikes + weight * mean_change(pack.classes, probability), 0, most)
    has_bike = chance_of_rise(pack.classes, probability, 1 - bikes)
    known = ~np.isnan(docks)
    has_dock = chance_of_fall(pack.classes, probability, np.where(known, docks, 0) - 1)
    p_bike = weight * has_bike + (1 - weight) * (bikes >= 1)
    p_dock = np.where(known, weight * has_dock + (1 - weight) * (docks >= 1), np.nan)
    found = (median, np.rint(median), mean, p_bike, p_dock)
    return ForecastLogPartition(*(np.asarray(column, np.float32) for column in found))


def predict(
    pack: ModelPack,
    panel: Panel,
    profiles: Profiles,
    at: Bin,
    calibration: Calibration | None = None,
    stale_after_minutes: int = STALE_AFTER_MINUTES,
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

    Returns
    -------
    pa.Table
        One row a station in order of id: ``station_id``, ``tbin_latest`` (the bin it starts from,
        null if never seen in the panel), ``target_ts_utc``, ``horizon_min``, ``bikes`` and
        ``capacity_bin`` (`most_bikes`) there, ``age_min`` of the station's own report,
        ``bikes_pred``, ``bikes_pred_int``, ``bikes_mean``, ``p_bike``, ``p_dock`` and ``reason``:
        null, or why the forecast is null: ``never_seen``, ``stale``, ``closed``, ``no_capacity``,
        ``silent``.

    """
    slack = stale_after_minutes // BIN_MINUTES
    recent = panel.window(Bin(at - lookback_bins(pack.horizon_bins)), Bin(at + 1))
    base = _newest_rows(recent["bikes"])
    picked = (np.maximum(base, 0), np.arange(len(base)))
    seen = base >= 0
    bikes, capacity, ok = (
        np.where(seen, values[picked], np.nan)
        for values in (recent["bikes"], ceilings(recent), recent["ok"])
    )
    no_docks = seen & (capacities(recent)[picked] == 0)
    age = np.where(seen, recent["age_min"][picked], np.nan)
    reason = np.select(
        [
            ~seen,
            base < recent.bins - 1 - slack,
            ok == 0,
            no_docks,
            age > SILENT_AFTER_MINUTES,
        ],
        ["never_seen", "stale", "closed", "no_capacity", "silent"],
        default="",
    )
    usable = reason == ""
    calibration = calibration or pack.calibration
    out = {
        name: np.full(len(base), np.nan, np.float32)
        for name in ("bikes_pred", "bikes_pred_int", "bikes_mean", "p_bike", "p_dock")
    }
    docks = free_docks(recent)
    for row in np.unique(base[usable]):
        where = np.flatnonzero(usable & (base == row))
        origin = np.array([recent.start + row])
        features = feature_rows(panel, origin, pack.horizon_bins, pack.static_features, profiles)
        probability = class_probabilities(pack, features[:, 0, where].T)
        found = blend_with_persistence(
            pack, calibration, probability, bikes[where], capacity[where], docks[row, where]
        )
        for name, values in zip(out, found, strict=True):
            out[name][where] = values
    return _table(
        panel, pack.horizon_bins, recent.start + base, seen, (bikes, capacity, age), out, reason
    )


def hindcast_day(
    pack: ModelPack, panel: Panel, day: Day, profiles: Profiles, calibration: Calibration
) -> ForecastLogPartition:
    """Forecast every observation of a day that is over, as serving would have.

    ``panel`` holds the day and the look-back before it, ``profiles`` and ``calibration`` end
    before it. The arrays are ``float32[288, S]``, NaN where a station was not in service.
    """
    start = first_bin(day)
    today = panel.window(start, Bin(start + BINS_PER_DAY))
    usable = observed_in_service(today)
    looked_at = panel.window(Bin(start - lookback_bins(pack.horizon_bins)), today.stop)
    most = ceilings(looked_at)[-BINS_PER_DAY:]
    docks = free_docks(today)
    out = ForecastLogPartition(
        *(np.full(usable.shape, np.nan, np.float32) for _ in ForecastLogPartition._fields)
    )
    for first in range(0, BINS_PER_DAY, HINDCAST_BINS):
        block = slice(first, first + HINDCAST_BINS)
        keep = usable[block]
        if not keep.any():
            continue
        at = start + np.arange(first, first + HINDCAST_BINS)
        features = feature_rows(panel, at, pack.horizon_bins, pack.static_features, profiles)
        probability = class_probabilities(
            pack, features.reshape(len(features), -1)[:, keep.ravel()].T
        )
        found = blend_with_persistence(
            pack,
            calibration,
            probability,
            today["bikes"][block][keep],
            most[block][keep],
            docks[block][keep],
        )
        for array, values in zip(out, found, strict=True):
            array[block][keep] = values
    return out


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
    nothing = np.full(len(base), np.nan, np.float32)
    out = dict.fromkeys(("bikes_pred", "bikes_pred_int", "bikes_mean", "p_bike", "p_dock"), nothing)
    reasons = np.full(len(base), reason)
    return _table(panel, horizon, recent.start + base, seen, known, out, reasons)


def _newest_rows(bikes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of each station's newest observation, −1 without one."""
    seen = ~np.isnan(bikes)
    newest = len(bikes) - 1 - np.argmax(seen[::-1], axis=0)
    return np.where(seen.any(axis=0), newest, -1)


def _table(
    panel: Panel,
    horizon: HorizonBins,
    origins: NDArray[np.int64],
    seen: NDArray[np.bool_],
    known: tuple[NDArray[np.float32], ...],
    out: dict[str, NDArray[np.float32]],
    reason: NDArray[np.str_],
) -> pa.Table:
    bikes, capacity, age = known
    seconds = origins * BIN_SECONDS
    ahead = horizon * BIN_SECONDS

    def stamps(values: NDArray[np.int64]) -> pa.Array:
        return pa.array(values * 1_000_000_000, pa.timestamp("ns"), mask=~seen)

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
            "bikes_pred": real(out["bikes_pred"]),
            "bikes_pred_int": rounded(out["bikes_pred_int"]),
            "bikes_mean": real(out["bikes_mean"]),
            "p_bike": real(out["p_bike"]),
            "p_dock": real(out["p_dock"]),
            "reason": pa.array(reason.tolist(), pa.string(), mask=reason == ""),
        }
    )
