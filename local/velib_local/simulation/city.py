"""A simulated city: a bike-share network whose bikes move by trips, and by nothing else.

Minute by minute people leave for work, for an errand, for leisure, for home; the hour, the day
and the weather say how many. A rider who finds no bike leaves, and one who finds no dock goes on
to a station near by. Trucks carry bikes from full to empty stations. No bike ever appears or
vanishes: each is docked, ridden or carried. The same seed makes the same city, however its time
is cut into steps.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import math
import zoneinfo
from typing import TYPE_CHECKING

import numpy as np

from velib_local.simulation import weather as city_weather
from velib_local.simulation.city_map import Draw, to_grid
from velib_local.simulation.demand import PURPOSES, hourly_rates
from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from velib_core.feeds.open_meteo import Weather

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

MINUTE = dt.timedelta(minutes=1)
MINUTES_PER_DAY = 1440

FILL = 0.42
"""Share of the docks that hold a bike at the start; Vélib' has about so many."""

TRIPS_PER_BIKE_AND_DAY = 5.0
"""On a mild working day, were every wish fulfilled."""

EBIKE_SHARE, EBIKE_TASTE = 0.4, 0.55
"""Share of e-bikes in the fleet, and of riders who take one where they have the choice."""

SPEED_KMH = np.array([11.0, 15.0])
DETOUR = 1.35
TRIP_SCALE_KM = 2.2
CANDIDATES = 8
"""Destinations that a rider weighs: drawn by what is there, chosen by how near it is."""

LATE_SHARE, LATE_MINUTES = 0.02, 2 * MINUTES_PER_DAY
"""Share of the stations that open, empty, after the start, and within what time."""

CLOSINGS, CLOSED_MINUTES = 0.06, 360.0
FREEZES, FROZEN_MINUTES = 0.12, 180.0
"""How often a day a station closes or its report freezes, and for how long on average."""

HEARTBEAT_MINUTES = 30
"""A station reports every change, and when there is none for so long."""

ROUND_MINUTES, TRUCK_LOAD, TRUCK_KMH, STATIONS_PER_TRUCK = 20, 20, 20.0, 75
FULL, EMPTY = 0.8, 0.25
"""From which fill trucks take bikes, and up to which they bring some."""


class Kind(enum.IntEnum):
    """Columns of a station's stock."""

    MECHANICAL = 0
    EBIKE = 1


_ORIGINS = np.array([origin for origin, _, _ in PURPOSES])
_GOALS = np.array([goal for _, goal, _ in PURPOSES])


@dataclasses.dataclass(frozen=True)
class Account:
    """Where every bike is."""

    docked: int
    ridden: int
    carried: int

    @property
    def total(self) -> int:
        """All bikes of the fleet."""
        return self.docked + self.ridden + self.carried


@dataclasses.dataclass(frozen=True)
class _Moves:
    """Bikes under way: where to, of what kind, and whether on a truck; one item a bike."""

    stop: Ints
    kind: Ints
    carried: Flags


class City:
    """A network that lives by the minute.

    Parameters
    ----------
    stations
        How many; some of them open only during the first days.
    seed
        Of all chance.
    start
        The instant at which it starts (aware), every bike docked.
    tz, centre
        Where people live by which clock; latitude and longitude in degrees.
    weather
        The weather of each UTC hour from that of ``start`` on; drawn by seed when ``None``.

    Attributes
    ----------
    now
        The city's clock (aware, UTC).
    map
        The stations; see `velib_local.simulation.city_map.CityMap`.
    docked
        ``int64[S, 2]``: the bikes that are at each station in truth, by `Kind`.
    trips, lost_trips
        How many trips began, and how many did not for want of a bike.

    """

    def __init__(
        self,
        stations: int = 200,
        seed: int = 7,
        start: dt.datetime = dt.datetime(2025, 11, 3, tzinfo=dt.UTC),
        tz: str = "Europe/Paris",
        centre: tuple[float, float] = (48.8566, 2.3522),
        weather: Iterator[Weather] | None = None,
    ) -> None:
        if stations < 1:
            raise ValueError(f"a city has at least 1 station, not {stations}")
        self.now = start.astimezone(dt.UTC)
        self.trips = self.lost_trips = 0
        self._rng = np.random.default_rng([seed, 0])
        self._zone = zoneinfo.ZoneInfo(tz)
        self._hours = weather or city_weather.hours(seed, start, self._zone)
        self._weather = next(self._hours)
        self.map = to_grid(stations, centre, self._rng)
        self._minute = 0
        self._opens = self._openings(stations)
        self._pull = self._pulls()
        self.docked = self._stock()
        self._daily_trips = TRIPS_PER_BIKE_AND_DAY * int(self.docked.sum())
        self._under_way: dict[int, list[_Moves]] = {}
        self._closed_until = np.zeros(stations, np.int64)
        self._frozen_until = np.zeros(stations, np.int64)
        self._shown = self.docked.copy()
        self._reported = -self._rng.integers(0, HEARTBEAT_MINUTES, stations)

    def advance(self, until: dt.datetime) -> None:
        """Let the city live through the whole minutes that end by an instant (aware)."""
        while self.now + MINUTE <= until:
            self._live_a_minute()

    def account(self) -> Account:
        """Count the fleet, bike by bike."""
        under_way = [moves for due in self._under_way.values() for moves in due]
        carried = sum(int(moves.carried.sum()) for moves in under_way)
        ridden = sum(len(moves.carried) for moves in under_way) - carried
        return Account(int(self.docked.sum()), ridden, carried)

    def state(self) -> FeedState:
        """Return what the network's feed shows now: the stations that have opened."""
        there = np.flatnonzero(self._opens <= self._minute)
        stations = StationInformation(
            station_id=[self.map.ids[s] for s in there.tolist()],
            name=[self.map.names[s] for s in there.tolist()],
            lat=self.map.lat[there].tolist(),
            lon=self.map.lon[there].tolist(),
            capacity=self.map.capacity[there].tolist(),
        )
        shown = self._shown[there]
        usable = self._usable()[there].astype(int).tolist()
        start = int(self.now.timestamp()) - 60 * self._minute
        status = StationStatus(
            station_id=stations.station_id,
            bikes=shown.sum(axis=1).tolist(),
            mechanical=shown[:, Kind.MECHANICAL].tolist(),
            ebike=shown[:, Kind.EBIKE].tolist(),
            docks_available=(self.map.capacity[there] - shown.sum(axis=1)).tolist(),
            is_installed=[1] * len(there),
            is_renting=usable,
            is_returning=usable,
            last_reported=(start + 60 * self._reported[there]).tolist(),
        )
        return FeedState(self.now, self.now, stations, status, self._weather)

    def _openings(self, count: int) -> Ints:
        """Return the minute at which each station opens, 0 for most."""
        late = self._rng.choice(count, math.ceil(LATE_SHARE * (count - 1)), replace=False)
        opens = np.zeros(count, np.int64)
        opens[late] = self._rng.integers(60, LATE_MINUTES, len(late))
        return opens

    def _stock(self) -> NDArray[np.int64]:
        """Dock the fleet, more of it where people live."""
        home = self.map.draw[Draw.HOME]
        share = np.clip(FILL * (0.5 + 0.5 * home / home.mean()), 0.05, 0.9)
        bikes = self._rng.binomial(self.map.capacity, share) * (self._opens == 0)
        electric = self._rng.binomial(bikes, EBIKE_SHARE)
        return np.column_stack([bikes - electric, electric])

    def _pulls(self) -> Floats:
        """Return the cumulative draw of the open stations; row d runs from d to d + 1."""
        draw = self.map.draw * (self._opens <= self._minute)
        rows = np.cumsum(draw, axis=1) / draw.sum(axis=1, keepdims=True)
        pulls: Floats = (rows + np.arange(len(Draw))[:, None]).ravel()
        return pulls

    def _usable(self) -> Flags:
        usable: Flags = (self._opens <= self._minute) & (self._closed_until <= self._minute)
        return usable

    def _live_a_minute(self) -> None:
        local = self.now.astimezone(self._zone)
        if self._minute and self.now.minute == 0:
            self._weather = next(self._hours)
        if (self._opens == self._minute).any():
            self._pull = self._pulls()
        usable = self._usable()
        self._arrive(usable)
        self._depart(local, usable)
        if self._minute % ROUND_MINUTES == 0 and (local.hour < 6 or 11 <= local.hour < 16):
            self._rebalance(usable)
        self._strike(self._closed_until, CLOSINGS, CLOSED_MINUTES)
        self._strike(self._frozen_until, FREEZES, FROZEN_MINUTES)
        self._minute += 1
        self.now += MINUTE
        self._report()

    def _depart(self, local: dt.datetime, usable: Flags) -> None:
        """Start this minute's trips, as far as there are bikes."""
        rng = self._rng
        per_minute = self._daily_trips * city_weather.riders(self._weather) / 60
        wishes = rng.poisson([per_minute * rate for rate in hourly_rates(local)])
        start = self._draw(np.repeat(_ORIGINS, wishes), 1)[:, 0]
        goal = np.repeat(_GOALS, wishes)
        order = np.argsort(start, kind="stable")
        start, goal = start[order], goal[order]
        finds = _nth(start) < (self.docked.sum(axis=1) * usable)[start]
        self.lost_trips += len(start) - int(finds.sum())
        start, goal = start[finds], goal[finds]
        if not len(start):
            return
        self.trips += len(start)
        kind = self._take(start)
        options = self._draw(goal, CANDIDATES)
        nearness = np.exp(-self.map.km(start[:, None], options) / TRIP_SCALE_KM) + 1e-9
        edges = np.cumsum(nearness, axis=1)
        pick = (edges < rng.random((len(start), 1)) * edges[:, -1:]).sum(axis=1)
        stop = options[np.arange(len(start)), np.minimum(pick, CANDIDATES - 1)]
        hours = self.map.km(start, stop) * DETOUR / SPEED_KMH[kind]
        minutes = 2 + 60 * hours * rng.lognormal(0, 0.25, len(start))
        self._send(stop, kind, minutes, carried=False)

    def _draw(self, what: Ints, times: int) -> Ints:
        """Draw stations ``int64[n, times]``, row by row by what they have of a `Draw`."""
        at = np.searchsorted(self._pull, what[:, None] + self._rng.random((len(what), times)))
        count = len(self.map.ids)
        stations: Ints = np.clip(at - what[:, None] * count, 0, count - 1)
        return stations

    def _take(self, start: Ints) -> Ints:
        """Take a bike for each start (sorted, as many as there are); return their kinds."""
        count = np.bincount(start, minlength=len(self.docked))
        liked = self._rng.binomial(count, EBIKE_TASTE)
        electric = np.minimum(liked, self.docked[:, Kind.EBIKE])
        mechanical = np.minimum(count - electric, self.docked[:, Kind.MECHANICAL])
        electric = count - mechanical
        self.docked -= np.column_stack([mechanical, electric])
        return np.where(_nth(start) < electric[start], Kind.EBIKE, Kind.MECHANICAL)

    def _send(self, stop: Ints, kind: Ints, minutes: Floats, *, carried: bool) -> None:
        """Put bikes under way, to arrive in so many minutes (at least one)."""
        waits = np.maximum(1, minutes).astype(np.int64)
        for wait in np.unique(waits).tolist():
            same = waits == wait
            moves = _Moves(stop[same], kind[same], np.full(int(same.sum()), carried))
            self._under_way.setdefault(self._minute + wait, []).append(moves)

    def _arrive(self, usable: Flags) -> None:
        """Dock what arrives; where there is no dock, go on to the nearest station that has one."""
        due = self._under_way.pop(self._minute, [])
        if not due:
            return
        stop, kind = (np.concatenate([getattr(m, name) for m in due]) for name in ("stop", "kind"))
        carried = np.concatenate([moves.carried for moves in due])
        order = np.argsort(stop, kind="stable")
        stop, kind, carried = stop[order], kind[order], carried[order]
        free = np.where(usable, self.map.capacity - self.docked.sum(axis=1), 0)
        fits = _nth(stop) < free[stop]
        np.add.at(self.docked, (stop[fits], kind[fits]), 1)
        if fits.all():
            return
        stop, kind, carried = stop[~fits], kind[~fits], carried[~fits]
        nearest = self.map.nearest[stop]
        has_dock = (np.where(usable, self.map.capacity - self.docked.sum(axis=1), 0) > 0)[nearest]
        anywhere = self._rng.integers(0, nearest.shape[1], len(stop))
        pick = np.where(has_dock.any(axis=1), has_dock.argmax(axis=1), anywhere)
        onward = nearest[np.arange(len(stop)), pick]
        minutes = 2 + 60 * self.map.km(stop, onward) * DETOUR / SPEED_KMH[kind]
        for on_truck in (False, True):
            those = carried == on_truck
            self._send(onward[those], kind[those], minutes[those], carried=on_truck)

    def _rebalance(self, usable: Flags) -> None:
        """Send each truck from one of the fullest stations to one of the emptiest."""
        stock, capacity = self.docked.sum(axis=1), self.map.capacity
        fill = np.where(usable, stock / capacity, 0.5)
        trucks = 1 + len(stock) // STATIONS_PER_TRUCK
        givers = np.argsort(-fill, kind="stable")[:trucks]
        takers = np.argsort(fill, kind="stable")[:trucks]
        works = (fill[givers] >= FULL) & (fill[takers] <= EMPTY)
        givers, takers = givers[works], takers[works]
        load = np.minimum(stock[givers] - capacity[givers] // 2, capacity[takers] // 2)
        load = np.minimum(load, TRUCK_LOAD)
        tour = np.repeat(np.arange(len(givers)), load)
        order = tour[np.argsort(givers[tour], kind="stable")]
        kind = self._take(givers[order])
        minutes = 15 + 60 * self.map.km(givers, takers) * DETOUR / TRUCK_KMH
        self._send(takers[order], kind, minutes[order], carried=True)

    def _strike(self, until: Ints, per_day: float, mean_minutes: float) -> None:
        """Let misfortune befall some stations: until when, by station, is changed in place."""
        count = self._rng.poisson(per_day * len(until) / MINUTES_PER_DAY)
        if count:
            struck = self._rng.integers(0, len(until), count)
            until[struck] = self._minute + self._rng.exponential(mean_minutes, count).astype(int)

    def _report(self) -> None:
        """Update what stations report; the frozen ones report nothing."""
        news = (self._shown != self.docked).any(axis=1)
        news |= self._minute - self._reported >= HEARTBEAT_MINUTES
        news &= self._frozen_until <= self._minute
        self._shown[news] = self.docked[news]
        self._reported[news] = self._minute


def _nth(ordered: Ints) -> Ints:
    """Return how many equal values stand before each value of a sorted array."""
    return np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
