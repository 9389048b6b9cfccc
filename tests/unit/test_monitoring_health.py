"""Data health of a network with planted faults: each is found, and nothing else."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import planted
import pyarrow as pa
import pytest
from planted import Network
from velib_core.monitoring.data import freshness, health
from velib_core.tables import snapshot
from velib_core.timeline.windows import complete_days

HOUR = pd.Timedelta(hours=1)
BIN = pd.Timedelta(minutes=5)
STUCK_HOURS, GAP_HOURS = 36, 3


def faulty(net: planted.Network) -> planted.Network:
    """Plant a stuck station, a gap, an empty one, an opening, a closing, a lost one, docks of 0."""
    frame, end = net.frame, net.at(net.days, 0)
    start = net.at(3, 10)
    frame.loc[net.rows("s0", start, start + STUCK_HOURS * HOUR), "bikes"] = 7
    frame.loc[net.rows("s0", start - BIN, start), "bikes"] = 9
    frame.loc[
        net.rows("s0", start + STUCK_HOURS * HOUR, start + STUCK_HOURS * HOUR + BIN), "bikes"
    ] = 9
    empty = net.rows("s2", net.at(4, 0), net.at(5, 12))
    frame.loc[empty, ["bikes", "docks_available"]] = [0, 20]
    closed = net.rows("s4", net.at(6, 12), end)
    frame.loc[closed, ["bikes", "docks_available"]] = [0, 0]
    frame.loc[closed, "status"] = "CLOSED"
    nothing = frame["station_id"] == "s6"
    frame.loc[nothing, ["bikes", "capacity", "docks_available"]] = 0
    gap = net.rows("s1", net.at(4, 8), net.at(4, 8 + GAP_HOURS))
    unopened = net.rows("s3", net.at(0, 0), net.at(5, 6))
    lost = net.rows("s5", net.at(1, 20), end)
    net.frame = frame[~(gap | unopened | lost)]
    return net


def build(
    net: Network, days: Any = 7, minutes: Any = 10, repeats: Any = None, **options: Any
) -> Any:
    now = planted.after(net, minutes)
    first, *tables = net.all_events(health.COLUMNS)
    return health.build(
        [snapshot.with_repeats(first, repeats or {}), *tables],
        window=complete_days(now, days, planted.TZ),
        now=now,
        run_metadata=planted.run_metadata("data/health"),
        **options,
    )


@pytest.fixture(scope="module")
def net() -> Network:
    return faulty(planted.network())


@pytest.fixture(scope="module")
def documents(net: Network) -> Any:
    return build(net, repeats={"s7": 5})


@pytest.fixture(scope="module")
def inside(net: Network) -> Any:
    """The window's events, by pandas."""
    frame = net.events_frame()
    start, stop = pd.Timestamp("2025-10-21T22:00"), pd.Timestamp("2025-10-28T23:00")
    return frame[(frame["tbin_utc"] >= start) & (frame["tbin_utc"] < stop)]


def test_only_the_stuck_station_is_flat(documents: Any, net: Network) -> None:
    (found,) = documents["anomalies/flat.json"]
    start = net.at(3, 10)
    assert found["station_id"] == "s0"
    assert found["start"] == f"{start.isoformat()}Z"
    assert found["end"] == f"{(start + STUCK_HOURS * HOUR - BIN).isoformat()}Z"
    assert found["steps"] == STUCK_HOURS * 12
    assert found["duration_min"] == STUCK_HOURS * 60
    assert documents["kpis.json"]["plateaus"] == {"stuck": 1, "empty": 1, "out_of_service": 2}


def test_missing_are_the_gap_and_the_lost_station(documents: Any) -> None:
    assert [
        (row["station_id"], row["missing"], row["expected"])
        for row in documents["anomalies/missing.json"]
    ] == [("s5", 7 * 288 + 12, 7 * 288 + 12), ("s1", GAP_HOURS * 12, 7 * 288 + 12)]
    assert documents["kpis.json"]["missing_stations"] == 1


def test_duplicates_are_those_that_compaction_counted(documents: Any) -> None:
    assert documents["anomalies/duplicates.json"] == [
        {"type": "duplicates", "station_id": "s7", "name": "Station 7", "dups": 5}
    ]


def test_rows_that_come_twice_in_a_view_are_counted_too(net: Network) -> None:
    table = net.events(4)
    twice = pa.concat_tables([table, table.slice(3, 2)])
    ids = table["station_id"].to_pylist()[3:5]
    assert health.count_duplicates(twice) == dict.fromkeys(ids, 1)
    assert health.count_duplicates(table) == {}


def test_a_station_is_expected_from_its_opening_on(documents: Any) -> None:
    rows = {row["station_id"]: row for row in documents["station_health.json"]}
    # From 06:00 of the sixth day to 23:00 of the ninth.
    assert rows["s3"]["expected"] == rows["s3"]["obs"] == (3 * 24 + 17) * 12
    assert rows["s4"]["coverage_pct"] == 100
    assert rows["s5"]["coverage_pct"] == 0


def test_coverage_is_what_pandas_counts(documents: Any, inside: Any) -> None:
    bins = 7 * 288 + 12
    seen = inside.groupby("station_id").size()
    expected = pd.Series(bins, index=[f"s{n}" for n in range(8)])
    expected["s3"] = (3 * 24 + 17) * 12
    share = seen.reindex(expected.index).fillna(0) / expected
    kpis = documents["kpis.json"]
    assert kpis["coverage_global_pct"] == pytest.approx(100 * share.mean(), abs=1e-5)
    span = inside.groupby("station_id")["tbin_utc"].agg(["min", "max", "count"])
    active = span["count"] / ((span["max"] - span["min"]) / BIN + 1)
    assert kpis["coverage_active_pct"] == pytest.approx(100 * active.mean(), abs=1e-5)
    assert kpis["rows"] == len(inside)
    assert kpis["dups_pct"] == pytest.approx(100 * 5 / (len(inside) + 5), abs=1e-5)


@pytest.mark.parametrize(
    ("least", "weighted", "expected"),
    [
        (0.0, False, (1 + 1 + 0.75) / 3),
        (0.0, True, (168 + 168 + 24 * 0.75) / (168 + 168 + 24)),
        (0.5, False, 1),
    ],
)
def test_active_coverage_can_be_of_long_spans_and_weighted_by_them(
    least: float, weighted: bool, expected: Any
) -> None:
    """Of three stations one is there for a day in seven, and misses a quarter of that."""
    net = planted.network("2025-06-02", stations=3)
    short = net.frame["station_id"] == "s0"
    there = net.rows("s0", net.at(2, 0), net.at(3, 0)) & ~net.rows(
        "s0", net.at(2, 6), net.at(2, 12)
    )
    net.frame = net.frame[~short | there]
    limits = health.HealthThresholds(active_min_frac=least, weighted=weighted)
    kpis = build(net, thresholds=limits)["kpis.json"]
    assert kpis["coverage_active_pct"] == pytest.approx(100 * expected)
    assert kpis["completeness_options"] == {"active_min_frac": least or None, "weighted": weighted}


def test_coverage_by_hour_counts_both_passes_through_the_repeated_hour(
    documents: Any, inside: Any
) -> None:
    clock = pd.date_range("2025-10-21T22:00", "2025-10-28T22:55", freq="5min", tz="UTC")
    opened = pd.Timestamp("2025-10-25T06:00", tz="UTC")
    hours = pd.Series(clock.tz_convert(planted.TZ).hour, index=clock)
    for row in documents["coverage_by_hour.json"]:
        calendar = hours[hours == row["hour"]]
        expected = pd.Series(len(calendar), index=[f"s{n}" for n in range(8)])
        expected["s3"] = (calendar.index >= opened).sum()
        seen = inside[inside["hour"] == row["hour"]].groupby("station_id").size()
        share = seen.reindex(expected.index).fillna(0) / expected
        assert row["coverage_pct"] == pytest.approx(100 * share.mean(), abs=1e-5)
    assert len(documents["coverage_by_hour.json"]) == 24


def test_ages_are_those_at_the_time_of_the_run(documents: Any, net: Network) -> None:
    last: Any = net.events_frame().groupby("station_id")["last_reported_utc"].max()
    ages = (pd.Timestamp(planted.after(net)).tz_localize(None) - last) / pd.Timedelta(minutes=1)
    kpis = documents["kpis.json"]
    assert kpis["freshness_age_p50_min"] == pytest.approx(np.percentile(ages, 50), abs=1e-6)
    assert kpis["freshness_age_p95_min"] == pytest.approx(np.percentile(ages, 95), abs=1e-6)
    assert kpis["freshness_p95_ok"] is False
    assert kpis["report_lag_p50_min"] == pytest.approx(1.5)


def test_alerts_name_artefact_value_and_threshold(documents: Any) -> None:
    alerts = {alert["code"]: alert for alert in documents["manifest.json"]["alerts"]}
    assert set(alerts) == {"freshness", "coverage", "flat"}
    coverage = alerts["coverage"]
    assert coverage["artefact"] == "kpis.json"
    assert coverage["value"] == documents["kpis.json"]["coverage_global_pct"]
    assert coverage["threshold"] == 98.0


@pytest.mark.parametrize("first", ["2025-03-24", "2025-10-20", "2025-06-02"])
def test_a_healthy_network_raises_nothing_whatever_the_clocks_do(first: str) -> None:
    documents = build(planted.network(first), minutes=-1)
    kpis = documents["kpis.json"]
    assert kpis["coverage_global_pct"] == kpis["coverage_active_pct"] == 100
    assert {row["coverage_pct"] for row in documents["coverage_by_hour.json"]} == {100}
    assert kpis["missing_stations"] == kpis["dups_pct"] == 0
    for name in ("flat", "duplicates", "missing"):
        assert documents[f"anomalies/{name}.json"] == []
    assert documents["manifest.json"]["alerts"] == []


def test_an_outage_of_the_whole_network_lowers_coverage() -> None:
    net = planted.network()
    dark = (net.frame["tbin_utc"] >= net.at(4, 0)) & (net.frame["tbin_utc"] < net.at(5, 0))
    net.frame = net.frame[~dark]
    documents = build(net)
    missing = 288 / (7 * 288 + 12)
    assert documents["kpis.json"]["coverage_global_pct"] == pytest.approx(
        100 * (1 - missing), abs=1e-5
    )
    assert documents["alerts.json"]["coverage_ok"] is False


def test_a_young_network_is_not_blamed_for_the_days_before_it() -> None:
    documents = build(planted.network(days=3), days=7)
    assert documents["kpis.json"]["coverage_global_pct"] == 100
    manifest = documents["manifest.json"]
    assert (manifest["status"], manifest["reason"]) == (
        "partial",
        "3 of 7 local days have observations",
    )


def test_what_a_recording_does_not_reach_is_not_missing() -> None:
    net = planted.network(days=3)
    net.frame = net.frame[net.frame["tbin_utc"] < net.at(2, 40 / 60)]
    tables = net.all_events(health.COLUMNS)
    now = planted.after(net, 10)
    documents = health.build(
        tables,
        window=complete_days(now, 7, planted.TZ),
        now=now,
        run_metadata=planted.run_metadata("data/health"),
    )
    kpis = documents["kpis.json"]
    assert (kpis["coverage_global_pct"], kpis["missing_stations"]) == (100, 0)
    assert documents["alerts.json"]["coverage_ok"] is True


def test_a_network_polled_every_quarter_of_an_hour_has_a_flat_station_all_the_same() -> None:
    net = planted.network()
    minute = net.frame["tbin_utc"].dt.minute
    net.frame = net.frame[minute % 15 == 0]
    net.frame.loc[net.rows("s0", net.at(3, 10), net.at(8, 10)), "bikes"] = 7
    limits = health.HealthThresholds(flat_steps=96)
    (found,) = build(net, thresholds=limits)["anomalies/flat.json"]
    assert found["station_id"] == "s0"


def test_a_quiet_station_is_not_called_stuck() -> None:
    net = planted.network()
    undisturbed = net.frame["station_id"] == "s0"
    net.frame.loc[undisturbed, "bikes"] = 8 + (
        net.frame.loc[undisturbed, "tbin_utc"].dt.hour == 12
    ).astype(int)
    net.frame.loc[net.rows("s0", net.at(3, 10), net.at(4, 14)), "bikes"] = 8
    loose = health.HealthThresholds(flat_steps=250, flat_chance=1e-30)
    assert build(net, thresholds=loose)["kpis.json"]["plateaus"]["quiet"] >= 1


def test_naive_and_aware_instants_mean_the_same() -> None:
    net = planted.network(days=2)
    table = net.events(1).select(health.COLUMNS)
    window = complete_days(planted.after(net), 1, planted.TZ)
    aware = dt.datetime(2025, 10, 22, 6, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    naive = dt.datetime(2025, 10, 22, 4)
    one, two = (
        health.build([table], window=window, now=now, run_metadata=planted.run_metadata("x"))
        for now in (aware, naive)
    )
    assert one["kpis.json"] == two["kpis.json"]


def test_a_station_known_from_before_is_missed_from_the_start_of_the_window() -> None:
    net = planted.network()
    net.frame = net.frame[~net.rows("s0", net.at(1, 12), net.at(3, 0))]
    (row,) = build(net)["anomalies/missing.json"]
    # From the window's start at 22:00 of the second day.
    assert (row["station_id"], row["missing"]) == ("s0", 26 * 12)


def test_health_and_freshness_say_the_same_of_a_feed_without_report_times(net: Network) -> None:
    never: Any = pd.NaT
    net = dataclasses.replace(net, frame=net.frame.assign(last_reported_utc=never))
    documents = build(net)
    kpis = documents["kpis.json"]
    assert (kpis["freshness_age_p95_min"], kpis["freshness_p95_ok"]) == (None, None)
    assert kpis["freshness_reason"] == "no station says when it last reported"
    assert "freshness" not in {alert["code"] for alert in documents["manifest.json"]["alerts"]}
    fresh = freshness.build(
        net.all_events()[-1], now=planted.after(net), run_metadata=planted.run_metadata("x")
    )
    assert fresh["manifest.json"]["reason"] == kpis["freshness_reason"]


def test_no_key_of_a_document_is_called_like_the_document(documents: Any) -> None:
    """Readers take such a key for the document: ``raw["alerts"] ?? raw``."""
    for name, document in documents.items():
        if isinstance(document, dict):
            assert name.removesuffix(".json") not in document
    assert documents["alerts.json"]["raised"] == documents["manifest.json"]["alerts"]


@pytest.mark.parametrize("step", [2, 3, 6])
def test_a_network_that_is_polled_less_often_is_whole_when_its_polls_are_there(step: int) -> None:
    net = planted.network()
    net.frame = net.frame[net.frame["tbin_utc"].dt.minute // 5 % step == 0]
    documents = build(net)
    kpis = documents["kpis.json"]
    assert kpis["coverage_global_pct"] == kpis["coverage_active_pct"] == 100
    assert {row["coverage_pct"] for row in documents["station_health.json"]} == {100}
    hours = net.frame["tbin_utc"].dt.hour
    net.frame = net.frame[hours != 3]
    lower = build(net)["kpis.json"]["coverage_global_pct"]
    assert lower == pytest.approx(100 * 23 / 24, abs=0.5)


def test_a_station_that_reported_for_the_last_time_years_ago_lags_by_three_days_at_most() -> None:
    net = planted.network(days=2, stations=4)
    silent = net.frame["station_id"].isin(["s2", "s3"])
    net.frame.loc[silent, "last_reported_utc"] = pd.Timestamp("2021-01-01")
    kpis = build(net, days=1)["kpis.json"]
    # Half of the lags are 1.5 minutes and half are three days: the median lies between the two.
    assert kpis["report_lag_p50_min"] == pytest.approx((1.5 + 4320) / 2)
    assert kpis["report_lag_p95_min"] == 4320
