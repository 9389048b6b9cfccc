"""A frozen feed is no observation: not of a network at rest, nor of usual movement."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from panels import START, changed, make_panel
from velib_core.features.profiles import CHANGE_SUMS, Profiles, empty_profiles, update_with_day
from velib_core.features.spatial_features import fit_static_features
from velib_core.features.stack import FEATURES, feature_rows, lookback_bins
from velib_core.model.change_distribution import ChangeClasses, count_changes, fit_classes
from velib_core.model.inference import class_probabilities
from velib_core.model.rows import paired_bins
from velib_core.tables.panel import FROZEN_BINS, FROZEN_STATIONS, Panel, is_frozen
from velib_core.timeline.bins import BINS_PER_DAY, Bin, HorizonBins, day_after, day_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TZ = "Europe/Paris"
HORIZONS = (HorizonBins(3), HorizonBins(12))
FREEZES_AT, THAWS_AT = BINS_PER_DAY + 100, BINS_PER_DAY + 161
"""Of the second day: the last bin with news before the feed freezes, and the first one after."""

FROZEN = slice(FREEZES_AT + FROZEN_BINS, THAWS_AT)
"""The bins that are as they were an hour before."""

SECOND_DAY = day_after(day_of(START))
THIRD_DAY = day_after(SECOND_DAY)
ACTIVITY = ("network_pace_1h", "network_pace_3h")


@pytest.fixture(scope="module")
def moving() -> Panel:
    return make_panel(days=3, stations=FROZEN_STATIONS + 20, missing=0)


@pytest.fixture(scope="module")
def frozen(moving: Panel) -> Panel:
    """The network as a feed shows it that is frozen for five hours of the second day."""
    bikes = moving["bikes"].copy()
    bikes[FREEZES_AT:THAWS_AT] = bikes[FREEZES_AT]
    return changed(moving, {"bikes": bikes})


def updated(panel: Panel, horizons: Any = HORIZONS, days: Any = 2) -> Profiles:
    profiles = empty_profiles(TZ, horizons)
    for n in range(days):
        profiles = update_with_day(profiles, panel, day_after(day_of(panel.start), n))
    return profiles


def test_a_frozen_feed_is_found_where_the_network_is_as_an_hour_before(
    frozen: Panel, moving: Panel
) -> None:
    expected = np.zeros(frozen.bins, bool)
    expected[FROZEN] = True
    np.testing.assert_array_equal(is_frozen(frozen["bikes"]), expected)
    assert not is_frozen(moving["bikes"]).any()


def test_one_bike_that_moves_or_too_few_stations_make_no_frozen_feed(frozen: Panel) -> None:
    bikes = frozen["bikes"].copy()
    bikes[FREEZES_AT:THAWS_AT, 7] += np.arange(THAWS_AT - FREEZES_AT)
    assert not is_frozen(bikes).any()
    few = frozen["bikes"].copy()
    few[:, FROZEN_STATIONS - 1 :] = np.nan
    assert not is_frozen(few).any()
    few[:, FROZEN_STATIONS - 1] = frozen["bikes"][:, FROZEN_STATIONS - 1]
    assert is_frozen(few).sum() == FROZEN.stop - FROZEN.start


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_profile_counts_no_change_towards_a_frozen_bin(frozen: Panel, horizon: Any) -> None:
    profiles = updated(frozen, (horizon,))
    sums = dict(zip(CHANGE_SUMS, profiles.change[0].sum(axis=(1, 2)), strict=True))
    targets = [t for t in range(horizon, 2 * BINS_PER_DAY) if not FROZEN.start <= t < FROZEN.stop]
    delta = np.stack([frozen["bikes"][t] - frozen["bikes"][t - horizon] for t in targets])
    assert (sums["n"] == len(targets)).all()
    np.testing.assert_array_equal(sums["still"], (delta == 0).sum(0))
    np.testing.assert_array_equal(sums["moved"], np.abs(delta).sum(0))


def test_a_day_after_a_frozen_midnight_updates_as_when_all_is_in_memory(frozen: Panel) -> None:
    """The lookback of an update is enough: a job reads no more than that."""
    bikes = frozen["bikes"].copy()
    midnight = 2 * BINS_PER_DAY
    bikes[midnight - 20 : midnight + 30] = bikes[midnight - 20]
    panel = changed(frozen, {"bikes": bikes})
    before = updated(panel, (HORIZONS[0],))
    complete = update_with_day(before, panel, THIRD_DAY)
    lookback = panel.window(Bin(START + midnight - FROZEN_BINS), panel.stop)
    np.testing.assert_array_equal(
        complete.change, update_with_day(before, lookback, THIRD_DAY).change
    )
    n = (complete.change - before.change)[0, 0].sum(axis=(0, 1))
    assert (n == BINS_PER_DAY - 30).all()


@pytest.mark.parametrize("horizon", HORIZONS)
def test_nothing_is_learnt_from_a_target_in_a_frozen_bin(frozen: Panel, horizon: Any) -> None:
    start, stop = Bin(START + BINS_PER_DAY), Bin(START + 2 * BINS_PER_DAY)
    left_out = set(range(start, stop)) - set(paired_bins(frozen, start, stop, horizon).tolist())
    assert left_out == set(range(START + FROZEN.start - horizon, START + FROZEN.stop - horizon))


@pytest.mark.parametrize("horizon", HORIZONS)
def test_relative_activity_skips_frozen_bins(frozen: Panel, moving: Panel, horizon: Any) -> None:
    profiles = updated(moving, (horizon,), days=1)
    static_features = fit_static_features(frozen.stations)
    places = [FEATURES.index(name) for name in ACTIVITY]
    amid, after = FROZEN.stop - 1, FROZEN.stop + 30
    rows = {
        at: feature_rows(frozen, np.array([START + at]), horizon, static_features, profiles)[
            places, 0, 0
        ]
        for at in (FROZEN.start - 1, amid, after)
    }
    assert (rows[FROZEN.start - 1] > 0).all()
    assert np.isnan(rows[amid]).all(), "hours of a frozen feed were taken for hours of rest"
    assert 0 < rows[after][1] < 3


def test_a_row_in_a_frozen_bin_is_the_same_from_the_least_history(frozen: Panel) -> None:
    horizon = HORIZONS[0]
    profiles = updated(frozen, (horizon,), days=1)
    static_features = fit_static_features(frozen.stations)
    for at in (FROZEN.start + 5, FROZEN.stop + 5, FROZEN.stop + 36):
        now = Bin(START + at)
        recent = frozen.window(Bin(now - lookback_bins(horizon)), Bin(now + 1))
        np.testing.assert_array_equal(
            feature_rows(frozen, np.array([now]), horizon, static_features, profiles),
            feature_rows(recent, np.array([now]), horizon, static_features, profiles),
        )


class Even:
    """A booster for which a fall, no change and a rise are equally likely."""

    def inplace_predict(self, features: Any) -> NDArray[Any]:
        return np.full((len(features), 3), 1 / 3, np.float32)


@dataclasses.dataclass
class Pack:
    model: Even
    classes: ChangeClasses
    feat_cols: tuple[str, ...] = FEATURES


def test_activity_damping_counts_as_far_as_usual_activity_is_known() -> None:
    changes = np.repeat(np.array([-1, 0, 1], np.float32), 1000)
    pack: Any = Pack(Even(), fit_classes(count_changes(changes)))
    assert len(pack.classes.lows) == 3
    rows = [  # activity of the hour, of yesterday, observations behind the usual; what is left
        (np.nan, np.nan, 60, 1.0),
        (0.5, 1.0, 0, 1.0),
        (0.5, 1.0, 6, 0.75),
        (0.5, 0.5, 6, 0.75**2),
        (0.5, 0.5, 54, 0.55**2),
        (2.0, 0.5, 6, 1.0),
        (1.2, 0.5, 6, 1.1 * 0.75),
        (3.0, 3.0, 54, 1.0),
    ]
    features = np.zeros((len(rows), len(FEATURES)), np.float32)
    for row, (hour, yesterday, weight, _) in zip(features, rows, strict=True):
        row[FEATURES.index("network_pace_1h")] = hour
        row[FEATURES.index("network_pace_yesterday")] = yesterday
        row[FEATURES.index("profile_weight")] = weight
    found = class_probabilities(pack, features)
    odds = found[:, pack.classes.unchanged - 1] / found[:, pack.classes.unchanged]
    np.testing.assert_allclose(odds, [left for *_, left in rows], rtol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-6)
