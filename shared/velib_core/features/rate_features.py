"""Features of arrivals and departures: how many usually come, and how many came of late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    bins = history.start + rows
    arrived, departed = profiles.flow_rates_of(history.stations.ids)
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
