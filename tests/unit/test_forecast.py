"""Training, the model pack and what is published."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import START, changed, make_panel, mapped
from velib_core.errors import ModelError
from velib_core.features.profiles import Profiles, empty_profiles, update_with_day
from velib_core.features.stack import CONTRACT_FEATURES, FEATURES, feature_rows
from velib_core.forecast import (
    FrameError,
    add_time_features,
    build_station_static,
    build_training_frame,
    build_training_frame_spatial,
    compute_knn_map,
    predict_from_features_df,
    predict_latest_offline,
    train_model,
)
from velib_core.model.blending import (
    BLEND_WEIGHTS,
    PROBABILITY_EDGES,
    add_day,
    calibrated,
    calibration_from_json,
    fresh_calibration,
)
from velib_core.model.change_distribution import (
    MAX_CHANGE,
    chance_of_fall,
    chance_of_rise,
    count_changes,
    crps,
    fit_classes,
    mean_change,
    median_change,
)
from velib_core.model.inference import hindcast_day, predict
from velib_core.model.legacy_regressor import to_joblib, train_legacy_export
from velib_core.model.pack import ModelPack, from_blobs, to_blobs
from velib_core.model.rows import PastDay
from velib_core.model.training import Training, TrainingOptions, calibrate_day, train_on
from velib_core.tables.climatology import Climatology
from velib_core.tables.panel import Panel, Stations
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    Day,
    HorizonBins,
    bin_start,
    day_after,
    day_of,
)
from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pandas.core.frame import DataFrame

H = HorizonBins(12)
FEW = TrainingOptions(max_rows=5_000, rounds=5, threads=1)
TZ = "Europe/Paris"
DAYS = 5


def frame_of(panel: Panel) -> DataFrame:
    """The panel's observations as snapshot rows."""
    t, s = np.nonzero(~np.isnan(panel["bikes"]))
    stamps = [bin_start(Bin(panel.start + int(i))).replace(tzinfo=None) for i in t]
    return pd.DataFrame(
        {
            "ts_utc": stamps,
            "tbin_utc": stamps,
            "station_id": panel.stations.ids[s].astype(object),
            "bikes": panel["bikes"][t, s].astype(int),
            "capacity": panel["capacity"][t, s].astype(int),
            "mechanical": panel["mechanical"][t, s].astype(int),
            "ebike": panel["ebike"][t, s].astype(int),
            "docks_available": panel["docks_available"][t, s].astype(int),
            "status": "OK",
            "lat": panel.stations.lat[s],
            "lon": panel.stations.lon[s],
        }
    )


def learnt(panel: Panel, days: list[Day], options: TrainingOptions = FEW) -> Training:
    return train_on(panel, panel.stations, days, H, TZ, options)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return make_panel(days=DAYS)


@pytest.fixture(scope="module")
def pack(panel: Panel) -> ModelPack:
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    return learnt(panel, days).pack


@pytest.fixture(scope="module")
def profiles(panel: Panel) -> Profiles:
    found = empty_profiles(TZ, (H,))
    for n in range(DAYS - 1):
        found = update_with_day(found, panel, day_after(day_of(panel.start), n))
    return found


@pytest.fixture(scope="module")
def blobs(pack: ModelPack) -> dict[str, bytes]:
    return to_blobs(pack)


@pytest.fixture(scope="module")
def frame(panel: Panel) -> DataFrame:
    return frame_of(panel)


LATE = Bin(START + DAYS * BINS_PER_DAY - 30)


@pytest.fixture(scope="module")
def sample() -> Any:
    changes = np.rint(np.random.default_rng(3).standard_t(3, 50_000) * 1.5).astype(np.float32)
    return np.clip(changes, -MAX_CHANGE, MAX_CHANGE)


def test_a_distribution_gives_the_median_mean_and_tails_of_its_sample(sample: Any) -> None:
    classes = fit_classes(count_changes(sample))
    shares = np.bincount(classes.of(sample), minlength=len(classes.lows)) / len(sample)
    one = shares[None, :].astype(np.float32)
    assert np.rint(median_change(classes, one))[0] == np.median(sample)
    assert mean_change(classes, one)[0] == pytest.approx(sample.mean(), abs=1e-4)
    for limit in (-9, -3, 0, 1, 2, 12):
        at = np.array([limit], np.float32)
        assert chance_of_rise(classes, one, at)[0] == pytest.approx(
            (sample >= limit).mean(), abs=1e-4
        )
        assert chance_of_fall(classes, one, at)[0] == pytest.approx(
            (sample <= limit).mean(), abs=1e-4
        )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), blend_weight=st.sampled_from(BLEND_WEIGHTS))
def test_the_median_is_where_the_mixed_distribution_passes_a_half(
    sample: Any, seed: int, blend_weight: Any
) -> None:
    classes = fit_classes(count_changes(sample))
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(len(classes.lows), 0.3), 20).astype(np.float32)
    mixed = blend_weight * (probability.astype(float) @ classes.shares)
    mixed[:, MAX_CHANGE] += 1 - blend_weight
    upto = mixed.cumsum(axis=1)
    found = np.rint(median_change(classes, probability, blend_weight)).astype(int) + MAX_CHANGE
    half = upto[:, -1] / 2
    rows = np.arange(20)
    assert (upto[rows, found] >= half - 1e-6).all()
    assert (upto[rows, np.maximum(found - 1, 0)] <= half + 1e-6).all()


def test_a_blend_weight_of_one_half_is_persistence(sample: Any) -> None:
    classes = fit_classes(count_changes(sample))
    sure = np.eye(len(classes.lows), dtype=np.float32)
    assert (np.rint(median_change(classes, sure, 0.5)) == 0).all()


def test_days_of_wrong_forecasts_lower_the_blend_weight(sample: Any) -> None:
    classes = fit_classes(count_changes(sample))
    rising = np.zeros((200, len(classes.lows)), np.float32)
    rising[:, classes.unchanged + 1] = 1
    bikes, capacity = np.full(200, 5, np.float32), np.full(200, 20, np.float32)
    calibration = fresh_calibration()
    assert calibration.blend_weight(H) == 0.5
    for _ in range(3):
        calibration = add_day(
            calibration, classes, rising, bikes, capacity, capacity, bikes + 1, capacity
        )
    assert calibration.blend_weight(H) > 0.5
    for _ in range(6):
        calibration = add_day(
            calibration, classes, rising, bikes, capacity, capacity, bikes, capacity
        )
    assert calibration.blend_weight(H) == 0.5
    assert calibration.mean_blend_weight < 0.5
    assert (
        calibration_from_json(json.loads(json.dumps(calibration.as_json()))).blend_weight(H) == 0.5
    )


def test_a_model_that_is_always_right_gets_a_blend_weight_of_one_sooner_the_nearer(
    sample: Any,
) -> None:
    classes = fit_classes(count_changes(sample))
    # Seven of ten times one bike more, else none: only a blend weight above 0.5 / 0.7 says so.
    rising = np.zeros((300, len(classes.lows)), np.float32)
    rising[:, classes.unchanged + 1], rising[:, classes.unchanged] = 0.7, 0.3
    bikes, capacity = np.full(300, 5, np.float32), np.full(300, 20, np.float32)
    true = bikes + (np.arange(300) % 10 >= 3)
    calibration = add_day(
        fresh_calibration(), classes, rising, bikes, capacity, capacity, true, capacity
    )
    assert calibration.blend_weight(H) == 0.75
    surely = dataclasses.replace(calibration, gain=-np.arange(len(BLEND_WEIGHTS), dtype=float))
    # Each step gains 1 bike, of 900 that persistence is off: beyond 0.9 that is too little
    # until days after training have confirmed it.
    doubted = dataclasses.replace(surely, persistence=900.0)
    found = [dataclasses.replace(doubted, days=n).blend_weight(H) for n in range(4)]
    assert found == [0.9, 0.95, 1.0, 1.0]
    soon = [dataclasses.replace(doubted, days=n).blend_weight(HorizonBins(3)) for n in range(2)]
    assert soon == [0.95, 1.0]


def test_a_model_that_sees_no_change_costs_nothing_where_more_bikes_stand_than_docks(
    sample: Any,
) -> None:
    classes = fit_classes(count_changes(sample))
    unchanged = np.zeros((50, len(classes.lows)), np.float32)
    unchanged[:, classes.unchanged] = 1
    bikes, capacity = np.full(50, 28, np.float32), np.full(50, 20, np.float32)
    calibration = add_day(
        fresh_calibration(), classes, unchanged, bikes, capacity, capacity, bikes, capacity
    )
    assert (calibration.gain == 0).all()


def test_training_twice_gives_the_same_bytes(panel: Panel, blobs: dict[str, bytes]) -> None:
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    again = to_blobs(learnt(panel, days).pack)
    assert again == blobs


def test_training_sees_nothing_of_its_last_days_but_to_stop(panel: Panel, pack: ModelPack) -> None:
    bikes = panel["bikes"].copy()
    bikes[(DAYS - 1) * BINS_PER_DAY :] = 0
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    again = learnt(changed(panel, {"bikes": bikes}), days).pack
    assert again.model.save_raw("ubj") == pack.model.save_raw("ubj")


@pytest.mark.parametrize(("every", "phase"), [(3, 0), (3, 1), (6, 5)])
def test_a_network_that_is_polled_less_often_is_learnt_from_at_every_day(
    panel: Panel, every: int, phase: int
) -> None:
    """Whatever the stride, the rows are among the bins that were observed."""
    seen = np.arange(panel.bins) % every == phase
    kept = {name: np.where(seen[:, None], panel[name], np.nan) for name in panel.values}  # noqa: PD011
    sparse = changed(panel, kept)
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    for max_rows in (300, 1000, 5000):
        options = dataclasses.replace(FEW, max_rows=max_rows, rounds=2)
        pack = learnt(sparse, days, options).pack
        pairs = len(days) * BINS_PER_DAY // every * len(panel.stations)
        assert pack.about["n_train"] <= 1.2 * max_rows
        assert pack.about["n_train"] >= 0.3 * min(max_rows, pairs)
        assert pack.about["n_tune"] > 0


def test_only_days_after_training_earn_full_weight(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    assert pack.calibration.n > 0
    assert pack.calibration.days == 0
    past = PastDay(day_after(day_of(panel.start), DAYS - 1), panel, profiles)
    assert calibrate_day(pack, pack.calibration, past).days == 1


@pytest.mark.parametrize(("every", "looked_at"), [(1, 46), (3, 46), (4, 69), (6, 46), (12, 23)])
def test_a_day_calibrates_by_about_a_bin_each_half_hour_or_all_that_there_are(
    pack: ModelPack, profiles: Profiles, every: int, looked_at: int
) -> None:
    """276 bins have their hour within the day; of each sixth of them one, or each that was seen."""
    panel = make_panel(days=DAYS, missing=0)
    seen = np.arange(panel.bins) % every == 0
    kept = {name: np.where(seen[:, None], panel[name], np.nan) for name in panel.values}  # noqa: PD011
    past = PastDay(day_after(day_of(panel.start), DAYS - 1), changed(panel, kept), profiles)
    found = calibrate_day(pack, fresh_calibration(), past)
    assert found.n == looked_at * len(panel.stations)


def test_a_window_without_observations_to_validate_on_is_refused(panel: Panel) -> None:
    bikes = panel["bikes"].copy()
    bikes[(DAYS - 2) * BINS_PER_DAY :] = np.nan
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    with pytest.raises(ValueError, match="no station was seen a horizon apart"):
        learnt(changed(panel, {"bikes": bikes}), days)


def test_too_short_a_window_is_refused(panel: Panel) -> None:
    with pytest.raises(ValueError, match="too few"):
        learnt(panel, [day_of(panel.start)])


def test_a_pack_survives_its_bytes(
    panel: Panel, pack: ModelPack, profiles: Profiles, blobs: dict[str, bytes]
) -> None:
    again = from_blobs(blobs, H)
    assert to_blobs(again) == blobs
    before, after = (predict(p, panel, profiles, LATE) for p in (pack, again))
    assert before.equals(after)


@pytest.mark.parametrize("name", ["model.ubj", "statics.npz", "pack.json"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-40] + bytes(byte ^ 1 for byte in data[-40:]),
        lambda _: b"",
        lambda _: b"\x80\x04\x95 a pickle",
        lambda _: b'{"learner": {}}',
    ],
)
def test_a_damaged_pack_is_a_model_error(
    blobs: dict[str, bytes], name: str, damage: Callable[..., Any]
) -> None:
    with pytest.raises(ModelError):
        from_blobs(blobs | {name: damage(blobs[name])}, H)


def test_a_pack_without_a_part_or_for_another_horizon_is_a_model_error(
    blobs: dict[str, bytes],
) -> None:
    with pytest.raises(ModelError, match="missing"):
        from_blobs({"pack.json": blobs["pack.json"]})
    with pytest.raises(ModelError, match="12 bins"):
        from_blobs(blobs, HorizonBins(3))


def test_probabilities_are_corrected_by_what_came_true() -> None:
    sums = fresh_calibration().bike.copy()
    place = int(np.digitize(0.14, PROBABILITY_EDGES))
    sums[:, place] = 1000, 140, 330
    found = calibrated(np.array([0.0, 0.14, 0.95, 1.0]), sums)
    assert found[1] == pytest.approx(0.14 + 190 / 1050)
    assert found[[0, 2, 3]].tolist() == [0, 0.95, 1]


def test_a_sure_forecasts_crps_is_its_error_and_a_vague_ones_is_the_sum_over_all_levels(
    sample: Any,
) -> None:
    classes = fit_classes(count_changes(sample))
    probability = np.full((3, len(classes.lows)), 1 / len(classes.lows), np.float32)
    bikes, true = np.array([5, 5, 0], np.float32), np.array([5, 9, 2], np.float32)
    most = np.full(3, 12, np.float32)
    np.testing.assert_allclose(crps(classes, probability, 0.0, bikes, most, true), [0, 4, 2])
    mixed = 0.7 * probability[0].astype(float) @ classes.shares
    mixed[MAX_CHANGE] += 0.3
    for row in range(3):
        level = np.clip(bikes[row] + np.arange(-MAX_CHANGE, MAX_CHANGE + 1), 0, most[row])
        expected = sum(
            (mixed[level <= k].sum() - (true[row] <= k)) ** 2 for k in range(int(most[row]) + 1)
        )
        found = crps(classes, probability, 0.7, bikes, most, true)[row]
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_hindcast_is_scored_where_its_truth_is_known(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    day = day_after(day_of(panel.start), DAYS - 2)
    held = hindcast_day(pack, panel, day, profiles, fresh_calibration())
    said, scores = hindcast_day(pack, panel, day, profiles, pack.calibration)
    first = (DAYS - 2) * BINS_PER_DAY
    bikes = panel["bikes"][first : first + BINS_PER_DAY]
    truth = panel["bikes"][first + H : first + H + BINS_PER_DAY]
    known = np.isfinite(said.median) & np.isfinite(truth)
    np.testing.assert_array_equal(np.isfinite(scores), known)
    np.testing.assert_allclose(held[1][known], np.abs(truth - bikes)[known], atol=1e-5)
    assert scores[known].mean() < held[1][known].mean(), "the model knows more than persistence"


def test_climatology_is_what_the_hour_of_past_days_held(panel: Panel) -> None:
    past = Climatology(TZ)
    past.add(panel.stations.ids, panel.start, panel["bikes"][:BINS_PER_DAY])
    target = np.array([panel.start + BINS_PER_DAY + 100])
    hour = local_times(target, TZ).minute // 60
    day = panel["bikes"][:BINS_PER_DAY, 2]
    there = local_times(panel.start + np.arange(BINS_PER_DAY), TZ).minute // 60 == hour
    held = day[there & ~np.isnan(day)]
    expected = sum(((held <= k).mean() - (k >= 7)) ** 2 for k in range(60))
    ids, second, seven = panel.stations.ids, np.array([2]), np.array([7.0])
    assert past.crps(ids, second, target, seven)[0] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(past.crps(ids, second, target, np.array([np.nan])))[0]
    assert np.isnan(past.crps(np.array(["9"]), np.array([0]), target, seven))[0]


def test_a_pack_of_fewer_features_still_forecasts(
    panel: Panel, pack: ModelPack, profiles: Profiles, blobs: dict[str, bytes]
) -> None:
    kept = FEATURES[:98]
    rows = feature_rows(panel, np.array([LATE]), H, pack.static_features, profiles, kept)[:, 0].T
    data = xgb.QuantileDMatrix(np.ascontiguousarray(rows), np.arange(6) % len(pack.classes.lows))
    settings = {"objective": "multi:softprob", "num_class": len(pack.classes.lows)}
    older = dataclasses.replace(pack, model=xgb.train(settings, data, 2), feat_cols=kept)
    blobs = to_blobs(older)
    document = json.loads(blobs["pack.json"])
    for name in ("days", "bike", "dock"):  # were not counted then
        del document["calibration"][name]
    read = from_blobs(blobs | {"pack.json": json.dumps(document).encode()}, H)
    assert predict(read, panel, profiles, LATE)["bikes_pred"].null_count < 6


def test_a_pack_for_other_features_is_a_model_error(pack: ModelPack) -> None:
    foreign = dataclasses.replace(pack, feat_cols=(*FEATURES[:-1], "something_else"))
    with pytest.raises(ModelError, match="features"):
        from_blobs(to_blobs(foreign), H)


def test_every_station_gets_a_forecast_or_a_reason(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    bikes, ok = panel["bikes"].copy(), panel["ok"].copy()
    capacity, age = panel["capacity"].copy(), panel["age_min"].copy()
    row = LATE - panel.start
    bikes[row], ok[row], capacity[row], age[row] = 5, 1, 20, 5
    bikes[:, 0] = np.nan
    bikes[row - 3 :, 1] = np.nan
    ok[row, 2] = 0
    capacity[row, 3] = 0
    age[row, 4] = 2 * 24 * 60
    broken = changed(panel, {"bikes": bikes, "ok": ok, "capacity": capacity, "age_min": age})
    last_seen = profiles.last_seen.copy()
    last_seen[0] = -1
    strange = dataclasses.replace(profiles, last_seen=last_seen)
    found = predict(pack, broken, strange, LATE)
    assert found["station_id"].to_pylist() == panel.stations.ids.tolist()
    assert found["reason"].to_pylist() == [
        "never_seen",
        "stale",
        "closed",
        "no_capacity",
        "silent",
        None,
    ]
    for name in ("bikes_pred", "bikes_pred_int", "bikes_mean", "p_bike", "p_dock"):
        assert found[name].is_valid().to_pylist() == [False] * 5 + [True]


def test_a_station_that_fell_silent_days_ago_stays_in_the_document(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    others = Stations(*(column[1:] for column in vars(panel.stations).values()))
    without = mapped(panel, lambda array: array[:, 1:], others)
    row = predict(pack, without, profiles, LATE).to_pylist()[0]
    assert (row["station_id"], row["reason"], row["bikes_pred"]) == ("1000", "stale", None)
    last = np.flatnonzero(~np.isnan(panel["bikes"][: (DAYS - 1) * BINS_PER_DAY, 0]))[-1]
    assert row["tbin_latest"] == pd.Timestamp((panel.start + int(last)) * 300, unit="s")


def test_a_forecast_starts_from_the_stations_own_newest_observation(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    bikes = panel["bikes"].copy()
    row = LATE - panel.start
    bikes[row - 2, 0] = 4
    bikes[row - 1 :, 0] = np.nan
    gone = changed(
        panel, {"bikes": bikes, "ok": np.ones_like(bikes), "capacity": np.full_like(bikes, 20)}
    )
    found = predict(pack, gone, profiles, LATE).slice(0, 1).to_pylist()[0]
    assert found["reason"] is None
    assert found["tbin_latest"] == pd.Timestamp((LATE - 2) * 300, unit="s")
    assert found["target_ts_utc"] == pd.Timestamp((LATE - 2 + H) * 300, unit="s")


def test_published_numbers_keep_to_their_ranges(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    found = predict(pack, panel, profiles, LATE).to_pandas().dropna(subset=["bikes_pred"])
    assert len(found)
    assert found["bikes_pred"].between(0, found["capacity_bin"]).all()
    assert (found["bikes_pred_int"] == np.rint(found["bikes_pred"])).all()
    assert found["bikes_mean"].between(0, found["capacity_bin"]).all()
    assert found["p_bike"].between(0, 1).all()
    assert found["p_dock"].between(0, 1).all()


def test_a_station_with_more_bikes_than_docks_is_forecast_from_what_is_there(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    bikes, capacity = panel["bikes"].copy(), panel["capacity"].copy()
    row = LATE - panel.start
    bikes[: row + 1, 0], capacity[:, 0] = 28, 20
    bikes[: row + 1, 1], capacity[:, 1] = 12, 20
    overfull = changed(panel, {"bikes": bikes, "capacity": capacity, "ok": np.ones_like(bikes)})
    half = dataclasses.replace(pack.calibration, gain=np.eye(len(BLEND_WEIGHTS))[-1])
    assert half.blend_weight(H) == 0.5
    found = predict(pack, overfull, profiles, LATE, half).to_pylist()
    assert [found[n]["capacity_bin"] for n in (0, 1)] == [28, 20]
    # A blend weight of 0.5 publishes persistence, above the docks too.
    assert [found[n]["bikes_pred_int"] for n in (0, 1)] == [28, 12]
    for row_of in found:
        if row_of["reason"] is None:
            assert 0 <= row_of["bikes_pred"] <= row_of["capacity_bin"]
            assert 0 <= row_of["bikes_mean"] <= row_of["capacity_bin"]


def test_the_training_frame_has_the_contracts_columns_and_a_target_by_time(
    panel: Panel, frame: DataFrame
) -> None:
    full, features, target, names = build_training_frame_spatial(
        frame.sample(frac=1, random_state=1), H
    )
    assert names == list(CONTRACT_FEATURES)
    assert list(features) == names
    assert (features.dtypes == "float32").all()
    later = frame.set_index(["station_id", "tbin_utc"])["bikes"]
    for i in (0, len(full) // 2, len(full) - 1):
        row = full.iloc[i]
        assert target.iloc[i] == later[(row["station_id"], row["tbin_utc"] + pd.Timedelta("1h"))]
    temporal = build_training_frame(frame, H)[3]
    assert set(names) - set(temporal) == {
        "dist_center_km",
        "grid_x",
        "grid_y",
        "kmeans_cluster",
        "te_cap_mean",
        "knn_mean_bikes_lag1",
        "knn_mean_bikes_lag3",
        "knn_mean_bikes_lag12",
    }


def test_frames_of_stations_name_them(panel: Panel, frame: DataFrame) -> None:
    static = build_station_static(frame)
    assert static["station_id"].tolist() == panel.stations.ids.tolist()
    nearest = compute_knn_map(frame, k=2)
    assert all(len(others) == 2 and station not in others for station, others in nearest.items())
    timed = add_time_features(frame)
    assert (timed["hour"] == pd.to_datetime(frame["tbin_utc"]).dt.hour).all()


def test_offline_and_feature_predictions_agree_with_serving(
    panel: Panel, frame: DataFrame, pack: ModelPack, profiles: Profiles
) -> None:
    until = frame[frame["tbin_utc"] <= bin_start(LATE).replace(tzinfo=None)]
    offline = predict_latest_offline(pack, until).set_index("station_id")
    logged_forecasts = predict(pack, panel, profiles, LATE).to_pandas().set_index("station_id")
    np.testing.assert_allclose(
        offline["bikes_mean"], logged_forecasts["bikes_mean"], rtol=0.2, atol=0.5
    )
    rows = feature_rows(panel, np.array([LATE]), H, pack.static_features, profiles)[:, 0].T
    features = pd.DataFrame(rows, columns=list(FEATURES)).assign(
        station_id=panel.stations.ids.astype(object),
        tbin_latest=bin_start(LATE).replace(tzinfo=None),
        capacity_bin=rows[:, 0],
    )
    direct = predict_from_features_df(pack, features).set_index("station_id")
    there = logged_forecasts["tbin_latest"] == pd.Timestamp(LATE * 300, unit="s")
    assert there.any()
    np.testing.assert_allclose(
        direct.loc[there, "bikes_pred"], logged_forecasts.loc[there, "bikes_pred"], rtol=1e-6
    )
    with pytest.raises(FrameError, match="lag_bikes_36"):
        predict_from_features_df(pack, features.drop(columns="lag_bikes_36"))


READER = """
import joblib, numpy, sys
pack = joblib.load(sys.argv[1])
rows = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], pack["model"].predict(rows))
assert not [name for name in sys.modules if name.startswith("velib")]
print(*pack["feat_cols"], pack["horizon_bins"])
"""


def test_a_program_without_this_package_gets_bikes_from_the_pack(
    panel: Panel, pack: ModelPack, frame: DataFrame, tmp_path: Path
) -> None:
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    options = dataclasses.replace(FEW, rounds=60)
    data = to_joblib(train_legacy_export(learnt(panel, days), options))
    (tmp_path / "latest.joblib").write_bytes(data)
    _, features, target, names = build_training_frame_spatial(frame, H)
    np.save(tmp_path / "rows.npy", features.to_numpy(np.float32))
    files = [str(tmp_path / name) for name in ("latest.joblib", "rows.npy", "bikes.npy")]
    said = subprocess.run(
        [sys.executable, "-c", READER, *files], capture_output=True, text=True, check=True
    )
    *columns, horizon = said.stdout.split()
    assert columns == names == list(CONTRACT_FEATURES)
    assert int(horizon) == H
    error = np.abs(np.load(tmp_path / "bikes.npy") - target)
    assert error.mean() < 0.5 * np.abs(target - target.mean()).mean()


def test_a_model_from_a_frame_knows_its_window(frame: DataFrame) -> None:
    pack = train_model(frame, H, lookback_days=4, options=FEW)
    assert pack.horizon_bins == H
    assert pack.about["last_day"] == str(day_after(day_of(START), DAYS - 1))
    assert pack.about["first_day"] == str(day_after(day_of(START), 1))


def without(panel: Panel, *names: Any) -> Panel:
    """The panel of a network that does not publish some variables."""
    nothing = np.full_like(panel["bikes"], np.nan)
    stations = panel.stations
    if "capacity" in names:
        stations = dataclasses.replace(stations, capacity=np.full_like(stations.capacity, np.nan))
    blind = changed(panel, dict.fromkeys(names, nothing))
    return dataclasses.replace(blind, stations=stations)


@pytest.mark.parametrize("missing", [("capacity",), ("capacity", "docks_available")])
def test_a_network_without_capacities_is_forecast_all_the_same(
    panel: Panel, profiles: Profiles, missing: Any
) -> None:
    blind = without(panel, *missing)
    days = [day_after(day_of(panel.start), n) for n in range(DAYS - 1)]
    found = predict(learnt(blind, days).pack, blind, profiles, LATE)
    assert found["reason"].null_count == found.num_rows
    for name in ("bikes_pred", "bikes_pred_int", "bikes_mean", "p_bike"):
        assert found[name].null_count == 0, name
    known_docks = "docks_available" not in missing
    assert found["p_dock"].null_count == (0 if known_docks else found.num_rows)
    rows = found.to_pylist()
    assert all(row["bikes_pred"] <= row["capacity_bin"] for row in rows)
    if known_docks:
        capacity = dict(zip(panel.stations.ids, panel.stations.capacity, strict=True))
        assert all(row["capacity_bin"] == capacity[row["station_id"]] for row in rows)


def test_a_capacity_that_is_missing_for_a_while_is_the_last_known_one(
    panel: Panel, pack: ModelPack, profiles: Profiles
) -> None:
    gap = np.where(np.arange(panel.bins)[:, None] > LATE - panel.start - 3, np.nan, 1)
    forgetful = changed(panel, {"capacity": panel["capacity"] * gap.astype(np.float32)})
    found = predict(pack, forgetful, profiles, LATE)
    expected = predict(pack, panel, profiles, LATE)
    for name in ("capacity_bin", "reason"):
        assert found[name].equals(expected[name]), name
