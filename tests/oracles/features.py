"""Every feature from its definition in docs/FEATURES.md: one station and one bin at a time."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from present import present

from oracles import clock, profiles
from oracles.observations import Observations, Value, known, mean, minus, times

if TYPE_CHECKING:
    from datetime import datetime

    from oracles.profiles import Profile

PARIS = (48.853, 2.349)
RADIUS_KM = 6371
Definition = Callable[["Row"], Value]
DEFINITIONS: dict[str, Definition] = {}


@dataclasses.dataclass(frozen=True)
class Row:
    """A station ``s`` in a bin ``t``, with all that was seen and the profiles before its day.

    ``cluster`` gives the number and the mean capacity of each station's cluster.
    """

    seen: Observations
    profile: Profile
    s: int
    t: int
    neighbours: list[int]
    centre: tuple[float, float]
    cluster: tuple[Value, Value]

    def of(self, s: int) -> Row:
        return dataclasses.replace(self, s=s)

    def bikes(self, ago: int = 0) -> Value:
        return self.seen.bikes(self.s, self.t - ago)

    def last(self, ago: int, slack: int) -> Value:
        """The newest observation that is ``ago`` to ``ago + slack`` bins old."""
        return last(self.seen, self.s, self.t - ago, slack)

    def step(self, ago: int = 0) -> Value:
        return step(self.seen, self.s, self.t - ago)

    def get(self, variable: str) -> Value:
        return self.seen.get(variable, self.s, self.t)

    @property
    def place(self) -> tuple[float, float] | None:
        return self.seen.places[self.s]

    @property
    def station(self) -> str:
        return self.seen.ids[self.s]


def last(seen: Observations, s: int, t: int, slack: int) -> Value:
    for u in range(t, t - slack - 1, -1):
        if (bikes := seen.bikes(s, u)) is not None:
            return bikes
    return None


@functools.cache
def step(seen: Observations, s: int, t: int) -> Value:
    bikes = seen.bikes(s, t)
    return None if bikes is None else minus(bikes, last(seen, s, t - 1, 5))


def value(name: str, row: Row) -> Value:
    return DEFINITIONS[name](row)


def feature(*names: str) -> Callable[[Definition], Definition]:
    """Register a definition under its name; or, a maker of definitions, under ``name_{n}``."""

    def register(function: Definition) -> Definition:
        for name in names:
            DEFINITIONS[name] = function
        return function

    return register


def for_each(
    pattern: str,
    numbers: tuple[int, ...],
) -> Callable[[Callable[[int], Definition]], Callable[[int], Definition]]:
    def register(make: Callable[[int], Definition]) -> Callable[[int], Definition]:
        for n in numbers:
            DEFINITIONS[pattern.format(n)] = make(n)
        return make

    return register


# The station as it was observed.

feature("capacity")(lambda row: row.get("capacity"))
feature("mechanical")(lambda row: row.get("mechanical"))
feature("ebike")(lambda row: row.get("ebike"))


def air(name: str, ago: int = 0) -> Definition:
    return lambda row: row.seen.air(name, row.t - ago)


for _name in ("temp_C", "precip_mm", "wind_mps"):
    feature(_name)(air(_name))
    feature(f"{_name}_lag1")(air(_name, 1))

feature("bikes")(lambda row: row.bikes())
feature("change_seen")(lambda row: row.step())


@feature("occ_ratio")
def occupancy(row: Row) -> Value:
    bikes, capacity = row.bikes(), row.get("capacity")
    return None if bikes is None or not capacity else bikes / capacity


@feature("free_docks")
def free_docks(row: Row) -> Value:
    stated = row.get("docks_available")
    return minus(row.get("capacity"), row.bikes()) if stated is None else stated


@feature("docks_unavailable")
def docks_unavailable(row: Row) -> Value:
    return minus(minus(row.get("capacity"), row.bikes()), free_docks(row))


@feature("age_min")
def age(row: Row) -> Value:
    minutes = row.get("age_min")
    return None if minutes is None else min(max(minutes, -60), 1440)


@feature("status_code")
def status(row: Row) -> Value:
    said = row.get("ok")
    return -1 if said is None else int(said == 0)


# Its past.


@for_each("lag_bikes_{}", (1, 2, 3, 6, 12, 24, 36, 48))
def lag(n: int) -> Definition:
    return lambda row: row.bikes(n)


def _window(row: Row, n: int) -> list[float]:
    found = known(row.bikes(ago) for ago in range(1, n + 1))
    return found if len(found) >= {3: 1, 6: 3, 12: 6, 24: 12, 36: 18, 48: 24}[n] else []


@for_each("roll_mean_{}", (3, 6, 12, 24, 36, 48))
def roll_mean(n: int) -> Definition:
    return lambda row: mean(_window(row, n))


@for_each("roll_std_{}", (3, 6, 12, 24, 36, 48))
def roll_std(n: int) -> Definition:
    def std(row: Row) -> Value:
        found = _window(row, n)
        return statistics.stdev(found) if len(found) >= 2 else None

    return std


@for_each("change_{}", (1, 3, 6, 12, 24, 48))
def change(n: int) -> Definition:
    return lambda row: minus(row.bikes(), row.last(n, 5 if n == 1 else 3))


@feature("bins_since_seen")
def bins_since_seen(row: Row) -> Value:
    return next((ago for ago in range(1, 7) if row.bikes(ago) is not None), 7)


@feature("bins_since_change")
def bins_since_change(row: Row) -> Value:
    return next((ago for ago in range(49) if row.step(ago) not in (None, 0)), 49)


def _steps(row: Row, n: int) -> list[float]:
    return known(row.step(ago) for ago in range(n))


@for_each("arrived_{}", (3, 12, 48))
def arrived(n: int) -> Definition:
    return lambda row: sum(step for step in _steps(row, n) if step > 0)


@for_each("left_{}", (3, 12, 48))
def left(n: int) -> Definition:
    return lambda row: -sum(step for step in _steps(row, n) if step < 0)


# The clock and the calendar.

feature("hour")(lambda row: clock.utc(row.t).hour)
feature("minute")(lambda row: clock.utc(row.t).minute)
feature("dow")(lambda row: clock.utc(row.t).weekday())
feature("month")(lambda row: clock.utc(row.t).month)
feature("is_weekend")(lambda row: int(clock.utc(row.t).weekday() in (5, 6)))


def _local(row: Row) -> datetime:
    return clock.local(row.t, row.profile.tz)


feature("paris_hour")(lambda row: _local(row).hour)
feature("paris_dow")(lambda row: _local(row).weekday())
feature("paris_is_we")(lambda row: int(_local(row).weekday() in (5, 6)))
feature("local_minute_of_day")(lambda row: 60 * _local(row).hour + _local(row).minute)


def _turn(row: Row) -> float:
    at = clock.utc(row.t)
    return 2 * math.pi * (60 * at.hour + at.minute) / 1440


feature("hod_sin")(lambda row: math.sin(_turn(row)))
feature("hod_cos")(lambda row: math.cos(_turn(row)))
feature("dow_sin")(lambda row: math.sin(2 * math.pi * clock.utc(row.t).weekday() / 7))
feature("dow_cos")(lambda row: math.cos(2 * math.pi * clock.utc(row.t).weekday() / 7))


@feature("is_public_holiday")
def public_holiday(row: Row) -> Value:
    return int(clock.is_public_holiday(_local(row).date(), row.profile.tz))


@feature("is_school_holiday")
def school_holiday(row: Row) -> Value:
    return int(clock.is_school_holiday(_local(row).date()))


@feature("days_to_day_off")
def days_to_day_off(row: Row) -> Value:
    return clock.days_to_day_off(_local(row).date(), row.profile.tz)


# The place.

feature("lat")(lambda row: row.place and row.place[0])
feature("lon")(lambda row: row.place and row.place[1])
feature("grid_x")(lambda row: row.place and math.floor(row.place[1] * 75000 / 300))
feature("grid_y")(lambda row: row.place and math.floor(row.place[0] * 111000 / 300))
feature("dist_center_km")(lambda row: row.place and distance(row.place, row.centre))
feature("kmeans_cluster")(lambda row: row.cluster[0])
feature("te_cap_mean")(lambda row: row.cluster[1])


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great circle, kilometres, by the haversine formula."""
    phi, theta = math.radians(a[0]), math.radians(b[0])
    half = (
        math.sin((theta - phi) / 2) ** 2
        + math.cos(phi) * math.cos(theta) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    )
    return 2 * RADIUS_KM * math.asin(math.sqrt(half))


def centre(seen: Observations) -> tuple[float, float]:
    placed = [place for place in seen.places if place is not None]
    median = (
        statistics.median(lat for lat, _ in placed),
        statistics.median(lon for _, lon in placed),
    )
    return PARIS if distance(median, PARIS) < 50 else median


def neighbours(seen: Observations) -> list[list[int]]:
    """The other stations that have a place, nearest first, at most 15."""
    placed = [s for s, place in enumerate(seen.places) if place is not None]
    shrink = math.cos(math.radians(statistics.fmean(present(seen.places[s])[0] for s in placed)))

    def away(a: int, b: int) -> tuple[float, str]:
        (lat, lon), (lat_b, lon_b) = present(seen.places[a]), present(seen.places[b])
        return math.hypot(lat - lat_b, (lon - lon_b) * shrink), seen.ids[b]

    def nearest(s: int) -> list[int]:
        others = (other for other in placed if other != s)
        return sorted(others, key=lambda other: away(s, other))[:15]

    return [nearest(s) if s in placed else [] for s in range(len(seen.ids))]


# What happens around it.


@for_each("knn_mean_bikes_lag{}", (1, 3, 12))
def knn_mean_bikes(n: int) -> Definition:
    return lambda row: mean(row.of(o).bikes(n) for o in row.neighbours[:5])


feature("near_occ")(lambda row: mean(occupancy(row.of(o)) for o in row.neighbours[:5]))
feature("around_occ")(lambda row: mean(occupancy(row.of(o)) for o in row.neighbours[:15]))


@for_each("near_change_{}", (3, 12))
def near_change(n: int) -> Definition:
    return lambda row: mean(change(n)(row.of(o)) for o in row.neighbours[:5])


def _neighbours(flow: Any, n: int) -> Definition:
    def of(row: Row) -> Value:
        there = [row.of(o) for o in row.neighbours[:15]]
        return mean(flow(n)(other) for other in there if _steps(other, n))

    return of


for_each("around_arrived_{}", (3, 12))(lambda n: _neighbours(arrived, n))
for_each("around_left_{}", (3, 12))(lambda n: _neighbours(left, n))


# What usually happens.


def _sum(row: Row, name: str, kinds: Any = None) -> float:
    return profiles.read_change(row.profile, name, row.station, row.t, kinds)


def _shrunk(row: Row, total: float, kinds: tuple[int, int, int] | None = None) -> Value:
    n = _sum(row, "n", kinds)
    return total / (n + profiles.PRIOR) if n else None


feature("profile_weight")(lambda row: _sum(row, "n"))
feature("profile_change")(lambda row: _shrunk(row, _sum(row, "change")))
feature("profile_moved")(lambda row: _shrunk(row, _sum(row, "moved")))
feature("profile_still")(lambda row: _shrunk(row, _sum(row, "zeros") + profiles.PRIOR))


@feature("profile_spread")
def profile_spread(row: Row) -> Value:
    square, change = _shrunk(row, _sum(row, "square")), value("profile_change", row)
    if square is None or change is None:
        return None
    return math.sqrt(max(square - change**2, 0))


@feature("profile_change_any_day")
def profile_change_any_day(row: Row) -> Value:
    kinds = (0, 1, 2)
    return _shrunk(row, _sum(row, "change", kinds), kinds)


@feature("profile_gap_now")
def profile_gap_now(row: Row) -> Value:
    return minus(profiles.read_level(row.profile, row.station, row.t), row.bikes())


@feature("profile_gap_target")
def profile_gap_target(row: Row) -> Value:
    target = row.t + row.profile.horizon
    return minus(profiles.read_level(row.profile, row.station, target), row.bikes())


feature("network_usual")(lambda row: profiles.network_usual(row.profile, row.t))
feature("network_pace_yesterday")(lambda row: row.profile.activity)


@feature("network_pace_1h")
def network_pace_1h(row: Row) -> Value:
    return profiles.activity(row.profile, row.seen, row.t, 12)


@feature("network_pace_3h")
def network_pace_3h(row: Row) -> Value:
    return profiles.activity(row.profile, row.seen, row.t, 36)


@feature("profile_change_paced")
def profile_change_paced(row: Row) -> Value:
    return times(value("profile_change", row), network_pace_3h(row))


@feature("profile_moved_paced")
def profile_moved_paced(row: Row) -> Value:
    return times(value("profile_moved", row), network_pace_3h(row))


# How many bikes usually come and go.


def _usually(row: Row, part: int, bins: range) -> Value:
    rates = [profiles.rate(row.profile, part, row.station, row.t + ahead) for ahead in bins]
    stated = known(rates)
    return None if len(stated) < len(rates) else sum(stated)


def _horizon(row: Row) -> range:
    return range(1, row.profile.horizon + 1)


def _damping(row: Row) -> float:
    n, factor = present(value("profile_weight", row)), 1.0
    for activity in (network_pace_1h(row), value("network_pace_yesterday", row)):
        if activity is not None and not math.isnan(activity):
            factor *= 1 + (activity - 1) * n / (n + 6)
    return min(factor, 1)


def _expected(row: Row, part: int, bins: range) -> Value:
    return times(_damping(row), _usually(row, part, bins))


feature("expected_arrivals")(lambda row: _expected(row, 1, _horizon(row)))
feature("expected_departures")(lambda row: _expected(row, 2, _horizon(row)))


@feature("expected_net")
def expected_net(row: Row) -> Value:
    return minus(_expected(row, 1, _horizon(row)), _expected(row, 2, _horizon(row)))


@feature("expected_net_6h")
def expected_net_6h(row: Row) -> Value:
    every_half_hour = range(3, 72, 6)
    net = minus(_expected(row, 1, every_half_hour), _expected(row, 2, every_half_hour))
    return times(6, net)


@feature("bikes_expected")
def bikes_expected(row: Row) -> Value:
    net = expected_net(row)
    return None if net is None else minus(row.bikes(), -net)


feature("arrivals_vs_usual_1h")(
    lambda row: minus(arrived(12)(row), _usually(row, 1, range(-11, 1)))
)
feature("departures_vs_usual_1h")(lambda row: minus(left(12)(row), _usually(row, 2, range(-11, 1))))
