"""The network's past out of the lake, as tables to lay on a panel.

Days that are over are read from their dailies, the hours since from the snapshots themselves.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from velib_core.errors import PermanentError
from velib_core.lake.keys import Daily, Snapshot
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.lake.readable import UnreadableObjectError
from velib_core.logs import log
from velib_core.tables import day_rows, parquet, snapshot
from velib_core.tables.panel import (
    STATION_VARIABLES,
    WEATHER_VARIABLES,
    Panel,
    Stations,
    bins_of,
    build_panel,
    join,
)
from velib_core.tables.snapshot import SnapshotError
from velib_core.timeline.bins import BINS_PER_DAY, Bin, day_after, day_of, first_bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.timeline.bins import Day

READERS = 8
KEPT_SNAPSHOTS = 64
"""Parsed snapshots that a warm instance keeps: the look-back of the usual horizons."""

KEPT_DAYS = 3
"""A day, the look-back before it and the horizon after it."""

PANEL_COLUMNS = [
    "tbin_utc",
    "ts_utc",
    "station_id",
    "status",
    "lat",
    "lon",
    "name",
    "last_reported_utc",
    *STATION_VARIABLES,
    *WEATHER_VARIABLES,
]
"""What `velib_core.tables.panel.build_panel` reads; other columns are not decoded."""


PANEL_SCHEMA = pa.schema([snapshot.SCHEMA.field(name) for name in PANEL_COLUMNS])


class NoHistoryError(PermanentError):
    """There is no daily in the window that was asked for, or too few."""


def daily_table(lake: ReadableLake, entry: Entry) -> pa.Table:
    """Return the rows of a daily that a panel needs; no row, and an error, if it is unreadable.

    Its day is then missing from what is made of the others.
    """
    try:
        data = lake.read_up_to(entry, snapshot.DAY_LIMITS.file_bytes)
        table = parquet.read(data, snapshot.DAY_LIMITS, PANEL_COLUMNS)
        return day_rows.checked(table.select(PANEL_COLUMNS), PANEL_SCHEMA)
    except (parquet.ParquetError, UnreadableObjectError, pa.ArrowException, KeyError) as error:
        log("ERROR", f"{entry.name} is left out: {error}")
        return PANEL_SCHEMA.empty_table()


def dailies(lake: ReadableLake, layout: Layout) -> dict[Day, Entry]:
    """Return every daily by day, in order."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.daily}/")}
    return {day: entries[name] for day, name in sorted(layout.by_day(Daily, entries).items())}


def snapshot_entries(lake: ReadableLake, layout: Layout, day: Day) -> dict[Bin, Entry]:
    """Return the snapshot objects of a day by bin; foreign names are left to the compaction."""
    return dict(_by_bin(layout, lake.entries(layout.bronze_day(day))))


def _by_bin(layout: Layout, entries: Iterable[Entry]) -> Iterator[tuple[Bin, Entry]]:
    for entry in entries:
        try:
            key = layout.key(entry.name)
        except ForeignNameError:
            continue
        if isinstance(key, Snapshot):
            yield key.bin, entry


class SnapshotReader:
    """Reads snapshots, each once: a warm instance needs only the new one of the last hours.

    ``newest`` is the newest readable one that was found so far, by bin.
    """

    def __init__(self, kept: int = KEPT_SNAPSHOTS) -> None:
        self._kept = kept
        self.newest: tuple[Bin, Entry] | None = None
        self._tables: collections.OrderedDict[tuple[str, int], pa.Table | None] = (
            collections.OrderedDict()
        )

    def tables(self, lake: ReadableLake, entries: dict[Bin, Entry]) -> Iterator[pa.Table]:
        """Yield the rows of snapshots in order of time; unreadable ones are logged, left out."""
        wanted = sorted(entries.items())
        # A look-back that is longer than what is kept would lose its first snapshots.
        self._kept = max(self._kept, len(wanted))
        missing = [pair for pair in wanted if _identity(pair[1]) not in self._tables]
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            for pair, read in zip(missing, pool.map(partial(_read, lake), missing), strict=True):
                self._keep(pair[1], read)
        found = (self._tables.get(_identity(entry)) for _, entry in wanted)
        yield from (table for table in found if table is not None)

    def table(self, lake: ReadableLake, bin_: Bin, entry: Entry) -> pa.Table | None:
        """Return the rows of one snapshot, ``None`` where it is unreadable."""
        return next(self.tables(lake, {bin_: entry}), None)

    def _keep(self, entry: Entry, read: pa.Table | SnapshotError) -> None:
        """Keep what was read; what is unreadable is remembered as well, and logged once."""
        if isinstance(read, SnapshotError):
            log("ERROR", f"{entry.name} is left out: {read}")
        self._tables[_identity(entry)] = None if isinstance(read, SnapshotError) else read
        while len(self._tables) > self._kept:
            self._tables.popitem(last=False)


def _read(lake: ReadableLake, pair: tuple[Bin, Entry]) -> pa.Table | SnapshotError:
    bin_, entry = pair
    try:
        return snapshot.read(lake, entry, bin_)[0]
    except SnapshotError as error:
        return error


def recent_entries(lake: ReadableLake, layout: Layout, newest: Bin, bins: int) -> dict[Bin, Entry]:
    """Return the snapshot objects of the ``bins`` bins that end with ``newest``, in order."""
    return snapshots_between(lake, layout, Bin(newest - bins + 1), Bin(newest + 1))


def snapshots_between(
    lake: ReadableLake, layout: Layout, start: Bin, stop: Bin
) -> dict[Bin, Entry]:
    """Return the snapshot objects of the bins ``[start, stop)``, in order: their names sort so."""
    return dict(listed_between(lake, layout, start, stop))


def listed_between(
    lake: ReadableLake, layout: Layout, start: Bin, stop: Bin, page: int | None = None
) -> Iterator[tuple[Bin, Entry]]:
    """Yield what `snapshots_between` returns, listed so many at a time."""
    first, last = layout.name(Snapshot(start)), layout.name(Snapshot(stop))
    yield from _by_bin(layout, lake.entries(f"{layout.bronze}/", first, last, page))


def _identity(entry: Entry) -> tuple[str, int]:
    return entry.name, entry.generation


class DailyHistory:
    """The dailies as one long panel, a day at a time.

    Every window has the same stations: all that any of the days knows. Each daily is read once to
    learn them and once more when a window needs it; memory holds `KEPT_DAYS` days, however long
    the history is.
    """

    def __init__(self, lake: ReadableLake, entries: Mapping[Day, Entry]) -> None:
        self._lake = lake
        self._entries = dict(sorted(entries.items()))
        self._panels: collections.OrderedDict[Day, Panel] = collections.OrderedDict()
        self._seen: dict[Day, NDArray[np.int64]] = {}
        self.stations = _stations(self._surveyed())

    def _surveyed(self) -> Iterator[pa.Table]:
        """Yield the rows of each day, having counted them by bin."""
        for day, entry in self._entries.items():
            table = daily_table(self._lake, entry)
            bins = bins_of(table["tbin_utc"]) - first_bin(day)
            inside = bins[(bins >= 0) & (bins < BINS_PER_DAY)]
            self._seen[day] = np.bincount(inside, minlength=BINS_PER_DAY)
            yield table

    def window(self, start: Bin, stop: Bin) -> Panel:
        """Return the panel of the bins ``[start, stop)``, NaN where no daily is."""
        return join([self._day(day) for day in days_between(start, stop)]).window(start, stop)

    def stations_seen(self, start: Bin, stop: Bin) -> NDArray[np.int64]:
        """Return how many stations were observed in each of the bins ``[start, stop)``."""
        days = days_between(start, stop)
        nothing = np.zeros(BINS_PER_DAY, np.int64)
        counts = np.concatenate([self._seen.get(day, nothing) for day in days])
        offset = start - first_bin(days[0])
        return counts[offset : offset + stop - start]

    def _day(self, day: Day) -> Panel:
        if day not in self._panels:
            entry = self._entries.get(day)
            tables = [daily_table(self._lake, entry)] if entry else []
            start, stop = first_bin(day), first_bin(day_after(day))
            panel = build_panel(tables, start, stop, station_ids=self.stations.ids.tolist())
            self._panels[day] = dataclasses.replace(panel, stations=self.stations)
            while len(self._panels) > KEPT_DAYS:
                self._panels.popitem(last=False)
        return self._panels[day]


def days_between(start: Bin, stop: Bin) -> list[Day]:
    """Return the UTC days that the bins ``[start, stop)`` lie in."""
    days = [day_of(start)]
    while days[-1] < day_of(Bin(stop - 1)):
        days.append(day_after(days[-1]))
    return days


def _stations(tables: Iterator[pa.Table]) -> Stations:
    """Return the stations of all tables, each with its newest known place, name and capacity."""
    newest: pa.Table | None = None
    described = ("name", "lat", "lon", "capacity")
    for table in tables:
        known = table.select(["station_id", *described])
        both = known if newest is None else pa.concat_tables([newest, known])
        grouped = both.group_by("station_id", use_threads=False).aggregate(
            [(column, "last") for column in described]
        )
        newest = grouped.rename_columns(["station_id", *described])
    if newest is None:
        newest = snapshot.SCHEMA.empty_table().select(["station_id", *described])
    ordered = newest.sort_by("station_id")

    def numbers(column: str) -> NDArray[np.float64]:
        return np.asarray(ordered[column].cast(pa.float64()).to_numpy(zero_copy_only=False))

    return Stations(
        ids=np.array(ordered["station_id"].to_pylist(), np.str_),
        names=np.array([name or "" for name in ordered["name"].to_pylist()], np.str_),
        lat=numbers("lat"),
        lon=numbers("lon"),
        capacity=numbers("capacity").astype(np.float32),
    )
