"""A small network, the same for every test: its snapshots, and how they get into a lake."""

from __future__ import annotations

import datetime as dt
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from velib_core.events.network import Network
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.model.registry import POINTER, RECORD
from velib_core.tables import snapshot
from velib_core.timeline.bins import BINS_PER_DAY, Bin, bin_start, first_bin, parse_day

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

FIRST_DAY = parse_day("2025-10-30")
"""Two days before a month's end, so that a monthly belongs to the final lake."""

STATIONS = 12
EVERY_BINS = 24


def snapshot_table(bin_: Bin, stations: int = STATIONS, **columns: object) -> pa.Table:
    """Return the snapshot of a bin; columns replace those that it has.

    Bikes swing thrice a day, as models can learn, with noise from the bin's own seed.
    """
    noise = np.random.default_rng(bin_).normal(0, 1, stations)
    swing = 8 * np.sin(2 * np.pi * (bin_ / 96 + np.arange(stations) / stations))
    start = bin_start(bin_).replace(tzinfo=None)
    values: dict[str, Any] = {
        "ts_utc": pa.array([start + dt.timedelta(seconds=42)] * stations, snapshot.STAMP),
        "tbin_utc": pa.array([start] * stations, snapshot.STAMP),
        "station_id": [f"{1000 + n}" for n in range(stations)],
        "bikes": np.clip(np.rint(10 + swing + noise), 0, 20).astype(int).tolist(),
        "capacity": [20] * stations,
        "status": ["OK"] * stations,
    }
    return pa.table(values | columns)


def snapshot_object(bin_: Bin, stations: int = STATIONS, **columns: object) -> bytes:
    """Return the object of a valid snapshot."""
    validated, defects = snapshot.validate(snapshot_table(bin_, stations, **columns), bin_)
    assert not defects
    return snapshot.to_bytes(validated)


_usual_object = functools.cache(snapshot_object)


def bins_of_days(days: int, every: int = EVERY_BINS) -> list[Bin]:
    """Return the observed bins, one in ``every``, and the one that closes the last day."""
    start = first_bin(FIRST_DAY)
    return [Bin(start + n) for n in range(0, days * BINS_PER_DAY + 1, every)]


def of(lake: Lake, settings: Settings, publisher: Any = None) -> Network:
    """Return the network that jobs work on; what they publish goes nowhere, unless given."""
    log: Any = publisher or PublisherLog()
    return Network(settings, lake, log)


def put(lake: Lake, name: str, data: bytes) -> None:
    """Write an object, whatever is there."""
    entry = lake.stat(name)
    artefact = Artefact(data, PARQUET, crc32c(data))
    lake.write(name, artefact, expected_generation=entry.generation if entry else 0)


def upload(
    lake: Lake, settings: Settings, bins: Iterable[Bin], rng: random.Random | None = None
) -> None:
    """Write the snapshot objects of bins, in random order where a generator is given."""
    order = list(bins)
    if rng is not None:
        rng.shuffle(order)
    layout = Layout(settings)
    for bin_ in order:
        put(lake, layout.name(Snapshot(bin_)), _usual_object(bin_))


def contents(lake: Lake) -> dict[str, str]:
    """Return every object of a lake by name, as its checksum.

    That of a model's record leaves out when it was built.
    """
    return {entry.name: _checksum(lake, entry) for entry in lake.entries("")}


def _checksum(lake: Lake, entry: Entry) -> str:
    if not entry.name.endswith((f"/{RECORD}", f"/{POINTER}")) or "models/" not in entry.name:
        return entry.crc32c
    document = json.loads(lake.read(entry))
    document.pop("built_at_utc", None)
    return crc32c(json.dumps(document).encode())


class PublisherLog:
    """Stands for the Pub/Sub service in tests of jobs: remembers what was published."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.notified: list[tuple[str, str, bool]] = []

    def publish(self, message: object) -> None:
        self.messages.append(message)

    def publish_alert(self, body: object) -> None:
        self.messages.append(body)

    def republish(self, topic: str, entry: Any, *, force: bool = False) -> None:
        self.notified.append((topic, entry.name, force))
