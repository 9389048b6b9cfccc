"""The network families on planted stockouts, openings and closings, against pandas and DuckDB."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import planted
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from planted import Network
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import davies_bouldin_score, silhouette_score
from velib_core.monitoring.network import dynamics as network_dynamics
from velib_core.monitoring.network import overview as network_overview
from velib_core.monitoring.network import stations as network_stations
from velib_core.monitoring.network.day_sums import HISTORY_COLUMNS, summarise
from velib_core.monitoring.stats import nan_stats, run_lengths
from velib_core.timeline.bins import bin_of
from velib_core.timeline.windows import LocalDays, complete_days

if TYPE_CHECKING:
    from pandas.core.frame import DataFrame

START, STOP = pd.Timestamp("2025-10-21T22:00"), pd.Timestamp("2025-10-28T23:00")
BIN = pd.Timedelta(minutes=5)


def eventful(net: planted.Network) -> planted.Network:
    """Plant stockouts of known length, a gap inside one, a closing, an opening, no docks at all."""
    frame = net.frame
    empty = net.rows("s2", net.at(5, 12), net.at(5, 14.5))
    frame.loc[empty, ["bikes", "docks_available"]] = [0, 20]
    full = net.rows("s3", net.at(6, 1), net.at(6, 4))
    frame.loc[full, ["bikes", "docks_available"]] = [19, 1]
    brief = net.rows("s1", net.at(4, 9), net.at(4, 9.75))
    frame.loc[brief, ["bikes", "docks_available"]] = [1, 19]
    torn = net.rows("s5", net.at(3, 6), net.at(3, 9))
    frame.loc[torn, ["bikes", "docks_available"]] = [2, 18]
    closed = net.rows("s4", net.at(6, 12), net.at(net.days, 0))
    frame.loc[closed, ["bikes", "docks_available"]] = [0, 0]
    frame.loc[closed, "status"] = "CLOSED"
    frame.loc[frame["station_id"] == "s6", ["bikes", "capacity", "docks_available"]] = 0
    unopened = net.rows("s7", net.at(0, 0), net.at(5, 6))
    gap = net.rows("s5", net.at(3, 7), net.at(3, 7) + BIN)
    net.frame = frame[~(unopened | gap)]
    return net


@pytest.fixture(scope="module")
def net() -> Network:
    return eventful(planted.network())


@pytest.fixture(scope="module")
def window(net: Network) -> LocalDays:
    return complete_days(planted.after(net), 7, planted.TZ)


@pytest.fixture(scope="module")
def inside(net: Network) -> Any:
    """The window's events, by pandas."""
    frame = net.events_frame()
    return frame[(frame["tbin_utc"] >= START) & (frame["tbin_utc"] < STOP)]


@pytest.fixture(scope="module")
def by_station(inside: Any) -> DataFrame:
    """Rates of each station over its bins in service, by SQL."""
    rows = duckdb.connect().execute(
        """
        select station_id, avg(is_penury) as penury, avg(is_saturation) as saturation,
               count(is_penury) as rated, count(*) as seen, median(capacity) as capacity,
               avg(occ_ratio) filter (is_penury is not null) as occ,
               stddev_pop(occ_ratio) as spread
        from inside group by station_id""",
    )
    return rows.df().set_index("station_id")


@pytest.fixture(scope="module")
def dynamics(net: Network, window: LocalDays) -> Any:
    return network_dynamics.build(
        net.all_events(network_dynamics.COLUMNS),
        window=window,
        run_metadata=planted.run_metadata("network/dynamics"),
    )


@pytest.fixture(scope="module")
def stations(net: Network, window: LocalDays) -> Any:
    return network_stations.build(
        net.all_events(network_stations.COLUMNS),
        window=window,
        run_metadata=planted.run_metadata("network/stations"),
    )


def overview_of(net: Network, **options: Any) -> Any:
    sums = [summarise(t) for t in net.all_events(HISTORY_COLUMNS)]
    return network_overview.build(
        net.all_events(network_overview.COLUMNS)[-2:],
        sums,
        now=planted.after(net),
        run_metadata=planted.run_metadata("network/overview"),
        **options,
    )


@pytest.fixture(scope="module")
def overview(net: Network) -> Any:
    return overview_of(net)


def approx(value: float) -> Any:
    return pytest.approx(None if pd.isna(value) else value, abs=1e-5)


# --- runs -------------------------------------------------------------------------------------


@given(
    arrays(np.int8, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.integers(-1, 1)),
    st.integers(1, 5),
)
@example(np.array([[1, 0], [-1, 1]], np.int8), 1)  # one station's run ends where the next's begins
def test_runs_are_those_found_by_walking(cells: Any, lookback: int) -> None:
    """−1 is unobserved, 0 and 1 are observed; a run ends at a 0 or where nothing is in reach."""
    found = run_lengths.find_runs(cells == 1, cells >= 0, lookback)
    walked = []
    for station, column in enumerate(cells.T):
        run: list[int] = []
        for at in [*np.flatnonzero(column >= 0).tolist(), None]:
            if run and (at is None or column[at] == 0 or at - run[-1] > lookback):
                walked.append((station, run[0], run[-1], len(run)))
                run = []
            if at is not None and column[at] == 1:
                run.append(at)
    assert list(zip(*(field.tolist() for field in found), strict=True)) == walked


def test_a_network_polled_every_third_bin_bridges_its_own_holes_but_no_gap() -> None:
    seen = np.zeros((30, 1), bool)
    seen[::3] = True
    assert run_lengths.lookback_of(seen) == 5
    seen[15] = False
    found = run_lengths.find_runs(seen, seen, run_lengths.lookback_of(seen))
    assert found.rows.tolist() == [5, 4]


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 7), st.integers(1, 4)),
        elements=st.sampled_from([np.nan, 0.0, 0.5, 3.0, 7.25, -2.0]),
    )
)
def test_medians_and_spreads_of_known_values_are_pandas(values: Any) -> None:
    frame = pd.DataFrame(values.astype(float))
    assert nan_stats.median(values).tolist() == pytest.approx(frame.median().tolist(), nan_ok=True)
    spread = frame.std(ddof=0).tolist()
    assert nan_stats.std(values).tolist() == pytest.approx(spread, abs=1e-6, nan_ok=True)


# --- dynamics ---------------------------------------------------------------------------------


def test_episodes_are_those_that_were_planted(dynamics: Any, net: Network) -> None:
    rows = dynamics["episodes.json"]["episodes"]["rows"]
    at = net.at
    planted_ones = [
        ("s2", "penury", at(5, 12), at(5, 14.5), 30, 150),
        ("s3", "saturation", at(6, 1), at(6, 4), 36, 180),
        # The gap of one bin splits three hours into one hour and an hour and 55 minutes.
        ("s5", "penury", at(3, 6), at(3, 7), 12, 60),
        ("s5", "penury", at(3, 7) + BIN, at(3, 9), 23, 115),
    ]
    assert [
        (r["station_id"], r["type"], r["start_utc"], r["end_utc"], r["steps"], r["duration_min"])
        for r in rows
    ] == [
        (s, kind, f"{first.isoformat()}Z", f"{(last - BIN).isoformat()}Z", steps, minutes)
        for s, kind, first, last, steps, minutes in planted_ones
    ]


def test_tension_is_what_sql_counts(dynamics: Any, by_station: DataFrame) -> None:
    rows = dynamics["tension_by_station.json"]["tension_by_station"]["rows"]
    assert {row["station_id"] for row in rows} == set(by_station.index[by_station["rated"] > 0])
    for row in rows:
        reported = by_station.loc[row["station_id"]]
        assert row["penury_rate"] == approx(reported["penury"])
        assert row["saturation_rate"] == approx(reported["saturation"])
        assert row["occ_mean"] == approx(reported["occ"])
        assert row["n_obs"] == reported["rated"]
        assert row["out_of_service_share"] == approx(1 - reported["rated"] / reported["seen"])
    order = [row["tension_index"] or 0 for row in rows]
    assert order == sorted(order, reverse=True)


def test_a_station_without_docks_is_out_of_service_and_not_short_of_bikes(
    dynamics: Any, stations: Any
) -> None:
    rows = dynamics["tension_by_station.json"]["tension_by_station"]["rows"]
    assert "s6" not in {row["station_id"] for row in rows}
    row = next(row for row in stations["stats7.json"]["rows"] if row["station_id"] == "s6")
    assert (row["penury_rate"], row["saturation_rate"]) == (None, None)
    assert row["out_of_service_share"] == 1


def test_heatmaps_are_means_by_local_weekday_and_hour(dynamics: Any, inside: Any) -> None:
    rated = inside[inside["is_penury"].notna()]
    means = rated.groupby(["dow", "hour"])[["occ_ratio", "is_penury", "is_saturation"]].mean()
    heatmap = dynamics["heatmaps_profiles.json"]["heatmaps_profiles"]["heatmap"]
    for (dow, hour), row in means.iterrows():
        assert heatmap["occ_mean"][dow][hour] == approx(row["occ_ratio"])
        assert heatmap["penury_rate"][dow][hour] == approx(row["is_penury"])
        assert heatmap["saturation_rate"][dow][hour] == approx(row["is_saturation"])
    assert len(means) == 7 * 24


def test_hourly_rates_are_means_by_local_hour(dynamics: Any, inside: Any) -> None:
    rates = (
        inside[inside["is_penury"].notna()].groupby("hour")[["is_penury", "is_saturation"]].mean()
    )
    for row in dynamics["hourly_pen_sat.json"]["hourly"]["rows"]:
        assert row["penury_rate"] == approx(rates.loc[row["hour"], "is_penury"])
        assert row["saturation_rate"] == approx(rates.loc[row["hour"], "is_saturation"])


def test_zones_add_up_to_the_network(dynamics: Any, inside: Any) -> None:
    rows = dynamics["by_zone.json"]["by_zone"]["rows"]
    placed = inside.assign(
        zone=inside["lat"].round(2).map("{:.2f}".format) + "|" + inside["lon"].map("{:.2f}".format)
    )
    rated = placed[placed["is_penury"].notna()]
    means = rated.groupby("zone")["is_penury"].mean()
    assert {row["zone"] for row in rows} == set(placed["zone"])
    for row in rows:
        assert row["penury_rate"] == approx(means.get(row["zone"], np.nan))
    assert sum(row["n_obs"] for row in rows) == len(rated)
    assert sum(row["cap_sum"] for row in rows) == 7 * 20


def test_regularity_is_the_correlation_with_the_median_of_the_same_weekday() -> None:
    net = planted.network("2025-09-22", days=37, stations=3)
    ends = complete_days(planted.after(net), 7, planted.TZ)
    documents = network_dynamics.build(
        net.all_events(network_dynamics.COLUMNS),
        window=ends,
        run_metadata=planted.run_metadata("x"),
    )
    reported = documents["regularity_today.json"]["regularity_today"]
    # Ten to one in the morning is too early for today: yesterday is shown, a Tuesday.
    assert reported["day_local"] == "2025-10-28"
    frame = net.events_frame().assign(clock=lambda f: f["local"].dt.strftime("%H:%M"))
    tuesdays = [dt.date(2025, 10, 28) - dt.timedelta(weeks=w) for w in range(1, 6)]
    for row in reported["rows"]:
        mine = frame[frame["station_id"] == row["station_id"]]
        day = mine[mine["date"] == dt.date(2025, 10, 28)].set_index("clock")["occ_ratio"]
        past = mine[mine["date"].isin(tuesdays)].groupby("clock")["occ_ratio"].median()
        assert row["regularity_corr_today_vs_typical"] == approx(day.corr(past))
        assert row["n_days"] == 5


@pytest.mark.parametrize(
    ("newest", "shown"),
    [
        # In winter Paris is an hour ahead of UTC.
        ("2025-01-15T10:55", "2025-01-14"),
        ("2025-01-15T11:00", "2025-01-15"),
        ("2025-01-15T22:55", "2025-01-15"),
        ("2025-01-15T23:00", "2025-01-15"),
        ("2025-07-15T09:55", "2025-07-14"),
        ("2025-07-15T10:00", "2025-07-15"),
    ],
)
def test_a_day_is_shown_once_half_of_it_is_over_with_its_weekday_before(
    newest: str, shown: str
) -> None:
    at = bin_of(dt.datetime.fromisoformat(newest))
    found = network_dynamics.regularity_days(at, planted.TZ, 2)
    first = dt.date.fromisoformat(shown)
    assert [day.days for day in found] == [(first - dt.timedelta(days=7 * n),) for n in range(3)]


def test_a_station_with_more_bikes_than_docks_is_full_and_no_more() -> None:
    net = planted.network(days=2, stations=2)
    net.frame.loc[net.frame["station_id"] == "s1", ["bikes", "docks_available"]] = [30, 0]
    documents = network_dynamics.build(
        net.all_events(network_dynamics.COLUMNS),
        window=complete_days(planted.after(net), 1, planted.TZ),
        run_metadata=planted.run_metadata("x"),
    )
    rows = documents["tension_by_station.json"]["tension_by_station"]["rows"]
    occupancy = {row["station_id"]: row["occ_mean"] for row in rows}
    assert occupancy["s1"] == 1
    assert 0.25 <= occupancy["s0"] <= 0.75


def test_the_regularity_of_a_network_polled_less_often_bears_a_hole() -> None:
    net = planted.network("2025-09-29", days=30, stations=2)
    times = net.frame["tbin_utc"]
    hole = (times >= net.at(29, 9)) & (times < net.at(29, 11))
    net.frame = net.frame[(times.dt.minute % 15 == 0) & ~hole]
    documents = network_dynamics.build(
        net.all_events(network_dynamics.COLUMNS),
        window=complete_days(planted.after(net), 7, planted.TZ),
        run_metadata=planted.run_metadata("x"),
    )
    rows = documents["regularity_today.json"]["regularity_today"]["rows"]
    assert [row["n_bins"] for row in rows] == [96 - 8] * 2
    assert None not in {row["regularity_corr_today_vs_typical"] for row in rows}


def test_too_few_days_of_the_same_weekday_give_no_regularity(dynamics: Any) -> None:
    reported = dynamics["regularity_today.json"]["regularity_today"]
    assert reported["rows"] == []
    assert reported["reason"] == "1 earlier days of this weekday, 4 needed"


# --- stations ---------------------------------------------------------------------------------


def test_station_figures_are_what_sql_computes(stations: Any, by_station: DataFrame) -> None:
    rows = stations["stats7.json"]["rows"]
    assert {row["station_id"] for row in rows} == set(by_station.index)
    for row in rows:
        reported = by_station.loc[row["station_id"]]
        assert row["capacity_est"] == approx(reported["capacity"])
        assert row["volatility"] == approx(reported["spread"])
        assert row["penury_rate"] == approx(reported["penury"])
        assert row["saturation_rate"] == approx(reported["saturation"])
        assert row["coverage_pct"] == approx(reported["seen"] / (7 * 288 + 12))
        assert row["bins"] == reported["seen"]


def test_profiles_are_by_the_local_clock(stations: Any, inside: Any) -> None:
    nan_stats = inside[inside["occ_ratio"].notna()]
    profile = nan_stats.pivot_table("occ_ratio", "station_id", "hour")
    clusters = {row["station_id"]: row["cluster"] for row in stations["stats7.json"]["rows"]}
    for centroid in stations["centroids.json"]["centroids"]:
        members = [s for s, c in clusters.items() if c == centroid["cluster"]]
        assert centroid["y"] == pytest.approx(profile.loc[members].mean().tolist(), abs=1e-5)
        assert centroid["n"] == len(members)


def test_groups_are_scikit_learns_of_the_shapes(stations: Any, inside: Any) -> None:
    nan_stats = inside[inside["occ_ratio"].notna()]
    profile = nan_stats.pivot_table("occ_ratio", "station_id", "hour")
    shape = profile.sub(profile.mean(axis=1), axis=0).to_numpy()
    kpis = stations["kpis.json"]
    labels = [KMeans(k, n_init=10, random_state=42).fit_predict(shape) for k in range(4, 7)]
    best = max(labels, key=lambda label: silhouette_score(shape, label))
    assert kpis["n_stations"] == len(shape) == 7
    assert kpis["k_effective"] == best.max() + 1
    assert kpis["silhouette"] == approx(silhouette_score(shape, best))
    assert kpis["davies_bouldin"] == approx(davies_bouldin_score(shape, best))
    pca = PCA(2).fit(shape)
    assert stations["pca_circle.json"]["var_ratio"] == pytest.approx(
        pca.explained_variance_ratio_, abs=1e-5
    )
    for mine, theirs in zip(
        stations["pca_circle.json"]["components"], pca.components_, strict=True
    ):
        assert abs(np.dot(mine, theirs)) == approx(1)


def test_groups_are_numbered_by_how_much_fuller_they_are_by_day(stations: Any) -> None:
    contrast = [
        np.mean(c["y"][10:17]) - np.mean(c["y"][0:6])
        for c in stations["centroids.json"]["centroids"]
    ]
    assert contrast == sorted(contrast)


@pytest.mark.parametrize("k", [1, 3])
def test_a_number_of_groups_can_be_asked_for(net: Network, window: LocalDays, k: int) -> None:
    documents = network_stations.build(
        net.all_events(network_stations.COLUMNS),
        window=window,
        run_metadata=planted.run_metadata("x"),
        thresholds=network_stations.StationsThresholds(k=k),
    )
    assert documents["kpis.json"]["k_effective"] == k
    assert len(documents["centroids.json"]["centroids"]) == k


# --- overview ---------------------------------------------------------------------------------


def test_stations_are_classified_by_what_can_be_done_there(overview: Any) -> None:
    kpis = overview["kpis.json"]
    assert kpis["snapshot_ts_utc"] == "2025-10-28T23:55:00Z"
    assert kpis["snapshot_ts_local"] == "2025-10-29 00:55:00+01:00"
    assert kpis["stations_universe"] == 8
    assert kpis["stations_out_of_service"] == 2  # closed, and without docks
    assert (kpis["stations_active"], kpis["stations_offline"]) == (6, 2)
    assert kpis["stations_absent"] == kpis["stations_stale"] == 0
    assert kpis["penury_pct"] == kpis["saturation_pct"] == 0
    assert kpis["availability_bike_pct"] == 100


def test_a_frozen_and_a_vanished_station_are_not_active() -> None:
    net = planted.network()
    late = net.rows("s0", net.at(8, 20), net.at(9, 0))
    net.frame.loc[late, "last_reported_utc"] = net.at(6, 0)
    net.frame = net.frame[~net.rows("s1", net.at(8, 12), net.at(9, 0))]
    kpis = overview_of(net)["kpis.json"]
    assert (kpis["stations_universe"], kpis["stations_active"]) == (8, 6)
    assert (kpis["stations_stale"], kpis["stations_absent"]) == (1, 1)


def test_coverage_counts_an_outage_of_the_network() -> None:
    net = planted.network()
    dark = (net.frame["tbin_utc"] >= net.at(4, 0)) & (net.frame["tbin_utc"] < net.at(5, 0))
    net.frame = net.frame[~dark]
    assert overview_of(net)["kpis.json"]["coverage_pct"] == approx(100 * (1 - 288 / (7 * 288 + 12)))


def test_a_young_network_is_not_blamed_for_the_days_before_it() -> None:
    documents = overview_of(planted.network(days=3))
    assert documents["kpis.json"]["coverage_pct"] == 100
    assert documents["manifest.json"]["reason"] == "history is shorter than the window"


def test_the_overview_agrees_with_the_dynamics_on_every_station(
    overview: Any, dynamics: Any
) -> None:
    agree(overview, dynamics)


def test_the_overview_agrees_with_the_dynamics_on_a_day_that_broke_off(window: LocalDays) -> None:
    net = eventful(planted.network())
    dark = (net.frame["tbin_utc"] >= net.at(5, 14.2)) & (net.frame["tbin_utc"] < net.at(6, 0))
    net.frame = net.frame[~dark]
    dynamics = network_dynamics.build(
        net.all_events(), window=window, run_metadata=planted.run_metadata("x")
    )
    agree(overview_of(net), dynamics)


def agree(overview: Any, dynamics: Any) -> None:
    mine = {row["station_id"]: row for row in overview["stations_tension.json"]["rows"]}
    theirs = dynamics["tension_by_station.json"]["tension_by_station"]["rows"]
    assert len(mine) == len(theirs) == 7
    for row in theirs:
        for key in ("penury_rate", "saturation_rate", "n_obs", "out_of_service_share"):
            assert mine[row["station_id"]][key] == approx(row[key])


def test_a_closed_station_is_on_the_map_without_a_stockout(overview: Any) -> None:
    rows = {row["station_id"]: row for row in overview["snapshot_map.json"]["rows"]}
    assert len(rows) == 8
    assert not rows["s4"]["in_service"]
    assert not rows["s6"]["in_service"]
    assert {(row["is_penury"], row["is_saturation"]) for row in rows.values()} == {(0, 0)}


@pytest.fixture(scope="module")
def afternoon() -> Network:
    """A network whose last day ends at 16:00 UTC, with bikes short every morning until 9 UTC."""
    net = planted.network("2025-09-28", days=31, stations=6)
    early = net.frame["tbin_utc"].dt.hour < 9
    short = early & net.frame["station_id"].isin(["s0", "s1"])
    net.frame.loc[short, ["bikes", "docks_available"]] = [0, 20]
    net.frame = net.frame[net.frame["tbin_utc"] < net.at(30, 16)]
    return net


def share_with_bike(frame: Any) -> Any:
    rated = frame[frame["is_penury"].notna()]
    return 100 * (rated["bikes"] > 0).mean()


def test_today_is_compared_with_the_same_hours_of_other_days(afternoon: Network) -> None:
    reported = overview_of(afternoon)["kpis_today_vs_lags.json"]
    frame = afternoon.events_frame()
    until = frame["local"].dt.strftime("%H:%M") <= "16:55"
    today = dt.date(2025, 10, 28)
    assert reported["until_local"] == "16:55"
    for key, days in (("J-7", 7), ("J-14", 14), ("J-21", 21)):
        day = frame[until & (frame["date"] == today - dt.timedelta(days=days))]
        assert reported["lags"][key]["avail_bike"] == approx(share_with_bike(day))
        assert reported["lags"][key]["pen"] == approx(100 * day["is_penury"].mean())
    assert reported["today"]["avail_bike"] == approx(share_with_bike(frame[frame["date"] == today]))


def test_curves_are_by_the_local_clock(afternoon: Network) -> None:
    documents = overview_of(afternoon)
    frame = afternoon.events_frame().assign(clock=lambda f: f["local"].dt.strftime("%H:%M"))
    today = dt.date(2025, 10, 28)
    curve = {p["hhmm"]: p["pct"] for p in documents["today_curve.json"]["points"]}
    for hhmm, rows in frame[frame["date"] == today].groupby("clock"):
        assert curve.pop(hhmm) == approx(share_with_bike(rows))
    assert curve == {}
    past = [today - dt.timedelta(weeks=w) for w in range(1, 5)]
    by_day = (
        frame[frame["date"].isin(past)]
        .groupby(["date", "clock"])["bikes"]
        .apply(lambda bikes: 100 * (bikes > 0).mean())
    )
    median = by_day.groupby("clock").median()
    reference = documents["ref_median_curve.json"]
    assert reference["n_days"] == 4
    for row in reference["median"]:
        assert row["pct_median"] == approx(median[row["hhmm"]])


def test_volatility_is_the_median_spread_of_changes(afternoon: Network) -> None:
    frame = afternoon.events_frame()
    today = frame[frame["date"] == dt.date(2025, 10, 28)].sort_values("tbin_utc")
    spread = today.groupby("station_id")["bikes"].apply(lambda b: b.diff().std(ddof=0))
    assert overview_of(afternoon)["kpis.json"]["volatility_today"] == approx(spread.median())


def test_observations_of_today_replace_its_sums(afternoon: Network) -> None:
    sums = [summarise(t) for t in afternoon.all_events()[:-1]]
    recent = afternoon.all_events(network_overview.COLUMNS)[-2:]
    options: dict[str, Any] = {
        "now": planted.after(afternoon),
        "run_metadata": planted.run_metadata("network/overview"),
    }
    assert network_overview.build(recent, sums, **options) == overview_of(afternoon)


def test_a_network_polled_every_quarter_of_an_hour_has_curves_and_a_volatility(
    afternoon: Network,
) -> None:
    minute = afternoon.frame["tbin_utc"].dt.minute
    net = planted.Network(afternoon.first, afternoon.days, afternoon.frame[minute % 15 == 0])
    documents = overview_of(net)
    frame = net.events_frame().assign(clock=lambda f: f["local"].dt.strftime("%H:%M"))
    today = frame[frame["date"] == dt.date(2025, 10, 28)].sort_values("tbin_utc")
    spread = today.groupby("station_id")["bikes"].apply(lambda b: b.diff().std(ddof=0))
    assert documents["kpis.json"]["volatility_today"] == approx(spread.median())
    assert len(documents["today_curve.json"]["points"]) == 17 * 4
    curve = {p["hhmm"]: p["pct_median"] for p in documents["ref_median_curve.json"]["median"]}
    # Between two polls the usual curve is straight; after the day's last one there is none.
    assert curve["08:05"] == approx((2 * curve["08:00"] + curve["08:15"]) / 3)
    assert max(curve) == "23:45"
    assert len(curve) == 288 - 2


@pytest.mark.parametrize(
    ("first", "today", "bins"),
    [("2025-03-16", "2025-03-30", 276), ("2025-10-12", "2025-10-26", 288)],
)
def test_curves_hold_on_the_days_when_clocks_change(first: str, today: str, bins: int) -> None:
    """A day of 23 hours has no point in the hour that is skipped, one of 25 none twice."""
    net = planted.network(first, days=15, stations=3)
    net.frame = net.frame[net.frame["tbin_utc"] < net.at(14, 21)]
    documents = overview_of(net)
    clocks = [point["hhmm"] for point in documents["today_curve.json"]["points"]]
    frame = net.events_frame()
    local = frame.loc[frame["date"] == dt.date.fromisoformat(today), "local"]
    assert clocks == sorted(set(local.dt.strftime("%H:%M")))
    reported = documents["kpis_today_vs_lags.json"]
    assert reported["until_local"] == clocks[-1]
    assert {reported["today"][key] for key in ("avail_bike", "avail_dock")} == {100}
    usual = documents["ref_median_curve.json"]
    assert usual["n_days"] == 2
    assert sum(row["pct_median"] == 100 for row in usual["median"]) == 288
    assert len(clocks) <= bins


@pytest.mark.parametrize("step", [2, 3])
def test_a_slower_schedule_is_covered_and_unknown_docks_are_no_shortage(step: int) -> None:
    net = planted.network()
    net.frame = net.frame[net.frame["tbin_utc"].dt.minute // 5 % step == 0]
    net.frame[["capacity", "docks_available"]] = None
    kpis = overview_of(net)["kpis.json"]
    assert kpis["coverage_pct"] == 100
    assert kpis["availability_bike_pct"] is not None
    assert (kpis["availability_dock_pct"], kpis["saturation_pct"]) == (None, None)


def test_a_report_is_stale_once_it_is_older_than_a_day() -> None:
    net = planted.network(days=2, stations=3)
    for station, minutes in (("s0", 1439), ("s1", 1440), ("s2", 1441)):
        mine = net.frame["station_id"] == station
        age = pd.Timedelta(minutes=minutes)
        net.frame.loc[mine, "last_reported_utc"] = net.frame.loc[mine, "ts_utc"] - age
    documents = overview_of(net)
    rows = documents["snapshot_map.json"]["rows"]
    stale = {row["station_id"]: row["stale"] for row in rows}
    assert stale == {"s0": False, "s1": False, "s2": True}
    assert documents["kpis.json"]["stations_stale"] == 1


def test_the_most_tense_station_is_the_one_without_bikes_or_docks_most_often() -> None:
    net = planted.network(days=3, stations=3)
    empty = net.rows("s0", net.at(0, 0), net.at(0, 18))
    net.frame.loc[empty, ["bikes", "docks_available"]] = [0, 20]
    full = net.rows("s1", net.at(0, 0), net.at(1, 12))
    net.frame.loc[full, ["bikes", "docks_available"]] = [20, 0]
    rows = overview_of(net)["stations_tension.json"]["rows"]
    assert [row["station_id"] for row in rows] == ["s1", "s0", "s2"]
