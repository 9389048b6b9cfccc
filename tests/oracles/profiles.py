"""Profiles: sums over past days by station, day type and half hour, and how they are read."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
from typing import TYPE_CHECKING

from oracles import clock

if TYPE_CHECKING:
    from oracles.observations import Observations, Value

PRIOR = 6
FROZEN_STATIONS, FROZEN_BINS = 200, 12
SUMS = ("n", "change", "moved", "square", "zeros")
EPOCH = dt.date(1970, 1, 1)


def bins_of(day: dt.date) -> range:
    first = (day - EPOCH).days * 288
    return range(first, first + 288)


@functools.cache
def is_frozen(seen: Observations, u: int) -> bool:
    pairs = [(seen.bikes(s, u), seen.bikes(s, u - FROZEN_BINS)) for s in range(len(seen.ids))]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    return len(both) >= FROZEN_STATIONS and all(a == b for a, b in both)


@dataclasses.dataclass(eq=False)
class Profile:
    """Sums by (station, day type, half hour), and of all stations by (day type, half hour).

    ``level`` holds a count and a sum of bikes; ``activity`` is that of the day folded last.
    """

    tz: str
    horizon: int
    change: dict[str, collections.Counter]
    network: dict[str, collections.Counter]
    level: collections.defaultdict
    activity: Value = None


def fold(seen: Observations, days: list[dt.date], horizon: int, tz: str) -> Profile:
    """Fold days in order."""
    change, network = ({name: collections.Counter() for name in SUMS} for _ in range(2))
    profile = Profile(tz, horizon, change, network, collections.defaultdict(lambda: [0, 0]))
    for day in days:
        _fold_day(profile, seen, day)
    return profile


def _fold_day(profile: Profile, seen: Observations, day: dt.date) -> None:
    tz, h = profile.tz, profile.horizon
    moved, expected = 0.0, 0.0
    found = []
    for u in bins_of(day):
        at = (clock.day_type(u, tz), clock.half_hour(u, tz))
        origin = (clock.day_type(u - h, tz), clock.half_hour(u - h, tz))
        usual = _usual(profile, u - h)
        frozen = is_frozen(seen, u)
        for s, station in enumerate(seen.ids):
            now, before = seen.bikes(s, u), seen.bikes(s, u - h)
            if now is not None:
                profile.level[station, *at][0] += 1
                profile.level[station, *at][1] += now
            if now is None or before is None or frozen:
                continue
            found.append(((station, *origin), now - before))
            if usual is not None:
                moved += abs(now - before)
                expected += usual
    profile.activity = moved / expected if expected > 0 else None
    for key, d in found:
        added = (1, d, abs(d), d * d, int(d == 0))
        for name, value in zip(SUMS, added, strict=True):
            profile.change[name][key] += value
            profile.network[name][key[1:]] += value


def _read(t: int, tz: str, at) -> float:
    """A sum at a bin, between the centres of half hours; ``at(day type, half hour)`` holds it."""
    kind = clock.day_type(t, tz)
    return sum(weight * at(kind, slot) for slot, weight in clock.between_half_hours(t, tz))


def read_change(profile: Profile, name: str, station: str, t: int, kinds=None) -> float:
    sums = profile.change[name]
    return _read(
        t, profile.tz, lambda kind, slot: sum(sums[station, k, slot] for k in kinds or [kind])
    )


def read_level(profile: Profile, station: str, t: int) -> Value:
    def part(n):
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
        _read(t, profile.tz, lambda kind, slot: profile.network[name][kind, slot])  # noqa: B023
        for name in ("n", "moved")
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
        for s in range(len(seen.ids)):
            now, before = seen.bikes(s, u), seen.bikes(s, u - h)
            if now is not None and before is not None:
                moved += abs(now - before)
                expected += usual
    return (moved + 10 * width) / (expected + 10 * width) if expected > 0 else None
