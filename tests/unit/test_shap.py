"""What moved a forecast: contributions in bikes that add up, by the booster's own margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from panels import make_panel
from scipy.special import softmax
from velib_core.features.profiles import empty_profiles
from velib_core.features.stack import feature_rows
from velib_core.model.change_distribution import mean_change
from velib_core.model.shap import contributions, importance_scores
from velib_core.model.training import TrainingOptions, train_on
from velib_core.timeline.bins import BINS_PER_DAY, HorizonBins, day_after, day_of

if TYPE_CHECKING:
    from velib_core.model.pack import ModelPack
    from velib_core.tables.panel import Panel

TZ = "Europe/Paris"
H = HorizonBins(12)
DAYS = 4


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(days=DAYS)


@pytest.fixture(scope="module")
def pack(panel: Panel) -> ModelPack:
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    return train_on(panel, panel.stations, days, H, TZ, TrainingOptions(rounds=12)).pack


@pytest.fixture(scope="module")
def rows(panel: Panel, pack: ModelPack) -> Any:
    at = np.array([panel.start + (DAYS - 1) * BINS_PER_DAY + n for n in (100, 180)])
    found = feature_rows(panel, at, H, pack.static_features, empty_profiles(TZ, (H,)))
    return np.ascontiguousarray(found.reshape(len(found), -1).T)


def test_contributions_add_up_to_the_mean_change_less_that_of_no_knowledge(
    pack: ModelPack, rows: Any
) -> None:
    import xgboost as xgb

    margins = pack.model.predict(xgb.DMatrix(rows), pred_contribs=True)
    nothing = softmax(margins[:, :, -1].astype(np.float64), axis=1).astype(np.float32)
    said = pack.model.inplace_predict(rows)
    moved = contributions(pack, rows)
    expected = mean_change(pack.classes, said) - mean_change(pack.classes, nothing)
    assert np.abs(expected).max() > 0.1, "nothing was learnt: nothing is tested"
    np.testing.assert_allclose(moved.sum(axis=1), expected, atol=2e-3)


def test_a_feature_that_no_tree_asks_for_moves_nothing(pack: ModelPack, rows: Any) -> None:
    used = importance_scores(pack)["weight"].keys()
    unused = [name not in used for name in pack.feat_cols]
    assert any(unused)
    moved = contributions(pack, rows)
    assert not moved[:, unused].any()
    assert moved[:, np.logical_not(unused)].any()


def test_each_row_is_explained_by_itself(pack: ModelPack, rows: Any) -> None:
    together, alone = contributions(pack, rows), contributions(pack, rows[3:4])
    np.testing.assert_allclose(together[3:4], alone, atol=1e-5)
    assert contributions(pack, rows[:0]).shape == (0, len(pack.feat_cols))


def test_scores_are_of_the_features_by_name(pack: ModelPack) -> None:
    scores = importance_scores(pack)
    assert set(scores) == {"gain", "total_gain", "weight", "cover"}
    for feature, total in scores["total_gain"].items():
        assert feature in pack.feat_cols
        each = scores["gain"][feature] * scores["weight"][feature]
        assert total == pytest.approx(each, rel=1e-4)
