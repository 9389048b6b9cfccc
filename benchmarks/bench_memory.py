"""The worst input of each kind below its size limit, against half of the reader's memory.

Each is read in a process of its own that has imported what the function imports. Shown are the
bytes of the input as stored, the peak resident memory, and half of the memory of the smallest
function that reads such inputs, from its ``function.toml``. Exit code 1 where one is above.
"""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from velib_core.errors import InvalidValueError
from velib_core.features import profiles
from velib_core.feeds import gbfs, http
from velib_core.feeds.stations import read_status
from velib_core.jobs import build_network_overview
from velib_core.model import pack
from velib_core.tables import npz, parquet, snapshot, views
from velib_core.timeline.bins import Bin, HorizonBins
from velib_deploy.function_specs import load_specs

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1 << 20
BIN = 5_874_000
"""Any bin; in microseconds its start."""

STAMP_US = BIN * 300 * 1_000_000


def records(record: str, closing: str = "]}}") -> bytes:
    """Return a station status of as many equal records as a body may have bytes or values."""
    opening = '{"last_updated":1762200000,"ttl":0,"data":{"stations":['
    values = min(gbfs.MAX_CONTAINERS, gbfs.MAX_VALUES) - 8
    room = http.MAX_BODY_BYTES - len(opening) - len(closing)
    count = min(values, room // (len(record) + 1))
    return (opening + ",".join([record] * count) + closing).encode()


def no_json(count: int) -> bytes:
    """Return a status of records whose values are bare words, as many as are looked at."""
    return b'{"data":{"stations":[' + b",".join([b'{"a":b,"c":d}'] * count) + b"]}}"


def stations(count: int) -> bytes:
    """Return a status of so many stations with every field of theirs."""
    fields = {"num_bikes_available": 3, "num_docks_available": 7, "is_installed": 1}
    fields |= {"is_renting": 1, "is_returning": 1, "last_reported": 1762200000}
    rows = [{"station_id": f"{n:0128}", **fields} for n in range(count)]
    document = {"last_updated": 1762200000, "ttl": 0, "data": {"stations": rows}}
    return json.dumps(document).encode()[: http.MAX_BODY_BYTES]


def rows_of(count: int, ids: int, name: str, width: int = 9) -> pa.Table:
    """Return rows in the schema of a snapshot: bin after bin of so many stations."""
    instants = STAMP_US + np.arange(count) // ids * 300_000_000
    stamp = pa.array(instants, pa.timestamp("us")).cast(snapshot.STAMP)
    station = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(count) % ids, pa.int32()), [f"{n:0{width}}" for n in range(ids)]
    ).cast(pa.string())
    values: dict[str, pa.Array] = {"ts_utc": stamp, "tbin_utc": stamp, "station_id": station}
    values["bikes"] = pa.array(np.arange(count) % 20)
    values["capacity"] = pa.array(np.full(count, 20))
    values["name"] = pa.array(np.full(count, name))
    return pa.table(values)


def stored(table: pa.Table) -> bytes:
    """Return a table as Parquet that packs well."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=250_000)
    return sink.getvalue()


def read_feed(body: bytes) -> object:
    """Read a status as ingestion does."""
    return read_status(gbfs.decode("station_status", body), {})


def zeros(limit: int) -> bytes:
    """Return an array that unpacks to the limit and is that of no model and no profile."""
    sink = io.BytesIO()
    np.savez_compressed(sink, stations=np.zeros(limit - 4096, np.uint8))
    return sink.getvalue()


def most_profiles() -> bytes:
    """Return profiles of as many stations as the limit allows, for two horizons."""
    empty = profiles.empty_profiles("UTC", (HorizonBins(3), HorizonBins(12)))
    sums = {name: getattr(empty, name) for name in ("change", "level", "flow")}
    one = {name: np.zeros((*array.shape[:-1], 1), array.dtype) for name, array in sums.items()}
    bytes_a_station = sum(array.nbytes for array in one.values()) + 4 * 128 + 8
    count = (profiles.MAX_BYTES - MIB) // bytes_a_station
    fitted: dict[str, Any] = {name: array.repeat(count, axis=-1) for name, array in one.items()}
    names = np.array([f"{n:0128}" for n in range(count)])
    seen = np.full(count, -1, np.int64)
    return profiles.to_bytes(dataclasses.replace(empty, stations=names, last_seen=seen, **fitted))


def mebibytes(memory: str) -> int:
    """Return the size that Cloud Functions writes as ``512Mi`` or ``2Gi``."""
    return int(memory[:-2]) * {"Mi": 1, "Gi": 1024}[memory[-2:]]


def refused(read: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Read what may be refused: the memory counts all the same."""

    def reading(data: bytes) -> object:
        try:
            return read(data)
        except InvalidValueError as error:
            return error

    return reading


KINDS: dict[str, tuple[str, Callable[[], bytes], Callable[[bytes], object]]] = {
    "feed of 60,000 stations": ("ingest", lambda: stations(gbfs.MAX_RECORDS), read_feed),
    "feed of empty records": ("ingest", lambda: records("{}"), read_feed),
    "feed of records with one field": ("ingest", lambda: records('{"a":1}'), read_feed),
    "feed without one value that is JSON": ("ingest", lambda: no_json(370_000), read_feed),
    "snapshot of 25,000 stations, long names": (
        "build_data_freshness",
        lambda: stored(rows_of(25_000, 25_000, "n" * 512, 128)),
        lambda data: snapshot.from_bytes(data, Bin(BIN)),
    ),
    "daily of 5,000 stations": (
        "compact_daily",
        lambda: stored(rows_of(288 * 5_000, 5_000, "n" * 20)),
        snapshot.daily_from_bytes,
    ),
    "views of a day of 5,000 stations, four horizons": (
        "build_data_drift",
        lambda: stored(rows_of(4 * 288 * 5_000, 5_000, "n" * 20)),
        lambda data: parquet.read(data, views.VIEW_LIMITS),
    ),
    "profile that is none": (
        "build_serving_forecast",
        lambda: zeros(profiles.MAX_BYTES),
        profiles.from_bytes,
    ),
    "profiles of the most stations": (
        "build_serving_forecast",
        most_profiles,
        profiles.from_bytes,
    ),
    "arrays of a model that are none": (
        "build_serving_forecast",
        lambda: zeros(pack.MAX_BLOB_BYTES),
        lambda data: npz.read(data, pack.MAX_BLOB_BYTES),
    ),
    "sums of a day": (
        "build_network_overview",
        lambda: zeros(build_network_overview.MAX_SUMS_BYTES),
        lambda data: npz.read(data, build_network_overview.MAX_SUMS_BYTES),
    ),
}


def peak_of(kind: str, path: str) -> None:
    """Read an input in this process, and print its peak."""
    data = Path(path).read_bytes()
    measure.report(lambda: refused(KINDS[kind][2])(data))


def main() -> None:
    """Measure every kind; print the table."""
    specs = load_specs()
    over = 0
    print("| input | bytes as stored | function | peak MiB | half of its memory |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "input"
        for kind, (function, make, _) in KINDS.items():
            path.write_bytes(make())
            peak = measure.in_own_process(__file__, kind, str(path))["peak_mib"]
            half = mebibytes(specs[function].memory) // 2
            over += peak > half
            size = path.stat().st_size
            print(f"| {kind} | {size:,} | `{function}` | {peak:.0f} | {half} |", flush=True)
    raise SystemExit(over > 0)


if __name__ == "__main__":
    if sys.argv[1:]:
        peak_of(*sys.argv[1:])
    else:
        main()
