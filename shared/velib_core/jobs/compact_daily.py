"""All snapshots of one UTC day → ``daily/compact_D.parquet``.

A bin's snapshot object is the authority on that bin. Bins whose object is gone (deleted by the
bucket's lifecycle, or after an earlier compaction) keep the rows of the daily that exists, so a
late snapshot never costs a day the rest of its rows. What cannot be read is copied to quarantine
with its reason, and the day is made of the rest.
"""

from __future__ import annotations

import collections
import concurrent.futures
import io
import itertools
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from velib_core.events.job import JobResult
from velib_core.jobs.recipes import daily
from velib_core.lake.artefact import PARQUET, Artefact, StoreError
from velib_core.lake.keys import Daily, Snapshot
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.lake.readable import UnreadableObjectError
from velib_core.tables import defect_counts, quarantine, snapshot
from velib_core.tables.panel import bins_of
from velib_core.tables.snapshot import SCHEMA, SnapshotError
from velib_core.timeline import clock
from velib_core.timeline.bins import BINS_PER_HOUR, Bin, bin_of, day_after, day_of, first_bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry
    from velib_core.timeline.bins import Day

MAX_WAITS = 12
"""Late data that never pauses is compacted all the same after so many waits."""

READERS = 8
"""Parallel downloads: a day is 288 small objects, and each costs a round trip."""

KEPT_BINS = 26 * BINS_PER_HOUR
"""How long the snapshots of a day outlast it: the overview reads those of its local day, of up to
25 hours, and forecasts look back by less."""


def run(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Compact one day; a day without snapshots is left as it is.

    Raises `velib_core.errors.TransientError` where the store fails or a race is lost too often.
    """
    lake, layout = network.lake, network.layout
    name = layout.name(Daily(day))
    result = JobResult("compact_daily")

    def make(current: Entry | None) -> Artefact | None:
        listing = list(lake.entries(layout.bronze_day(day)))
        result.counts.clear()  # of an attempt that lost the race
        fingerprint = daily.fingerprint(listing)
        if not listing or (current and current.fingerprint == fingerprint and not force):
            return None
        tables = _read_snapshots(lake, layout, day, listing, result)
        if current is not None:
            tables = _with_rows_of_daily(lake, layout, current, tables, result)
        repeats, counts = collections.Counter[str](), collections.Counter[str]()
        for part in tables:
            repeats.update(snapshot.repeats_of(part))
            counts.update(defect_counts.counts_of(part))
        table = snapshot.with_repeats(assemble(tables), repeats)
        table = defect_counts.with_counts(table, counts)
        result.counts["rows_out"] = table.num_rows
        return Artefact(to_bytes(table), PARQUET, fingerprint)

    result.outputs[name] = lake.update(name, make, force=force)
    if network.settings.delete_after_compact:
        over = [past for past in (day, day_after(day, -2)) if _is_long_over(past)]
        result.counts["deleted"] = sum(
            _delete_verified(lake, layout, past, result) for past in over
        )
    return result


def run_when_quiet(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Compact a day once no late snapshot has come for `Settings.late_data_wait_s`.

    A day without a daily, or one by force, is compacted at once. A burst of late snapshots is
    read once: the daily's fingerprint answers all messages of the burst but the first.
    """
    wait = network.settings.late_data_wait_s
    held = network.lake.stat(network.layout.name(Daily(day)))
    for _ in range(0 if force or held is None else MAX_WAITS):
        before = _fingerprint(network, day)
        if held is not None and held.fingerprint == before:
            break
        time.sleep(wait)
        if _fingerprint(network, day) == before:
            break
        held = network.lake.stat(network.layout.name(Daily(day)))
    return run(network, day, force=force)


def _fingerprint(network: Network, day: Day) -> str:
    return daily.fingerprint(list(network.lake.entries(network.layout.bronze_day(day))))


def _is_long_over(day: Day) -> bool:
    """Return whether nothing looks back at a day's snapshots any more; see `KEPT_BINS`."""
    return first_bin(day_after(day)) + KEPT_BINS <= bin_of(clock.now())


def assemble(tables: Iterable[pa.Table]) -> pa.Table:
    """Unite validated tables of distinct bins, sorted by bin and station."""
    parts = [table for table in tables if table.num_rows]
    if not parts:
        return SCHEMA.empty_table()
    firsts = [bins_of(part["tbin_utc"])[0] for part in parts]
    ordered = pa.concat_tables([parts[i] for i in np.argsort(firsts, kind="stable")])
    bins = bins_of(ordered["tbin_utc"])
    if (np.diff(bins) < 0).any():  # only where an older daily fills holes between snapshots
        return ordered.sort_by([("tbin_utc", "ascending"), ("station_id", "ascending")])
    return ordered.combine_chunks()


def to_bytes(table: pa.Table) -> bytes:
    """Write rows sorted by bin and station, one row group a UTC hour; deterministic.

    The statistics of a row group give its hour, and the page index inside it its stations, so
    that a reader of one hour opens one group and a reader of one station skips pages.
    """
    sink = io.BytesIO()
    hours = bins_of(table["tbin_utc"]) // BINS_PER_HOUR
    edges = np.flatnonzero(np.diff(hours, prepend=-1, append=-1))
    sorting = pq.SortingColumn.from_ordering(
        table.schema, [("tbin_utc", "ascending"), ("station_id", "ascending")]
    )
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_index=True, sorting_columns=sorting
    ) as writer:
        for start, stop in itertools.pairwise(edges):
            writer.write_table(table.slice(start, stop - start))
    return sink.getvalue()


def _read_snapshots(
    lake: Lake, layout: Layout, day: Day, listing: Sequence[Entry], result: JobResult
) -> list[pa.Table]:
    """Read a day's objects; what cannot be read, or not wholly, goes to quarantine."""
    tables: list[pa.Table] = []
    result.counts.update(snapshots=len(listing), rows_in=0, quarantined=0)
    for entry, data in _contents(lake, listing):
        try:
            snapshot.check_size(entry)
            table, defects = snapshot.from_bytes(data, _bin_in(layout, day, entry.name))
        except (SnapshotError, ForeignNameError) as error:
            quarantine.keep_object(lake, layout, entry, str(error))
            result.counts["quarantined"] += 1
            continue
        if defects:
            quarantine.keep_object(lake, layout, entry, "some rows", defects)
            result.counts["quarantined"] += 1
        result.counts["rows_in"] += table.num_rows
        tables.append(table)
    return tables


def _contents(lake: Lake, listing: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Yield objects with their bytes, a few of which are in memory; unreadable ones are empty."""

    def read(entry: Entry) -> bytes:
        try:
            return lake.read_up_to(entry, snapshot.LIMITS.file_bytes)
        except UnreadableObjectError:
            return b""

    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(listing), READERS):
            some = listing[first : first + READERS]
            yield from zip(some, pool.map(read, some), strict=True)


def _bin_in(layout: Layout, day: Day, name: str) -> Bin:
    key = layout.key(name)
    if not isinstance(key, Snapshot) or day_of(key.bin) != day:
        raise ForeignNameError(name)
    return key.bin


def _with_rows_of_daily(
    lake: Lake, layout: Layout, daily: Entry, tables: Sequence[pa.Table], result: JobResult
) -> list[pa.Table]:
    """Return the tables of distinct bins that unite the snapshots with the existing daily.

    Of each station and bin the newest row stays, the snapshot's where both are of one instant. So
    no row is lost whose object is gone, and where all objects exist they alone decide.
    """
    held = _held(lake, layout, daily, result)
    bins = bins_of(held["tbin_utc"])
    united, others = [], np.ones(len(bins), bool)
    repeats, counts = collections.Counter[str](), collections.Counter[str]()
    gone = 0
    for part in tables:
        start, stop = np.searchsorted(bins, bins_of(part["tbin_utc"])[0] + np.arange(2))
        others[start:stop] = False
        same = held.slice(start, stop - start)
        if same.equals(part):
            repeats.subtract(snapshot.repeats_of(part))
            counts.subtract(defect_counts.counts_of(part))
        elif same.num_rows:
            merged = snapshot.merge(same.replace_schema_metadata(None), part)
            gone += merged.num_rows - part.num_rows
            reported = snapshot.with_repeats(merged, snapshot.repeats_of(part))
            part = defect_counts.with_counts(reported, defect_counts.counts_of(part))  # noqa: PLW2901
        united.append(part)
    kept = held.filter(pa.array(others))
    result.counts["rows_kept"] = kept.num_rows + gone
    if result.counts["rows_kept"]:
        # What was counted in the objects that are gone is what the others do not count themselves.
        repeats.update(snapshot.repeats_of(held))
        counts.update(defect_counts.counts_of(held))
        reported = snapshot.with_repeats(kept, +repeats)
        united.append(defect_counts.with_counts(reported, +counts))
    return united


def _held(lake: Lake, layout: Layout, daily: Entry, result: JobResult) -> pa.Table:
    """Return the rows of the existing daily; an unreadable one is copied to quarantine: none."""
    try:
        data = lake.read_up_to(daily, snapshot.DAY_LIMITS.file_bytes)
        return snapshot.daily_from_bytes(data)
    except (SnapshotError, UnreadableObjectError) as error:
        quarantine.keep_object(lake, layout, daily, f"unreadable daily: {error}")
        result.counts["quarantined"] += 1
        return SCHEMA.empty_table()


def _delete_verified(lake: Lake, layout: Layout, day: Day, result: JobResult) -> int:
    """Delete the snapshots that would change nothing in the daily, read back from the lake.

    Raises `StoreError` at the end where some could not be deleted: one that is held keeps no other.
    """
    entry = lake.stat(layout.name(Daily(day)))
    listing = list(lake.entries(layout.bronze_day(day)))
    if not listing or entry is None:
        return 0
    held = _held(lake, layout, entry, result)
    bins = bins_of(held["tbin_utc"])
    deleted, refused = 0, list[StoreError]()
    for found in listing:
        try:
            bin_ = _bin_in(layout, day, found.name)
            rows, defects = snapshot.read(lake, found, bin_)
        except (SnapshotError, ForeignNameError):
            continue
        start, stop = np.searchsorted(bins, [bin_, bin_ + 1])
        same = held.slice(start, stop - start)
        if not defects and snapshot.merge(same, rows).equals(same):
            try:
                lake.delete(found)
            except StoreError as error:
                refused.append(error)
                continue
            deleted += 1
    if refused:
        raise refused[0]
    return deleted
