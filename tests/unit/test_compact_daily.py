"""A day's compaction: what may lie under ``bronze/``, and what comes out."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import threading
from typing import TYPE_CHECKING, Any

import network
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from present import present
from velib_core.jobs import build_datasets, compact_daily
from velib_core.jobs.recipes.daily import is_stale
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Daily, Events, Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables import snapshot
from velib_core.timeline.bins import Bin, bin_start, day_after, first_bin
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
BINS = [Bin(first_bin(DAY) + n) for n in (0, 1, 14, 287)]
ROWS = network.STATIONS * len(BINS)


def daily_of(lake: Lake, settings: Settings) -> pa.Table:
    return pq.read_table(io.BytesIO(lake.fetch(Layout(settings).name(Daily(DAY)))[1]))


def expected_rows(bins: list[Bin] = BINS) -> pa.Table:
    parts = [snapshot.from_bytes(network.snapshot_object(bin_), bin_)[0] for bin_ in bins]
    return pa.concat_tables(parts)


def test_a_day_holds_every_row_of_its_snapshots_in_order(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, [*BINS, Bin(first_bin(day_after(DAY)))])
    result = compact_daily.run(network.of(lake, settings), DAY)
    assert daily_of(lake, settings) == expected_rows()
    assert result.counts == {"snapshots": 4, "rows_in": ROWS, "quarantined": 0, "rows_out": ROWS}


def test_each_hour_is_a_row_group_that_its_statistics_name(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, BINS)
    compact_daily.run(network.of(lake, settings), DAY)
    file = pq.ParquetFile(io.BytesIO(lake.fetch(Layout(settings).name(Daily(DAY)))[1]))
    hours = []
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(1).statistics
        assert statistics.min.hour == statistics.max.hour
        hours.append(statistics.min.hour)
    assert hours == [0, 1, 23]


def test_compacting_again_writes_nothing_unless_forced(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, BINS)
    compact_daily.run(network.of(lake, settings), DAY)
    before = present(lake.stat(Layout(settings).name(Daily(DAY))))
    assert set(compact_daily.run(network.of(lake, settings), DAY).outputs.values()) == {"fresh"}
    assert lake.stat(before.name) == before
    compact_daily.run(network.of(lake, settings), DAY, force=True)
    after = present(lake.stat(before.name))
    assert after.crc32c == before.crc32c
    assert after.generation != before.generation


def test_a_day_without_snapshots_is_left_alone(lake: Lake, settings: Settings) -> None:
    assert set(compact_daily.run(network.of(lake, settings), DAY).outputs.values()) == {"absent"}


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


GOOD = network.snapshot_object(BINS[1])
N = network.STATIONS
CORPUS = {
    "truncated": (GOOD[: len(GOOD) // 2], 0, "Parquet"),
    "empty object": (b"", 0, "Parquet"),
    "html": (b"<!doctype html><h1>502</h1>", 0, "Parquet"),
    "10 MB of junk": (b"\x00\xff" * 5_000_000, 0, "size"),
    "another schema": (_parquet(pa.table({"a": [1]})), 0, "ts_utc"),
    "no bikes column": (_parquet(network.snapshot_table(BINS[1]).drop(["bikes"])), 0, "bikes"),
    "text for bikes": (_parquet(network.snapshot_table(BINS[1], bikes=["x"] * N)), 0, "bikes"),
    "no rows": (_parquet(network.snapshot_table(BINS[1]).slice(0, 0)), 0, "rows"),
    "another bin": (network.snapshot_object(BINS[2]), 0, "tbin_utc"),
    "the future": (_parquet(network.snapshot_table(Bin(BINS[1] + 10**7))), 0, "tbin_utc"),
    "negative bikes": (
        _parquet(network.snapshot_table(BINS[1], bikes=[-1, *range(N - 1)])),
        N - 1,
        "bikes",
    ),
    "absurd bikes": (
        _parquet(network.snapshot_table(BINS[1], bikes=[10**15, *range(N - 1)])),
        N - 1,
        "bikes",
    ),
    "absurd capacity": (
        _parquet(network.snapshot_table(BINS[1], capacity=[-5, *[20] * (N - 1)])),
        N,
        "capacity",
    ),
    "a station twice": (
        _parquet(network.snapshot_table(BINS[1], station_id=["1"] * 2 + list("abcdefghij"))),
        N - 1,
        "station_id",
    ),
    "unknown columns": (_parquet(network.snapshot_table(BINS[1], extra=[1] * N)), N, None),
    "no optional columns": (
        _parquet(network.snapshot_table(BINS[1]).drop(["capacity", "status"])),
        N,
        None,
    ),
}


@pytest.mark.parametrize("case", CORPUS)
def test_bad_objects_are_quarantined_with_their_reason_and_the_rest_is_kept(
    lake: Lake, settings: Settings, case: Any
) -> None:
    data, kept, reason = CORPUS[case]
    layout = Layout(settings)
    network.upload(lake, settings, BINS)
    name = layout.name(Snapshot(BINS[1]))
    network.put(lake, name, data)
    result = compact_daily.run(network.of(lake, settings), DAY)
    assert daily_of(lake, settings).num_rows == ROWS - N + kept
    reports = [e.name for e in lake.entries("quarantine/") if e.name.endswith(".json")]
    assert result.counts["quarantined"] == len(reports) == (reason is not None)
    if reason is not None:
        report = lake.fetch_json(reports[0])
        assert reason in report["reason"] or reason in {d["field"] for d in report["listed"]}
        assert lake.fetch(reports[0].removesuffix(".json"))[1] == data
    assert lake.stat(name) is not None, "raw data is never lost"


def test_repeated_rows_are_left_out_and_counted_by_station_all_the_way_to_the_events(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    network.upload(lake, settings, BINS)
    ids = ["1"] * 3 + ["2"] * 2 + list("abcdefg")
    for bin_ in BINS[1:3]:
        data = _parquet(network.snapshot_table(bin_, station_id=ids))
        network.put(lake, layout.name(Snapshot(bin_)), data)
    compact_daily.run(network.of(lake, settings), DAY)
    assert snapshot.repeats_of(daily_of(lake, settings)) == {"1": 4, "2": 2}
    build_datasets.run(network.of(lake, settings), DAY)
    events = pq.read_table(io.BytesIO(lake.fetch(layout.name(Events(DAY)))[1]))
    assert snapshot.repeats_of(events) == {"1": 4, "2": 2}


@pytest.mark.parametrize(
    "name", ["notes.txt", "hour=00/x.parquet", "hour=07/2025-10-30T08-00.parquet"]
)
def test_a_foreign_name_among_the_snapshots_is_quarantined(
    lake: Lake, settings: Settings, name: str
) -> None:
    network.upload(lake, settings, BINS)
    network.put(lake, f"{Layout(settings).bronze_day(DAY)}{name}", GOOD)
    result = compact_daily.run(network.of(lake, settings), DAY)
    assert result.counts["quarantined"] == 1
    assert daily_of(lake, settings) == expected_rows()


def test_a_day_of_nothing_but_junk_is_settled_as_an_empty_daily(
    lake: Lake, settings: Settings
) -> None:
    network.put(lake, Layout(settings).name(Snapshot(BINS[0])), b"junk")
    compact_daily.run(network.of(lake, settings), DAY)
    assert daily_of(lake, settings).num_rows == 0
    layout = Layout(settings)
    listing = list(lake.entries(layout.bronze_day(DAY)))
    assert not is_stale(listing, lake.stat(layout.name(Daily(DAY))))


def test_a_late_snapshot_after_the_others_are_gone_keeps_their_rows(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    network.upload(lake, settings, BINS[:3])
    compact_daily.run(network.of(lake, settings), DAY)
    for entry in list(lake.entries(layout.bronze_day(DAY))):
        lake.delete(entry)
    network.upload(lake, settings, BINS[3:])
    compact_daily.run(network.of(lake, settings), DAY)
    assert daily_of(lake, settings) == expected_rows()


def test_repeats_are_counted_once_however_many_snapshots_are_gone(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    repeats = {bin_: {"1000": n, f"{1000 + n}": 1} for n, bin_ in enumerate(BINS, 1)}
    for bin_ in BINS:
        rows, _ = snapshot.validate(network.snapshot_table(bin_), bin_)
        reported = snapshot.with_repeats(rows, repeats[bin_])
        network.put(lake, layout.name(Snapshot(bin_)), snapshot.to_bytes(reported))
    compact_daily.run(network.of(lake, settings), DAY)
    complete = snapshot.repeats_of(daily_of(lake, settings))
    assert complete == {"1000": 10, "1001": 1, "1002": 1, "1003": 1, "1004": 1}
    for bin_ in BINS:  # the bucket's lifecycle takes them one by one
        lake.delete(present(lake.stat(layout.name(Snapshot(bin_)))))
        compact_daily.run(network.of(lake, settings), DAY)
        assert snapshot.repeats_of(daily_of(lake, settings)) == complete


def test_snapshots_are_deleted_only_once_the_daily_holds_all_their_rows(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    network.upload(lake, settings, BINS)
    broken = layout.name(Snapshot(BINS[1]))
    network.put(lake, broken, CORPUS["negative bikes"][0])
    deleting = dataclasses.replace(settings, delete_after_compact=True)
    result = compact_daily.run(network.of(lake, deleting), DAY)
    assert result.counts["deleted"] == 3
    assert [entry.name for entry in lake.entries("bronze/")] == [broken]
    before = daily_of(lake, settings)
    compact_daily.run(network.of(lake, deleting), DAY)
    assert daily_of(lake, settings) == before


def test_of_two_at_once_the_daily_holds_the_snapshot_that_one_did_not_list(
    lake: Lake, settings: Settings
) -> None:
    network.upload(lake, settings, BINS[:3])
    listed, landed = threading.Event(), threading.Event()

    class Slow(Lake):
        """Lists, and only goes on when the other compaction is done."""

        def entries(self, prefix: Any, *span: Any) -> Iterator[Entry]:
            found = list(super().entries(prefix, *span))
            if prefix.startswith("bronze/") and not listed.is_set():
                listed.set()
                assert landed.wait(30)
            return iter(found)

    behind = network.of(Slow(lake.bucket), settings)
    slow = threading.Thread(target=compact_daily.run, args=(behind, DAY))
    slow.start()
    assert listed.wait(30)
    network.upload(lake, settings, BINS[3:])
    compact_daily.run(network.of(lake, settings), DAY)
    landed.set()
    slow.join(30)
    assert daily_of(lake, settings) == expected_rows()


@pytest.mark.parametrize(("minutes", "deleted"), [(26 * 60 - 1, 0), (26 * 60, 3)])
def test_snapshots_outlast_their_day_by_26_hours(
    lake: Lake,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    minutes: int,
    deleted: int,
) -> None:
    network.upload(lake, settings, BINS[:3])
    end = bin_start(first_bin(day_after(DAY)))
    shown = tmp_path / "clock"
    shown.write_text((end + dt.timedelta(minutes=minutes)).isoformat())
    monkeypatch.setenv(SIMULATED_CLOCK, str(shown))
    deleting = dataclasses.replace(settings, delete_after_compact=True)
    assert compact_daily.run(network.of(lake, deleting), DAY).counts["deleted"] == deleted
