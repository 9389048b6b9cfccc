"""The feature stack: one function that makes the rows of training, datasets and serving.

The first 53 names and their order are the contract's; the others follow.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING, Any

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
    from collections.abc import Iterable, Iterator

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


Column = tuple[str, "NDArray[np.float32]"]
"""The name of a feature, and its values: ``float32[n, S]`` or ``[n, 1]``."""

SharedColumns = dict[tuple[Any, ...], tuple[Movements, list[Column]]]
"""Features of one panel that do not depend on the horizon, by what they are computed from."""


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
    shared: SharedColumns | None = None,
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
    shared
        What was computed for another horizon of the same panel, and is added to here.

    Returns
    -------
    NDArray[np.float32]
        ``float32[F, n, S]`` in the order of ``names``; NaN where unknown.

    """
    at = np.asarray(at, np.int64)
    history = panel.window(Bin(int(at.min()) - lookback_bins(horizon)), Bin(int(at.max()) + 1))
    rows = at - history.start
    movements, columns = _of_any_horizon(history, rows, static_features, profiles.tz, shared)
    usual = dict(profile_features(profiles, history, rows, horizon))
    damping = activity_damping(*(usual[name] for name in (*ACTIVITY_FEATURES, "profile_weight")))
    of_this_horizon = rate_features(profiles, history, rows, horizon, movements, damping)
    place = {name: i for i, name in enumerate(names)}
    out = np.empty((len(names), len(at), len(panel.stations)), np.float32)
    for name, column in itertools.chain(columns, usual.items(), of_this_horizon):
        if name in place:
            out[place[name]] = column
    return out


def _of_any_horizon(
    history: Panel,
    rows: NDArray[np.int64],
    static_features: StaticFeatures,
    tz: str,
    shared: SharedColumns | None,
) -> tuple[Movements, Iterable[Column]]:
    """Return the movements and the features that do not depend on the horizon, once if shared."""
    if shared is None:
        movements = Movements.of(history["bikes"])
        return movements, _columns(history, rows, movements, static_features, tz)
    learnt = (static_features.ids, static_features.columns, static_features.neighbours)
    arrays = (rows, history.stations.ids, *learnt)
    key = (history.start, *(array.tobytes() for array in arrays))
    if key not in shared:
        movements = Movements.of(history["bikes"])
        shared[key] = movements, list(_columns(history, rows, movements, static_features, tz))
    return shared[key]


def _columns(
    history: Panel,
    rows: NDArray[np.int64],
    movements: Movements,
    static_features: StaticFeatures,
    tz: str,
) -> Iterator[Column]:
    ok = history["ok"][rows]
    calendar = calendar_features(history.start + rows, tz)
    yield from time_features(history, rows)
    yield from movement_features(history, rows, movements)
    yield from station_features(static_features, history, rows)
    yield from neighbour_features(static_features, history, rows, movements)
    yield from ((name, series[:, None]) for name, series in calendar.items())
    yield "status_code", np.where(np.isnan(ok), np.float32(-1), 1 - ok)
