"""A small network's days as snapshot objects, and the lakes that runs of the chain end with."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from velib_core import lake as store
from velib_core import snapshot
from velib_core.grid import BINS_PER_DAY, Bin, bin_start, first_bin, parse_day
from velib_core.layout import Layout, Snapshot

if TYPE_CHECKING:
    import random

CHAIN = ["close_day", "compact_daily", "compact_monthly", "build_datasets", "reconcile"]

FIRST_DAY = parse_day("2025-10-30")
"""Two days before a month's end, so that a monthly belongs to the final lake."""

STATIONS = 12
EVERY_BINS = 24


def snapshot_object(bin_: Bin, stations: int = STATIONS) -> bytes:
    """Return the snapshot of a bin: counts drawn from the bin's own seed."""
    rng = np.random.default_rng(bin_)
    observed = bin_start(bin_).replace(tzinfo=None) + dt.timedelta(seconds=42)
    capacity = np.full(stations, 20)
    bikes = rng.integers(0, 21, stations)
    table = pa.table(
        {
            "ts_utc": pa.array([observed] * stations, snapshot.STAMP),
            "tbin_utc": pa.array([bin_start(bin_).replace(tzinfo=None)] * stations, snapshot.STAMP),
            "station_id": [f"{1000 + n}" for n in range(stations)],
            "bikes": bikes,
            "capacity": capacity,
            "status": ["OK"] * stations,
        }
    )
    tidy, defects = snapshot.tidy(table, bin_)
    assert not defects
    return snapshot.to_bytes(tidy)


def bins_of_days(days: int) -> list[Bin]:
    """Return the observed bins, one in `EVERY_BINS`, and the one that closes the last day."""
    start = first_bin(FIRST_DAY)
    return [Bin(start + n) for n in range(0, days * BINS_PER_DAY + 1, EVERY_BINS)]


def upload(cloud, bins, rng: random.Random | None = None) -> None:
    """Write the snapshot objects of bins, in random order where a generator is given."""
    order = list(bins)
    if rng is not None:
        rng.shuffle(order)
    layout = Layout(cloud.settings)
    for bin_ in order:
        data = snapshot_object(bin_)
        artefact = store.Artefact(data, store.PARQUET, store.crc32c(data))
        cloud.lake.write(layout.name(Snapshot(bin_)), artefact, expected_generation=0)


def contents(cloud) -> dict[str, str]:
    """Return every object of the lake by name, as the checksum of its bytes."""
    return {entry.name: entry.crc32c for entry in cloud.lake.entries("")}
