"""The feature stack: one function that makes the rows of training, datasets and serving.

The first 53 names and their order are the contract's; the others follow.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

import numpy as np

from velib_core.features.cal_features import (
    CALENDAR_FEATURES,
    LOCAL_CALENDAR_FEATURES,
    calendar_features,
)
from velib_core.features.profile_features import (
    ACTIVITY_FEATURES,
    PROFILE_FEATURES,
    activity_damping,
    activity_lookback,
    profile_features,
)
from velib_core.features.rate_features import RATE_FEATURES, rate_features
from velib_core.features.spatial_features import (
    KNN_FEATURES,
    NEIGHBOUR_FEATURES,
    STATIC_FEATURES,
    StaticFeatures,
    neighbour_features,
    station_features,
)
from velib_core.features.time_features import (
    LOOKBACK,
    MOVEMENT_FEATURES,
    TIME_FEATURES,
    Movements,
    movement_features,
    time_features,
)
from velib_core.timeline.bins import Bin, HorizonBins

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.features.profiles import Profiles
    from velib_core.tables.panel import Panel

CONTRACT_FEATURES = (
    *TIME_FEATURES[:3],
    *STATIC_FEATURES[:2],
    *TIME_FEATURES[3:],
    *CALENDAR_FEATURES,
    "status_code",
    *STATIC_FEATURES[2:],
    *KNN_FEATURES,
)
"""The 53 features of the contract, in its order."""

FEATURES = (
    *CONTRACT_FEATURES,
    *MOVEMENT_FEATURES,
    *LOCAL_CALENDAR_FEATURES,
    *NEIGHBOUR_FEATURES,
    *PROFILE_FEATURES,
    *RATE_FEATURES,
)


def features_hash8(names: tuple[str, ...] = FEATURES) -> str:
    """Return the first 8 hex digits of SHA-256 over the concatenated names in order."""
    return hashlib.sha256("".join(names).encode()).hexdigest()[:8]


def lookback_bins(horizon: HorizonBins) -> int:
    """Return how many bins before a row its features reach back."""
    return max(LOOKBACK, activity_lookback(horizon))


def feature_rows(
    panel: Panel,
    at: NDArray[np.int64],
    horizon: HorizonBins,
    static_features: StaticFeatures,
    profiles: Profiles,
    names: tuple[str, ...] = FEATURES,
) -> NDArray[np.float32]:
    """Compute the features of every station at some bins.

    Parameters
    ----------
    panel
        The history. What lies after the newest of ``at``, or more than `lookback_bins` before
        the oldest, is not looked at; bins before the panel's start are unobserved.
    at
        Bins, ``int64[n]``, all of one UTC day: the profiles must end before it.
    horizon
        The horizon whose profile is read.
    static_features, profiles
        What travels with the model, and the network's past through the day before.
    names
        The features wanted, in order.

    Returns
    -------
    NDArray[np.float32]
        ``float32[F, n, S]`` in the order of ``names``; NaN where unknown.

    """
    at = np.asarray(at, np.int64)
    history = panel.window(Bin(int(at.min()) - lookback_bins(horizon)), Bin(int(at.max()) + 1))
    rows = at - history.start
    movements = Movements.of(history["bikes"])
    ok = history["ok"][rows]
    usual = dict(profile_features(profiles, history, rows, horizon))
    damping = activity_damping(*(usual[name] for name in (*ACTIVITY_FEATURES, "profile_weight")))
    columns = itertools.chain(
        time_features(history, rows),
        movement_features(history, rows, movements),
        station_features(static_features, history, rows),
        neighbour_features(static_features, history, rows, movements),
        usual.items(),
        rate_features(profiles, history, rows, horizon, movements, damping),
        ((name, series[:, None]) for name, series in calendar_features(at, profiles.tz).items()),
        [("status_code", np.where(np.isnan(ok), np.float32(-1), 1 - ok))],
    )
    place = {name: i for i, name in enumerate(names)}
    out = np.empty((len(names), len(at), len(panel.stations)), np.float32)
    for name, column in columns:
        if name in place:
            out[place[name]] = column
    return out
