"""The feature stack: what it must not depend on, and what it must equal."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import START, changed, make_panel, mapped
from present import present
from velib_core.features.cal_features import calendar_features, school_holidays_end
from velib_core.features.flow_rates import smoothed_rates
from velib_core.features.profiles import (
    ProfileError,
    Profiles,
    empty_profiles,
    from_bytes,
    spread,
    to_bytes,
    update_with_day,
)
from velib_core.features.spatial_features import StaticFeatures, distance_km, fit_static_features
from velib_core.features.stack import (
    CONTRACT_FEATURES,
    FEATURES,
    SharedColumns,
    feature_rows,
    features_hash8,
    lookback_bins,
)
from velib_core.tables.panel import Panel, Stations
from velib_core.timeline.bins import BINS_PER_DAY, Bin, HorizonBins, bin_start, day_after, day_of
from velib_core.timeline.local_time import country_of, local_times
from velib_local.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Callable

H = HorizonBins(12)
DAYS = 3


def rows_at(panel: Panel, at: Any, *, static_features: Any = None, profiles: Any = None) -> Any:
    static_features = static_features or fit_static_features(panel.stations)
    profiles = profiles or past(panel)
    return feature_rows(panel, np.atleast_1d(at), H, static_features, profiles)


def past(panel: Panel, days: Any = DAYS - 1) -> Profiles:
    profiles = empty_profiles("Europe/Paris", (H,))
    for n in range(days):
        profiles = update_with_day(profiles, panel, day_after(day_of(panel.start), n))
    return profiles


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(days=DAYS)


@pytest.fixture(scope="module")
def static_features(panel: Panel) -> StaticFeatures:
    return fit_static_features(panel.stations)


@pytest.fixture(scope="module")
def profiles(panel: Panel) -> Profiles:
    return past(panel)


LAST_DAY = START + (DAYS - 1) * BINS_PER_DAY
SOME_BIN = st.integers(0, BINS_PER_DAY - 1)


def test_the_first_53_features_are_the_contracts_in_its_order() -> None:
    assert len(CONTRACT_FEATURES) == 53
    assert features_hash8(CONTRACT_FEATURES) == "05d0fddd"
    assert FEATURES[:53] == CONTRACT_FEATURES
    assert len(set(FEATURES)) == len(FEATURES)


@settings(max_examples=25, deadline=None)
@given(offset=SOME_BIN, seed=st.integers(0, 10_000))
def test_nothing_after_a_bin_changes_its_features(
    panel: Panel, static_features: StaticFeatures, profiles: Profiles, offset: Any, seed: int
) -> None:
    at = LAST_DAY + offset
    noise = np.random.default_rng(seed)

    def spoilt(array: Any) -> Any:
        other = array.copy()
        tail = other[at - panel.start + 1 :]
        tail[:] = np.where(noise.random(tail.shape) < 0.3, np.nan, noise.integers(0, 9, tail.shape))
        return other

    weather = {name: array.copy() for name, array in panel.weather.items()}
    for array in weather.values():
        array[at - panel.start + 1 :] = 99
    before = rows_at(panel, at, static_features=static_features, profiles=profiles)
    after = rows_at(
        changed(mapped(panel, spoilt), weather=weather),
        at,
        static_features=static_features,
        profiles=profiles,
    )
    np.testing.assert_array_equal(before, after)


@settings(max_examples=25, deadline=None)
@given(offset=SOME_BIN, extra=st.integers(0, 100), count=st.integers(1, 40))
def test_a_serving_row_is_the_training_row_bit_for_bit(
    panel: Panel,
    static_features: StaticFeatures,
    profiles: Profiles,
    offset: Any,
    extra: int,
    count: int,
) -> None:
    whole_day = np.arange(LAST_DAY, LAST_DAY + BINS_PER_DAY)
    training = rows_at(panel, whole_day, static_features=static_features, profiles=profiles)
    at = np.unique(np.minimum(offset + np.arange(count), BINS_PER_DAY - 1))
    start = Bin(int(whole_day[at[0]]) - lookback_bins(H) - extra)
    window = panel.window(start, Bin(int(whole_day[at[-1]]) + 1))
    serving = rows_at(window, whole_day[at], static_features=static_features, profiles=profiles)
    np.testing.assert_array_equal(serving, training[:, at])


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)), offset=SOME_BIN)
def test_a_station_has_the_same_features_whatever_the_other_stations_are(
    panel: Panel, static_features: StaticFeatures, profiles: Profiles, order: Any, offset: Any
) -> None:
    # A panel's stations are sorted by id: renaming them shuffles their places.
    order = np.array(order)
    table = panel.stations
    names = np.array([f"{2000 + n}" for n in range(6)])
    renamed = np.empty(6, names.dtype)
    renamed[order] = names
    place = np.argsort(renamed)

    def shuffled() -> Panel:
        moved = Stations(
            renamed[place],
            renamed[place],
            table.lat[place],
            table.lon[place],
            table.capacity[place],
        )
        return mapped(panel, lambda array: array[:, place], moved)

    at = LAST_DAY + offset
    other = shuffled()
    found = feature_rows(other, np.array([at]), H, fit_static_features(other.stations), past(other))
    expected = rows_at(panel, at, static_features=static_features, profiles=profiles)[:, :, place]
    same = [i for i, name in enumerate(FEATURES) if name != "kmeans_cluster"]
    np.testing.assert_allclose(found[same], expected[same], rtol=1e-5, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(first=st.integers(2, 40), length=st.integers(1, 60))
def test_a_hole_moves_nothing_but_what_looked_into_it(
    panel: Panel, static_features: StaticFeatures, profiles: Profiles, first: int, length: int
) -> None:
    at = LAST_DAY + 200
    row = at - panel.start
    bikes = panel["bikes"].copy()
    bikes[row - first - length + 1 : row - first + 1] = np.nan
    before = rows_at(panel, at, static_features=static_features, profiles=profiles)[:, 0]
    after = rows_at(
        changed(panel, {"bikes": bikes}), at, static_features=static_features, profiles=profiles
    )[:, 0]
    inside = range(first, first + length)
    for lag in (1, 2, 3, 6, 12, 24, 36, 48):
        i = FEATURES.index(f"lag_bikes_{lag}")
        if lag in inside:
            assert np.isnan(after[i]).all()
        else:
            np.testing.assert_array_equal(after[i], before[i])
    for width in (3, 6, 12, 24, 36, 48):
        if width < first:
            for name in (f"roll_mean_{width}", f"roll_std_{width}"):
                i = FEATURES.index(name)
                np.testing.assert_array_equal(after[i], before[i])


def test_lags_and_windows_equal_pandas_on_the_time_grid(
    panel: Panel, static_features: StaticFeatures, profiles: Profiles
) -> None:
    at = np.arange(LAST_DAY, LAST_DAY + BINS_PER_DAY, 7)
    found = rows_at(panel, at, static_features=static_features, profiles=profiles)
    series = pd.DataFrame(panel["bikes"].astype(float))
    rows = at - panel.start
    for lag in (1, 6, 48):
        expected = series.shift(lag).to_numpy()[rows]
        np.testing.assert_array_equal(found[FEATURES.index(f"lag_bikes_{lag}")], expected)
    for width in (3, 12, 48):
        window = series.shift(1).rolling(width, min_periods=max(1, width // 2))
        np.testing.assert_allclose(
            found[FEATURES.index(f"roll_mean_{width}")], window.mean().to_numpy()[rows], rtol=1e-5
        )
        np.testing.assert_allclose(
            found[FEATURES.index(f"roll_std_{width}")],
            window.std().to_numpy()[rows],
            rtol=1e-4,
            atol=1e-4,
        )


def test_a_station_the_model_never_met_has_no_place_and_no_past(
    panel: Panel, profiles: Profiles
) -> None:
    known = Stations(
        panel.stations.ids[:5],
        panel.stations.names[:5],
        panel.stations.lat[:5],
        panel.stations.lon[:5],
        panel.stations.capacity[:5],
    )
    five = mapped(panel, lambda array: array[:, :5], known)
    found = feature_rows(panel, np.array([LAST_DAY]), H, fit_static_features(known), past(five))[
        :, 0
    ]
    stranger = dict(zip(FEATURES, found[:, 5], strict=True))
    for name in (
        "lat",
        "dist_center_km",
        "kmeans_cluster",
        "knn_mean_bikes_lag1",
        "profile_change",
        "around_occ",
    ):
        assert np.isnan(stranger[name])
    assert stranger["profile_weight"] == 0
    neighbour = feature_rows(five, np.array([LAST_DAY]), H, fit_static_features(known), past(five))[
        :, 0
    ]
    own = [i for i, name in enumerate(FEATURES) if "network" not in name and "paced" not in name]
    np.testing.assert_array_equal(found[own, :5], neighbour[own])


def test_what_no_horizon_enters_is_computed_once_and_the_same(
    panel: Panel, static_features: StaticFeatures
) -> None:
    horizons = HorizonBins(3), H
    profiles = empty_profiles("Europe/Paris", horizons)
    profiles = update_with_day(profiles, panel, day_of(panel.start))
    moved = dataclasses.replace(static_features, columns=static_features.columns + 1)
    shared: SharedColumns = {}
    at = np.array([LAST_DAY + 7])
    for learnt, computed in ((static_features, 1), (moved, 2)):
        for horizon in horizons:
            alone = feature_rows(panel, at, horizon, learnt, profiles)
            together = feature_rows(panel, at, horizon, learnt, profiles, shared=shared)
            np.testing.assert_array_equal(together, alone)
        assert len(shared) == computed


def test_a_station_without_a_past_has_the_rates_of_one_without_counts(
    panel: Panel, profiles: Profiles
) -> None:
    ids = np.array(["0", *panel.stations.ids[1:], "zz"])
    flow = spread(profiles.flow, profiles.stations, ids)
    exposure, *counts = np.concatenate([flow, profiles.flow[..., :1]], axis=-1)
    expected = [smoothed_rates(exposure, counted)[..., :-1] for counted in counts]
    np.testing.assert_array_equal(profiles.flow_rates_of(ids), expected)


def test_an_empty_history_gives_features_and_no_error(
    panel: Panel, static_features: StaticFeatures
) -> None:
    dark = mapped(panel, lambda array: np.full_like(array, np.nan))
    found = rows_at(
        dark,
        LAST_DAY,
        static_features=static_features,
        profiles=empty_profiles("Europe/Paris", (H,)),
    )
    assert found.shape == (len(FEATURES), 1, 6)
    assert np.isnan(found[FEATURES.index("bikes")]).all()


def test_local_time_follows_both_changes_of_clocks() -> None:
    zone = zoneinfo.ZoneInfo("Europe/Paris")
    for day in ("2025-03-30", "2025-10-26"):
        start = int(dt.datetime.fromisoformat(day + "T00:00+00:00").timestamp()) // 300
        bins = np.arange(start - 12, start + 36)
        found = local_times(bins, "Europe/Paris")
        for bin_, minute, dow in zip(bins, found.minute, found.dow, strict=True):
            local = bin_start(Bin(int(bin_))).astimezone(zone)
            assert (minute, dow) == (local.hour * 60 + local.minute, local.weekday())


def test_holidays_are_those_of_the_networks_country() -> None:
    def flags(day: str, tz: str) -> Any:
        start = int(dt.datetime.fromisoformat(day + "T12:00+00:00").timestamp()) // 300
        columns = calendar_features(np.array([start]), tz)
        return columns["is_public_holiday"][0], columns["is_school_holiday"][0]

    assert flags("2025-07-14", "Europe/Paris") == (1, 1)
    assert flags("2025-07-04", "Europe/Paris") == (0, 0)
    holiday, school = flags("2025-07-04", "America/Chicago")
    assert holiday == 1
    assert np.isnan(school)


@pytest.mark.parametrize(
    ("place", "zone", "country"),
    [
        ((41.88, -87.63), "America/Chicago", "US"),
        ((32.72, -117.16), "America/Los_Angeles", "US"),  # Tijuana is nearer than Los Angeles
        ((25.04, 121.56), "Asia/Taipei", "TW"),
        ((45.76, 4.83), "Europe/Paris", "FR"),  # so are Zurich and Andorra, than Paris
        ((43.73, 7.42), "Europe/Monaco", "MC"),
        ((52.37, 4.90), "Europe/Amsterdam", "NL"),  # shares its rules with Brussels
    ],
)
def test_a_networks_zone_and_holidays_are_those_of_where_it_is(
    place: Any, zone: str, country: str
) -> None:
    assert zone_of([place, (0, 0), (np.nan, np.nan), (999, 0)]) == zone
    assert country_of(zone) == country


def test_a_network_without_places_keeps_utc() -> None:
    assert zone_of([(0, 0), (np.nan, 2)]) == "UTC"
    assert zone_of([]) == "UTC"


def test_the_end_of_the_table_of_school_holidays_is_announced_half_a_year_before() -> None:
    end = dt.date(2027, 9, 1)
    announced = {
        days: school_holidays_end(end - dt.timedelta(days), "Europe/Paris")
        for days in (-400, 0, 180, 181)
    }
    assert announced == {-400: end, 0: end, 180: end, 181: None}
    assert school_holidays_end(end, "America/Chicago") is None


def test_distances_are_great_circles() -> None:
    # Paris to London, 343.6 km by the haversine formula on a sphere of 6371 km.
    found = distance_km(np.array([51.5074]), np.array([-0.1278]), 48.8566, 2.3522)
    assert found[0] == pytest.approx(343.6, abs=0.2)


def test_neighbours_are_the_nearest_by_distance(panel: Panel) -> None:
    static_features = fit_static_features(panel.stations)
    for s in range(6):
        away = distance_km(
            panel.stations.lat, panel.stations.lon, panel.stations.lat[s], panel.stations.lon[s]
        )
        away[s] = np.inf
        assert static_features.neighbours[s, 0] == np.argmin(away)
        assert (static_features.neighbours[s] >= 0).sum() == 5


def test_a_profile_is_the_plain_sum_over_its_days(panel: Panel, profiles: Profiles) -> None:
    bikes = panel["bikes"]
    delta = np.full_like(bikes, np.nan)
    delta[:-H] = bikes[H:] - bikes[:-H]
    local = local_times(np.arange(panel.start, panel.start + panel.bins), "Europe/Paris")
    expected = np.zeros(6)
    closes = (DAYS - 1) * BINS_PER_DAY
    for t in range(closes - H):
        if local.day_type[t] == 0 and local.minute[t] // 30 == 17:
            expected += np.nan_to_num(delta[t])
    np.testing.assert_array_equal(profiles.change[0, 1, 0, 17], expected)


def test_a_day_counts_once(panel: Panel, profiles: Profiles) -> None:
    with pytest.raises(ValueError, match="already hold"):
        update_with_day(profiles, panel, present(profiles.through))


def test_profiles_do_not_see_past_the_day_they_close(panel: Panel, profiles: Profiles) -> None:
    bikes = panel["bikes"].copy()
    bikes[(DAYS - 1) * BINS_PER_DAY :] = 0
    again = past(changed(panel, {"bikes": bikes}))
    np.testing.assert_array_equal(again.change, profiles.change)
    np.testing.assert_array_equal(again.level, profiles.level)


def test_profiles_survive_their_bytes_and_give_equal_ones(profiles: Profiles) -> None:
    data = to_bytes(profiles)
    again = from_bytes(data)
    assert to_bytes(again) == data
    np.testing.assert_array_equal(again.change, profiles.change)
    assert again.through == profiles.through


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda _: b"PK", lambda _: b""])
def test_damaged_profiles_are_refused(profiles: Profiles, damage: Callable[..., Any]) -> None:
    with pytest.raises(ProfileError):
        from_bytes(damage(to_bytes(profiles)))
