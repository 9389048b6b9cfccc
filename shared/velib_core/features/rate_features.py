"""Arrival and departure rates: how many bikes usually come to and leave a station, by half hour.

A station's own counts of one half hour are few, so its rate is shrunk towards the network's
course of the day times the station's own level (a gamma prior on a Poisson rate). What is left is
a rate for every station and half hour, from the first day on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.features.profiles import spread
from velib_core.features.time_features import window_sum
from velib_core.timeline.local_time import local_times, slot_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from velib_core.features.profiles import Profiles
    from velib_core.features.time_features import Movements
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import HorizonBins
    from velib_core.timeline.local_time import LocalTimes

PRIOR_EVENTS = 4.0
"""Arrivals (or departures) that the prior of one half hour counts for."""

PRIOR_EVENTS_OF_ALL = 10.0
"""The same for a station's level over the whole day, and for the network's course of the day."""

OTHER_DAY_TYPES = 0.15
"""Weight of a half hour's counts on the other day types."""

RECENT_BINS = 12
"""An hour, over which the counts of late are compared with what is usual."""

RATE_FEATURES = (
    "expected_arrivals",
    "expected_departures",
    "expected_net",
    "expected_net_6h",
    "bikes_expected",
    "arrivals_vs_usual_1h",
    "departures_vs_usual_1h",
)


def rate_features(
    profiles: Profiles,
    history: Panel,
    rows: NDArray[np.int64],
    horizon: HorizonBins,
    movements: Movements,
    damping: NDArray[np.float32],
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each of `RATE_FEATURES` at the given rows of a history, ``float32[n, S]``.

    ``expected_*`` are bikes over the horizon (``expected_net`` arrivals less departures,
    ``expected_net_6h`` the same over six hours): what is usual, times the activity damping
    ``float32[n, S]``. A model cannot scale them down by itself in a week with less activity than
    any it learnt from. ``bikes_expected`` are the bikes now plus ``expected_net``,
    ``*_vs_usual_1h`` what was counted over the last hour less what is usual. NaN for a network that
    has no past.
    """
    flow = spread(profiles.flow, profiles.stations, history.stations.ids)
    bins = history.start + rows
    arrived, departed = (smoothed_rates(flow[0], counts) for counts in flow[1:])
    usual = [_summed(rate, bins, profiles.tz, int(horizon)) for rate in (arrived, departed)]
    yield "expected_arrivals", usual[0] * damping
    yield "expected_departures", usual[1] * damping
    net = (usual[0] - usual[1]) * damping
    yield "expected_net", net
    yield "expected_net_6h", _summed(arrived - departed, bins, profiles.tz, 72, step=6) * damping
    yield "bikes_expected", history["bikes"][rows] + net
    for name, rate, sums in (
        ("arrivals", arrived, movements.arrived),
        ("departures", departed, movements.left),
    ):
        before = _summed(rate, bins - RECENT_BINS, profiles.tz, RECENT_BINS)
        counted = window_sum(sums, rows + 1, RECENT_BINS).astype(np.float32)
        yield f"{name}_vs_usual_1h", counted - before


def smoothed_rates(exposure: NDArray[np.int32], counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return bikes per bin, ``float32[DAY_TYPES, SLOTS, S]``, out of sums of the same shape.

    The network's rate of each day type and half hour is its shape; a station's level is its
    counts over those that the shape lets expect; and its rate of a half hour is the counts of
    that half hour over the expected ones, those of the other day types at `OTHER_DAY_TYPES`. All
    ratios are shrunk towards 1. NaN where the network has no exposure at all.
    """
    seen, moved = exposure.astype(np.float64), counts.astype(np.float64)
    total = seen.sum()
    if not total:
        return np.full(exposure.shape, np.nan, np.float32)
    mean = moved.sum() / total
    of_network = _pooled(moved.sum(-1)), mean * _pooled(seen.sum(-1))
    shape = mean * _ratio(*of_network, PRIOR_EVENTS_OF_ALL)[..., None]
    expected = seen * shape
    level = _ratio(moved.sum((0, 1)), expected.sum((0, 1)), PRIOR_EVENTS_OF_ALL)
    own = _ratio(_pooled(moved), level * _pooled(expected), PRIOR_EVENTS)
    return np.asarray(shape * level * own, np.float32)


def _ratio(
    counted: NDArray[np.float64], expected: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    """Return the posterior mean of a Poisson rate over the expected one, gamma prior of mean 1."""
    return (counted + prior) / (expected + prior)


def _pooled(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return sums by day type with those of the other day types added at their weight."""
    others = sums.sum(0) - sums
    pooled: NDArray[np.float64] = sums + OTHER_DAY_TYPES * others
    return pooled


def _summed(
    rate: NDArray[np.float32], bins: NDArray[np.int64], tz: str, width: int, step: int = 1
) -> NDArray[np.float32]:
    """Return a rate summed over the ``width`` bins after each bin, ``float32[n, S]``.

    Of ``step`` bins only one is read. The order of the sum is that of time, so that a row has the
    same bits whatever rows it is computed with.
    """
    out = np.zeros((len(bins), rate.shape[-1]), np.float32)
    for ahead in range((step + 1) // 2, width + 1, step):
        out += _at(rate, local_times(bins + ahead, tz))
    return out * np.float32(step)


def _at(rate: NDArray[np.float32], local: LocalTimes) -> NDArray[np.float32]:
    """Read a rate at instants, between slot centres, ``float32[n, S]``."""
    first, second, weight = slot_weights(local)
    w = weight.astype(np.float32)[:, None]
    before, after = (rate[local.day_type, slot] for slot in (first, second))
    return before * (1 - w) + after * w
