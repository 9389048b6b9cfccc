"""Profiles: sums over past days by station, day type and half hour, and how they are read."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
from typing import TYPE_CHECKING, Any

from oracles import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oracles.observations import Observations, Value

PRIOR = 6
FROZEN_STATIONS, FROZEN_BINS = 200, 12
SUMS = ("n", "change", "moved", "square", "zeros")
ZERO = (0,) * 5
EPOCH = dt.date(1970, 1, 1)


def bins_of(day: dt.date) -> range:
    first = (day - EPOCH).days * 288
    return range(first, first + 288)


@functools.cache
def is_frozen(seen: Observations, u: int) -> bool:
    pairs = zip(seen.row(u), seen.row(u - FROZEN_BINS), strict=True)
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    return len(both) >= FROZEN_STATIONS and all(a == b for a, b in both)


Sums = collections.defaultdict[Any, list[float]]


@dataclasses.dataclass(eq=False)
class Profile:
    """Sums in the order of `SUMS`, by (station, day type, half hour) and by the latter two.

    ``level`` holds a count and a sum of bikes, ``flow`` exposure, arrivals and departures;
    ``activity`` is that of the last day added.
    """

    tz: str
    horizon: int
    change: Sums = dataclasses.field(default_factory=lambda: _zeros(5))
    network: Sums = dataclasses.field(default_factory=lambda: _zeros(5))
    level: Sums = dataclasses.field(default_factory=lambda: _zeros(2))
    flow: Sums = dataclasses.field(default_factory=lambda: _zeros(3))
    activity: Value = None


def _zeros(count: int) -> Sums:
    return collections.defaultdict(lambda: [0] * count)


def profile_of(seen: Observations, days: Sequence[dt.date], horizon: int, tz: str) -> Profile:
    """Add up days in order."""
    profile = Profile(tz, horizon)
    for day in days:
        _add_day(profile, seen, day)
    return profile


def _add_day(profile: Profile, seen: Observations, day: dt.date) -> None:
    tz, h = profile.tz, profile.horizon
    moved = expected = 0.0
    found = []
    for u in bins_of(day):
        at = (clock.day_type(u, tz), clock.half_hour(u, tz))
        origin = (clock.day_type(u - h, tz), clock.half_hour(u - h, tz))
        usual = _usual(profile, u - h)
        frozen = is_frozen(seen, u)
        for s, (station, now, before) in enumerate(
            zip(seen.ids, seen.row(u), seen.row(u - h), strict=True)
        ):
            for part, amount in enumerate(_flows(seen, s, u) if not frozen else ()):
                profile.flow[station, *at][part] += amount
            if now is None:
                continue
            level = profile.level[station, *at]
            level[0] += 1
            level[1] += now
            if before is None or frozen:
                continue
            found.append((station, origin, now - before))
            if usual is not None:
                moved += abs(now - before)
                expected += usual
    profile.activity = moved / expected if expected > 0 else None
    for station, origin, d in found:
        for sums in (profile.change[station, *origin], profile.network[origin]):
            sums[0] += 1
            sums[1] += d
            sums[2] += abs(d)
            sums[3] += d * d
            sums[4] += d == 0


def _flows(seen: Observations, s: int, u: int) -> tuple[float, ...]:
    """Exposure, arrivals and departures since the observation before, unless a van came."""
    now = seen.bikes(s, u)
    for gap in range(1, 7):
        before = seen.bikes(s, u - gap)
        if before is not None:
            step = 8 if now is None else now - before
            return (gap, max(step, 0), max(-step, 0)) if abs(step) < 8 else ()
    return ()


def _pool(by_kind: Callable[[int], float], kind: int) -> float:
    return by_kind(kind) + 0.15 * sum(by_kind(other) for other in (0, 1, 2) if other != kind)


@functools.cache
def _rates(profile: Profile, part: int) -> Any:
    """The network's course, and each station's level; ``None`` without exposure."""
    total = [0.0, 0.0]
    network: collections.defaultdict[Any, float] = collections.defaultdict(float)
    stations: collections.defaultdict[Any, float] = collections.defaultdict(float)
    for (station, kind, slot), sums in profile.flow.items():
        for n, amount in ((0, sums[0]), (1, sums[part])):
            total[n] += amount
            network[n, kind, slot] += amount
        stations[station] += sums[part]
    if not total[0]:
        return None
    rate = total[1] / total[0]

    @functools.cache
    def course(kind: int, slot: int) -> float:
        exposure = _pool(lambda k: network[0, k, slot], kind)
        moved = _pool(lambda k: network[1, k, slot], kind)
        return rate * (moved + 10) / (rate * exposure + 10)

    expected: collections.defaultdict[Any, float] = collections.defaultdict(float)
    for (station, kind, slot), sums in profile.flow.items():
        expected[station] += sums[0] * course(kind, slot)
    return course, lambda station: (stations[station] + 10) / (expected[station] + 10)


def rate(profile: Profile, part: int, station: str, t: int) -> Value:
    """Arrivals (``part`` 1) or departures (2) a bin."""
    found = _rates(profile, part)
    if found is None:
        return None
    course, level_of = found

    def at(kind: int, slot: int) -> float:
        def sums(k: int) -> list[float]:
            return profile.flow.get((station, k, slot), [0, 0, 0])

        moved = _pool(lambda k: sums(k)[part], kind)
        expected = _pool(lambda k: sums(k)[0] * course(k, slot), kind)
        level: float = level_of(station)
        usual: float = course(kind, slot)
        return usual * level * (moved + 4) / (level * expected + 4)

    return _read(t, profile.tz, at)


def _read(t: int, tz: str, at: Callable[[int, int], float]) -> float:
    """A sum at a bin, between the centres of half hours; ``at(day type, half hour)`` holds it."""
    kind = clock.day_type(t, tz)
    return sum(weight * at(kind, slot) for slot, weight in clock.between_half_hours(t, tz))


def read_change(profile: Profile, name: str, station: str, t: int, kinds: Any = None) -> float:
    n, sums = SUMS.index(name), profile.change
    return _read(
        t,
        profile.tz,
        lambda kind, slot: sum(sums.get((station, k, slot), ZERO)[n] for k in kinds or [kind]),
    )


def read_level(profile: Profile, station: str, t: int) -> Value:
    def part(n: int) -> float:
        return _read(
            t, profile.tz, lambda kind, slot: profile.level.get((station, kind, slot), (0, 0))[n]
        )

    return part(1) / part(0) if part(0) else None


@functools.cache
def network_usual(profile: Profile, t: int) -> Value:
    """What a station usually moves over the horizon, by profiles that are complete."""
    return _usual(profile, t)


def _usual(profile: Profile, t: int) -> Value:
    n, moved = (
        _read(t, profile.tz, lambda kind, slot: profile.network.get((kind, slot), ZERO)[place])  # noqa: B023
        for place in (0, 2)
    )
    return moved / n if n else None


@functools.cache
def activity(profile: Profile, seen: Observations, t: int, width: int) -> Value:
    """How much moved over the bins up to ``t`` against what usually does."""
    h = profile.horizon
    moved, expected = 0.0, 0.0
    for u in range(t - width + 1, t + 1):
        if is_frozen(seen, u):
            continue
        usual = network_usual(profile, u - h) or 0.0
        for now, before in zip(seen.row(u), seen.row(u - h), strict=True):
            if now is not None and before is not None:
                moved += abs(now - before)
                expected += usual
    return (moved + 10 * width) / (expected + 10 * width) if expected > 0 else None
