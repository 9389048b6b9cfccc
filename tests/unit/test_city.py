from __future__ import annotations

import datetime as dt
import itertools
import zoneinfo
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from present import present
from velib_core.feeds.open_meteo import Weather
from velib_local.simulation import weather
from velib_local.simulation.city import City
from velib_local.simulation.city_map import Draw, to_grid
from velib_local.simulation.demand import PURPOSES, hourly_rates

MONDAY = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
MILD = Weather(14.0, 0.0, 3.0)


def local(hour: int, day: int = 3) -> dt.datetime:
    return dt.datetime(2025, 11, day, hour, tzinfo=PARIS)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 23))
def test_no_bike_appears_or_vanishes_and_no_dock_holds_two(
    seed: int, stations: int, hour: int
) -> None:
    city = City(stations, seed, MONDAY + hour * HOUR)
    fleet = city.account().total
    for minute in range(1, 240):
        city.advance(MONDAY + hour * HOUR + minute * dt.timedelta(minutes=1))
        assert city.account().total == fleet
        assert (city.docked >= 0).all()
        assert (city.docked.sum(axis=1) <= city.map.capacity).all()


def test_every_bike_is_still_there_after_a_week_with_trucks_and_closings() -> None:
    city = City(80, seed=3, start=MONDAY)
    fleet = city.account()
    seen = []
    for hour in range(1, 24 * 7):
        city.advance(MONDAY + hour * HOUR)
        seen.append(city.account())
        assert (city.docked.sum(axis=1) <= city.map.capacity).all()
    assert {account.total for account in seen} == {fleet.docked}
    assert max(account.ridden for account in seen) > 0
    assert max(account.carried for account in seen) > 0


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
def test_a_city_is_the_same_however_its_time_is_cut(pieces: list[int]) -> None:
    complete, cut = City(30, seed=5, start=MONDAY), City(30, seed=5, start=MONDAY)
    ends = [MONDAY + n * dt.timedelta(minutes=1) for n in itertools.accumulate(pieces)]
    for end in ends:
        cut.advance(end)
        cut.state()
    complete.advance(ends[-1])
    assert complete.state() == cut.state()
    assert complete.account() == cut.account()
    assert complete.trips == cut.trips


def test_seconds_are_left_for_the_next_time() -> None:
    city, other = City(20, start=MONDAY), City(20, start=MONDAY)
    for seconds in range(0, 3600, 45):
        city.advance(MONDAY + dt.timedelta(seconds=seconds))
    city.advance(MONDAY + HOUR)
    other.advance(MONDAY + HOUR)
    assert city.now == MONDAY + HOUR
    assert city.state() == other.state()


def test_the_seed_makes_the_city() -> None:
    one, same, other = (City(40, seed, MONDAY) for seed in (1, 1, 2))
    for city in (one, same, other):
        city.advance(MONDAY + 9 * HOUR)
    assert one.state() == same.state()
    assert one.state().status.bikes != other.state().status.bikes


def test_the_morning_carries_bikes_to_where_people_work_and_the_evening_back() -> None:
    city = City(300, start=local(6), weather=itertools.repeat(MILD))
    work, home = city.map.draw[Draw.WORK], city.map.draw[Draw.HOME]
    offices = work / home > np.quantile(work / home, 0.8)

    def at_offices() -> int:
        return int(city.docked[offices].sum())

    dawn = at_offices()
    city.advance(local(10))
    morning = at_offices()
    city.advance(local(22))
    night = at_offices()
    assert morning > 1.2 * dawn
    assert night < 0.8 * morning


def test_people_ride_by_the_clock_on_their_wall() -> None:
    def started(city: City, first: Any, last: Any) -> int:
        city.advance(first)
        before = city.trips
        city.advance(last)
        return city.trips - before

    paris = City(200, start=MONDAY, weather=itertools.repeat(MILD))
    chicago = City(200, start=MONDAY, tz="America/Chicago", weather=itertools.repeat(MILD))
    eight = (MONDAY + 7 * HOUR, MONDAY + 8 * HOUR)
    assert started(paris, *eight) > 3 * started(chicago, *eight)


@pytest.mark.parametrize("day", [3, 8, 9])
def test_a_days_trips_follow_its_type(day: Any) -> None:
    minutes = [local(0, day) + n * dt.timedelta(minutes=1) for n in range(1440)]
    rates = np.array([hourly_rates(minute) for minute in minutes])
    by_purpose = rates.sum(axis=0) / 60
    commute = sum(
        share
        for share, (origin, goal, _) in zip(by_purpose, PURPOSES, strict=True)
        if {origin, goal} == {Draw.HOME, Draw.WORK}
    )
    night = rates[: 5 * 60].sum() / rates.sum()
    if day == 3:
        assert by_purpose.sum() == pytest.approx(1, abs=0.01)
        assert commute == pytest.approx(0.45, abs=0.01)
        assert night < 0.04
    else:
        assert by_purpose.sum() < 0.9
        assert commute == 0
        assert night > 0.06


def test_rain_keeps_people_off_their_bikes() -> None:
    wet = Weather(14.0, 4.0, 3.0)
    dry_city, wet_city = (
        City(100, start=local(7), weather=itertools.repeat(air)) for air in (MILD, wet)
    )
    for city in (dry_city, wet_city):
        city.advance(local(20))
    expected = weather.riders(wet) / weather.riders(MILD)
    wished = [city.trips + city.lost_trips for city in (dry_city, wet_city)]
    assert wished[1] / wished[0] == pytest.approx(expected, rel=0.05)
    assert expected < 0.5


def test_a_rider_who_finds_no_bike_is_counted_and_stations_fill_and_empty() -> None:
    city = City(200, seed=1, start=MONDAY)
    empty = full = 0
    for hour in range(1, 48):
        city.advance(MONDAY + hour * HOUR)
        status = city.state().status
        empty += status.bikes.count(0)
        full += present(status.docks_available).count(0)
    assert 0 < city.lost_trips < 0.5 * city.trips
    assert empty > 0
    assert full > 0


def test_late_stations_appear_in_the_feed_and_fill() -> None:
    city = City(150, seed=2, start=MONDAY)
    at_first = set(city.state().stations.station_id)
    city.advance(MONDAY + 4 * DAY)
    state = city.state()
    late = set(state.stations.station_id) - at_first
    assert len(at_first) == 147
    assert len(late) == 3
    bikes = dict(zip(state.status.station_id, state.status.bikes, strict=True))
    assert sum(present(bikes[station_id]) for station_id in late) > 0


def test_a_closed_station_keeps_its_bikes_and_opens_again() -> None:
    city = City(150, seed=4, start=MONDAY)
    reopened = 0
    closed: dict[int, list[int]] = {}
    for minute in range(1, 1440):
        city.advance(MONDAY + minute * dt.timedelta(minutes=1))
        state = city.state()
        index = {station_id: s for s, station_id in enumerate(city.map.ids)}
        for station_id, renting, returning in zip(
            state.status.station_id,
            present(state.status.is_renting),
            present(state.status.is_returning),
            strict=True,
        ):
            s = index[present(station_id)]
            stock = city.docked[s].tolist()
            assert renting == returning
            if renting:
                reopened += closed.pop(s, None) is not None
            elif s in closed:
                assert stock == closed[s]
            else:
                closed[s] = stock
    assert reopened > 0


def test_a_frozen_station_repeats_itself_while_the_truth_goes_on() -> None:
    city = City(600, seed=4, start=MONDAY + 6 * HOUR)
    city.advance(MONDAY + 12 * HOUR)
    state = city.state()
    index = {station_id: s for s, station_id in enumerate(city.map.ids)}
    truth = [
        int(city.docked[index[present(station_id)]].sum()) for station_id in state.status.station_id
    ]
    ages = int(state.now.timestamp()) - np.array(state.status.last_reported)
    stale = ages > 30 * 60
    wrong = np.array(truth) != np.array(state.status.bikes)
    assert 0 < stale.sum() < 0.1 * len(stale)
    assert wrong[stale].any()
    assert not wrong[ages == 0].any(), "who has just reported says the truth"


def test_what_the_feed_shows_adds_up() -> None:
    city = City(120, seed=9, start=MONDAY)
    city.advance(MONDAY + 15 * HOUR)
    state = city.state()
    bikes, docks = np.array(state.status.bikes), np.array(state.status.docks_available)
    kinds = np.array([state.status.mechanical, state.status.ebike])
    assert (kinds.sum(axis=0) == bikes).all()
    assert (bikes + docks == np.array(state.stations.capacity)).all()
    assert (kinds.sum(axis=1) > 0).all()
    assert state.now == state.last_updated == MONDAY + 15 * HOUR


def test_stations_have_distinct_names_ids_of_many_lengths_and_a_place_round_the_centre() -> None:
    where = to_grid(5000, (45.0, 4.0), np.random.default_rng(1))
    assert len(set(where.ids)) == len(set(where.names)) == 5000
    assert {len(station_id) for station_id in where.ids} == set(range(4, 11))
    km = np.hypot((where.lat - 45) * 111.2, (where.lon - 4) * 78.6)
    assert km == pytest.approx(np.hypot(where.x_km, where.y_km), abs=0.05)
    assert np.quantile(km, 0.95) < 12


def test_the_weather_is_a_years_weather() -> None:
    hours = list(itertools.islice(weather.hours(7, MONDAY, PARIS), 24 * 365))
    temperature = np.array([hour.temp_C for hour in hours])
    rain = np.array([hour.precip_mm for hour in hours])
    by_hour = temperature.reshape(-1, 24).mean(axis=0)
    assert by_hour[14] - by_hour[2] == pytest.approx(2 * weather.DAY_C, abs=1)
    assert temperature[: 24 * 90].mean() < temperature[24 * 240 : 24 * 300].mean() - 8
    assert 0.03 < (rain > 0).mean() < 0.15
    assert all(present(hour.wind_mps) > 0 for hour in hours)


def test_a_city_needs_a_station() -> None:
    with pytest.raises(ValueError, match="at least 1 station, not 0"):
        City(0)
