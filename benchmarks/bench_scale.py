"""Each job's CPU and peak memory from 1,500 to 50,000 stations, and how fast they grow.

Three days of 96 snapshots each (one in three bins; what a job does for a bin does not depend on how
many there are), models trained on them, windows of a day: the same at every size, each job
in a process of its own against the real object server. The growth exponent is the slope of the
logarithm of CPU over that of stations, from 15,000 to 50,000, where what is fixed (imports,
connections, small documents) hardly counts: 1 is linear.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import measure
import numpy as np
import pyarrow as pa
from as_ingested import rows_of
from google.cloud import storage
from velib_core import monitoring_pipeline as pipeline
from velib_core.events.messages import ReplayRequested
from velib_core.feeds.open_meteo import Weather
from velib_core.jobs import (
    build_datasets,
    build_serving_forecast,
    close_day,
    compact_daily,
    reconcile,
    refresh_profiles,
)
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.pack import to_blobs
from velib_core.model.training import TrainingOptions, train_on
from velib_core.settings.network import Settings
from velib_core.tables import history, snapshot
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    Day,
    bin_start,
    day_after,
    first_bin,
    horizon_bins,
)
from velib_local.emulator.object_store import object_store

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "velib-bench"
SETTINGS = Settings.from_env(
    {"GCS_BUCKET_ROOT": f"gs://{BUCKET}", "MON_LAST_DAYS": "1", "MON_REF_DAYS": "7"}
)
LAYOUT = Layout(SETTINGS)
SIZES = (1_500, 5_000, 15_000, 50_000)
DAY = Day(dt.date(2025, 11, 3))
NEXT, LAST = day_after(DAY), day_after(DAY, 2)
EVERY = 3
NEWEST = Bin(first_bin(day_after(LAST)))


def fill(stations: int) -> None:
    """Write the snapshots of three days in which one station in eight changes from bin to bin."""
    lake = connect(SETTINGS)
    rng = np.random.default_rng(1)
    bikes = rng.integers(0, 41, stations)
    side = math.ceil(stations**0.5)
    fixed = {
        "station_id": pa.array([f"{20_000_000_000 + 37 * s}" for s in range(stations)]),
        "name": pa.array([f"Station number {s}" for s in range(stations)]),
        "lat": 48.5 + 0.004 * (np.arange(stations) // side),
        "lon": 2.0 + 0.006 * (np.arange(stations) % side),
        "capacity": np.full(stations, 40),
        "status": pa.array(["OK"] * stations),
    }
    start = first_bin(DAY)
    for bin_ in [Bin(start + n) for n in range(0, 3 * BINS_PER_DAY + 1, EVERY)]:
        moved = rng.random(stations) < 0.12
        bikes = np.clip(bikes + moved * rng.integers(-2, 3, stations), 0, 40)
        stamp = np.datetime64(bin_start(bin_).replace(tzinfo=None), "ns")
        rows = pa.table(
            fixed
            | {
                "ts_utc": np.full(stations, stamp + np.timedelta64(30, "s")),
                "tbin_utc": np.full(stations, stamp),
                "last_reported_utc": np.full(stations, stamp - np.timedelta64(90, "s")),
                "bikes": bikes,
                "mechanical": bikes // 2,
                "ebike": bikes - bikes // 2,
                "docks_available": 40 - bikes,
                "temp_C": np.full(stations, 10.0),
                "precip_mm": np.zeros(stations),
                "wind_mps": np.full(stations, 3.0),
            }
        )
        data = snapshot.to_bytes(snapshot.validate(rows, bin_)[0])
        artefact = Artefact(data, PARQUET, crc32c(data))
        lake.write(LAYOUT.name(Snapshot(bin_)), artefact, expected_generation=0)


def read_feed(stations: int) -> None:
    """Do what `ingest` does with the bytes of a feed."""
    records = [
        {
            "station_id": str(20_000_000_000 + s),
            "num_bikes_available": s % 30,
            "num_bikes_available_types": [{"mechanical": s % 20}, {"ebike": s % 10}],
            "num_docks_available": 40 - s % 30,
            "is_installed": 1,
            "is_renting": 1,
            "is_returning": 1,
            "last_reported": 1_762_128_000,
        }
        for s in range(stations)
    ]
    places = [
        {"station_id": r["station_id"], "name": "x", "lat": 48.8, "lon": 2.3, "capacity": 40}
        for r in records
    ]
    bodies = {
        name: json.dumps(
            {"last_updated": 1_762_128_000, "ttl": 60, "data": {"stations": found}}
        ).encode()
        for name, found in (("station_status", records), ("station_information", places))
    }
    rows = rows_of(bodies, bin_start(NEWEST), Weather(10.0, 0.0, 3.0))
    snapshot.to_bytes(snapshot.validate(rows, NEWEST)[0])


def learn(lake: Lake) -> None:
    """Train a model a horizon on the days, from a fixed number of rows."""
    past = history.DailyHistory(lake, history.dailies(lake, LAYOUT))
    for horizon in SETTINGS.horizons:
        options = TrainingOptions(max_rows=100_000, rounds=30)
        days, ahead = [DAY, NEXT, LAST], horizon_bins(horizon)
        pack = train_on(past, past.stations, days, ahead, SETTINGS.tz, options).pack
        blobs = to_blobs(pack)
        folder = registry.folder_name("20251105-235500Z", blobs)
        about = {"horizon_bins": pack.horizon_bins, "end_date": str(LAST)}
        registry.register(lake, LAYOUT, horizon, folder, blobs, about, "bench")


def steps(stations: int) -> dict[str, Callable[[Lake], object]]:
    """Return what is measured, in the order of the chain."""

    def monitor(step: str) -> Callable[[Lake], object]:
        def work(lake: Lake) -> object:
            return pipeline.run(measure.network_of(lake, SETTINGS), [step], LAST)

        return work

    return {
        "ingest (bytes to bytes)": lambda _: read_feed(stations),
        "close_day": lambda lake: close_day.run(
            measure.network_of(lake, SETTINGS), close_day.WarmState(), NEWEST
        ),
        "compact_daily": lambda lake: compact_daily.run(measure.network_of(lake, SETTINGS), DAY),
        "(a day more)": lambda lake: compact_daily.run(measure.network_of(lake, SETTINGS), NEXT),
        "(and another)": lambda lake: compact_daily.run(measure.network_of(lake, SETTINGS), LAST),
        "refresh_profiles": lambda lake: refresh_profiles.run(
            measure.network_of(lake, SETTINGS), DAY
        ),
        "train_model": learn,
        "build_datasets": lambda lake: build_datasets.run(measure.network_of(lake, SETTINGS), LAST),
        "build_serving_forecast": lambda lake: build_serving_forecast.run(
            measure.network_of(lake, SETTINGS), build_serving_forecast.WarmState()
        ),
        **{f"build_{step}": monitor(step) for step in pipeline.STEPS},
        "reconcile": lambda lake: reconcile.plan(
            measure.network_of(lake, SETTINGS), ReplayRequested()
        ),
    }


def main() -> None:
    """Run every job at every size; print CPU seconds, peak MiB and the exponents."""
    sizes = [int(size) for size in sys.argv[1:]] or list(SIZES)
    found: dict[str, list[dict[str, float]]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch, object_store(Path(scratch) / "log") as host:
            os.environ["STORAGE_EMULATOR_HOST"] = host
            storage.Client(project="bench").create_bucket(BUCKET)
            measure.in_own_process(__file__, "fill", str(size))
            for name in steps(size):
                figures = measure.in_own_process(__file__, "step", name, str(size))
                found.setdefault(name, []).append(figures)
                said = f"{figures['cpu_s']:8.2f} s {figures['peak_mib']:7.0f} MiB"
                print(f"{size:6} {name:28} {said}", file=sys.stderr, flush=True)
    print(f"{'stations':28}" + "".join(f"{size:>18,}" for size in sizes) + "   exponent")
    for name, row in found.items():
        if name.startswith("("):
            continue
        cells = "".join(f"{f['cpu_s']:8.2f} s {f['peak_mib']:5.0f}MiB" for f in row)
        print(f"{name:28}{cells} {exponent(sizes, row):10.2f}")


def exponent(sizes: list[int], row: list[dict[str, float]]) -> float:
    """Return the slope between the two largest sizes."""
    if len(sizes) < 2:
        return float("nan")
    low, high = (max(figures["cpu_s"], 1e-3) for figures in row[-2:])
    return math.log(high / low) / math.log(sizes[-1] / sizes[-2])


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        measure.report(lambda: fill(int(sys.argv[2])))
    elif sys.argv[1:2] == ["step"]:
        lake = connect(SETTINGS)
        measure.report(lambda: steps(int(sys.argv[3]))[sys.argv[2]](lake))
    else:
        main()
