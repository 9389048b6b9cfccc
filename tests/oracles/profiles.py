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


@dataclasses.dataclass(eq=False)
class Profile:
    """Sums in the order of `SUMS`, by (station, day type, half hour) and by the latter two.

    ``level`` holds a count and a sum of bikes; ``activity`` is that of the last day.
    """

    tz: str
    horizon: int
    change: collections.defaultdict = dataclasses.field(default_factory=lambda: _zeros(5))
    network: collections.defaultdict = dataclasses.field(default_factory=lambda: _zeros(5))
    level: collections.defaultdict = dataclasses.field(default_factory=lambda: _zeros(2))
    activity: Value = None


def _zeros(count: int) -> collections.defaultdict:
    return collections.defaultdict(lambda: [0] * count)


def profile_of(seen: Observations, days: list[dt.date], horizon: int, tz: str) -> Profile:
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
        for station, now, before in zip(seen.ids, seen.row(u), seen.row(u - h), strict=True):
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


def _read(t: int, tz: str, at) -> float:
    """A sum at a bin, between the centres of half hours; ``at(day type, half hour)`` holds it."""
    kind = clock.day_type(t, tz)
    return sum(weight * at(kind, slot) for slot, weight in clock.between_half_hours(t, tz))


def read_change(profile: Profile, name: str, station: str, t: int, kinds=None) -> float:
    n, sums = SUMS.index(name), profile.change
    return _read(
        t,
        profile.tz,
        lambda kind, slot: sum(sums.get((station, k, slot), ZERO)[n] for k in kinds or [kind]),
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
