"""A simulated city: a bike-share network whose bikes move by trips, and nothing else.

Minute by minute people leave for work, for leisure, for home; the weather and the hour say how
many. A rider finds a bike or gives up, and at a full station goes on to the next. Trucks carry
bikes from full to empty stations. No bike ever appears or vanishes: each is docked, ridden or
carried. The same seed gives the same city, however the time is cut into steps.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree
from velib_core.weather import Weather

from velib_local.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

MINUTE = dt.timedelta(minutes=1)
MINUTES_PER_DAY = 1440

TRIPS_PER_BIKE_AND_DAY = 5.0
"""About what Vélib' sees on a fair working day."""

EBIKE_SHARE = 0.4
LATE_SHARE = 0.02
"""Share of the stations that open, empty, during the first two days."""

INCIDENT_SHARE = 0.01
"""Share of the stations that close for some hours on a day, and of those whose report freezes."""

FILL = 0.45
"""Share of the docks that hold a bike at the start."""

SPEED_KMH = (11.0, 15.0)
"""Door to door, of mechanical and electric bikes."""

TRIP_SCALE_KM = 2.2
CANDIDATES = 8
"""Destinations that a rider weighs; each is drawn by attraction and kept by distance."""

NEIGHBOURS = 8
REROUTE_MINUTES = 4
TRUCK_LOAD = 12
TRUCK_EVERY_MINUTES = 20
HEARTBEAT_MINUTES = 30

_MECHANICAL, _ELECTRIC = 0, 1

# fmt: off
_PLACES = (
    "Marché", "Jardin", "Mairie", "École", "Théâtre", "Gare", "Moulin", "Fontaine", "Pont", "Parc",
    "Halle", "Lavoir", "Église", "Stade", "Musée", "Canal", "Verger", "Ferme", "Octroi", "Passage",
)
_NAMES = (
    "Lilas", "Tilleuls", "Acacias", "Peupliers", "Cerisiers", "Roses", "Vignes", "Alouettes",
    "Hirondelles", "Forges", "Tanneurs", "Potiers", "Meuniers", "Bateliers", "Rémouleurs",
    "Écoliers", "Jardiniers", "Horlogers", "Cordiers", "Maraîchers", "Abeilles", "Rossignols",
    "Noyers", "Frênes", "Glycines", "Violettes", "Coquelicots", "Marronniers",
)
# fmt: on


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
class _Arrivals:
    """Bikes under way that arrive in the same minute."""

    station: Ints
    kind: Ints
    carried: NDArray[np.bool_]


class City:
    """A network of ``stations`` stations from ``start`` (aware) on; see `advance` and `state`."""

    def __init__(
        self,
        stations: int = 200,
        seed: int = 7,
        start: dt.datetime = dt.datetime(2025, 11, 3, tzinfo=dt.UTC),
        tz: str = "Europe/Paris",
    ) -> None:
        self.now = start.astimezone(dt.UTC)
        self.lost_trips = 0
        self.trips = 0
        self._seed = seed
        self._zone = zoneinfo.ZoneInfo(tz)
        self._minute = 0
        self._rng = np.random.default_rng(seed)
        self._lay_out(stations)
        late = self._rng.random(stations) < LATE_SHARE
        self._opens_at = np.where(late, self._rng.integers(60, 2 * MINUTES_PER_DAY, stations), 0)
        self._stock()
        self._under_way: dict[int, list[_Arrivals]] = {}
        self._ridden = self._carried = 0
        self._closed_until = np.zeros(stations, np.int64)
        self._frozen_until = np.zeros(stations, np.int64)
        self._weather = self._weather_of_day(0)
        self._incidents_of_day()
        self._shown = self._bikes.copy()
        self._reported = np.zeros(stations, np.int64)

    def advance(self, until: dt.datetime) -> None:
        """Let the city live until an instant (aware), minute by minute."""
        while self.now + MINUTE <= until:
            self._step()
            self.now += MINUTE

    def account(self) -> Account:
        """Count the fleet."""
        return Account(int(self._bikes.sum()), self._ridden, self._carried)

    def state(self) -> FeedState:
        """Return what the feed shows now."""
        open_ = np.flatnonzero(self._opens_at <= self._minute)
        usable = (self._closed_until[open_] <= self._minute).astype(int).tolist()
        shown, capacity = self._shown[open_], self._capacity[open_]
        first = int(self.now.timestamp()) - self._minute * 60
        information = StationInformation(
            station_id=[self._ids[s] for s in open_.tolist()],
            name=[self._names[s] for s in open_.tolist()],
            lat=self._lat[open_].tolist(),
            lon=self._lon[open_].tolist(),
            capacity=capacity.tolist(),
        )
        status = StationStatus(
            station_id=information.station_id,
            bikes=shown.sum(axis=1).tolist(),
            mechanical=shown[:, _MECHANICAL].tolist(),
            ebike=shown[:, _ELECTRIC].tolist(),
            docks_available=(capacity - shown.sum(axis=1)).tolist(),
            is_installed=[1] * len(open_),
            is_renting=usable,
            is_returning=usable,
            last_reported=(first + 60 * self._reported[open_]).tolist(),
        )
        air = self._weather[:, self._minute % MINUTES_PER_DAY // 60].round(1).tolist()
        return FeedState(self.now, self.now, information, status, Weather(*air))

    def _lay_out(self, count: int) -> None:
        """Place the stations: dense in the centre, work there, homes around, leisure in spots."""
        rng = self._rng
        radius_km = 1.6 * np.sqrt(count / 50)
        x, y = rng.normal(0, radius_km / 2, (2, count))
        self._x, self._y = x, y
        self._lat = np.round(48.8566 + y / 111.2, 6)
        self._lon = np.round(2.3522 + x / 73.2, 6)
        centre = np.exp(-np.hypot(x, y) / (radius_km / 2))
        self._work = centre * rng.gamma(2.0, 0.5, count) + 0.05
        self._home = (1.2 - centre) * rng.gamma(3.0, 0.33, count) + 0.05
        self._leisure = np.where(rng.random(count) < 0.25, rng.gamma(2.0, 1.0, count), 0.1)
        size = 12 + 22 * (self._work + self._home + self._leisure) / 3
        self._capacity = np.clip(np.round(size * rng.uniform(0.7, 1.4, count)), 8, 70).astype(int)
        points = np.column_stack([x, y])
        wanted = min(NEIGHBOURS + 1, count)
        self._near = np.atleast_2d(KDTree(points).query(points, wanted)[1])[:, 1:]
        self._ids = [str(n) for n in np.sort(rng.choice(90_000_000, count, replace=False) + 10_000)]
        pairs = rng.permutation(len(_PLACES) * len(_NAMES))
        self._names = [
            f"{_PLACES[p % len(_PLACES)]} - {_NAMES[p // len(_PLACES)]}"
            + (f" {n // len(pairs) + 1}" if n >= len(pairs) else "")
            for n, p in ((n, pairs[n % len(pairs)]) for n in range(count))
        ]

    def _stock(self) -> None:
        """Dock the fleet, more of it where people live: it is night."""
        share = np.clip(FILL * self._home / self._home.mean(), 0.05, 0.9)
        bikes = self._rng.binomial(self._capacity, share) * (self._opens_at == 0)
        electric = self._rng.binomial(bikes, EBIKE_SHARE)
        self._bikes = np.column_stack([bikes - electric, electric])

    def _step(self) -> None:
        if self._minute % MINUTES_PER_DAY == 0 and self._minute:
            self._weather = self._weather_of_day(self._minute // MINUTES_PER_DAY)
            self._incidents_of_day()
        local = self.now.astimezone(self._zone)
        before = self._bikes.copy()
        self._arrive()
        self._depart(local)
        if self._minute % TRUCK_EVERY_MINUTES == 0 and (local.hour < 6 or 11 <= local.hour < 15):
            self._rebalance()
        self._minute += 1
        self._report(before)

    def _usable(self) -> NDArray[np.bool_]:
        return (self._opens_at <= self._minute) & (self._closed_until <= self._minute)

    def _depart(self, local: dt.datetime) -> None:
        hour = local.hour + local.minute / 60
        origin, goal = _pulls(hour, local.weekday() >= 5, self._home, self._work, self._leisure)
        fleet = self.account().total
        rate = TRIPS_PER_BIKE_AND_DAY * fleet / MINUTES_PER_DAY
        rate *= _activity(hour, local.weekday() >= 5) * self._weather_factor()
        wishes = self._rng.poisson(rate * origin / origin.sum())
        stock = self._bikes.sum(axis=1) * self._usable()
        leaving = np.minimum(wishes, stock)
        self.lost_trips += int((wishes - leaving).sum())
        self.trips += int(leaving.sum())
        start = np.repeat(np.arange(len(leaving)), leaving)
        if not len(start):
            return
        kind = self._take(start)
        stop = self._choose(start, goal)
        km = np.hypot(self._x[start] - self._x[stop], self._y[start] - self._y[stop])
        speed = np.take(SPEED_KMH, kind)
        minutes = 2 + km * 1.35 / speed * 60 * self._rng.lognormal(0, 0.25, len(start))
        self._send(stop, kind, np.maximum(2, minutes).astype(int), carried=False)
        self._ridden += len(start)

    def _take(self, start: Ints) -> Ints:
        """Take a bike at each start (sorted), of a kind that is there; return the kinds."""
        nth = np.arange(len(start)) - np.searchsorted(start, start)
        taken = np.bincount(start, minlength=len(self._bikes))
        electric = self._rng.hypergeometric(
            self._bikes[:, _ELECTRIC], self._bikes[:, _MECHANICAL], taken
        )
        self._bikes[:, _ELECTRIC] -= electric
        self._bikes[:, _MECHANICAL] -= taken - electric
        return (nth < electric[start]).astype(np.int64)

    def _choose(self, start: Ints, goal: Floats) -> Ints:
        """Draw destinations: some by attraction, then one of them by how near it is."""
        cumulated = np.cumsum(goal)
        draws = self._rng.random((len(start), CANDIDATES)) * cumulated[-1]
        options = np.minimum(np.searchsorted(cumulated, draws), len(goal) - 1)
        dx = self._x[options] - self._x[start][:, None]
        dy = self._y[options] - self._y[start][:, None]
        weight = np.exp(-np.hypot(dx, dy) / TRIP_SCALE_KM) + 1e-9
        edge = np.cumsum(weight, axis=1)
        pick = (edge < self._rng.random(len(start))[:, None] * edge[:, -1:]).sum(axis=1)
        chosen: Ints = options[np.arange(len(start)), np.minimum(pick, CANDIDATES - 1)]
        return chosen

    def _send(self, stop: Ints, kind: Ints, minutes: Ints, *, carried: bool) -> None:
        for wait in np.unique(minutes).tolist():
            same = minutes == wait
            group = _Arrivals(stop[same], kind[same], np.full(int(same.sum()), carried))
            self._under_way.setdefault(self._minute + wait, []).append(group)

    def _arrive(self) -> None:
        """Dock what arrives; where there is no free dock, go on to a station near by."""
        for group in self._under_way.pop(self._minute, []):
            order = np.argsort(group.station, kind="stable")
            station, kind = group.station[order], group.kind[order]
            free = np.where(self._usable(), self._capacity - self._bikes.sum(axis=1), 0)
            nth = np.arange(len(station)) - np.searchsorted(station, station)
            fits = nth < free[station]
            np.add.at(self._bikes, (station[fits], kind[fits]), 1)
            carried = bool(group.carried[0])
            if carried:
                self._carried -= int(fits.sum())
            else:
                self._ridden -= int(fits.sum())
            if not fits.all():
                self._go_on(station[~fits], kind[~fits], carried=carried)

    def _go_on(self, station: Ints, kind: Ints, *, carried: bool) -> None:
        nearest = self._near[station]
        if not nearest.shape[1]:
            nearest = station[:, None]
        room = (self._capacity - self._bikes.sum(axis=1)) * self._usable()
        has_room = room[nearest] > 0
        spread = self._rng.integers(0, nearest.shape[1], len(station))
        pick = np.where(has_room.any(axis=1), has_room.argmax(axis=1), spread)
        stop = nearest[np.arange(len(station)), pick]
        self._send(stop, kind, np.full(len(station), REROUTE_MINUTES), carried=carried)

    def _rebalance(self) -> None:
        """Send each truck from a station that is almost full to one that is almost empty."""
        stock = self._bikes.sum(axis=1)
        usable = self._usable()
        full = np.where(usable, stock / self._capacity, 0.5)
        trucks = 1 + len(stock) // 100
        givers = np.argsort(-full, kind="stable")[:trucks]
        takers = np.argsort(full, kind="stable")[:trucks]
        for giver, taker in zip(givers.tolist(), takers.tolist(), strict=True):
            if full[giver] < 0.75 or full[taker] > 0.25:
                continue
            half = int(self._capacity[giver]) // 2
            load = min(TRUCK_LOAD, int(stock[giver]) - half, int(self._capacity[taker]) // 2)
            if load <= 0:
                continue
            kind = self._take(np.full(load, giver))
            minutes = np.full(load, int(self._rng.integers(15, 30)))
            self._send(np.full(load, taker), kind, minutes, carried=True)
            self._carried += load

    def _report(self, before: NDArray[np.int64]) -> None:
        """Update what stations report: at every change, and by heartbeat; frozen ones do not."""
        alive = self._frozen_until <= self._minute
        changed = (self._bikes != before).any(axis=1) | (self._shown != self._bikes).any(axis=1)
        due = self._minute - self._reported >= HEARTBEAT_MINUTES
        speaking = alive & (changed | due)
        self._shown[speaking] = self._bikes[speaking]
        self._reported[speaking] = self._minute

    def _incidents_of_day(self) -> None:
        """Draw which stations close for some hours today, and whose reports freeze."""
        count = len(self._capacity)
        for until in (self._closed_until, self._frozen_until):
            hit = self._rng.random(count) < INCIDENT_SHARE
            length = self._rng.integers(90, 360, count)
            until[hit] = self._minute + length[hit]

    def _weather_of_day(self, day: int) -> Floats:
        """Return temperature (°C), rain (mm/h) and wind (m/s) by UTC hour, ``[3, 24]``."""
        rng = np.random.default_rng([self._seed, day])
        hours = np.arange(24)
        mean = 11 + 3 * np.sin(day / 3) + rng.normal(0, 1.5)
        temperature = mean + 4 * np.sin((hours - 9) / 24 * 2 * np.pi) + rng.normal(0, 0.4, 24)
        rainy = np.zeros(24)
        if rng.random() < 0.4:
            start, length = rng.integers(0, 20), rng.integers(2, 9)
            rainy[start : start + length] = rng.gamma(1.5, 1.0, len(rainy[start : start + length]))
        wind = np.abs(rng.normal(3.5, 1.5) + rng.normal(0, 0.6, 24))
        return np.vstack([temperature, rainy, wind])

    def _weather_factor(self) -> float:
        """Return how many of the usual trips the weather leaves."""
        temperature, rain, wind = self._weather[:, self._minute % MINUTES_PER_DAY // 60]
        cold = min(1.15, 0.75 + 0.025 * float(temperature))
        return max(0.1, cold / (1 + 0.35 * float(rain)) - 0.01 * max(0.0, float(wind) - 6))


def _activity(hour: float, weekend: bool) -> float:
    """Return the relative number of trips at a local hour; its mean over a day is about 1."""

    def bump(centre: float, width: float) -> float:
        away = min(abs(hour - centre), 24 - abs(hour - centre))
        return float(np.exp(-0.5 * (away / width) ** 2))

    if weekend:
        return 0.15 + 1.7 * bump(16, 3.5) + 0.6 * bump(23.5, 2.0) + 0.3 * bump(11, 2)
    return (
        0.1
        + 2.8 * bump(8.6, 0.9)
        + 2.6 * bump(18.3, 1.3)
        + 0.8 * bump(12.8, 1.5)
        + 0.3 * bump(22, 2)
    )


def _pulls(
    hour: float, weekend: bool, home: Floats, work: Floats, leisure: Floats
) -> tuple[Floats, Floats]:
    """Return where trips start and where they go at a local hour, as weights by station."""
    if weekend:
        if hour < 5 or hour >= 20:
            return leisure + 0.3 * home, home + 0.1 * leisure
        return home + 0.5 * leisure, leisure + 0.3 * home
    if 5 <= hour < 11:
        return home + 0.1 * work, work + 0.1 * leisure
    if 11 <= hour < 15:
        return work + 0.3 * leisure, leisure + 0.6 * work
    if 15 <= hour < 20:
        return work + 0.2 * leisure, home + 0.3 * leisure
    return leisure + 0.3 * work, home + 0.2 * leisure
