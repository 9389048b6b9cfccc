"""Features of a station's own recent past.

Every lag and window is measured in bins of time: a missing bin is missing and moves nothing
else. Bikes are integers, so sums over windows are exact and a feature has the same bits wherever
the history that it is computed from begins.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel

LAGS = (1, 2, 3, 6, 12, 24, 36, 48)
WINDOWS = (3, 6, 12, 24, 36, 48)
WEATHER = ("temp_C", "precip_mm", "wind_mps")

LONGEST_GAP = 6
"""Bins over which two observations still show a movement: half an hour."""

LOOKBACK = 48 + LONGEST_GAP
"""Bins of history that any feature of a station's past reaches back."""

TIME_FEATURES = (
    "capacity",
    "mechanical",
    "ebike",
    *WEATHER,
    "occ_ratio",
    *(f"lag_bikes_{lag}" for lag in LAGS),
    *(f"roll_mean_{width}" for width in WINDOWS),
    *(f"roll_std_{width}" for width in WINDOWS),
    *(f"{name}_lag1" for name in WEATHER),
)
"""The contract's features of a station's own past, weather included."""

CHANGE_LAGS = (1, 3, 6, 12, 24, 48)
FLOW_WINDOWS = (3, 12, 48)

MOVEMENT_FEATURES = (
    "bikes",
    "free_docks",
    "docks_unavailable",
    "age_min",
    "bins_since_seen",
    "bins_since_change",
    "change_seen",
    *(f"change_{lag}" for lag in CHANGE_LAGS),
    *(f"arrived_{width}" for width in FLOW_WINDOWS),
    *(f"left_{width}" for width in FLOW_WINDOWS),
)
"""Features of a station's own past beyond the contract."""


def time_features(
    history: Panel, rows: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each of `TIME_FEATURES` at the given rows of a history, ``float32[n, S]``.

    ``history`` must reach back `LOOKBACK` bins before the first row. A window counts the bins
    before the row, not the row's own; its mean needs half of them observed, its standard
    deviation (ddof 1) two as well.
    """
    bikes = history["bikes"]
    shape = (len(rows), bikes.shape[1])
    for name in ("capacity", "mechanical", "ebike"):
        yield name, history[name][rows] if name in history.values else np.full(shape, np.nan, "f4")
    for name in WEATHER:
        yield name, np.broadcast_to(history.weather[name][rows, None], shape)
    capacity = history["capacity"][rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        yield "occ_ratio", np.where(capacity > 0, bikes[rows] / capacity, np.float32(np.nan))
    for lag in LAGS:
        yield f"lag_bikes_{lag}", bikes[rows - lag]
    known = ~np.isnan(bikes)
    value = np.where(known, bikes, 0).astype(np.int32)
    sums = [running(x) for x in (known, value, value * value)]
    stds = []
    for width in WINDOWS:
        n, s, q = (window_sum(x, rows, width) for x in sums)
        enough = n >= max(1, width // 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = s / n
            yield f"roll_mean_{width}", np.where(enough, mean, np.nan)
            variance = np.maximum(q - s * mean, 0) / (n - 1)
            stds.append(np.where(enough & (n > 1), np.sqrt(variance), np.nan))
    yield from zip((f"roll_std_{width}" for width in WINDOWS), stds, strict=True)
    for name in WEATHER:
        yield f"{name}_lag1", np.broadcast_to(history.weather[name][rows - 1, None], shape)


@dataclasses.dataclass(frozen=True)
class Movements:
    """What bikes did from observation to observation, ``[T, S]``.

    ``last`` is the newest row at or before each in which a value was observed, −1 if none;
    ``step`` the change from the observation before to each, NaN without one near enough;
    ``arrived`` and ``left`` are running sums (`running`) of its rises and falls.
    """

    last: NDArray[np.int32]
    step: NDArray[np.float32]
    arrived: NDArray[np.int32]
    left: NDArray[np.int32]

    @classmethod
    def of(cls, bikes: NDArray[np.float32]) -> Movements:
        """Follow each station through ``float32[T, S]``."""
        last = last_seen(bikes)
        step = steps(bikes, last)
        rounded = np.nan_to_num(step).astype(np.int32)
        arrived, left = (running(np.maximum(flow, 0)) for flow in (rounded, -rounded))
        return cls(last, step, arrived, left)


def movement_features(
    history: Panel, rows: NDArray[np.int64], movements: Movements
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each of `MOVEMENT_FEATURES` at the given rows of a history, ``float32[n, S]``.

    Changes are against the newest observation that is at least the lag old and at most three bins
    (for the first bin's lag: half an hour) older, so that a feed that skips bins still shows
    them. ``arrived`` and ``left`` sum the rises and falls between successive observations no
    more than `LONGEST_GAP` bins apart. ``bins_since_change`` is 49 where nothing changed in 48.
    """
    bikes, capacity = history["bikes"], history["capacity"]
    now = bikes[rows]
    docks = history.values.get("docks_available")
    free = capacity[rows] - now
    stated = free if docks is None else np.where(np.isnan(docks[rows]), free, docks[rows])
    yield "bikes", now
    yield "free_docks", stated
    yield "docks_unavailable", free - stated
    yield "age_min", np.clip(history["age_min"][rows], -60, 24 * 60)
    last = movements.last
    position = np.arange(len(bikes), dtype=np.int32)[:, None]
    before = np.full_like(last, -1)
    before[1:] = last[:-1]
    gap = position - before
    is_near = (before >= 0) & (gap <= LONGEST_GAP)
    yield "bins_since_seen", np.where(is_near, gap, LONGEST_GAP + 1)[rows]
    step = movements.step
    moved = (step != 0) & ~np.isnan(step)
    changed = np.where(moved, position, np.int32(-1))
    np.maximum.accumulate(changed, axis=0, out=changed)
    quiet = np.where(changed >= 0, position - changed, 49)
    yield "bins_since_change", np.minimum(quiet, 49)[rows]
    yield "change_seen", step[rows]
    for lag in CHANGE_LAGS:
        slack = LONGEST_GAP - 1 if lag == 1 else 3
        yield f"change_{lag}", now - recent(bikes, last, rows - lag, slack)
    for name, sums in (("arrived", movements.arrived), ("left", movements.left)):
        for width in FLOW_WINDOWS:
            yield f"{name}_{width}", window_sum(sums, rows + 1, width).astype(np.float32)


def last_seen(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return the newest row at or before each in which a value was observed, −1 if none."""
    index = np.where(np.isnan(values), -1, np.arange(len(values))[:, None]).astype(np.int32)
    return np.maximum.accumulate(index, axis=0, out=index)


def steps(bikes: NDArray[np.float32], last: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the change from the observation before to each, NaN without one near enough."""
    step = np.full_like(bikes, np.nan)
    rows = np.arange(1, len(bikes))
    step[1:] = bikes[1:] - recent(bikes, last, rows - 1, LONGEST_GAP - 1)
    return step


def recent(
    values: NDArray[np.float32], last: NDArray[np.int32], rows: NDArray[np.int64], slack: int
) -> NDArray[np.float32]:
    """Return the newest observation at each row or at most ``slack`` bins before, else NaN."""
    out = values[rows]
    row, column = np.nonzero(np.isnan(out))
    source = last[rows[row], column]
    fresh = (source >= 0) & (rows[row] - source <= slack)
    out[row[fresh], column[fresh]] = values[source[fresh], column[fresh]]
    return out


def running(values: NDArray[np.generic]) -> NDArray[np.int32]:
    """Return the sums of the rows before each, ``int32[T + 1, S]``.

    They may wrap around: a window's own sum is still exact, as it is far below 2³¹ (48 squares of
    at most 5,000 bikes).
    """
    out = np.zeros((len(values) + 1, *values.shape[1:]), np.int32)
    np.cumsum(values, axis=0, out=out[1:])
    return out


def window_sum(sums: NDArray[np.int32], rows: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Return the sums over the ``width`` rows before each, ``float64[n, S]``, out of `running`."""
    return (sums[rows] - sums[rows - width]).astype(np.float64)
