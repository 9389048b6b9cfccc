from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    ForecastBundle,
    ForecastLog,
    ForecastLogPartition,
    FreshnessCopy,
    GbfsDocument,
    ModelFile,
    Monitoring,
    Monthly,
    OverviewDay,
    Perf,
    Profile,
    ServingManifest,
    Snapshot,
    TrainingBase,
)
from velib_core.lake.layout import ForeignNameError, Layout, month_days, month_of, parse_month
from velib_core.settings.network import Settings
from velib_core.timeline.bins import Bin, Day, HorizonMinutes

ROOTED = Layout(Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket/velib"}))
ROOTLESS = Layout(Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket"}))

DAYS = st.dates(dt.date(2000, 1, 1), dt.date(2100, 1, 1)).map(Day)
KEYS = st.one_of(
    st.integers(4_000_000, 12_000_000).map(Bin).map(Snapshot),
    DAYS.map(Daily),
    DAYS.map(month_of).map(Monthly),
    st.none().map(Events) | DAYS.map(Events),
    st.none().map(Perf) | DAYS.map(Perf),
    DAYS.map(TrainingBase),
    DAYS.map(Profile),
    st.builds(
        CalibrationOf,
        st.sampled_from([15, 60]).map(HorizonMinutes),
        st.just("20251128-235500Z-1f2e3d4c"),
        DAYS,
    ),
    DAYS.map(ForecastLog),
    DAYS.map(OverviewDay),
    st.just(ServingManifest()),
    st.just(ExportsManifest()),
    st.builds(
        GbfsDocument,
        st.sampled_from([15, 60]).map(HorizonMinutes),
        st.sampled_from(["gbfs.json", "station_status.json"]),
    ),
    st.just(ForecastBundle()),
    st.just(FreshnessCopy()),
    st.builds(
        ForecastLogPartition,
        st.integers(4_000_000, 12_000_000).map(Bin),
        st.sampled_from([15, 60]).map(HorizonMinutes),
        st.integers(0, 2**32 - 1).map("{:08x}".format),
    ),
    st.builds(Forecast, st.sampled_from([15, 60]).map(HorizonMinutes), st.booleans()),
    st.builds(
        ModelFile,
        st.sampled_from([15, 60, 120]).map(HorizonMinutes),
        st.none() | st.sampled_from(["20251128-235500Z-1f2e3d4c"]),
        st.sampled_from(["latest.json", "model.ubj", "version.json"]),
    ),
    st.builds(
        Monitoring,
        st.sampled_from(["data/health", "model/performance", "intro"]),
        st.sampled_from(["kpis.json", "h15/by_hour.json", "anomalies/flat.json"]),
    ),
)


@given(KEYS, st.sampled_from([ROOTED, ROOTLESS]))
def test_a_name_leads_back_to_its_key(key: Any, layout: Layout) -> None:
    assert layout.key(layout.name(key)) == key


@given(KEYS, KEYS)
def test_two_keys_never_share_a_name(one: Any, other: Any) -> None:
    assert (one == other) == (ROOTED.name(one) == ROOTED.name(other))


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (
            Snapshot(Bin(5874721)),
            "velib/bronze/date=2025-11-06/hour=08/2025-11-06T08-05.parquet",
        ),
        (Daily(Day(dt.date(2025, 11, 1))), "velib/daily/compact_2025-11-01.parquet"),
        (Monthly(parse_month("2025-11")), "velib/monthly/compact_2025-11.parquet"),
        (Events(None), "velib/exports/events.parquet"),
        (ExportsManifest(), "velib/exports/manifest.json"),
        (Perf(Day(dt.date(2025, 11, 1))), "velib/exports/perf_2025-11-01.parquet"),
    ],
)
def test_names_are_those_of_the_contract(key: Any, name: str) -> None:
    assert ROOTED.name(key) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "velib/bronze/",
        "velib/bronze/date=2025-11-06/hour=08/2025-11-06T08-04.parquet",
        "velib/bronze/date=2025-11-07/hour=08/2025-11-06T08-05.parquet",
        "velib/bronze/date=2025-11-06/hour=09/2025-11-06T08-05.parquet",
        "velib/bronze/date=2025-11-06/hour=08/../../../daily/compact_2025-11-01.parquet",
        "velib/bronze/date=2025-99-06/hour=08/2025-99-06T08-05.parquet",
        "velib/daily/compact_2025-02-30.parquet",
        "velib/daily/compact_2025-11-01.parquet.tmp",
        "velib/daily/../bronze/x",
        "other/daily/compact_2025-11-01.parquet",
        "velib/models/h15/latest.json/../x",
        "velib/daily/compact_２０２５-11-01.parquet",
    ],
)
def test_foreign_names_have_no_key(name: str) -> None:
    with pytest.raises(ForeignNameError):
        ROOTED.key(name)


@pytest.mark.parametrize(("month", "days"), [("2024-02", 29), ("2025-02", 28), ("2025-12", 31)])
def test_a_month_has_its_days(month: str, days: int) -> None:
    listed = month_days(parse_month(month))
    assert len(listed) == days
    assert {month_of(day) for day in listed} == {parse_month(month)}


def test_only_folders_of_days_count_as_days() -> None:
    folders = [f"velib/bronze/date={d}/" for d in ("2025-11-02", "2025-11-01", "2025-13-01", "x")]
    assert ROOTED.days_of_folders([*folders, "velib/bronze/junk/"]) == [
        dt.date(2025, 11, 1),
        dt.date(2025, 11, 2),
    ]


def test_notifications_are_about_folders_and_about_whole_names_of_manifests() -> None:
    assert ROOTED.topic_of("velib/daily/compact_2025-11-01.parquet") == "daily"
    assert ROOTED.topic_of("velib/monitoring/network/overview/latest/manifest.json") == "overview"
    for other in ("quarantine/x", "monitoring/network/overview/latest/kpis.json"):
        with pytest.raises(ForeignNameError):
            ROOTED.topic_of(f"velib/{other}")
