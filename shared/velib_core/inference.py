"""Inference: from the panel and a model to what is published for every station."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from velib_core.change_distribution import outcome
from velib_core.feature_stack import feature_rows, lookback_bins
from velib_core.grid import BIN_MINUTES, BIN_SECONDS, Bin, horizon_minutes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.calibration import Calibration
    from velib_core.model_pack import ModelPack
    from velib_core.panel import Panel
    from velib_core.profile_features import Profiles

STALE_AFTER_MINUTES = 15
"""A station that was not observed for longer gets no forecast."""

SILENT_AFTER_MINUTES = 24 * 60
"""A station whose own last report is older gets no forecast. Healthy feeds pass on reports up to
an hour old, broken stations report for the last time years ago."""


class Published(NamedTuple):
    """What is published, arrays of length n.

    ``median`` is clipped to [0, capacity], ``whole`` its rounding half to even, ``mean`` clipped;
    ``p_bike`` and ``p_dock`` the probabilities of a bike and of a dock at the target time.
    """

    median: NDArray[np.float32]
    whole: NDArray[np.float32]
    mean: NDArray[np.float32]
    p_bike: NDArray[np.float32]
    p_dock: NDArray[np.float32]


def in_service(panel: Panel) -> NDArray[np.bool_]:
    """Return where a station was observed, has docks and is not reported out of service."""
    return ~np.isnan(panel["bikes"]) & (panel["capacity"] > 0) & (panel["ok"] != 0)


def free_docks(panel: Panel) -> NDArray[np.float32]:
    """Return the docks a bike can be returned to: as stated, else capacity less bikes."""
    free = np.maximum(panel["capacity"] - panel["bikes"], 0)
    stated = panel.values.get("docks_available")
    return free if stated is None else np.where(np.isnan(stated), free, stated)


def class_probabilities(pack: ModelPack, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of each class of change, ``float32[n, C]``."""
    if not len(features):
        return np.zeros((0, len(pack.classes.lows)), np.float32)
    found: NDArray[np.float32] = pack.model.inplace_predict(np.ascontiguousarray(features))
    return found


def publish(
    pack: ModelPack,
    calibration: Calibration,
    probability: NDArray[np.float32],
    bikes: NDArray[np.float32],
    capacity: NDArray[np.float32],
    docks: NDArray[np.float32],
) -> Published:
    """Turn class probabilities into the published numbers, mixed with persistence as trusted."""
    read = outcome(
        pack.classes, probability, bikes, docks, calibration.trust, calibration.mean_trust
    )
    median = np.clip(bikes + read.median, 0, capacity)
    mean = np.clip(bikes + read.mean, 0, capacity)
    return Published(median, np.rint(median), mean, read.p_bike, read.p_dock)


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
        How far the model is trusted of late; as at its training when ``None``.
    stale_after_minutes
        Oldest observation that a forecast may start from.

    Returns
    -------
    pa.Table
        One row a station in order of id: ``station_id``, ``tbin_latest`` (the bin it starts from,
        null if never seen in the panel), ``target_ts_utc``, ``horizon_min``, ``bikes`` and
        ``capacity_bin`` there, ``age_min`` of the station's own report, ``bikes_pred``,
        ``bikes_pred_int``, ``bikes_mean``, ``p_bike``, ``p_dock`` and ``reason``: null, or why the
        forecast is null: ``never_seen``, ``stale``, ``closed``, ``no_capacity``, ``silent``.

    """
    slack = stale_after_minutes // BIN_MINUTES
    recent = panel.window(Bin(at - lookback_bins(pack.horizon_bins)), Bin(at + 1))
    base = _newest_rows(recent["bikes"])
    columns = np.arange(len(base))
    picked = (np.maximum(base, 0), columns)
    seen = base >= 0
    bikes, capacity, ok = (
        np.where(seen, recent[name][picked], np.nan) for name in ("bikes", "capacity", "ok")
    )
    age = np.where(seen, recent["age_min"][picked], np.nan)
    reason = np.select(
        [
            ~seen,
            base < recent.bins - 1 - slack,
            ok == 0,
            ~(capacity > 0),
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
        features = feature_rows(panel, origin, pack.horizon_bins, pack.statics, profiles)
        probability = class_probabilities(pack, features[:, 0, where].T)
        found = publish(
            pack, calibration, probability, bikes[where], capacity[where], docks[row, where]
        )
        for name, values in zip(out, found, strict=True):
            out[name][where] = values
    return _table(panel, pack, recent.start + base, seen, (bikes, capacity, age), out, reason)


def _newest_rows(bikes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of each station's newest observation, −1 without one."""
    seen = ~np.isnan(bikes)
    newest = len(bikes) - 1 - np.argmax(seen[::-1], axis=0)
    return np.where(seen.any(axis=0), newest, -1)


def _table(
    panel: Panel,
    pack: ModelPack,
    origins: NDArray[np.int64],
    seen: NDArray[np.bool_],
    known: tuple[NDArray[np.float32], ...],
    out: dict[str, NDArray[np.float32]],
    reason: NDArray[np.str_],
) -> pa.Table:
    bikes, capacity, age = known
    seconds = origins * BIN_SECONDS
    ahead = pack.horizon_bins * BIN_SECONDS

    def stamps(values: NDArray[np.int64]) -> pa.Array:
        return pa.array(values * 1_000_000_000, pa.timestamp("ns"), mask=~seen)

    def whole(values: NDArray[np.float32]) -> pa.Array:
        missing = np.isnan(values)
        return pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing)

    def real(values: NDArray[np.float32]) -> pa.Array:
        return pa.array(values.astype(np.float32), mask=np.isnan(values))

    minutes = int(horizon_minutes(pack.horizon_bins))
    return pa.table(
        {
            "station_id": pa.array(panel.stations.ids.tolist(), pa.string()),
            "tbin_latest": stamps(seconds),
            "target_ts_utc": stamps(seconds + ahead),
            "horizon_min": pa.array([minutes] * len(origins), pa.int64()),
            "bikes": whole(bikes),
            "capacity_bin": whole(capacity),
            "age_min": real(age),
            "bikes_pred": real(out["bikes_pred"]),
            "bikes_pred_int": whole(out["bikes_pred_int"]),
            "bikes_mean": real(out["bikes_mean"]),
            "p_bike": real(out["p_bike"]),
            "p_dock": real(out["p_dock"]),
            "reason": pa.array(reason.tolist(), pa.string(), mask=reason == ""),
        }
    )
