"""From the model's classes to the published numbers, by the definitions of docs/FEATURES.md."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING, Any

from oracles.observations import known, minus

if TYPE_CHECKING:
    from oracles.observations import Observations, Value

MAX_CHANGE = 60
MAGNITUDES = (1, 2, 3, 4, 6, 9, 14)
LEAST_SHARE = 0.002
UNSEEN = 0.001

Classes = list[dict[int, float]]
"""For each class the share of each whole change in it."""


def clipped(change: float) -> int:
    return max(-MAX_CHANGE, min(MAX_CHANGE, round(change)))


def classes_of(changes: list[float]) -> Classes:
    """The classes of training changes (NaN are left out), from the largest fall to the rise."""
    seen = [clipped(change) for change in changes if not math.isnan(change)]

    def starts(side: int) -> list[int]:
        def share(magnitude: int) -> float:
            return sum(change * side >= magnitude for change in seen) / len(seen)

        return [1, *(m for m in MAGNITUDES[1:] if share(m) >= LEAST_SHARE)]

    falls, rises = starts(-1), starts(1)
    count = {
        change: max(seen.count(change), UNSEEN) for change in range(-MAX_CHANGE, MAX_CHANGE + 1)
    }

    def members(side: int, edges: list[int]) -> list[list[int]]:
        ends = [*edges[1:], MAX_CHANGE + 1]
        return [[side * m for m in range(low, end)] for low, end in zip(edges, ends, strict=True)]

    groups = [*reversed(members(-1, falls)), [0], *members(1, rises)]
    return [{d: count[d] / sum(count[e] for e in group) for d in group} for group in groups]


def class_of(classes: Classes, change: float) -> int:
    return next(n for n, shares in enumerate(classes) if clipped(change) in shares)


def distribution(
    classes: Classes, probability: list[float], blend_weight: float = 1.0
) -> dict[int, float]:
    """The probability of each whole change, blended with persistence."""
    found = {
        d: blend_weight * p * share
        for p, shares in zip(probability, classes, strict=True)
        for d, share in shares.items()
    }
    found[0] += 1 - blend_weight
    return found


def median_change(classes: Classes, probability: list[float], blend_weight: float) -> float:
    """Where half the distribution lies, each whole change spread evenly over ± half a bike.

    A thousandth of that is kept from either end, so that it rounds to the whole median.
    """
    found = distribution(classes, probability, blend_weight)
    changes = sorted(found)
    half = sum(found.values()) / 2
    upto = 0.0
    for d in changes:
        # A tie between moving and resting goes to resting.
        if upto + found[d] >= half + (1e-9 if d < 0 else -1e-9):
            part = (half - upto) / found[d] if found[d] else 0
            return d - 0.5 + min(max(part, 0.001), 0.999)
        upto += found[d]
    raise AssertionError("the distribution has no half")


def mean_change(classes: Classes, probability: list[float]) -> float:
    return sum(d * p for d, p in distribution(classes, probability).items())


def chance(classes: Classes, probability: list[float], holds: Any) -> float:
    return min(sum(p for d, p in distribution(classes, probability).items() if holds(d)), 1)


def damped(
    probability: list[float], unchanged: int, activities: list[float | None], weight: float
) -> list[float]:
    """Probabilities of movement damped where the network is less active than usual."""
    known = weight / (weight + 6)
    factor = 1.0
    for activity in activities:
        factor *= 1 + ((1.0 if activity is None else activity) - 1) * known
    factor = min(factor, 1)
    scaled = [p if n == unchanged else p * factor for n, p in enumerate(probability)]
    return [p / sum(scaled) for p in scaled]


def ceiling(bikes: float, capacity: float) -> float:
    return max(capacity, bikes) if capacity > 0 else capacity


def half_even(value: float) -> int:
    return round(value)


WEIGHTS = [1 - 0.05 * n for n in range(11)]


EDGES = [0.003, 0.01, 0.03, *(n / 10 for n in range(1, 10)), 0.97, 0.99, 0.997]
"""Of the bins of stated probability."""


class Reliability:
    """What was stated of an event, and how often it came true, by bin of stated probability."""

    def __init__(self) -> None:
        self.bins = [[0.0, 0.0, 0.0] for _ in range(len(EDGES) + 1)]

    def add_day(self, pairs: Any) -> None:
        keep = math.exp(-1 / 7)
        self.bins = [[keep * part for part in sums] for sums in self.bins]
        for stated, came_true in pairs:
            sums = self.bins[bisect.bisect_right(EDGES, stated)]
            for part, amount in enumerate((1, stated, came_true)):
                sums[part] += amount

    def corrected(self, stated: float) -> float:
        if stated in (0, 1):
            return stated
        edges = [0, *EDGES, 1]
        points = [(0.0, 0.0)]
        for n, (rows, total, true) in enumerate(self.bins):
            middle = total / rows if rows else (edges[n] + edges[n + 1]) / 2
            points.append((middle, (true - total) / (rows + 50)))
        points.append((1.0, 0.0))
        for (x, y), (x2, y2) in itertools.pairwise(points):
            if x <= stated <= x2:
                part = (stated - x) / (x2 - x) if x2 > x else 0
                return min(max(stated + y + part * (y2 - y), 0), 1)
        raise AssertionError(f"{stated} is no probability")


class Blend:
    """Decayed sums over days of hindcasts, and the blend weights that follow from them."""

    def __init__(self) -> None:
        self.gain = [0.0] * len(WEIGHTS)
        self.persistence = self.cross = self.square = self.n = 0.0
        self.days = 0
        self.bike, self.dock = Reliability(), Reliability()

    def add_day(self, classes: Classes, rows: Any) -> None:
        """Add a day; a row is (class probabilities, bikes, capacity, docks, true bikes, docks)."""
        rows = list(rows)
        self.days += 1
        self.bike.add_day(
            (chance(classes, p, lambda d: bikes + d >= 1), true >= 1)  # noqa: B023
            for p, bikes, _, _, true, _ in rows
        )
        self.dock.add_day(
            (chance(classes, p, lambda d: docks - d >= 1), true >= 1)  # noqa: B023
            for p, _, _, docks, _, true in rows
            if not math.isnan(docks)
        )
        keep = math.exp(-1 / 5)
        self.persistence *= keep
        self.gain = [keep * gain for gain in self.gain]
        self.cross, self.square, self.n = keep * self.cross, keep * self.square, keep * self.n
        for probability, bikes, capacity, _, true, _ in rows:
            for n, weight in enumerate(WEIGHTS):
                median = bikes + median_change(classes, probability, weight)
                rounded = half_even(min(max(median, 0), ceiling(bikes, capacity)))
                self.gain[n] += abs(true - bikes) - abs(true - rounded)
                self.gain[n] -= 0.05 if rounded != bikes else 0
            self.persistence += abs(true - bikes)
            mean = mean_change(classes, probability)
            self.cross += mean * (true - bikes)
            self.square += mean**2
            self.n += 1

    def median_weight(self, horizon: int) -> float:
        def gain(n: int) -> float:
            if WEIGHTS[n] <= 0.9:
                return self.gain[n]
            doubt = (0.3 if horizon <= 6 else 4) * 0.1**self.days * (WEIGHTS[n] - 0.9) ** 2
            return self.gain[n] - doubt * self.persistence

        best = max(gain(n) for n in range(len(WEIGHTS)))
        return min(w for n, w in enumerate(WEIGHTS) if gain(n) == best)

    def mean_weight(self) -> float:
        if not self.square:
            return 0.0
        found = (self.cross + 0.05 * self.square) / (1.05 * self.square)
        return min(max(found, 0), 1)


def published(
    classes: Classes,
    probability: Any,
    blend: Blend,
    horizon: int,
    bikes: Any,
    capacity: Any,
    docks: Any,
) -> tuple[float, int, float, float, float]:
    """Median, whole, mean, probability of a bike and of a dock."""
    most = ceiling(bikes, capacity)
    median = bikes + median_change(classes, probability, blend.median_weight(horizon))
    median = min(max(median, 0), most)
    weight = blend.mean_weight()
    mean = min(max(bikes + weight * mean_change(classes, probability), 0), most)
    p_bike = blend.bike.corrected(chance(classes, probability, lambda d: bikes + d >= 1))
    if math.isnan(docks):
        return median, half_even(median), mean, p_bike, math.nan
    p_dock = blend.dock.corrected(chance(classes, probability, lambda d: docks - d >= 1))
    return median, half_even(median), mean, p_bike, p_dock


def capacity(seen: Observations, s: int, t: int) -> Value:
    reported = seen.get("capacity", s, t)
    return seen.docks[s] if reported is None else reported


def free_docks(seen: Observations, s: int, t: int) -> Value:
    stated = seen.get("docks_available", s, t)
    free = minus(capacity(seen, s, t), seen.bikes(s, t))
    return stated if stated is not None or free is None else max(free, 0)


def station_ceiling(seen: Observations, s: int, t: int) -> Value:
    """The most bikes that a station is taken to hold."""
    if (docks := capacity(seen, s, t)) is not None:
        return docks
    stated = seen.get("docks_available", s, t)
    if stated is not None:
        bikes = seen.bikes(s, t)
        return None if bikes is None else bikes + stated
    return max(known(seen.bikes(s, u) for u in range(seen.start, t + 1)), default=None)


def is_in_service(seen: Observations, s: int, t: int) -> bool:
    there = seen.bikes(s, t) is not None
    return there and seen.get("capacity", s, t) != 0 and seen.get("ok", s, t) != 0


REASONS = ("never_seen", "stale", "closed", "no_capacity", "silent")


def reason(seen: Observations, s: int, t: int, look_back: int) -> str | None:
    """Why a station gets no forecast from the newest bin, and from which bin it starts."""
    origin = origin_of(seen, s, t, look_back)
    if origin is None:
        return "never_seen"
    age = seen.get("age_min", s, origin)
    holds = {
        "stale": 5 * (t - origin) > 15,
        "closed": seen.get("ok", s, origin) == 0,
        "no_capacity": capacity(seen, s, origin) == 0,
        "silent": age is not None and age > 24 * 60,
    }
    return next((name for name in REASONS if holds.get(name)), None)


def origin_of(seen: Observations, s: int, t: int, look_back: int) -> int | None:
    return next((u for u in range(t, t - look_back - 1, -1) if seen.bikes(s, u) is not None), None)
