"""Hostile and damaged snapshots: each costs itself only, whoever reads it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hostile
import network
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from velib_core.jobs import (
    build_data_freshness,
    build_network_overview,
    build_serving_forecast,
    compact_daily,
)
from velib_core.lake.keys import Daily, ServingManifest, Snapshot
from velib_core.lake.layout import MAX_NAME_BYTES, Layout
from velib_core.tables import parquet, snapshot
from velib_core.tables.snapshot import SnapshotError
from velib_core.timeline.bins import Bin, bin_start, first_bin, iso_z

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
BINS = [Bin(first_bin(DAY) + n) for n in range(3)]
N = network.STATIONS

PEAK = """
import re, sys
from pathlib import Path
from velib_core.tables import snapshot
def peak():
    return int(re.search("VmHWM: *\\t* *(.*) kB", Path("/proc/self/status").read_text())[1]) >> 10
before = peak()
try:
    snapshot.from_bytes(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]))
except snapshot.SnapshotError:
    pass
print(peak() - before)
"""


@pytest.mark.parametrize("kind", hostile.UNREADABLE)
def test_what_is_no_snapshot_is_one_error_whatever_it_is(kind: Any) -> None:
    with pytest.raises(SnapshotError):
        snapshot.from_bytes(hostile.UNREADABLE[kind](BINS[1]), BINS[1])


@pytest.mark.parametrize("kind", hostile.FILES)
def test_a_file_of_another_program_is_read_alike_or_refused(kind: Any) -> None:
    good = network.snapshot_object(BINS[1])
    data = hostile.FILES[kind](good)
    if kind in {"times of another zone and unit", "pages of another version"}:
        assert snapshot.from_bytes(data, BINS[1]) == snapshot.from_bytes(good, BINS[1])
    else:
        with pytest.raises(SnapshotError):
            snapshot.from_bytes(data, BINS[1])


@pytest.mark.parametrize("part", ["pages", "footer"])
def test_whatever_bits_are_flipped_what_is_read_is_rows_or_one_error(part: str) -> None:
    good = hostile.parquet_bytes(network.snapshot_table(BINS[1]), compression="none")
    start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    span = (4, start) if part == "pages" else (start, len(good) - 8)
    rng = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(good)
        for place in rng.integers(*span, int(rng.integers(1, 4))):
            data[place] ^= 1 << int(rng.integers(8))
        try:
            rows, _ = snapshot.from_bytes(bytes(data), BINS[1])
        except SnapshotError:
            continue
        again, defects = snapshot.from_bytes(snapshot.to_bytes(rows), BINS[1])
        assert again.equals(rows)
        assert not defects


@pytest.mark.parametrize("kind", hostile.PARTLY_READABLE)
def test_a_value_that_cannot_be_used_costs_its_field_or_its_row_only(kind: Any) -> None:
    make, field, rows = hostile.PARTLY_READABLE[kind]
    table, defects = snapshot.from_bytes(make(BINS[1]), BINS[1])
    table.validate(full=True)
    assert table.num_rows == rows
    assert field in {defect.field for defect in defects}
    assert all(defect.as_json() for defect in defects)


@pytest.mark.parametrize("kind", hostile.UNREADABLE)
def test_every_consumer_passes_over_an_unreadable_newest_snapshot(
    lake: Lake, settings: Settings, kind: Any
) -> None:
    layout, net = Layout(settings), network.of(lake, settings)
    network.upload(lake, settings, BINS[:2])
    data = hostile.UNREADABLE[kind](BINS[2])
    name = layout.name(Snapshot(BINS[2]))
    network.put(lake, name, data)
    for arrived in (BINS[2], BINS[1]):
        build_serving_forecast.run(net, build_serving_forecast.WarmState(), arrived)
        build_data_freshness.run(net, arrived)
        build_network_overview.run(net, build_network_overview.WarmState(), arrived)
    manifest = lake.fetch_json(layout.name(ServingManifest()))
    assert manifest["snapshot"] == iso_z(bin_start(BINS[1]))
    result = compact_daily.run(net, DAY)
    assert result.counts["quarantined"] == 1
    daily = pq.read_table(io.BytesIO(lake.fetch(layout.name(Daily(DAY)))[1]))
    assert daily.num_rows == 2 * N
    copies = list(lake.entries(f"{layout.quarantine}/"))
    assert [lake.read(copy) for copy in copies if not copy.name.endswith(".json")] == [data]
    assert [lake.fetch_json(c.name)["source"] for c in copies if c.name.endswith(".json")] == [name]


@pytest.mark.parametrize("fill", ["x", "é", "🚲"])
@pytest.mark.parametrize("size", [900, 1010, 1024])
def test_a_name_of_any_length_is_quarantined(
    lake: Lake, settings: Settings, fill: str, size: int
) -> None:
    layout = Layout(settings)
    network.upload(lake, settings, BINS)
    start = layout.bronze_day(DAY)
    room = size - len(start.encode())
    names = [start + fill * (room // len(fill.encode()) - n) for n in range(2)]
    for name in names:
        network.put(lake, name, b"junk")
    compact_daily.run(network.of(lake, settings), DAY)
    found = [entry.name for entry in lake.entries(f"{layout.quarantine}/")]
    assert len(found) == 4
    assert max(len(name.encode()) for name in found) <= MAX_NAME_BYTES
    sources = {lake.fetch_json(name)["source"] for name in found if name.endswith(".json")}
    assert sources == set(names)


def test_limits_come_from_the_footer_before_anything_is_decoded() -> None:
    table = pa.table({"a": list(range(100)), "b": ["text"] * 100})
    data = hostile.parquet_bytes(table, row_group_size=10)
    fits = {
        "file_bytes": len(data),
        "footer_bytes": len(data),
        "rows": 100,
        "columns": 2,
        "row_groups": 10,
        "decoded_bytes": 10_000,
    }
    assert parquet.read(data, parquet.Limits(**fits)).equals(table)
    less = {"footer_bytes": 8, "rows": 99, "columns": 1, "row_groups": 9, "decoded_bytes": 399}
    for field, most in (less | {"file_bytes": len(data) - 1}).items():
        with pytest.raises(parquet.ParquetError, match=f"at most {most}"):
            parquet.read(data, parquet.Limits(**(fits | {field: most})))
        with pytest.raises(parquet.ParquetError, match=f"at most {most}"):
            parquet.check(data, parquet.Limits(**(fits | {field: most})))


def test_text_is_bounded_by_what_its_dictionary_unpacks_to() -> None:
    table = pa.table({"a": ["x" * 10_000] * 1000})
    data = hostile.parquet_bytes(table, compression="zstd")
    limits = parquet.Limits(1 << 20, 1 << 20, 1 << 20, 10, 10, decoded_bytes=1 << 20)
    parquet.check(data, limits)  # the footer knows nothing of it
    with pytest.raises(parquet.ParquetError, match="decoded bytes"):
        parquet.read(data, limits)


def test_whatever_a_decoder_raises_is_one_error() -> None:
    table = pa.table({"a": list(range(1000)), "b": [f"text {n}" for n in range(1000)]})
    data = hostile.parquet_bytes(table, compression="snappy")
    limits = parquet.Limits(1 << 20, 1 << 20, 1 << 20, 10, 10, decoded_bytes=1 << 20)
    refused = set()
    for at in range(0, len(data), 7):
        broken = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        try:
            parquet.read(broken, limits)
        except parquet.ParquetError as error:
            refused.add(type(error.__cause__))
    assert OSError in refused, "of a page that cannot be unpacked"


def test_a_footer_that_says_fewer_rows_than_its_row_groups_is_not_accepted() -> None:
    data = hostile.parquet_bytes(pa.table({"a": list(range(100_000))}))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    # Thrift's compact form of "field 3: 100,000", and of 1 in as many bytes.
    said = data.index(b"\x16\xc0\x9a\x0c", footer)
    lies = data[:said] + b"\x16\x82\x80\x00" + data[said + 4 :]
    assert pq.ParquetFile(pa.BufferReader(lies)).metadata.num_rows == 1
    with pytest.raises(parquet.ParquetError, match="rows: got 100000"):
        parquet.check(lies, parquet.Limits(1 << 24, 1 << 20, 1000, 10, 10, 1 << 30))


def test_a_daily_whose_rows_all_repeat_lists_no_more_than_a_snapshot_has() -> None:
    count = snapshot.LIMITS.rows + 100
    table = network.snapshot_table(BINS[1], count, station_id=["1"] * count)
    rows, defects = snapshot.validate(table, BINS[1])
    assert rows.num_rows == 1
    assert len(defects) == snapshot.LIMITS.rows


def test_numbers_that_pack_well_are_bounded_by_what_they_unpack_to() -> None:
    table = pa.table({"a": pa.array([0] * 100_000, pa.int64())})
    data = hostile.parquet_bytes(table, use_dictionary=False, compression="zstd")
    assert len(data) < 10_000
    limits = parquet.Limits(1 << 20, 1 << 20, 1 << 20, 10, 10, decoded_bytes=800_000 - 1)
    for look in (parquet.read, parquet.check):
        with pytest.raises(parquet.ParquetError, match="decoded bytes"):
            look(data, limits)


@pytest.mark.slow
def test_no_snapshot_takes_a_function_past_half_of_its_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"{n:0128}" for n in range(25_000)]
    names = [f"{n:0512}" for n in range(25_000)]
    worst = {
        "25,000 stations": hostile.parquet_bytes(
            network.snapshot_table(BINS[1], 25_000, station_id=ids, name=names)
        ),
        "25,000 stations with two defects each": hostile.parquet_bytes(
            network.snapshot_table(
                BINS[1], 25_000, station_id=ids, capacity=[-1] * 25_000, ebike=[-1] * 25_000
            )
        ),
        **{kind: make(BINS[1]) for kind, make in hostile.UNREADABLE.items()},
    }
    peaks = {}
    for kind, data in worst.items():
        path = Path(tmp_path / "object")
        path.write_bytes(data)
        command = [sys.executable, "-c", PEAK, str(path), str(BINS[1])]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        peaks[kind] = int(ran.stdout)
    table = [f"{mib:5} MiB  {len(worst[kind]):9} bytes  {kind}" for kind, mib in peaks.items()]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *sorted(table, reverse=True), ""]))
    assert max(peaks.values()) <= 128
