"""Distributions, blending and what is published, against `oracles.forecasts`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from oracles import forecasts as oracle
from oracles.observations import Observations, plain
from panels import changed, make_panel
from velib_core.features.profiles import empty_profiles
from velib_core.features.spatial_features import fit_static_features
from velib_core.features.stack import FEATURES, lookback_bins
from velib_core.model.blending import BLEND_WEIGHTS, Calibration, add_day, fresh_calibration
from velib_core.model.change_distribution import (
    MAX_CHANGE,
    ChangeClasses,
    ceiling,
    chance_of_fall,
    chance_of_rise,
    count_changes,
    fit_classes,
    mean_change,
    median_change,
)
from velib_core.model.inference import (
    blend_with_persistence,
    ceilings,
    class_probabilities,
    predict,
)
from velib_core.model.rows import PastDay, rows_of_day
from velib_core.tables.panel import capacities, free_docks
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import Bin, HorizonBins, bin_start, day_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from oracles.forecasts import Blend
    from velib_core.tables.panel import Panel

SHORT, LONG = HorizonBins(3), HorizonBins(12)


def sample(seed: int, spread: float) -> NDArray[Any]:
    changes = np.random.default_rng(seed).standard_t(2, 4000) * spread
    changes[:3] = (np.nan, 500, -500)
    return changes.astype(np.float32)


@functools.cache
def fitted(seed: int, spread: float) -> Any:
    changes = sample(seed, spread)
    return fit_classes(count_changes(changes)), oracle.classes_of(changes.tolist())


SPREADS = (0.05, 0.4, 1.5, 6.0)
FITTED = [(seed, spread) for seed in (0, 1) for spread in SPREADS]


def probabilities(classes: ChangeClasses, seed: int, n: int = 12) -> NDArray[Any]:
    """Sure, doubtful and even rows; the rows that tie at a half among them."""
    rng = np.random.default_rng(seed)
    count = len(classes.lows)
    drawn = rng.dirichlet(np.full(count, 0.3), n)
    drawn[0] = np.eye(count)[rng.integers(count)]
    drawn[1] = (np.eye(count)[classes.unchanged] + np.eye(count)[0]) / 2
    drawn[2] = (np.eye(count)[classes.unchanged] + np.eye(count)[-1]) / 2
    return drawn.astype(np.float32)


@pytest.mark.parametrize("fit", FITTED)
def test_classes_and_the_shares_within_them(fit: Any) -> None:
    found, expected = fitted(*fit)
    assert found.lows.tolist() == [min(shares) for shares in expected]
    for shares, of_class in zip(found.shares, expected, strict=True):
        integers = [of_class.get(d, 0) for d in range(-MAX_CHANGE, MAX_CHANGE + 1)]
        np.testing.assert_allclose(shares, integers, rtol=1e-9)
    changes = np.array([-300, -61, -14, -13, -2, -1, 0, 1, 2, 3.4, 5, 8, 9, 14, 60, 99], np.float32)
    assert found.of(changes).tolist() == [oracle.class_of(expected, c) for c in changes.tolist()]
    assert found.unchanged == oracle.class_of(expected, 0)


@pytest.mark.parametrize(
    ("rises", "falls", "lows"),
    [
        # Two of a thousand are the least share; what is further out counts for an inner class too.
        ({4: 2}, {}, [-60, 0, 1, 2, 3, 4]),
        ({4: 1}, {}, [-60, 0, 1]),
        ({4: 1, 9: 1}, {2: 2}, [-60, -1, 0, 1, 2, 3, 4]),
        ({14: 2}, {}, [-60, 0, 1, 2, 3, 4, 6, 9, 14]),
        ({13: 2}, {13: 2}, [-60, -8, -5, -3, -2, -1, 0, 1, 2, 3, 4, 6, 9]),
    ],
)
def test_a_class_holds_two_of_a_thousand_changes_of_its_magnitude_and_more(
    rises: dict[int, int], falls: dict[int, int], lows: list[int]
) -> None:
    moved = [d for d, n in rises.items() for _ in range(n)]
    moved += [-d for d, n in falls.items() for _ in range(n)]
    changes = np.array(moved + [0] * (1000 - len(moved)), np.float32)
    assert fit_classes(count_changes(changes)).lows.tolist() == lows


def test_no_change_at_all_is_nothing_to_learn_from() -> None:
    with pytest.raises(ValueError, match="no change to learn from"):
        fit_classes(count_changes(np.array([np.nan], np.float32)))


@pytest.mark.parametrize("fit", FITTED)
@pytest.mark.parametrize("weight", BLEND_WEIGHTS)
def test_the_median_of_a_blended_distribution(fit: Any, weight: Any) -> None:
    found, expected = fitted(*fit)
    rows = probabilities(found, 5)
    medians = [oracle.median_change(expected, row.tolist(), weight) for row in rows]
    np.testing.assert_allclose(median_change(found, rows, weight), medians, atol=2e-3)
    assert np.rint(median_change(found, rows, weight))[1:3].tolist() == [0, 0]


@pytest.mark.parametrize("fit", FITTED)
def test_the_mean_and_the_tails(fit: Any) -> None:
    found, expected = fitted(*fit)
    rows = probabilities(found, 6)
    means = [oracle.mean_change(expected, row.tolist()) for row in rows]
    np.testing.assert_allclose(mean_change(found, rows), means, rtol=1e-5, atol=1e-5)
    for limit in (-200, -61, -60, -3, -1.5, -1, 0, 0.5, 1, 2, 60, 61, 200):
        least = np.full(len(rows), limit, np.float32)
        rises = [
            oracle.chance(expected, row.tolist(), functools.partial(np.less_equal, limit))
            for row in rows
        ]
        falls = [
            oracle.chance(expected, row.tolist(), functools.partial(np.greater_equal, limit))
            for row in rows
        ]
        np.testing.assert_allclose(chance_of_rise(found, rows, least), rises, atol=1e-5)
        np.testing.assert_allclose(chance_of_fall(found, rows, least), falls, atol=1e-5)


def test_the_ceiling_is_the_capacity_or_the_bikes_there() -> None:
    bikes = np.array([5, 30, 3, 3, 20], np.float32)
    capacity = np.array([20, 20, 0, np.nan, 20], np.float32)
    np.testing.assert_array_equal(ceiling(bikes, capacity), [20, 30, 0, np.nan, 20])


@dataclasses.dataclass
class Saying:
    """A booster that gives fixed probabilities."""

    probability: NDArray[Any]

    def inplace_predict(self, features: Any) -> ndarray:
        return self.probability[: len(features)].copy()


@dataclasses.dataclass
class Pack:
    model: Saying
    classes: object
    horizon_bins: HorizonBins = LONG
    feat_cols: tuple[str, ...] = FEATURES
    static_features: object = None


ACTIVITY = st.one_of(st.none(), st.floats(0, 3, width=32))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(ACTIVITY, ACTIVITY, st.floats(0, 60, width=32)), min_size=1, max_size=12))
def test_activity_damping(rows: list[Any]) -> None:
    found, expected = fitted(0, 1.5)
    said = probabilities(found, 7)
    features = np.full((len(rows), len(FEATURES)), np.nan, np.float32)
    for row, (hour, yesterday, weight) in zip(features, rows, strict=True):
        row[FEATURES.index("network_pace_1h")] = np.nan if hour is None else hour
        row[FEATURES.index("network_pace_yesterday")] = np.nan if yesterday is None else yesterday
        row[FEATURES.index("profile_weight")] = weight
        row[FEATURES.index("network_pace_3h")] = 0.1
    pack: Any = Pack(Saying(said), found)
    damped = class_probabilities(pack, features)
    unchanged = oracle.class_of(expected, 0)
    for row, (hour, yesterday, weight), before in zip(damped, rows, said, strict=False):
        hoped = oracle.damped(before.tolist(), unchanged, [hour, yesterday], weight)
        np.testing.assert_allclose(row, hoped, rtol=1e-4, atol=1e-6)


DAY = st.tuples(st.integers(0, 10_000), st.sampled_from([-1, 0, 1, 3]))


def hindcasts_of(classes: ChangeClasses, seed: int, lean: int) -> Any:
    """Hindcasts of a day: probabilities, bikes, capacity, docks and what came true."""
    rng = np.random.default_rng(seed)
    rows = probabilities(classes, seed, 14)
    bikes = rng.integers(0, 24, len(rows)).astype(np.float32)
    capacity = np.full(len(rows), 20, np.float32)
    docks = np.maximum(capacity - bikes - rng.integers(0, 2, len(rows)), 0).astype(np.float32)
    docks[5] = np.nan
    likely = np.rint(mean_change(classes, rows)) * lean + rng.integers(-1, 2, len(rows))
    true = np.clip(bikes + likely, 0, 24).astype(np.float32)
    return rows, bikes, capacity, docks, true, np.maximum(capacity - true, 0)


def blended(fit: tuple[int, float], days: Any) -> tuple[Calibration, Blend]:
    """The calibration after some days, by the code and by the definition."""
    classes, expected = fitted(*fit)
    calibration, blend = fresh_calibration(), oracle.Blend()
    for seed, lean in days:
        rows, *others = hindcasts_of(classes, seed, lean)
        calibration = add_day(calibration, classes, rows, *others)
        columns = (rows.tolist(), *(column.tolist() for column in others))
        blend.add_day(expected, zip(*columns, strict=True))
    return calibration, blend


@settings(max_examples=25, deadline=None)
@given(st.lists(DAY, max_size=6))
def test_blend_weights_are_those_that_did_best_of_late(days: list[Any]) -> None:
    calibration, blend = blended((0, 1.5), days)
    np.testing.assert_allclose(BLEND_WEIGHTS, oracle.WEIGHTS)
    np.testing.assert_allclose(calibration.gain, blend.gain, atol=1e-6)
    assert calibration.days == blend.days
    for sums, reliability in ((calibration.bike, blend.bike), (calibration.dock, blend.dock)):
        np.testing.assert_allclose(sums.sum(axis=1), np.sum(reliability.bins, axis=0), rtol=1e-5)
    found = (calibration.persistence, calibration.cross, calibration.square, calibration.n)
    expected = (blend.persistence, blend.cross, blend.square, blend.n)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert calibration.mean_blend_weight == pytest.approx(blend.mean_weight(), abs=1e-6)
    gains = np.round(calibration.gain, 9)
    rounded = dataclasses.replace(calibration, gain=gains)
    blend.gain, blend.persistence = gains.tolist(), calibration.persistence
    for horizon in (SHORT, HorizonBins(6), HorizonBins(7), LONG):
        assert rounded.blend_weight(horizon) == pytest.approx(blend.median_weight(horizon))


@pytest.mark.parametrize("days", range(4))
@pytest.mark.parametrize("horizon", [SHORT, HorizonBins(6), HorizonBins(7), LONG])
def test_a_bold_weight_has_to_gain_more_than_it_costs(horizon: Any, days: int) -> None:
    blend = oracle.Blend()
    blend.persistence, blend.days = 1000.0, days
    found = set()
    for full, nearly in itertools.product(np.linspace(0, 50, 101), (0.0, 0.5, 5.0, 20.0)):
        blend.gain = [full, nearly, *[0.1] * (len(BLEND_WEIGHTS) - 2)]
        calibration = dataclasses.replace(
            fresh_calibration(), gain=np.array(blend.gain), persistence=1000.0, days=days
        )
        found.add(calibration.blend_weight(horizon))
        assert calibration.blend_weight(horizon) == pytest.approx(blend.median_weight(horizon))
    assert found == {0.5, 0.95, 1.0}


@settings(max_examples=25, deadline=None)
@given(st.lists(DAY, max_size=2), st.integers(0, 10_000), st.sampled_from([SHORT, LONG]))
def test_published_numbers(days: list[Any], seed: int, horizon: Any) -> None:
    calibration, blend = blended((1, 0.4), days)
    gains = np.round(calibration.gain, 9)
    # A probability at an edge may fall into either bin: both have the definition's sums.
    bike, dock = (np.array(sums.bins).T for sums in (blend.bike, blend.dock))
    calibration = dataclasses.replace(calibration, gain=gains, bike=bike, dock=dock)
    blend.gain, blend.persistence = gains.tolist(), calibration.persistence
    classes, expected = fitted(1, 0.4)
    rows, bikes, capacity, docks, *_ = hindcasts_of(classes, seed, 0)
    pack: Any = Pack(Saying(rows), classes, horizon)
    found = blend_with_persistence(pack, calibration, rows, bikes, capacity, docks)
    for n, row in enumerate(rows.tolist()):
        at = (float(bikes[n]), float(capacity[n]), float(docks[n]))
        median, integers, *others = oracle.published(expected, row, blend, horizon, *at)
        assert found.median[n] == pytest.approx(median, abs=2e-3)
        assert found.rounded[n] == integers or abs(median % 1 - 0.5) < 2e-3
        assert math.isnan(found.p_dock[n]) == math.isnan(docks[n])
        # What is stated as sure is not corrected; what is nearly so is.
        others = [math.nan if value in (0, 1) else value for value in others]
        for column, value in zip(found[2:], others, strict=True):
            assert math.isnan(value) or column[n] == pytest.approx(value, abs=1e-4)


@functools.cache
def gappy() -> tuple[Panel, Observations]:
    """A network in which each of docks, capacity, status and age is unknown now and then."""
    panel = make_panel(days=1, stations=40, missing=0.3)
    rng = np.random.default_rng(8)
    values = {name: array.copy() for name, array in panel.values.items()}
    shape = values["bikes"].shape
    for name in ("capacity", "docks_available", "ok", "age_min"):
        values[name][rng.random(shape) < 0.3] = np.nan
    values["docks_available"][:, ::3] = np.nan
    values["ok"][rng.random(shape) < 0.2] = 0
    values["age_min"][rng.random(shape) < 0.2] = 1440
    values["age_min"][rng.random(shape) < 0.2] = 1440.1
    values["capacity"][:, 5:25] = np.nan
    values["capacity"][:, 9] = 0
    bikes = values["bikes"]
    for n, back in enumerate((1, 2, 3, 4, 5, 60, 61, 62)):
        bikes[288 - back :, n] = np.nan
        bikes[288 - back - 1, n] = 5
    bikes[:, 8] = np.nan
    docks = panel.stations.capacity.copy()
    docks[5:20], docks[9] = np.nan, 0
    stations = dataclasses.replace(panel.stations, capacity=docks)
    panel = dataclasses.replace(changed(panel, values), stations=stations)
    seen = Observations(
        panel.start,
        stations.ids.tolist(),
        [],
        plain(docks),
        {name: plain(array.T) for name, array in panel.values.items()},
        {},
    )
    return panel, seen


@pytest.mark.parametrize(
    ("code", "definition"),
    [
        (capacities, oracle.capacity),
        (free_docks, oracle.free_docks),
        (ceilings, oracle.station_ceiling),
        (observed_in_service, oracle.is_in_service),
    ],
)
def test_what_a_station_holds(code: Any, definition: Any) -> None:
    panel, seen = gappy()
    expected = [
        [definition(seen, s, t) for s in range(len(seen.ids))]
        for t in range(panel.start, panel.stop)
    ]
    np.testing.assert_array_equal(code(panel), np.array(expected, np.float32))


def test_a_forecast_starts_from_the_newest_observation_or_says_why_there_is_none() -> None:
    panel, seen = gappy()
    classes, _ = fitted(0, 1.5)
    even = Saying(np.full((len(seen.ids), len(classes.lows)), 1 / len(classes.lows), np.float32))
    pack: Any = Pack(even, classes, SHORT, static_features=fit_static_features(panel.stations))
    found = []
    for at in range(panel.stop - 30, panel.stop):
        profiles = empty_profiles("Europe/Paris", (SHORT,))
        rows = predict(pack, panel, profiles, Bin(at), fresh_calibration()).to_pylist()
        for s, row in enumerate(rows):
            reason = oracle.reason(seen, s, at, lookback_bins(SHORT))
            origin = oracle.origin_of(seen, s, at, lookback_bins(SHORT))
            assert row["reason"] == reason, (s, at)
            assert (row["bikes_pred"] is None) == (reason is not None)
            if origin is not None:
                made = bin_start(Bin(origin)).replace(tzinfo=None)
                assert row["tbin_latest"].to_pydatetime() == made
                assert row["target_ts_utc"] - row["tbin_latest"] == dt.timedelta(minutes=15)
                assert row["bikes"] == seen.bikes(s, origin)
            found.append(reason)
    assert set(found) == {None, *oracle.REASONS}


def test_rows_to_learn_from_are_in_service_and_known_a_horizon_later() -> None:
    panel, seen = gappy()
    at = np.arange(panel.start + 5, panel.stop, 7)
    past = PastDay(day_of(panel.start), panel, empty_profiles("Europe/Paris", (LONG,)))
    rows = rows_of_day(past, at, LONG, fit_static_features(panel.stations))
    expected = [
        (t, s, seen.bikes(s, t), seen.bikes(s, t + LONG))
        for t in at.tolist()
        for s in range(len(seen.ids))
        if oracle.is_in_service(seen, s, t) and seen.bikes(s, t + LONG) is not None
    ]
    columns = (rows.bins, rows.station, rows.bikes, rows.target)
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert found == expected
    for column, later in ((rows.docks, 0), (rows.docks_later, LONG)):
        docks = [oracle.free_docks(seen, s, t + later) for t, s, *_ in expected]
        np.testing.assert_array_equal(column, np.array(docks, np.float32))
    bikes = rows.features[:, FEATURES.index("bikes")]
    np.testing.assert_array_equal(bikes, rows.bikes)
