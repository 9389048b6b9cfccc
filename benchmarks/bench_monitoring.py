"""All monitoring families, 14-day windows of 1,500 stations: ≤ 60 s of CPU, each ≤ 1 GiB peak.

Reading the day files with the columns that a family asks for is part of its figure. A week of
files is written and read again for every week of history, with later stamps. The drift reads its
28 reference days too, the overview 28 days, the regularity 5 weeks.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import measure
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from velib_core import datasets, snapshot
from velib_core.grid import BINS_PER_DAY, Bin, Day, HorizonBins, bin_start, day_of, first_bin
from velib_core.monitoring import (
    data_drift,
    data_health,
    freshness,
    hindcasts,
    intro,
    model_explainability,
    model_performance,
    network_dynamics,
    network_overview,
    network_stations,
    served,
)
from velib_core.monitoring.documents import Edition
from velib_core.monitoring.importance import Importance
from velib_core.panel import build_panel
from velib_core.windows import complete_days, days_before

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from velib_core.monitoring.documents import Documents

TZ = "Europe/Paris"
MONDAY = Day(dt.date(2025, 11, 3))
NOW = dt.datetime(2025, 12, 15, 0, 10, tzinfo=dt.UTC)
WINDOW = complete_days(NOW, 14, TZ)
HORIZONS = [HorizonBins(3), HorizonBins(12)]
FEATURES = 80


def write_week(folder: Path, stations: int) -> None:
    """Write events, perf and ledger of seven days, and one more day for the truth."""
    rng = np.random.default_rng(1)
    bikes = rng.integers(0, 41, stations)
    dailies = [daily(n, stations, bikes, rng) for n in range(8)]
    for n in range(7):
        events = datasets.events_view(dailies[n], penury_bikes=2, saturation_docks=2)
        write(folder / f"events_{n}.parquet", events)
        start = Bin(first_bin(MONDAY) + n * BINS_PER_DAY)
        stop = Bin(start + BINS_PER_DAY + max(HORIZONS))
        panel = build_panel(dailies[n : n + 2], start, stop, variables=("bikes", "capacity"))
        guess = panel["bikes"][:BINS_PER_DAY] + rng.normal(0, 0.6, (BINS_PER_DAY, stations))
        guess = np.clip(guess, 0, 40).astype(np.float32)
        cast = datasets.Hindcast("2.1.0", guess, np.rint(guess), guess)
        perf = datasets.perf_view(panel, day_of(start), HORIZONS, dict.fromkeys(HORIZONS, cast))
        write(folder / f"perf_{n}.parquet", perf)
        write(folder / f"ledger_{n}.parquet", ledger(perf))


def daily(n: int, stations: int, bikes: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Return a day in which about one station in eight changes from bin to bin."""
    moved = rng.random((BINS_PER_DAY, stations)) < 0.12
    steps = moved * rng.integers(-2, 3, moved.shape)
    levels = np.empty(moved.shape, np.int64)
    for t in range(BINS_PER_DAY):
        bikes[:] = np.clip(bikes + steps[t], 0, 40)
        levels[t] = bikes
    base = np.datetime64(bin_start(first_bin(MONDAY)).replace(tzinfo=None), "ns")
    bins = base + (n * BINS_PER_DAY + np.arange(BINS_PER_DAY)) * np.timedelta64(5, "m")
    stamps = np.repeat(bins, stations)
    flat = levels.ravel()
    repeats = BINS_PER_DAY
    weather = np.repeat(rng.normal(10, 3, BINS_PER_DAY), stations)
    ids = [f"{20_000_000_000 + 37 * s}" for s in range(stations)]
    values = {
        "ts_utc": stamps + np.timedelta64(30, "s"),
        "tbin_utc": stamps,
        "station_id": pa.array(ids * repeats),
        "bikes": flat,
        "capacity": np.full(len(flat), 40),
        "mechanical": flat // 2,
        "ebike": flat - flat // 2,
        "status": pa.array(["OK"] * len(flat)),
        "lat": np.tile(np.linspace(48.80, 48.92, stations), repeats),
        "lon": np.tile(np.linspace(2.25, 2.45, stations)[::-1], repeats),
        "name": pa.array([f"Station number {s}" for s in ids] * repeats),
        "temp_C": weather,
        "precip_mm": np.maximum(weather - 13, 0),
        "wind_mps": np.abs(weather) / 3,
        "last_reported_utc": stamps - np.timedelta64(90, "s"),
        "docks_available": 40 - flat,
        "is_installed": np.ones(len(flat), np.int8),
        "is_renting": np.ones(len(flat), np.int8),
        "is_returning": np.ones(len(flat), np.int8),
    }
    columns = [pa.array(values[field.name]).cast(field.type) for field in snapshot.SCHEMA]
    return pa.table(columns, schema=snapshot.SCHEMA)


def ledger(perf: pa.Table) -> pa.Table:
    """Return the perf view's forecasts as if each had been published in its bin."""
    ahead = pc.multiply(perf["horizon_bins"], 300 * 10**9).cast(pa.duration("ns"))
    chance = pa.array(np.full(perf.num_rows, 0.9))
    kept = {name: perf[name] for name in served.LEDGER_COLUMNS if name in perf.column_names}
    made = {
        "target_tbin_utc": pc.add(perf["tbin_utc"], ahead),
        "p_bike": chance,
        "p_dock": chance,
    }
    return pa.table(kept | made)


def write(path: Path, table: pa.Table) -> None:
    """Write a view the way the job does."""
    pq.write_table(table, path, compression="zstd", row_group_size=1 << 16)


class Lake:
    """The week of files as if they were as many days as asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, kind: str, days: Iterable[Day], columns: Iterable[str]) -> Iterator[pa.Table]:
        """Yield one table a day, with its stamps."""
        for day in days:
            weeks, n = divmod((day - MONDAY).days, 7)
            table = pq.read_table(
                self.folder / f"{kind}_{n}.parquet",
                columns=list(columns),
                read_dictionary=["station_id", "model_version", "name"],
            )
            shift = pa.scalar(dt.timedelta(weeks=weeks), pa.duration("ns"))
            for at, field in enumerate(table.schema):
                if pa.types.is_timestamp(field.type):
                    table = table.set_column(at, field.name, pc.add(table[field.name], shift))
            yield table


def edition(family: str) -> Edition:
    """Return an edition as a job would make it."""
    root = "gs://bench/velib"
    return Edition(NOW, TZ, f"{root}/monitoring/{family}/latest", f"{root}/exports")


def health(lake: Lake) -> Documents:
    tables = lake.read("events", WINDOW.utc_days(), data_health.COLUMNS)
    return data_health.build(tables, window=WINDOW, now=NOW, edition=edition("data/health"))


def drift(lake: Lake) -> Documents:
    days = [*days_before(WINDOW, 28).utc_days(), *WINDOW.utc_days()[1:]]
    tables = lake.read("events", days, data_drift.COLUMNS)
    return data_drift.build(tables, window=WINDOW, reference_days=28, edition=edition("data/drift"))


def overview(lake: Lake) -> Documents:
    days = [*days_before(WINDOW, 14).utc_days(), *WINDOW.utc_days()[1:]]
    past = lake.read("events", days, network_overview.HISTORY_COLUMNS)
    sums = [s for s in map(network_overview.summarise, past) if s]
    return overview_of(lake, sums)


def overview_of(lake: Lake, sums: list[network_overview.DaySums]) -> Documents:
    recent = lake.read("events", WINDOW.utc_days()[-1:], network_overview.COLUMNS)
    return network_overview.build(recent, sums, now=NOW, edition=edition("network/overview"))


def stations(lake: Lake) -> Documents:
    tables = lake.read("events", WINDOW.utc_days(), network_stations.COLUMNS)
    return network_stations.build(tables, window=WINDOW, edition=edition("network/stations"))


def dynamics(lake: Lake) -> Documents:
    newest = Bin(WINDOW.stop - 1)
    compared = network_dynamics.regularity_days(newest, TZ, 5)
    days = sorted({*WINDOW.utc_days(), *itertools.chain(*(d.utc_days() for d in compared))})
    tables = lake.read("events", days, network_dynamics.COLUMNS)
    return network_dynamics.build(tables, window=WINDOW, edition=edition("network/dynamics"))


def performance(lake: Lake) -> Documents:
    days = WINDOW.utc_days()
    return model_performance.build(
        lake.read("perf", days, hindcasts.COLUMNS),
        window=WINDOW,
        horizons=HORIZONS,
        edition=edition("model/performance"),
        ledger=lake.read("ledger", days, served.LEDGER_COLUMNS),
    )


def explainability(lake: Lake) -> Documents:
    rng = np.random.default_rng(2)
    names = [f"feature_{n}" for n in range(FEATURES)]
    moved = Importance(
        names,
        {"total_gain": dict.fromkeys(names, 1.0)},
        rng.normal(size=(1500, FEATURES)).astype(np.float32),
        [f"{20_000_000_000 + 37 * s}" for s in range(1500)],
        [Bin(WINDOW.stop - 1)] * 1500,
    )
    return model_explainability.build(
        lake.read("perf", WINDOW.utc_days(), hindcasts.COLUMNS),
        window=WINDOW,
        horizons=HORIZONS,
        edition=edition("model/explainability"),
        importance=dict.fromkeys(HORIZONS, moved),
    )


def fresh(lake: Lake) -> Documents:
    (table,) = lake.read("events", WINDOW.utc_days()[-1:], freshness.COLUMNS)
    return freshness.build(table.slice(table.num_rows - 1500), now=NOW, edition=edition("x"))


def front(lake: Lake) -> Documents:
    del lake
    return intro.build(intro.IntroSources(), horizons=[], now=NOW, edition=edition("intro"))


FAMILIES: dict[str, Callable[[Lake], Documents]] = {
    "data_health": health,
    "data_drift": drift,
    "model_performance": performance,
    "model_explainability": explainability,
    "network_overview": overview,
    "network_stations": stations,
    "network_dynamics": dynamics,
    "freshness": fresh,
    "intro": front,
}


def run(family: str, folder: Path) -> None:
    """Make one family's documents as the JSON that would be written."""
    documents = FAMILIES[family](Lake(folder))
    for document in documents.values():
        json.dumps(document, allow_nan=False)


def main() -> None:
    """Write the week, run each family in a process of its own, print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    with tempfile.TemporaryDirectory() as folder:
        # A process starts with the peak of the one that starts it: this one stays small.
        measure.in_own_process(__file__, "write", folder, str(count))
        total = 0.0
        print(f"14 days x {count} stations    CPU s   peak MiB")
        for family in FAMILIES:
            figures = measure.in_own_process(__file__, "family", family, folder)
            total += figures["cpu_s"]
            print(f"{family:24} {figures['cpu_s']:8.2f} {figures['peak_mib']:10.0f}")
        print(f"{'all':24} {total:8.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        measure.report(lambda: write_week(Path(sys.argv[2]), int(sys.argv[3])))
    elif sys.argv[1:2] == ["family"]:
        measure.report(lambda: run(sys.argv[2], Path(sys.argv[3])))
    else:
        main()
