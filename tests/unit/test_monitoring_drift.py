"""Drift: distances against SciPy and by hand, and a network in which a known thing has moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import planted
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from planted import Network
from present import present
from velib_core.monitoring.data import distances, drift
from velib_core.timeline.windows import complete_days

COUNTS = arrays(np.int64, 6, elements=st.integers(0, 10**6))
VALUES = st.lists(
    st.one_of(st.integers(-50, 50).map(float), st.floats(-1e6, 1e6)), min_size=2, max_size=80
).map(np.array)


@given(COUNTS, COUNTS)
def test_psi_is_finite_symmetric_and_never_negative(a: Any, b: Any) -> None:
    value = distances.psi(a, b)
    assert np.isfinite(value)
    assert value >= 0
    assert value == pytest.approx(distances.psi(b, a))


@given(COUNTS)
def test_psi_of_a_sample_with_itself_is_nothing(a: Any) -> None:
    assert distances.psi(a, a) == 0


def test_psi_is_the_textbook_sum() -> None:
    a, b = np.array([120, 80, 200]), np.array([40, 90, 70])
    p, q = (a + 0.5) / (a.sum() + 1.5), (b + 0.5) / (b.sum() + 1.5)
    by_hand = sum((x - y) * np.log(x / y) for x, y in zip(p, q, strict=True))
    assert distances.psi(a, b) == pytest.approx(by_hand)
    entropy = scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)
    assert distances.psi(a, b) == pytest.approx(entropy)


@given(VALUES, VALUES)
def test_every_value_falls_into_one_of_the_few_bins(reference: Any, current: Any) -> None:
    bins = distances.fit_bins(reference, 10)
    if bins is None:
        assert len(set(reference.tolist())) == 1
        return
    assert 2 <= len(bins) <= 10
    place = bins.of(current)
    assert ((place >= 0) & (place < len(bins))).all()
    # No bin is there for nothing: the reference itself fills at least two.
    assert len(set(bins.of(reference).tolist())) >= 2


def test_values_beyond_the_reference_are_drift_and_not_dropped() -> None:
    reference = np.linspace(0, 1, 1000)
    bins = present(distances.fit_bins(reference, 10))
    before = np.bincount(bins.of(reference), minlength=len(bins)).astype(float)
    after = np.bincount(bins.of(reference + 100), minlength=len(bins)).astype(float)
    assert after.sum() == 1000
    assert distances.psi(before, after) > 3


def test_dry_hours_have_a_bin_of_their_own() -> None:
    rain = np.concatenate([np.zeros(900), np.linspace(0.1, 5, 100)])
    bins = present(distances.fit_bins(rain, 10))
    assert bins.zero
    assert np.bincount(bins.of(rain))[0] == 900


@given(VALUES, VALUES)
def test_kolmogorov_smirnov_is_scipys_where_weights_are_equal(reference: Any, current: Any) -> None:
    ks, p = distances.kolmogorov_smirnov(
        distances.Weighted.of(reference),
        distances.Weighted.of(current),
        (len(reference), len(current)),
    )
    theirs = scipy.stats.ks_2samp(reference, current, method="asymp")
    assert ks == pytest.approx(theirs.statistic, abs=1e-9)
    assert p == pytest.approx(theirs.pvalue, abs=1e-6)


def test_a_weight_of_two_is_the_value_twice() -> None:
    rng = np.random.default_rng(3)
    reference, current = rng.normal(size=50), rng.normal(0.3, 1, size=40)
    weights = np.where(np.arange(50) < 20, 2.0, 1.0)
    repeated = np.concatenate([reference[:20], reference])
    before, now = distances.Weighted.of(reference, weights), distances.Weighted.of(current)
    ks, _ = distances.kolmogorov_smirnov(before, now, (50, 40))
    assert ks == pytest.approx(scipy.stats.ks_2samp(repeated, current).statistic)
    assert before.mean() == pytest.approx(repeated.mean())
    assert before.variance() == pytest.approx(repeated.var(ddof=1))
    distance = distances.wasserstein(before, now) * before.variance() ** 0.5
    assert distance == pytest.approx(scipy.stats.wasserstein_distance(repeated, current))


def build(net: Network, days: Any = 7, reference_days: Any = 14, **options: Any) -> Any:
    return drift.build(
        net.all_events(drift.COLUMNS),
        window=complete_days(planted.after(net), days, planted.TZ),
        reference_days=reference_days,
        run_metadata=planted.run_metadata("data/drift"),
        **options,
    )


@pytest.fixture(scope="module")
def net() -> Network:
    """Three weeks; in the last one two bikes are gone from every station, and it is 5° colder."""
    net = planted.network("2025-10-05", days=22, stations=6)
    week = net.frame["tbin_utc"] >= pd.Timestamp("2025-10-19T22:00")
    net.frame.loc[week, "bikes"] -= 2
    net.frame.loc[week, "temp_C"] -= 5.0
    return net


@pytest.fixture(scope="module")
def documents(net: Network) -> Any:
    return build(net)


@pytest.fixture(scope="module")
def hourly(net: Network) -> Any:
    """Hourly means of each station, by pandas."""
    frame = net.events_frame()
    frame["at"] = frame["local"].dt.tz_convert("UTC").dt.floor("h")
    means = frame.groupby(["station_id", "at"])[["bikes", "occ_ratio", "temp_C"]].mean()
    means = means.reset_index()
    start = pd.Timestamp("2025-10-19T22:00", tz="UTC")
    inside = (means["at"] >= start - pd.Timedelta(days=14)) & (
        means["at"] < pd.Timestamp("2025-10-26T23:00", tz="UTC")
    )
    means = means[inside]
    return means.assign(current=means["at"] >= start)


def by_feature(documents: Any, name: str, feature: str) -> Any:
    return next(row for row in documents[name] if row["feature"] == feature)


def test_only_what_moved_is_reported(documents: Any) -> None:
    moved = {row["feature"] for row in documents["psi_by_feature.json"] if (row["psi"] or 0) >= 0.1}
    # `ebike` and `mechanical` are counts of their own and stayed.
    assert moved == {"bikes", "occ_ratio", "temp_C"}
    assert set(documents["summary.json"]["drifted_features"]) == moved
    alerts = {alert["code"] for alert in documents["manifest.json"]["alerts"]}
    assert {"psi_bikes", "psi_occ_ratio", "psi_temp_C"} <= alerts


def test_the_shift_has_the_size_that_was_planted(documents: Any, hourly: Any) -> None:
    row = by_feature(documents, "deltas_by_feature.json", "bikes")
    assert row["mean_cur"] - row["mean_ref"] == pytest.approx(-2, abs=0.06)
    reference = hourly.loc[~hourly["current"], "bikes"]
    current = hourly.loc[hourly["current"], "bikes"]
    # The extra hour of 26 October gives its kind of hour a little more weight than a plain mean.
    expected = (current.mean() - reference.mean()) / reference.std()
    assert row["delta_mean"] == pytest.approx(expected, abs=0.02)
    spread = (current.var() - reference.var()) / reference.var()
    assert row["delta_var"] == pytest.approx(spread, abs=0.05)


@pytest.mark.parametrize("feature", ["bikes", "occ_ratio"])
def test_psi_is_what_pandas_and_numpy_make_of_the_events(
    documents: Any, hourly: Any, feature: str
) -> None:
    reference = hourly.loc[~hourly["current"], feature].to_numpy()
    current = hourly.loc[hourly["current"], feature].to_numpy()
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    p, q = (
        (np.bincount(np.digitize(values, edges), minlength=10) + 0.5) / (len(values) + 5)
        for values in (reference, current)
    )
    expected = ((p - q) * np.log(p / q)).sum()
    row = by_feature(documents, "psi_by_feature.json", feature)
    assert row["psi"] == pytest.approx(expected, rel=0.03)
    assert row["n_ref"] == len(reference)
    assert row["n_cur"] == len(current)


@pytest.mark.parametrize("feature", ["bikes", "occ_ratio"])
def test_ks_and_wasserstein_are_scipys(documents: Any, hourly: Any, feature: str) -> None:
    reference = hourly.loc[~hourly["current"], feature].to_numpy()
    current = hourly.loc[hourly["current"], feature].to_numpy()
    row = by_feature(documents, "ks_by_feature.json", feature)
    theirs = scipy.stats.ks_2samp(reference, current)
    assert row["ks"] == pytest.approx(theirs.statistic, abs=0.01)
    assert row["p_value"] < 0.01
    expected = scipy.stats.wasserstein_distance(reference, current) / reference.std(ddof=1)
    assert row["wasserstein"] == pytest.approx(expected, abs=0.02)


def test_the_weather_is_one_value_an_hour_for_the_whole_city(documents: Any) -> None:
    row = by_feature(documents, "psi_by_feature.json", "temp_C")
    assert (row["n_ref"], row["n_cur"]) == (14 * 24, 7 * 24 + 1)
    rain = by_feature(documents, "psi_by_feature.json", "precip_mm")
    assert rain["psi"] < 0.01


def test_constants_have_no_psi_but_a_reason(documents: Any) -> None:
    named = {
        row["feature"]
        for name in ("psi", "ks", "deltas")
        for row in documents[f"{name}_by_feature.json"]
    }
    assert "capacity" not in named, "readers would draw null as 0"
    assert documents["summary.json"]["not_compared"]["capacity"] == "constant in the reference"


def test_daily_psi_smoothed_is_the_moving_average_of_the_daily_psi(documents: Any) -> None:
    rows = documents["psi_global_daily_ema.json"]
    assert [row["date_local"] for row in rows] == [f"2025-10-{day:02d}" for day in range(6, 27)]
    smoothed = pd.Series([row["psi"] for row in rows]).ewm(span=7, adjust=False).mean()
    assert [row["psi_ema"] for row in rows] == pytest.approx(smoothed.tolist(), abs=1e-5)
    assert min(row["psi"] for row in rows[14:]) > 0.05


@pytest.mark.parametrize("date", ["2025-10-15", "2025-10-22"])
def test_a_days_psi_is_against_the_other_days_of_its_kind(
    documents: Any, net: Network, date: str
) -> None:
    """A working day of the reference, and one of the window, by pandas and numpy."""
    frame = net.events_frame()
    frame["at"] = frame["local"].dt.tz_convert("UTC").dt.floor("h")
    moving = ["bikes", "ebike", "mechanical", "occ_ratio"]
    means = frame.groupby(["station_id", "at"])[moving].mean().reset_index()
    local = means["at"].dt.tz_convert(planted.TZ)
    day, working = local.dt.date.astype(str), local.dt.day_of_week < 5
    reference = (day >= "2025-10-06") & (day < "2025-10-20")
    psis = []
    for feature in moving:
        values = means[feature].round(5).to_numpy()
        edges = np.unique(np.quantile(values[reference], np.arange(1, 10) / 10))
        edges = edges[edges > values[reference].min()]
        p, q = (
            (np.bincount(np.digitize(values[rows], edges), minlength=len(edges) + 1) + 0.5)
            / (rows.sum() + 0.5 * (len(edges) + 1))
            for rows in (reference & working & (day != date), day == date)
        )
        psis.append(((p - q) * np.log(p / q)).sum())
    row = next(r for r in documents["psi_global_daily_ema.json"] if r["date_local"] == date)
    assert row["psi"] == pytest.approx(np.median(psis), abs=1e-5)


def test_a_young_networks_days_start_with_the_first_that_can_be_compared() -> None:
    documents = build(planted.network(days=15, stations=6), days=3, reference_days=21)
    rows = documents["psi_global_daily_ema.json"]
    days = [row["date_local"] for row in rows]
    assert days == [f"{day.date()}" for day in pd.date_range(days[0], "2025-11-03")]
    assert "2025-10-20" <= days[0] < days[-1]
    assert None not in {row["psi_ema"] for row in rows}


def test_bounds_are_the_effective_windows(documents: Any) -> None:
    bounds = documents["bounds.json"]
    assert bounds["cur_start_utc"] == bounds["ref_end_utc"] == "2025-10-19T22:00:00Z"
    assert bounds["ref_start_utc"] == "2025-10-05T22:00:00Z"
    assert (bounds["ref_days_observed"], bounds["cur_days_observed"]) == (14, 7)


def test_zones_with_too_few_data_have_no_psi(net: Network) -> None:
    limits = drift.DriftThresholds(zone_min_station_days=50)
    documents = build(net, thresholds=limits)
    assert documents["zones.json"]["degrees"] == 0.01
    # Stations 0 and 1 lie in one cell of 0.01°, stations 2 and 3, 4 and 5 in others.
    assert documents["zones.json"]["rows"] == []
    assert documents["zones.json"]["not_compared"] == 3


def test_zones_are_as_large_as_a_short_history_needs(net: Network) -> None:
    """Two stations lie in each cell of 0.01°, up to four in those of 0.02°, all in one of 0.05°."""
    limits = drift.DriftThresholds(zone_min_station_days=20)
    document = build(net, thresholds=limits)["zones.json"]
    assert document["degrees"] == 0.05
    (row,) = document["rows"]
    assert (row["zone"], row["stations"]) == ("48.85,2.35", 6)
    assert row["psi"] > 0.25


def test_a_zone_of_enough_stations_shows_the_shift(net: Network) -> None:
    limits = drift.DriftThresholds(zone_min_station_days=7)
    zones = build(net, thresholds=limits)["zones.json"]["rows"]
    assert min(row["psi"] for row in zones) > 0.25


def test_a_network_that_lives_as_before_has_no_drift() -> None:
    documents = build(planted.network("2025-10-05", days=22, stations=6))
    assert max(row["psi"] or 0 for row in documents["psi_by_feature.json"]) < 0.1
    assert documents["alerts.json"] == []
    assert documents["manifest.json"]["alerts"] == []


@pytest.mark.parametrize("days", [2, 3], ids=["a weekend alone", "a Friday and a weekend"])
def test_weekends_are_compared_with_weekends(days: int) -> None:
    net = planted.network("2025-10-05", days=22, stations=6)
    local = net.frame["tbin_utc"].dt.tz_localize("UTC").dt.tz_convert(planted.TZ)
    net.frame.loc[local.dt.day_of_week >= 5, "bikes"] -= 4
    # The reference is mostly working days.
    documents = build(net, days=days, reference_days=14)
    assert by_feature(documents, "psi_by_feature.json", "bikes")["psi"] < 0.1
    assert by_feature(documents, "ks_by_feature.json", "bikes")["ks"] < 0.1
    assert by_feature(documents, "deltas_by_feature.json", "bikes")["delta_mean"] == pytest.approx(
        0, abs=0.1
    )


def test_without_a_reference_the_drift_is_unknown_and_says_why() -> None:
    documents = build(planted.network(days=3), days=3, reference_days=7)
    assert documents["psi_by_feature.json"] == []
    assert set(documents["summary.json"]["not_compared"]) == set(drift.FEATURES)
    assert documents["summary.json"]["psi_global"] is None
    assert "reference days" in documents["manifest.json"]["reason"]
