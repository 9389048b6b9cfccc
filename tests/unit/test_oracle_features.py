"""Every feature against its definition: naive, station by station (`oracles.features`)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.stats
from oracles import features as oracle
from oracles import profiles as oracle_profiles
from oracles.observations import Observations, known, plain
from panels import changed, make_panel
from sklearn.cluster import KMeans
from velib_core.features.cal_features import (
    CALENDAR_FEATURES,
    LOCAL_CALENDAR_FEATURES,
    calendar_features,
)
from velib_core.features.profiles import CHANGE_SUMS, Profiles, empty_profiles, update_with_day
from velib_core.features.spatial_features import StaticFeatures, fit_static_features
from velib_core.features.stack import FEATURES, feature_rows
from velib_core.tables.panel import Panel, Stations
from velib_core.timeline.bins import Day, HorizonBins, first_bin, parse_day

if TYPE_CHECKING:
    from oracles.profiles import Profile

TZ = "Europe/Paris"
STATIONS = 203
"""So many that a feed can be recognised as frozen; the rows of some are compared."""

UNMET = 202
"""The column of a station that the model was not trained on."""


@dataclasses.dataclass(frozen=True)
class Season:
    """A change of clocks: days that fill profiles, then bins whose rows are compared."""

    start: str
    days: int
    horizon: int
    profiled: tuple[str, ...]
    rows: tuple[str, ...]


SPRING = Season(
    "2025-03-23",
    9,
    12,
    ("2025-03-23", "2025-03-28", "2025-03-29"),
    (
        "2025-03-30T00:00",
        "2025-03-30T00:40",
        "2025-03-30T00:55",
        "2025-03-30T01:00",
        "2025-03-30T02:50",
        "2025-03-30T12:15",
        "2025-03-30T21:55",
        "2025-03-30T22:05",
    ),
)
SPRING_AFTER = dataclasses.replace(
    SPRING,
    profiled=("2025-03-28", "2025-03-30"),
    rows=("2025-03-31T00:05", "2025-03-31T01:30", "2025-03-31T16:45"),
)
AUTUMN = Season(
    "2025-10-24",
    9,
    3,
    ("2025-10-24", "2025-10-25", "2025-10-26", "2025-10-27"),
    ("2025-10-28T00:10", "2025-10-28T00:25", "2025-10-28T06:10", "2025-10-28T22:50"),
)
HOLIDAY = dataclasses.replace(
    AUTUMN, profiled=("2025-10-26", "2025-10-31"), rows=("2025-11-01T08:20", "2025-11-01T22:55")
)
FIRST_DAY = dataclasses.replace(SPRING, profiled=(), rows=("2025-03-23T10:00",))


def offset(panel: Panel, stamp: str) -> int:
    return bin_of(stamp) - panel.start


def bin_of(stamp: str) -> int:
    return int(dt.datetime.fromisoformat(stamp + "+00:00").timestamp()) // 300


@functools.cache
def panel_of(start: str, days: int) -> Panel:
    """A network with every kind of gap, in the middle of which its feed freezes for a while."""
    day = parse_day(start)
    panel = make_panel(days=days, stations=STATIONS, seed=days, missing=0.12, start=first_bin(day))
    values = {name: array.copy() for name, array in panel.values.items()}
    gone = np.zeros(values["bikes"].shape, bool)
    gone[:, 5] = True  # known of old, never seen
    gone[: 7 * 288 - 40, 6] = True  # new: from the last evening but one
    gone[5 * 288 :, 7] = True  # closed for good
    gone[np.arange(len(gone)) % 3 != 0, 8] = True  # seen every 15 minutes
    gone[np.arange(len(gone)) % 8 != 0, 9] = True  # seen less often than a step may be long
    for array in values.values():
        array[gone] = np.nan
    values["capacity"][:, 10] = 0
    values["capacity"][:, 11] = np.nan
    values["docks_available"][:, 12:16] = np.nan
    values["docks_available"][:, 16] -= 1
    values["ok"][:, 17] = 0
    values["ok"][:, 18] = np.nan
    values["age_min"][:, 19], values["age_min"][:, 20] = -900, 99_999
    values["mechanical"][:, 21] = np.nan
    values["bikes"][:, 22] = 7  # never moves
    weather = {name: array.copy() for name, array in panel.weather.items()}
    weather["temp_C"][::5] = np.nan
    freeze(values["bikes"])
    return dataclasses.replace(
        changed(panel, values, weather), stations=places(panel.stations, values["capacity"])
    )


def freeze(bikes: Any) -> None:
    """Frozen spells on profiled days and before rows; at the last too few stations are seen."""
    for at, length, seen in (
        (3 * 288 + 60, 40, 200),
        (6 * 288 + 250, 30, 200),
        (7 * 288 + 120, 20, 200),
        (2 * 288 + 100, 40, 199),
    ):
        bikes[at : at + length] = np.where(np.isnan(bikes[at]), 5, bikes[at])
        bikes[at : at + length, [5, 199, 198, 197][: STATIONS - seen]] = np.nan


def places(stations: Stations, capacity: Any) -> Stations:
    """Stations of which one has no place, and two stand at the same point."""
    lat, lon, docks = stations.lat.copy(), stations.lon.copy(), stations.capacity.copy()
    lat[23] = lon[23] = np.nan
    lat[25], lon[25] = lat[24], lon[24]
    docks[10], docks[11] = 0, np.nan
    return Stations(stations.ids, stations.names, lat, lon, docks)


@functools.cache
def seen_of(start: str, days: int) -> Observations:
    """Return the same observations for the oracle; a station never met has no place for it."""
    panel = panel_of(start, days)
    stations = panel.stations
    located = zip(plain(stations.lat), plain(stations.lon), strict=True)
    return Observations(
        panel.start,
        stations.ids.tolist(),
        [None if s == UNMET or place[0] is None else place for s, place in enumerate(located)],
        plain(stations.capacity),
        {name: plain(array.T) for name, array in panel.values.items()},
        {name: plain(array) for name, array in panel.weather.items()},
    )


def met(panel: Panel) -> Stations:
    """The stations that a model was trained on: all but one."""
    columns = (getattr(panel.stations, f.name) for f in dataclasses.fields(Stations))
    return Stations(*(np.delete(column, UNMET) for column in columns))


@functools.cache
def neighbours_of(start: str, days: int) -> list[list[int]]:
    return oracle.neighbours(seen_of(start, days))


@functools.cache
def static_features_of(start: str, days: int) -> StaticFeatures:
    return fit_static_features(met(panel_of(start, days)))


def days_of(season: Season) -> list[Day]:
    return [parse_day(day) for day in season.profiled]


@functools.cache
def profiles_of(season: Season) -> Profiles:
    profiles = empty_profiles(TZ, (HorizonBins(season.horizon),))
    for day in days_of(season):
        profiles = update_with_day(profiles, panel_of(season.start, season.days), day)
    return profiles


@functools.cache
def profile_by_definition(season: Season) -> Profile:
    seen = seen_of(season.start, season.days)
    return oracle_profiles.profile_of(seen, days_of(season), season.horizon, TZ)


@functools.cache
def computed(season: Season) -> Any:
    """Return the features by the code, and by the definitions for some stations."""
    panel, seen = panel_of(season.start, season.days), seen_of(season.start, season.days)
    static_features = static_features_of(season.start, season.days)
    neighbours = neighbours_of(season.start, season.days)
    profiled = profile_by_definition(season)
    at = np.array([bin_of(stamp) for stamp in season.rows])
    found = feature_rows(
        panel, at, HorizonBins(season.horizon), static_features, profiles_of(season)
    )
    some = [*range(26), *range(30, 200, 34), UNMET]
    rows = [
        oracle.Row(
            seen,
            profiled,
            s,
            t,
            neighbours[s],
            oracle.centre(seen),
            cluster_of(static_features, s),
        )
        for t in at.tolist()
        for s in some
    ]
    return found[:, :, some].reshape(len(FEATURES), -1), rows


def cluster_of(static_features: StaticFeatures, s: int) -> Any:
    """Return what k-means said of a station; that has a test of its own."""
    return (None, None) if s == UNMET else tuple(plain(static_features.columns[s, 5:]))


SEASONS = (SPRING, SPRING_AFTER, AUTUMN, HOLIDAY, FIRST_DAY)


@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_is_what_it_is_defined_as(name: Any) -> None:
    assert name in oracle.DEFINITIONS, f"{name} has no definition in tests/oracles/features.py"
    for season in SEASONS:
        found, rows = computed(season)
        expected = np.array([oracle.value(name, row) for row in rows], float)
        np.testing.assert_allclose(
            found[FEATURES.index(name)],
            np.array(expected, np.float64),
            rtol=2e-5,
            atol=2e-5,
            err_msg=str(season),
        )


@pytest.mark.parametrize("season", SEASONS, ids=lambda season: season.rows[0])
def test_profiles_are_the_sums_of_their_definition(season: Any) -> None:
    panel = panel_of(season.start, season.days)
    profiles = profiles_of(season)
    profiled = profile_by_definition(season)
    assert set(profiles.stations) == (set(panel.stations.ids) if season.profiled else set())
    for n, name in enumerate(oracle_profiles.SUMS):
        _assert_sums(profiles, profiles.change[0, n], {k: v[n] for k, v in profiled.change.items()})
        assert CHANGE_SUMS[n] == {"zeros": "still"}.get(name, name)
    for n in (0, 1):
        sums = {key: value[n] for key, value in profiled.level.items()}
        _assert_sums(profiles, profiles.level[n], sums)
    activity = np.nan if profiled.activity is None else profiled.activity
    np.testing.assert_allclose(profiles.relative_activity[0], activity, rtol=1e-9)


def test_the_networks_stand_still_now_and_then() -> None:
    for season in (SPRING, AUTUMN):
        seen = seen_of(season.start, season.days)
        frozen = [t for t in range(9 * 288) if oracle_profiles.is_frozen(seen, seen.start + t)]
        hours = {t // 288 for t in frozen}
        assert hours == {3, 6, 7}
        assert len(frozen) == 28 + 18 + 8


def _assert_sums(profiles: Profiles, found: Any, expected: Any) -> None:
    place = {station: s for s, station in enumerate(profiles.stations.tolist())}
    sums = np.zeros_like(found)
    for (station, kind, slot), value in expected.items():
        sums[kind, slot, place[station]] = value
    np.testing.assert_array_equal(found, sums)


def test_every_feature_is_documented_once_and_nothing_else() -> None:
    text = (Path(__file__).parents[2] / "docs/FEATURES.md").read_text("utf-8")
    table = text.partition("<!-- features -->")[2].partition("<!-- end -->")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert documented == list(FEATURES)
    assert set(oracle.DEFINITIONS) == set(FEATURES)
    assert f"## The {len(FEATURES)} features" in text


def test_the_calendar_is_the_laws_and_the_ministrys() -> None:
    bins = np.arange(bin_of("2024-11-01T00:00"), bin_of("2026-01-01T00:00"), 101)
    found = calendar_features(bins, TZ)
    past = oracle_profiles.profile_of(EMPTY, [], 12, TZ)
    for name in (*CALENDAR_FEATURES, *LOCAL_CALENDAR_FEATURES):
        rows = (oracle.Row(EMPTY, past, 0, t, [], (0, 0), (0, 0)) for t in bins.tolist())
        expected = np.array([oracle.value(name, row) for row in rows], float)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-6, err_msg=name)


EMPTY = Observations(0, [], [], [], {}, {})


@pytest.mark.parametrize(
    ("stamp", "tz"), [("2025-07-14T12:00", "America/Chicago"), ("2031-07-14T12:00", TZ)]
)
def test_school_holidays_are_unknown_elsewhere_and_after_the_known_years(
    stamp: str, tz: Any
) -> None:
    assert np.isnan(calendar_features(np.array([bin_of(stamp)]), tz)["is_school_holiday"][0])


@pytest.mark.parametrize("unknown", [0, 1, 12])
def test_clusters_are_k_means_over_scaled_kilometres_and_docks_numbered_by_docks(
    unknown: int,
) -> None:
    rng = np.random.default_rng(5)
    lat, lon = 45 + rng.normal(0, 0.05, 80), 5 + rng.normal(0, 0.05, 80)
    docks = rng.integers(6, 60, 80).astype(np.float32)
    docks[10 : 10 + unknown] = np.nan
    ids = np.array([f"{n:03d}" for n in range(80)])
    found = fit_static_features(Stations(ids, ids, lat, lon, docks)).columns
    filled = [statistics.median(known(plain(docks))) if d is None else d for d in plain(docks)]
    scale = math.radians(1) * 6371
    east = [x * math.cos(math.radians(statistics.fmean(lat))) * scale for x in lon]
    columns = [east, [y * scale for y in lat], filled]
    points = np.column_stack([scipy.stats.zscore(column) for column in columns])
    label = found[:, 5].astype(int)
    assert set(label) == set(range(30))
    centroids = np.stack([points[label == k].mean(0) for k in range(30)])
    away = ((points[:, None] - centroids) ** 2).sum(2)
    # At its end k-means has every point with the nearest of the means.
    assert (away.argmin(1) == label).all()
    theirs = KMeans(30, n_init=10, random_state=42).fit(points).inertia_
    assert away.min(1).sum() == pytest.approx(theirs, rel=0.15)
    means = [np.mean([filled[s] for s in np.flatnonzero(label == k)]) for k in range(30)]
    assert means == sorted(means)
    np.testing.assert_allclose(found[:, 6], [means[k] for k in label], rtol=1e-6)


def test_stations_far_out_do_not_move_the_centre() -> None:
    ids = np.array(["a", "b", "c"])
    lat, lon = np.array([41.80, 41.90, 42.90]), np.array([-87.60, -89.00, -87.70])
    docks = np.full(3, 20, np.float32)
    found = fit_static_features(Stations(ids, ids, lat, lon, docks)).columns[:, 2]
    expected = [oracle.distance(place, (41.90, -87.70)) for place in zip(lat, lon, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_centre_is_the_contracts_near_paris_and_the_median_station_elsewhere() -> None:
    ids = np.array(["a", "b", "c"])
    lon = np.array([2.40, 2.34, 2.39])
    docks = np.full(3, 20, np.float32)
    for north, centre in ((0.0, oracle.PARIS), (0.44, oracle.PARIS), (0.46, None)):
        lat = np.array([48.86, 48.84, 48.85]) + north
        found = fit_static_features(Stations(ids, ids, lat, lon, docks)).columns[:, 2]
        middle = centre or (48.85 + north, 2.39)
        expected = [oracle.distance(place, middle) for place in zip(lat, lon, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
