"""Model families: errors against scikit-learn and pandas, calibration against SciPy."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import planted
import pyarrow as pa
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray
from oracles import monitoring as oracle
from planted import Network
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from velib_core.monitoring.model import explainability, reliability, residuals
from velib_core.monitoring.model import performance as model_performance
from velib_core.monitoring.model.importance import Importance, importance_document
from velib_core.monitoring.stats.integer_histogram import IntegerHistogram
from velib_core.tables.panel import Stations, build_panel
from velib_core.timeline.bins import Bin, bin_of
from velib_core.timeline.windows import LocalDays, complete_days

START, STOP = pd.Timestamp("2025-10-21T22:00"), pd.Timestamp("2025-10-28T23:00")
FIVE = pd.Timedelta(minutes=5)


def forecast(horizon: Any, truth: Any, bikes: Any) -> ndarray:
    """Half way to the truth, worse in some bins, and no answer for one station."""
    hindcasts = planted.forecast(horizon, truth, bikes)
    hindcasts[40:46, 1] += 6
    hindcasts[:, 0] = np.nan
    return hindcasts


@pytest.fixture(scope="module")
def net() -> Network:
    """A station closes the window early, one opens late, and there is a hole."""
    net = planted.network(stations=5)
    hole = (net.frame["tbin_utc"] >= net.at(4, 2)) & (net.frame["tbin_utc"] < net.at(4, 3))
    gone = net.rows("s4", net.at(6, 0), net.at(9, 0)) | net.rows("s2", net.at(0, 0), net.at(4, 9))
    net.frame = net.frame[~(hole | gone)]
    return net


@pytest.fixture(scope="module")
def perf(net: Network) -> Any:
    return net.all_perf(forecast)


@pytest.fixture(scope="module")
def window(net: Network) -> LocalDays:
    return complete_days(planted.after(net), 7, planted.TZ)


@pytest.fixture(scope="module")
def stations(net: Network) -> Stations:
    return build_panel(net.all_events(), net.start, Bin(net.start + 9 * 288)).stations


@pytest.fixture(scope="module")
def forecast_log(perf: Any) -> Any:
    return [planted.forecast_log(table, lead_loss=1) for table in perf]


@pytest.fixture(scope="module")
def performance(perf: Any, window: LocalDays, forecast_log: Any, stations: Stations) -> Any:
    return model_performance.build(
        perf,
        window=window,
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("model/performance"),
        forecast_log=forecast_log,
        stations=stations,
        clusters={"s0": 1, "s1": 0, "s2": 1},
    )


@pytest.fixture(scope="module")
def explained(perf: Any, window: LocalDays, stations: Stations) -> Any:
    return explainability.build(
        perf,
        window=window,
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("model/explainability"),
        stations=stations,
    )


@pytest.fixture(scope="module", params=[3, 12], ids=["h15", "h60"])
def reported(request: pytest.FixtureRequest, perf: Any) -> Any:
    """The window's perf rows of one horizon with truth, by pandas, and its folder."""
    frame = pa.concat_tables(perf).to_pandas()
    frame = frame[(frame["tbin_utc"] >= START) & (frame["tbin_utc"] < STOP)]
    frame = frame[(frame["horizon_bins"] == request.param) & frame["y_true"].notna()]
    local = frame["tbin_utc"].dt.tz_localize("UTC").dt.tz_convert(planted.TZ)
    frame = frame.assign(
        date=local.dt.date.astype(str), hour=local.dt.hour, dow=local.dt.day_of_week
    )
    return f"h{5 * request.param}", frame


def scores(rows: Any) -> dict[str, float | int] | dict[str, int | None]:
    """Return the contract's figures of pairs, by scikit-learn."""
    both = rows[rows["y_pred_int"].notna()]
    if both.empty:
        return {"mae_model": None, "mae_baseline": None, "n": 0}
    truth, model, base = (
        both[c].to_numpy(float) for c in ("y_true", "y_pred_int", "y_baseline_persist")
    )
    mae = mean_absolute_error(truth, model), mean_absolute_error(truth, base)
    return {
        "mae_model": mae[0],
        "mae_baseline": mae[1],
        "rmse_model": root_mean_squared_error(truth, model),
        "rmse_baseline": root_mean_squared_error(truth, base),
        "me_model": float((truth - model).mean()),
        "lift_vs_baseline": (mae[1] - mae[0]) / mae[1],
        "coverage_pred_pct": 100 * len(both) / len(rows),
        "n": len(both),
    }


def agree(row: Any, expected: dict[str, float | int] | dict[str, int | None]) -> None:
    for key, value in expected.items():
        assert row[key] == (value if value is None else pytest.approx(value, abs=2e-6)), key


# --- performance ------------------------------------------------------------------------------


def test_kpis_are_scikit_learns(performance: Any, reported: Any) -> None:
    folder, rows = reported
    kpis = performance[f"{folder}/kpis.json"]
    agree(kpis, scores(rows))
    assert kpis["n_rows"] == kpis["n"]
    assert kpis["n_stations"] == 4
    assert kpis["coverage_pred_pct"] < 100
    both = rows[rows["y_pred_int"].notna()]
    error = (both["y_true"] - both["y_pred"]).astype(float)
    assert kpis["mae_median"] == pytest.approx(error.abs().mean(), abs=2e-6)
    assert kpis["model_versions"].keys() == {"2.1.0"}


@pytest.mark.parametrize(
    ("document", "key"),
    [
        ("daily_metrics", "date"),
        ("by_hour", "hour"),
        ("by_dow", "dow"),
        ("by_station", "station_id"),
    ],
)
def test_groups_are_scikit_learns(performance: Any, reported: Any, document: str, key: str) -> None:
    folder, rows = reported
    made = {row[key]: row for row in performance[f"{folder}/{document}.json"]["rows"]}
    groups = dict(iter(rows.groupby(key)))
    scored = {name for name, group in groups.items() if scores(group)["n"]}
    assert set(made) == scored
    for name in scored:
        agree(made[name], scores(groups[name]))


def test_a_station_without_forecasts_is_left_out_for_it_would_be_drawn_as_0(
    performance: Any,
) -> None:
    assert "s0" not in {row["station_id"] for row in performance["h15/by_station.json"]["rows"]}


def test_truth_across_midnight_is_there(performance: Any) -> None:
    hours = {row["hour"]: row for row in performance["h60/by_hour.json"]["rows"]}
    # 22:00 to 23:00 UTC is 0 and 1 o'clock in Paris: the truth lies in the next day's file.
    assert hours[0]["n"] == hours[12]["n"]


def test_clusters_pool_their_stations(performance: Any, reported: Any) -> None:
    folder, rows = reported
    made = {row["cluster"]: row for row in performance[f"{folder}/by_cluster.json"]["rows"]}
    agree(made[1], scores(rows[rows["station_id"].isin(["s0", "s2"])]))
    agree(made[0], scores(rows[rows["station_id"] == "s1"]))


def test_the_lift_curve_is_the_daily_lift(performance: Any) -> None:
    daily = performance["h15/daily_metrics.json"]["rows"]
    curve = performance["h15/lift_curve.json"]["points"]
    assert [p["lift_vs_baseline"] for p in curve] == [row["lift_vs_baseline"] for row in daily]
    assert [p["date"] for p in curve] == [f"2025-10-{d}" for d in range(22, 29)]


def test_residuals_are_counted_by_whole_bikes(performance: Any, reported: Any) -> None:
    folder, rows = reported
    both = rows[rows["y_pred_int"].notna()]
    error = (both["y_true"] - both["y_pred_int"]).astype(int)
    made = performance[f"{folder}/hist_residuals.json"]
    lookback = max(int(np.ceil(np.quantile(error.abs(), 0.99))), 1)
    counts, edges = np.histogram(error, bins=np.arange(-lookback - 0.5, lookback + 1))
    assert made["counts"] == counts.tolist()
    assert made["bins"] == edges.tolist()
    assert made["n"] == len(error)


def test_the_series_shows_truth_and_forecast_at_their_target_time(
    performance: Any, net: Network, reported: Any
) -> None:
    folder, rows = reported
    made = performance[f"{folder}/station_timeseries.json"]
    assert made["name"] == f"Station {made['station_id'][1:]}"
    assert len(made["ts"]) == 288
    last = dt.datetime.fromisoformat(made["ts"][-1])
    assert (last + dt.timedelta(minutes=5)).minute == 0
    bikes = net.frame[net.frame["station_id"] == made["station_id"]].set_index("tbin_utc")["bikes"]
    for stamp, truth in zip(made["ts"], made["y_true"], strict=True):
        assert truth == bikes.get(pd.Timestamp(stamp[:-1]))
    horizon = pd.Timedelta(minutes=int(folder[1:]))
    mine = rows[rows["station_id"] == made["station_id"]].set_index("tbin_utc")["y_pred_int"]
    issue = pd.Timestamp(made["ts"][7][:-1]) - horizon
    assert made["y_pred"][7] == mine[issue]
    assert made["y_base"][7] == bikes[issue]


def test_the_distribution_is_scored_next_to_persistence_and_climatology(
    performance: Any, reported: Any
) -> None:
    folder, rows = reported
    kpis = performance[f"{folder}/kpis.json"]
    scored = rows[rows["y_pred_int"].notna()]
    off = (scored["y_true"] - scored["y_baseline_persist"]).abs().mean()
    assert kpis["crps_model"] == pytest.approx(scored["crps"].mean(), abs=2e-6)
    assert kpis["crps_persistence"] == pytest.approx(off, abs=2e-6)
    assert kpis["crps_lift"] == pytest.approx(1 - scored["crps"].mean() / off, abs=2e-6)
    target = rows["tbin_utc"] + pd.Timedelta(minutes=int(folder[1:]))
    hours = target.dt.tz_localize("UTC").dt.tz_convert(planted.TZ).dt.hour
    columns = rows["date"], rows["station_id"], hours, rows["y_true"], rows["y_pred_int"].notna()
    pairs = list(zip(*(column.tolist() for column in columns), strict=True))
    assert kpis["crps_climatology"] == pytest.approx(oracle.climatology_crps(pairs), abs=1e-5)


def test_logged_forecasts_are_scored_at_publication_and_target(
    performance: Any, forecast_log: Any, net: Network, reported: Any
) -> None:
    folder, _ = reported
    published = pa.concat_tables(forecast_log).to_pandas()
    published = published[published["horizon_bins"] * 5 == int(folder[1:])]
    inside = (published["tbin_utc"] >= START) & (published["tbin_utc"] < STOP)
    bikes = net.frame[["station_id", "tbin_utc", "bikes"]]
    bikes = bikes[(bikes["tbin_utc"] >= START) & (bikes["tbin_utc"] < STOP)]
    scored = (
        published[inside]
        .merge(bikes.rename(columns={"bikes": "base"}), on=["station_id", "tbin_utc"])
        .merge(
            bikes.rename(columns={"bikes": "truth", "tbin_utc": "target_tbin_utc"}),
            on=["station_id", "target_tbin_utc"],
        )
    )
    logged_forecasts = performance[f"{folder}/kpis.json"]["served"]
    assert logged_forecasts["n_published"] == inside.sum()
    assert logged_forecasts["n"] == len(scored)
    assert logged_forecasts["mae_model"] == pytest.approx(
        mean_absolute_error(scored["truth"], scored["y_pred_int"]), abs=2e-6
    )
    assert logged_forecasts["rmse_mean"] == pytest.approx(
        root_mean_squared_error(scored["truth"], scored["y_mean"]), abs=1e-5
    )
    assert logged_forecasts["mae_baseline"] == pytest.approx(
        mean_absolute_error(scored["truth"], scored["base"]), abs=2e-6
    )
    # Always a bike, always a dock: the forecasts said 0.9 and 0.8.
    assert logged_forecasts["brier_bike"] == pytest.approx(0.01)
    assert logged_forecasts["brier_dock"] == pytest.approx(0.04)
    assert [row["lead_min"] for row in logged_forecasts["by_lead"]] == [int(folder[1:]) - 5]
    assert logged_forecasts["by_lead"][0]["n"] == logged_forecasts["n"]


def test_a_model_worse_than_persistence_raises_an_alert(net: Network, window: LocalDays) -> None:
    bad = net.all_perf(lambda horizon, truth, bikes: bikes + 3)
    documents = model_performance.build(
        bad, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    alerts = documents["manifest.json"]["alerts"]
    assert {(a["code"], a["artefact"], a["threshold"]) for a in alerts} == {
        ("lift", "h15/kpis.json", 0.0),
        ("lift", "h60/kpis.json", 0.0),
    }
    assert all(a["value"] < -0.5 for a in alerts)


def test_days_before_the_first_model_are_not_missing_forecasts(
    net: Network, window: LocalDays
) -> None:
    """The model comes on the sixth day; then, on the eighth, it says nothing for half a day."""
    tables = [net.perf(day, planted.forecast if day >= 5 else None) for day in range(net.days)]
    documents = model_performance.build(
        tables, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    kpis = documents["h15/kpis.json"]
    assert kpis["coverage_pred_pct"] < 60
    assert kpis["coverage_since_first_pct"] == 100
    assert documents["manifest.json"]["alerts"] == []

    def silent(horizon: Any, truth: Any, bikes: Any) -> ndarray:
        hindcasts = planted.forecast(horizon, truth, bikes)
        hindcasts[:144] = np.nan
        return hindcasts

    tables[7] = net.perf(7, silent)
    documents = model_performance.build(
        tables, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    alerts = documents["manifest.json"]["alerts"]
    assert {(a["code"], a["artefact"]) for a in alerts} == {
        ("coverage_pred", "h15/kpis.json"),
        ("coverage_pred", "h60/kpis.json"),
    }
    assert alerts[0]["value"] == documents["h15/kpis.json"]["coverage_since_first_pct"] < 90


def test_days_before_the_network_have_no_point_on_the_lift_curve(perf: Any, net: Network) -> None:
    longer = complete_days(planted.after(net), 14, planted.TZ)
    documents = model_performance.build(
        perf, window=longer, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    days = [point["date"] for point in documents["h15/lift_curve.json"]["points"]]
    assert days == [row["date"] for row in documents["h15/daily_metrics.json"]["rows"]]
    assert days[0] == "2025-10-20"


@pytest.fixture(scope="module")
def quarterly() -> Any:
    """The evaluation tables of a network that is polled every quarter of an hour."""
    net = planted.network(stations=3)
    net.frame = net.frame[net.frame["tbin_utc"].dt.minute % 15 == 0]
    return net.all_perf(planted.forecast)


def test_without_a_station_to_draw_the_series_says_why(perf: Any, window: LocalDays) -> None:
    documents = model_performance.build(
        perf,
        window=window,
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("x"),
        thresholds=model_performance.PerformanceThresholds(min_points=289),
    )
    made = documents["h15/station_timeseries.json"]
    assert (made["station_id"], made["ts"], made["y_pred"]) == (None, [], [])
    assert made["reason"] == "no station has 289 pairs in a day"


def test_the_series_of_a_network_polled_less_often_has_no_holes(
    quarterly: Any, window: LocalDays
) -> None:
    documents = model_performance.build(
        quarterly, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    made = documents["h60/station_timeseries.json"]
    assert len(made["ts"]) == 96
    assert {stamp[14:16] for stamp in made["ts"]} == {"00", "15", "30", "45"}
    assert None not in made["y_true"] + made["y_pred"] + made["y_base"]


def test_autocorrelation_of_a_network_polled_less_often_is_at_the_lags_it_has(
    quarterly: Any, window: LocalDays
) -> None:
    documents = explainability.build(
        quarterly, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    acf = documents["h60/residuals.json"]["acf"]
    frame = pa.concat_tables(quarterly).to_pandas()
    frame = frame[(frame["tbin_utc"] >= START) & (frame["tbin_utc"] < STOP)]
    frame = frame[(frame["horizon_bins"] == 12) & frame["y_true"].notna()]
    series = (frame["y_true"] - frame["y_pred_int"]).astype(float).groupby(frame["tbin_utc"]).mean()
    deviation = series - series.mean()
    assert len(acf) == 145
    for lag in (3, 12, 144):
        expected = (deviation * deviation.shift(lag // 3)).mean() / (deviation**2).mean()
        assert acf[lag] == pytest.approx(expected, abs=2e-6)
    assert acf[4] == pytest.approx((2 * acf[3] + acf[6]) / 3, abs=2e-6)


def test_without_a_model_persistence_is_scored_all_the_same(
    net: Network, window: LocalDays
) -> None:
    documents = model_performance.build(
        net.all_perf(),
        window=window,
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("x"),
    )
    kpis = documents["h15/kpis.json"]
    assert (kpis["mae_model"], kpis["n"], kpis["coverage_pred_pct"]) == (None, 0, 0)
    assert kpis["mae_baseline_all"] > 0
    assert kpis["reason"] == "no forecast in the window"
    manifest = documents["manifest.json"]
    assert manifest["status"] == "partial"
    assert manifest["alerts"] == []


# --- explainability ---------------------------------------------------------------------------


@given(
    st.lists(st.integers(-40, 40), min_size=1, max_size=60), st.lists(st.floats(0, 1), max_size=5)
)
def test_quantiles_from_counts_are_numpys(values: list[int], shares: list[float]) -> None:
    made = IntegerHistogram.of(np.array(values)).quantile(np.array(shares))
    assert made.tolist() == pytest.approx(np.quantile(values, shares).tolist())


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(2, 20))
def test_quantile_groups_are_ordered_dense_and_keep_equal_values_together(
    values: list[int], count: int
) -> None:
    numbers = np.array(values)
    group = residuals.quantile_groups(numbers, count)
    assert sorted(set(group.tolist())) == list(range(group.max() + 1))
    assert group.max() < count
    order = np.argsort(numbers, kind="stable")
    assert (np.diff(group[order]) >= 0).all()
    for value in set(values):
        assert len(set(group[numbers == value].tolist())) == 1


def pairs_of(rows: Any) -> Any:
    both = rows[rows["y_pred_int"].notna()]
    return both, (both["y_true"] - both["y_pred_int"]).astype(float)


def test_calibration_lines_are_scipys(explained: Any, reported: Any) -> None:
    folder, rows = reported
    both, _ = pairs_of(rows)
    made = explained[f"{folder}/calibration.json"]
    for key, column in (("fit", "y_pred"), ("fit_mean", "y_mean")):
        line = scipy.stats.linregress(both[column].astype(float), both["y_true"].astype(float))
        assert made[key]["alpha"] == pytest.approx(line.intercept, abs=1e-4)
        assert made[key]["beta"] == pytest.approx(line.slope, abs=1e-5)
        assert made[key]["n"] == len(both)
    for row in made["by_hour"]:
        hour = both[both["hour"] == row["hour"]].astype({"y_pred": float, "y_true": float})
        line = scipy.stats.linregress(hour["y_pred"], hour["y_true"])
        assert row["beta"] == pytest.approx(line.slope, abs=1e-5)
        assert row["n"] == len(hour)


def test_bias_names_and_places_its_station(explained: Any, reported: Any) -> None:
    folder, rows = reported
    both, residual = pairs_of(rows)
    bias = residual.groupby(both["station_id"]).mean()
    made = explained[f"{folder}/calibration.json"]["bias_by_station"]
    assert {row["station_id"] for row in made} == {"s1", "s2", "s3", "s4"}
    for row in made:
        n = int(row["station_id"][1:])
        assert row["bias"] == pytest.approx(bias[row["station_id"]], abs=2e-6)
        assert (row["name"], row["lat"], row["lon"]) == (
            f"Station {n}",
            round(48.85 + 0.004 * n, 6),
            2.35,
        )


def test_calibration_bins_hold_every_pair(explained: Any, reported: Any) -> None:
    folder, rows = reported
    both, _ = pairs_of(rows)
    made = explained[f"{folder}/calibration.json"]
    assert sum(row["n"] for row in made["binned"]) == len(both)
    levels = made["rel_error_levels"]
    assert [row["level"] for row in levels] == ["Bas", "Moyen", "Haut"]
    assert sum(row["n"] for row in levels) == len(both)
    means = [row["y_pred_mean"] for row in made["binned"]]
    assert means == sorted(means)


def test_qq_compares_standard_residuals_with_scipys_normal(explained: Any, reported: Any) -> None:
    folder, rows = reported
    _, residual = pairs_of(rows)
    qq = explained[f"{folder}/residuals.json"]["qq"]
    p = (np.arange(512) + 0.5) / 512
    assert qq["th"] == pytest.approx(scipy.stats.norm.ppf(p).tolist(), abs=1e-5)
    standard = (np.quantile(residual, p) - residual.mean()) / residual.std(ddof=0)
    assert qq["emp"] == pytest.approx(standard.tolist(), abs=1e-5)


def test_autocorrelation_is_over_time_and_not_over_rows(explained: Any, reported: Any) -> None:
    folder, rows = reported
    both, residual = pairs_of(rows)
    series = residual.groupby(both["tbin_utc"]).mean().asfreq("5min")
    assert series.isna().any()  # the hole
    deviation = series - series.mean()
    variance = (deviation**2).mean()
    acf = explained[f"{folder}/residuals.json"]["acf"]
    assert len(acf) == 145
    for lag in (0, 1, 12, 100, 144):
        expected = (deviation * deviation.shift(lag)).mean() / variance
        assert acf[lag] == pytest.approx(expected, abs=2e-6)


def test_errors_are_grouped_by_the_forecast(explained: Any, reported: Any) -> None:
    folder, rows = reported
    both, residual = pairs_of(rows)
    made = explained[f"{folder}/residuals.json"]["hetero"]
    by_level = residual.abs().groupby(both["y_pred_int"].astype(int)).agg(["mean", "size"])
    # Whole bikes from 5 to 15 are fewer than twenty: each makes a group of its own, or joins.
    assert sum(row["n"] for row in made) == len(residual)
    total = sum(row["mae"] * row["n"] for row in made)
    assert total == pytest.approx((by_level["mean"] * by_level["size"]).sum(), rel=1e-4)
    assert [row["quantile"] for row in made] == [f"q{n + 1}" for n in range(len(made))]


def test_the_longest_run_of_misses_is_found(explained: Any) -> None:
    episodes = explained["h60/residuals.json"]["episodes"]
    # Six bins of every day were off by six bikes at station 1.
    found = {row["station_id"]: row["max_run"] for row in episodes}
    assert 5 <= found["s1"] <= 7
    assert max(found, key=lambda station: found[station]) == "s1"


def test_the_band_is_fitted_on_the_first_days_and_tested_on_the_last(
    explained: Any, reported: Any
) -> None:
    folder, rows = reported
    both, residual = pairs_of(rows)
    made = explained[f"{folder}/uncertainty.json"]
    fitted = both["date"] < "2025-10-27"
    assert (made["fitted_days"], made["tested_days"]) == (5, 2)
    inside = []
    for row in made["band"]:
        hour = both["hour"] == row["hour"]
        low, high = np.quantile(residual[fitted & hour], [0.05, 0.95])
        assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
        inside.append(residual[~fitted & hour].between(low, high))
    coverage = pd.concat(inside)
    assert made["coverage"] == {
        "empirical": pytest.approx(coverage.mean(), abs=1e-6),
        "n": len(coverage),
    }
    assert explained[f"{folder}/overview.json"]["has_uncertainty"] is True


def test_one_day_is_too_little_to_test_a_band_on(perf: Any, net: Network) -> None:
    one = complete_days(planted.after(net), 1, planted.TZ)
    documents = explainability.build(
        perf, window=one, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    made = documents["h15/uncertainty.json"]
    assert (made["method"], made["coverage"]) == ("none", None)
    assert "two days" in made["reason"]


def test_a_perfect_model_has_no_spread_and_a_line_of_slope_one(
    net: Network, window: LocalDays
) -> None:
    perfect = net.all_perf(lambda horizon, truth, bikes: truth)
    documents = explainability.build(
        perfect, window=window, horizons=planted.HORIZONS, run_metadata=planted.run_metadata("x")
    )
    assert documents["h15/residuals.json"]["qq"] == {"th": [], "emp": []}
    assert documents["h15/residuals.json"]["acf"] == []
    assert documents["h15/calibration.json"]["fit"]["beta"] == pytest.approx(1)
    assert documents["h15/uncertainty.json"]["coverage"]["empirical"] == 1


MOVED = Importance(
    features=["bikes", "hour", "rain"],
    scores={
        "gain": {"bikes": 30.0, "hour": 90.0},
        "total_gain": {"bikes": 300.0, "hour": 100.0},
        "weight": {"bikes": 10.0, "hour": 1.1},
        "cover": {"bikes": 5.0, "hour": 5.0},
    },
    shap=np.array([[1.0, -3.0, 0.5], [0.0, 2.0, 0.0], [-4.0, 1.0, 0.5]], np.float32),
    stations=["s1", "s0", "s1"],
    bins=[bin_of(planted.GENERATED), bin_of(planted.GENERATED), Bin(bin_of(planted.GENERATED) + 1)],
)


def test_gain_share_is_of_the_total_gain_and_shap_is_added() -> None:
    rows = {row["feature"]: row for row in importance_document(MOVED, 60, 5)["rows"]}
    assert [rows[f]["gain_share"] for f in ("bikes", "hour", "rain")] == [0.75, 0.25, 0.0]
    size = np.abs(MOVED.shap).mean(axis=0)
    for f, feature in enumerate(MOVED.features):
        assert rows[feature]["shap_mean_abs"] == pytest.approx(size[f])
        assert rows[feature]["shap_share"] == pytest.approx(size[f] / size.sum())
    assert rows["rain"]["gain"] is None


def test_what_moved_a_station_is_its_newest_forecasts_largest_contributions() -> None:
    s0, s1 = importance_document(MOVED, 60, 2)["stations"]
    assert [c["feature"] for c in s1["contributions"]] == ["bikes", "hour"]
    assert [c["bikes"] for c in s1["contributions"]] == [-4.0, 1.0]
    assert s1["others"] == pytest.approx(0.5)
    assert s1["tbin_utc"] == "2025-11-20T03:05:00Z"
    assert s0["contributions"][0] == {"feature": "hour", "bikes": 2.0}


def test_without_a_model_there_is_a_note_and_no_row() -> None:
    made = importance_document(None, 60, 5)
    assert made["rows"] == []
    assert made["notes"] == ["no model is published for this horizon"]


def test_limits_are_echoed(explained: Any) -> None:
    limits = explained["manifest.json"]["thresholds"]
    assert limits["calibration"] == dataclasses.asdict(reliability.CalibrationLimits())


def test_contributions_of_a_booster_add_up_to_its_forecasts() -> None:
    import xgboost as xgb

    rng = np.random.default_rng(4)
    names = ["a", "b", "c"]
    x = rng.normal(size=(400, 3))
    data = xgb.DMatrix(x, 3 * x[:, 0] + np.sign(x[:, 1]), feature_names=names)
    booster = xgb.train({"max_depth": 3, "nthread": 1}, data, 20)
    shap = booster.predict(data, pred_contribs=True)
    kinds = ("gain", "total_gain", "weight", "cover")
    scores: dict[str, Any] = {kind: booster.get_score(importance_type=kind) for kind in kinds}
    moved = Importance(
        names,
        scores,
        shap[:, :-1],
        [f"s{n}" for n in range(400)],
        [Bin(0)] * 400,
    )
    made = importance_document(moved, 60, 2)
    assert [row["feature"] for row in made["rows"]] == names
    assert sum(row["gain_share"] for row in made["rows"]) == pytest.approx(1)
    forecasts = dict(zip(moved.stations, booster.predict(data), strict=True))
    for row in made["stations"]:
        reported = sum(c["bikes"] for c in row["contributions"]) + row["others"]
        assert reported + shap[0, -1] == pytest.approx(forecasts[row["station_id"]], abs=1e-4)


def test_readers_that_name_no_horizon_find_the_first_ones_documents(
    performance: Any, explained: Any
) -> None:
    for documents in (performance, explained):
        first = {name[4:]: body for name, body in documents.items() if name.startswith("h15/")}
        assert {name: documents[name] for name in first} == first
        assert set(first) <= set(documents["manifest.json"]["artifacts"])
