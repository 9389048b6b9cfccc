"""A new snapshot of 1,500 stations → both forecasts published: ≤ 1.0 s warm, ≤ 256 MiB.

Against the real object server on this machine, in a process of its own that is warm:
from the event to the published JSON. The models have the size that training gives them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import measure
from as_ingested import rows_of_state
from google.cloud import storage
from velib_core.jobs import build_serving_forecast, compact_daily, refresh_profiles
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.keys import Daily, Snapshot
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.pack import to_blobs
from velib_core.model.training import TrainingOptions, train_on
from velib_core.settings.network import Settings
from velib_core.tables import history, snapshot
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    bin_of,
    bin_start,
    day_after,
    day_of,
    horizon_bins,
)
from velib_local.emulator.object_store import object_store
from velib_local.simulation.city import City

if TYPE_CHECKING:
    import pyarrow as pa

BUCKET = "velib-bench"
SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": f"gs://{BUCKET}"})
START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
STATIONS = int(os.environ.get("BENCH_STATIONS", "1500"))
TRAINING_DAYS = 3
WARM = 12
"""Snapshots before the measurement, and as many measured."""


def rows_of(city: City, bin_: Bin) -> pa.Table:
    """Return the city's snapshot of a bin, through the same reading as ingestion."""
    table = rows_of_state(city.state())
    return snapshot.validate(table, bin_)[0]


def put(lake: Lake, name: str, data: bytes) -> None:
    """Write a new object."""
    lake.write(name, Artefact(data, PARQUET, crc32c(data)), expected_generation=0)


def fill(lake: Lake, layout: Layout) -> list[tuple[Bin, bytes]]:
    """Close some days, train, and return the next day's snapshots, not written yet."""
    city = City(STATIONS, seed=1, start=START)
    first = bin_of(START)
    for day in range(TRAINING_DAYS):
        tables = []
        for n in range(BINS_PER_DAY):
            bin_ = Bin(first + day * BINS_PER_DAY + n)
            city.advance(bin_start(bin_))
            tables.append(rows_of(city, bin_))
        closed = day_of(Bin(first + day * BINS_PER_DAY))
        daily = compact_daily.to_bytes(compact_daily.assemble(tables))
        put(lake, layout.name(Daily(closed)), daily)
        refresh_profiles.run(measure.network_of(lake, SETTINGS), closed)
    past = history.DailyHistory(lake, history.dailies(lake, layout))
    days = [day_after(day_of(first), n) for n in range(TRAINING_DAYS)]
    options = TrainingOptions(max_rows=20_000)
    for horizon in SETTINGS.horizons:
        ahead = horizon_bins(horizon)
        pack = train_on(past, past.stations, days, ahead, SETTINGS.tz, options).pack
        blobs = to_blobs(pack)
        folder = registry.folder_name("20251105-235500Z", blobs)
        about = {"horizon_bins": pack.horizon_bins, "end_date": str(days[-1])}
        registry.register(lake, Layout(SETTINGS), horizon, folder, blobs, about, "bench")
    snapshots = []
    for n in range(60 + 2 * WARM):
        bin_ = Bin(first + TRAINING_DAYS * BINS_PER_DAY + n)
        city.advance(bin_start(bin_))
        snapshots.append((bin_, snapshot.to_bytes(rows_of(city, bin_))))
    return snapshots


def serve(folder: Path) -> None:
    """Serve one snapshot after another and print the figures of the warm ones."""
    lake, layout, warm = connect(SETTINGS), Layout(SETTINGS), build_serving_forecast.WarmState()
    after_imports = measure.reset_peak()
    seconds, cpu = [], []
    for number, path in enumerate(sorted(folder.glob("*.parquet"))):
        bin_ = Bin(int(path.stem))
        put(lake, layout.name(Snapshot(bin_)), path.read_bytes())
        started, used = time.perf_counter(), time.process_time()
        result = build_serving_forecast.run(measure.network_of(lake, SETTINGS), warm, bin_)
        if number >= WARM:
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - used)
    figures = {
        "median_s": statistics.median(seconds),
        "slowest_s": max(seconds),
        "median_cpu_s": statistics.median(cpu),
        "mib_above_imports": measure.peak_mib() - after_imports,
        "forecasts": result.counts.get("h60_forecasts", 0),
    }
    print(json.dumps({name: round(float(value), 3) for name, value in figures.items()}))


def main() -> None:
    """Fill a lake, serve from it in another process, print the figures."""
    with tempfile.TemporaryDirectory() as scratch, object_store(Path(scratch) / "log") as address:
        os.environ["STORAGE_EMULATOR_HOST"] = address
        storage.Client(project="bench").create_bucket(BUCKET)
        lake, layout = connect(SETTINGS), Layout(SETTINGS)
        snapshots = fill(lake, layout)
        for bin_, data in snapshots[:60]:
            put(lake, layout.name(Snapshot(bin_)), data)
        for bin_, data in snapshots[60:]:
            (Path(scratch) / f"{bin_}.parquet").write_bytes(data)
        live = [
            model.version if (model := registry.live(lake, Layout(SETTINGS), h)) else None
            for h in SETTINGS.horizons
        ]
        figures = measure.in_own_process(__file__, "serve", scratch)
    rounds = f"models {live}, horizons {[int(horizon_bins(h)) for h in SETTINGS.horizons]} bins"
    print(f"build_serving_forecast, {STATIONS} stations: {figures}; {rounds}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]))
    else:
        main()
