"""One day of 1,500 stations (288 snapshots, 432,000 rows) compacted: ≤ 5 s and ≤ 400 MiB peak.

Against the real object server on this machine; the compaction runs in a process of its own.
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import pyarrow as pa
from google.cloud import storage
from velib_core.jobs import compact_daily
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.bucket import connect
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings
from velib_core.tables import snapshot
from velib_core.timeline.bins import BINS_PER_DAY, Bin, bin_start, first_bin, parse_day
from velib_local.emulator.object_store import object_store

DAY = parse_day("2025-11-01")
BUCKET = "velib-bench"
SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": f"gs://{BUCKET}"})


def observe(stations: int, n: int, rng: np.random.Generator, bikes: np.ndarray) -> bytes:
    """Return the n-th snapshot of the day; about one station in eight has changed."""
    moved = rng.random(stations) < 0.12
    bikes[:] = np.clip(bikes + moved * rng.integers(-2, 3, stations), 0, 40)
    bin_ = Bin(first_bin(DAY) + n)
    start = bin_start(bin_).replace(tzinfo=None)
    ids = [str(10_000 + 37 * s) for s in range(stations)]
    table = pa.table(
        {
            "ts_utc": pa.array([start + dt.timedelta(seconds=33)] * stations, snapshot.STAMP),
            "tbin_utc": pa.array([start] * stations, snapshot.STAMP),
            "station_id": ids,
            "bikes": bikes,
            "capacity": np.full(stations, 40),
            "mechanical": bikes // 2,
            "ebike": bikes - bikes // 2,
            "status": ["OK"] * stations,
            "lat": np.linspace(48.8, 48.9, stations),
            "lon": np.linspace(2.2, 2.4, stations),
            "name": [f"Station number {s}" for s in ids],
            "temp_C": np.full(stations, 11.0),
            "last_reported_utc": pa.array([start] * stations, snapshot.STAMP),
            "docks_available": 40 - bikes,
        }
    )
    validate, _ = snapshot.validate(table, bin_)
    return snapshot.to_bytes(validate)


def main() -> None:
    """Fill a lake, compact it in another process, print the figures."""
    stations = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as scratch, object_store(Path(scratch) / "log") as address:
        os.environ["STORAGE_EMULATOR_HOST"] = address
        storage.Client(project="bench").create_bucket(BUCKET)
        lake, layout = connect(SETTINGS), Layout(SETTINGS)
        rng = np.random.default_rng(1)
        bikes = rng.integers(0, 40, stations)
        for n in range(BINS_PER_DAY):
            data = observe(stations, n, rng, bikes)
            name = layout.name(Snapshot(Bin(first_bin(DAY) + n)))
            lake.write(name, Artefact(data, PARQUET, crc32c(data)), expected_generation=0)
        figures = measure.in_own_process(__file__, "compact")
        size = next(iter(lake.entries("daily/"))).size
    print(f"compact_daily, {stations} stations x 288 snapshots: {figures}, {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    if sys.argv[1:] == ["compact"]:
        measure.report(
            lambda: compact_daily.run(measure.network_of(connect(SETTINGS), SETTINGS), DAY)
        )
    else:
        main()
