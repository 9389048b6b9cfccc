"""Day closed → all monitoring documents, 14-day windows of 1,500 stations: ≤ 60 s of CPU, ≤ 1 GiB.

Each job runs in a process of its own against the real object server on this machine: reading the
day files, making the documents and writing them are in its figure. A simulated week is written
again for every week of history, with later stamps. The drift reads its 28 reference days too, the
overview the sums of 28 days, the regularity 5 weeks; the explanations are of models of the size
that training gives them.
"""

from __future__ import annotations

import datetime as dt
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import measure
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from as_ingested import rows_of_state
from google.cloud import storage
from velib_core import monitoring_pipeline as pipeline
from velib_core.jobs import build_network_overview, compact_daily, refresh_profiles
from velib_core.jobs.recipes import overview
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.keys import Daily, Events, ForecastLog, Key, Perf, Snapshot
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.pack import to_blobs
from velib_core.model.training import TrainingOptions, train_on
from velib_core.settings.network import Settings
from velib_core.tables import history, snapshot, views
from velib_core.tables.panel import build_panel
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    Day,
    HorizonBins,
    bin_of,
    bin_start,
    day_after,
    first_bin,
    horizon_bins,
)
from velib_local.emulator.object_store import object_store
from velib_local.simulation.city import City

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "velib-bench"
SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": os.environ.get("BENCH_ROOT", f"gs://{BUCKET}")})
LAYOUT = Layout(SETTINGS)
MONDAY = Day(dt.date(2025, 11, 3))
WEEKS = 6
HORIZONS = [HorizonBins(3), HorizonBins(12)]
TRAINING_DAYS = 3


def days_of(stations: int, count: int) -> Iterator[pa.Table]:
    """Yield simulated days, through the same reading as ingestion."""
    start = bin_start(first_bin(MONDAY))
    city = City(stations, seed=1, start=start)
    for day in range(count):
        tables = []
        for n in range(BINS_PER_DAY):
            bin_ = Bin(bin_of(start) + day * BINS_PER_DAY + n)
            city.advance(bin_start(bin_))
            rows = rows_of_state(city.state())
            tables.append(snapshot.validate(rows, bin_)[0])
        yield compact_daily.assemble(tables)


def fill(stations: int) -> None:
    """Write six weeks of views, the newest days' dailies, two models, and the start of today."""
    lake = connect(SETTINGS)
    dailies = list(days_of(stations, 8))
    rng = np.random.default_rng(1)
    for n in range(7):
        events = views.observations_table(dailies[n], penury_bikes=2, saturation_docks=2)
        start = Bin(first_bin(MONDAY) + n * BINS_PER_DAY)
        stop = Bin(start + BINS_PER_DAY + max(HORIZONS))
        panel = build_panel(dailies[n : n + 2], start, stop, variables=("bikes", "capacity"))
        noise = rng.normal(0, 0.6, panel["bikes"][:BINS_PER_DAY].shape)
        guess = np.clip(panel["bikes"][:BINS_PER_DAY] + noise, 0, 60).astype(np.float32)
        hindcasts = views.Hindcast("2.0.0", guess, np.rint(guess), guess, np.abs(noise))
        day = day_after(MONDAY, n)
        perf = views.evaluation_table(panel, day, HORIZONS, dict.fromkeys(HORIZONS, hindcasts))
        for week in range(WEEKS):
            at = day_after(day, 7 * week)
            put(lake, Events(at), shifted(events, week))
            if week >= WEEKS - 2:
                put(lake, Perf(at), shifted(perf, week))
                put(lake, ForecastLog(at), shifted(forecast_log(perf), week))
    newest = day_after(MONDAY, 7 * WEEKS - 1)
    for back in range(int(os.environ.get("BENCH_DAILIES", "2"))):
        weeks, weekday = divmod(7 * WEEKS - 1 - back, 7)
        daily = shifted(dailies[weekday], weeks)
        put_bytes(lake, Daily(day_after(newest, -back)), compact_daily.to_bytes(daily))
    today = shifted(dailies[7], WEEKS - 1)
    for n in range(int(os.environ.get("BENCH_SNAPSHOTS", "12"))):
        bin_ = Bin(first_bin(day_after(newest)) + n)
        stamp = np.datetime64(bin_start(bin_).replace(tzinfo=None), "ns")
        rows = today.filter(pc.equal(today["tbin_utc"], pa.scalar(stamp)))
        put_bytes(lake, Snapshot(bin_), snapshot.to_bytes(rows))
    learn(lake, dailies)
    for day in overview.days_to_sum(measure.network_of(lake, SETTINGS))[:-1]:
        build_network_overview.sum_day(measure.network_of(lake, SETTINGS), day)


def learn(lake: Lake, dailies: list[pa.Table]) -> None:
    """Train a model a horizon on the first days, put where no job takes them for the window."""
    days = [day_after(MONDAY, n) for n in range(TRAINING_DAYS)]
    for day, table in zip(days, dailies, strict=False):
        put_bytes(lake, Daily(day), compact_daily.to_bytes(table))
        refresh_profiles.run(measure.network_of(lake, SETTINGS), day)
    entries = {day: e for day, e in history.dailies(lake, LAYOUT).items() if day in days}
    past = history.DailyHistory(lake, entries)
    for horizon in SETTINGS.horizons:
        options = TrainingOptions(max_rows=60_000)
        ahead = horizon_bins(horizon)
        pack = train_on(past, past.stations, days, ahead, SETTINGS.tz, options).pack
        blobs = to_blobs(pack)
        folder = registry.folder_name("20251105-235500Z", blobs)
        about = {"horizon_bins": pack.horizon_bins, "end_date": str(days[-1])}
        registry.register(lake, LAYOUT, horizon, folder, blobs, about, "bench")


def forecast_log(perf: pa.Table) -> pa.Table:
    """Return the evaluation table's forecasts as if each had been published in its bin."""
    ahead = pc.multiply(perf["horizon_bins"], 300 * 10**9).cast(pa.duration("ns"))
    chance = pa.array(np.full(perf.num_rows, 0.9))
    made = {
        "target_tbin_utc": pc.add(perf["tbin_utc"], ahead),
        "p_bike": chance,
        "p_dock": chance,
    }
    names = views.FORECAST_LOG_SCHEMA.names
    columns = [made.get(name, perf[name] if name not in made else None) for name in names]
    return pa.table(columns, schema=views.FORECAST_LOG_SCHEMA)


def shifted(table: pa.Table, weeks: int) -> pa.Table:
    """Return the table with all its stamps so many weeks later."""
    later = pa.scalar(dt.timedelta(weeks=weeks), pa.duration("ns"))
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(at, field, pc.add(table[field.name], later))
    return table


def put(lake: Lake, key: Key, table: pa.Table) -> None:
    """Write a view the way the job does."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1 << 16)
    put_bytes(lake, key, sink.getvalue())


def put_bytes(lake: Lake, key: Key, data: bytes) -> None:
    """Write a new object."""
    artefact = Artefact(data, PARQUET, crc32c(data))
    lake.write(LAYOUT.name(key), artefact, expected_generation=0)


def run(step: str) -> None:
    """Run one step of the pipeline as a launch would."""
    newest = day_after(MONDAY, 7 * WEEKS - 1)
    network = measure.network_of(connect(SETTINGS), SETTINGS)
    result = pipeline.run(network, [step], newest)
    if not any(outcome == "written" for outcome in result.outputs.values()):
        sys.exit(f"{step} wrote nothing")


def main() -> None:
    """Fill the lake, run each step in a process of its own, print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as scratch, object_store(Path(scratch) / "log") as address:
        os.environ["STORAGE_EMULATOR_HOST"] = address
        storage.Client(project="bench").create_bucket(BUCKET)
        measure.in_own_process(__file__, "fill", str(count))
        total = 0.0
        print(f"14 days x {count} stations    CPU s   peak MiB")
        for step in pipeline.STEPS:
            figures = measure.in_own_process(__file__, "step", step)
            total += figures["cpu_s"]
            print(f"{step:24} {figures['cpu_s']:8.2f} {figures['peak_mib']:10.0f}", flush=True)
        print(f"{'all':24} {total:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        measure.report(lambda: fill(int(sys.argv[2])))
    elif sys.argv[1:2] == ["step"]:
        measure.report(lambda: run(sys.argv[2]))
    else:
        main()
