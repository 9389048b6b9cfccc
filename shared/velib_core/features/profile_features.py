"""Profiles: what a station usually does over the horizon at this time of its day.

For each station, half hour of the local day and day type, sums over past days of the change over
each horizon and of the level. They are sums of integers: adding days in any grouping gives the
same bits, and a day more is a small update. A row of day D reads the profile of the days before
D, in training and in serving alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.features.profiles import Profiles, spread, usual_network
from velib_core.tables.panel import FROZEN_BINS, is_frozen
from velib_core.timeline.local_time import (
    LocalTimes,
    local_times,
    slot_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import HorizonBins


PRIOR = 6.0
"""Observations of "no change" that a mean is shrunk by: one day's worth of one half hour."""

ACTIVITY_FEATURES = ("network_pace_1h", "network_pace_yesterday")
"""Movement over usual movement, network-wide; their product below 1 is the activity damping."""

ACTIVITY_PRIOR = 6.0
"""Usual activity counts as far as it rests on more observations of this half hour than these:
one day's. The second Saturday of a network says little about the third."""

ACTIVITY_BINS = (12, 36)
"""The hour and the three hours over which the network's relative activity is taken."""

PROFILE_FEATURES = (
    "profile_change",
    "profile_spread",
    "profile_moved",
    "profile_still",
    "profile_weight",
    "profile_change_any_day",
    "profile_gap_now",
    "profile_gap_target",
    "network_usual",
    "network_pace_1h",
    "network_pace_3h",
    "network_pace_yesterday",
    "profile_change_paced",
    "profile_moved_paced",
)


def activity_lookback(horizon: HorizonBins) -> int:
    """Return how many bins before a row its relative activity features look back."""
    return max(ACTIVITY_BINS) + max(FROZEN_BINS, horizon)


def profile_features(
    profiles: Profiles, history: Panel, rows: NDArray[np.int64], horizon: HorizonBins
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each of `PROFILE_FEATURES` at the given rows of a history, ``float32[n, S]``.

    ``history`` must reach back `activity_lookback` bins before the first row. A station without a
    past has NaN everywhere but ``profile_weight``, which is 0.
    """
    h = profiles.horizons.index(horizon)
    bins = history.start + rows
    local = local_times(bins, profiles.tz)
    change = spread(profiles.change[h], profiles.stations, history.stations.ids)
    level = spread(profiles.level, profiles.stations, history.stations.ids)
    n, total, moved, square, unchanged = (_at(sums, local) for sums in change)
    weight = n + PRIOR
    missing = np.where(n > 0, 1.0, np.nan).astype(np.float32)
    mean = total / weight * missing
    usual_move = moved / weight * missing
    yield "profile_change", mean
    yield "profile_spread", np.sqrt(np.maximum(square / weight - mean * mean, 0))
    yield "profile_moved", usual_move
    yield "profile_still", (unchanged + PRIOR) / weight * missing
    yield "profile_weight", n
    n_any, total_any = (_at(sums[None], local, by_day_type=False) for sums in change[:2].sum(1))
    yield "profile_change_any_day", total_any / (n_any + PRIOR) * np.where(n_any > 0, 1, np.nan)
    bikes = history["bikes"][rows]
    yield "profile_gap_now", _mean_level(level, local) - bikes
    target = local_times(bins + horizon, profiles.tz)
    yield "profile_gap_target", _mean_level(level, target) - bikes
    relative_activity = _recent_activity(profiles, h, history, rows, horizon)
    shape = bikes.shape
    usual = usual_network(profiles.change[h], local)
    for name, series in (
        ("network_usual", usual),
        ("network_pace_1h", relative_activity[0]),
        ("network_pace_3h", relative_activity[1]),
        ("network_pace_yesterday", np.full(len(rows), profiles.relative_activity[h])),
    ):
        yield name, np.broadcast_to(series.astype(np.float32)[:, None], shape)
    factor = relative_activity[1].astype(np.float32)[:, None]
    yield "profile_change_paced", mean * factor
    yield "profile_moved_paced", usual_move * factor


def activity_damping(
    last_hour: NDArray[np.float32], yesterday: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the activity damping: activity over usual activity, at most 1, shrunk towards 1.

    The `ACTIVITY_FEATURES` and ``profile_weight``, ``float32`` of one shape, make an array of the
    same; an unknown activity is the usual one.
    """
    known = weight / (weight + np.float32(ACTIVITY_PRIOR))
    one, other = (1 + (np.nan_to_num(a, nan=1.0) - 1) * known for a in (last_hour, yesterday))
    return np.asarray(np.minimum(one * other, 1), np.float32)


def _at(
    sums: NDArray[np.int32], local: LocalTimes, *, by_day_type: bool = True
) -> NDArray[np.float32]:
    """Read ``[DAY_TYPES, SLOTS, S]`` at instants, between slot centres, as ``float32[n, S]``."""
    first, second, weight = slot_weights(local)
    kind = local.day_type if by_day_type else np.zeros_like(first)
    w = weight.astype(np.float32)[:, None]
    before, after = (sums[kind, slot].astype(np.float32) for slot in (first, second))
    return before * (1 - w) + after * w


def _mean_level(level: NDArray[np.int32], local: LocalTimes) -> NDArray[np.float32]:
    seen, bikes = _at(level[0], local), _at(level[1], local)
    with np.errstate(invalid="ignore", divide="ignore"):
        return bikes / seen


def _recent_activity(
    profiles: Profiles, h: int, history: Panel, rows: NDArray[np.int64], horizon: HorizonBins
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much moved over the last hour and three hours against what usually does.

    Both are ratios ``float64[n]``, shrunk towards 1 where little is expected.
    """
    bikes = history["bikes"]
    delta = np.abs(bikes[horizon:] - bikes[:-horizon])
    delta[is_frozen(bikes)[horizon:]] = np.nan
    known = ~np.isnan(delta)
    count = known.sum(1).astype(np.float64)
    moved = np.where(known, delta, 0).sum(1, dtype=np.float64)
    origins = np.arange(history.start, history.start + len(delta))
    usual = np.nan_to_num(usual_network(profiles.change[h], local_times(origins, profiles.tz)))
    out = []
    for width in ACTIVITY_BINS:
        windows = rows[:, None] - horizon - np.arange(width)[None, :]
        actual = moved[windows].sum(1)
        expected = (usual[windows] * count[windows]).sum(1)
        prior = 10.0 * width
        out.append(np.where(expected > 0, (actual + prior) / (expected + prior), np.nan))
    return out[0], out[1]
