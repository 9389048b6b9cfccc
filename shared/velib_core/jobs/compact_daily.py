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
from velib_core.lake.bucket import PARQUET, Artefact
from velib_core.lake.keys import Daily, Snapshot
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.recipes import daily
from velib_core.tables import quarantine, snapshot
from velib_core.tables.panel import bins_of
from velib_core.tables.quarantine import Reject
from velib_core.tables.snapshot import SCHEMA, SnapshotError
from velib_core.timeline.bins import BINS_PER_HOUR, Bin, day_of, today

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry
    from velib_core.timeline.bins import Day

MAX_WAITS = 12
"""Late data that never pauses is compacted all the same after so many waits."""

READERS = 8
"""Parallel downloads: a day is 288 small objects, and each costs a round trip."""


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
            tables.append(_rows_of_other_bins(lake, layout, current, tables, result))
        repeats = collections.Counter[str]()
        for part in tables:
            repeats.update(snapshot.repeats_of(part))
        table = snapshot.with_repeats(assemble(tables), repeats)
        result.counts["rows_out"] = table.num_rows
        return Artefact(to_bytes(table), PARQUET, fingerprint)

    result.outputs[name] = lake.update(name, make, force=force)
    if network.settings.delete_after_compact and result.outputs[name] != "absent" and day < today():
        result.counts["deleted"] = _delete_verified(lake, layout, day)
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
    oversized = [entry for entry in listing if entry.size > snapshot.MAX_SNAPSHOT_BYTES]
    for entry in oversized:
        reason = f"{entry.size} bytes, at most {snapshot.MAX_SNAPSHOT_BYTES}"
        quarantine.keep(lake, layout, Reject(entry.name, None, reason))
    result.counts["quarantined"] += len(oversized)
    readable = [entry for entry in listing if entry not in oversized]
    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(lake.read, readable))
    for entry, data in zip(readable, contents, strict=True):
        try:
            table, defects = snapshot.from_bytes(data, _bin_in(layout, day, entry.name))
        except (SnapshotError, ForeignNameError) as error:
            quarantine.keep(lake, layout, Reject(entry.name, data, str(error)))
            result.counts["quarantined"] += 1
            continue
        if defects:
            quarantine.keep(lake, layout, Reject(entry.name, data, "some rows", defects))
            result.counts["quarantined"] += 1
        result.counts["rows_in"] += table.num_rows
        tables.append(table)
    return tables


def _bin_in(layout: Layout, day: Day, name: str) -> Bin:
    key = layout.key(name)
    if not isinstance(key, Snapshot) or day_of(key.bin) != day:
        raise ForeignNameError(name)
    return key.bin


def _rows_of_other_bins(
    lake: Lake, layout: Layout, daily: Entry, tables: Sequence[pa.Table], result: JobResult
) -> pa.Table:
    """Return the existing daily's rows of bins that no readable snapshot object covers."""
    data = lake.read(daily)
    try:
        held = pq.read_table(io.BytesIO(data))
        table, _ = snapshot.validate(held)
    except (pa.ArrowException, OSError, ValueError, SnapshotError) as error:
        quarantine.keep(lake, layout, Reject(daily.name, data, f"unreadable daily: {error}"))
        result.counts["quarantined"] += 1
        return SCHEMA.empty_table()
    parts = [part for part in tables if part.num_rows]
    kept = ~np.isin(bins_of(table["tbin_utc"]), [bins_of(part["tbin_utc"])[0] for part in parts])
    result.counts["rows_kept"] = int(kept.sum())
    repeats = collections.Counter[str]()
    if kept.any():
        # What was counted in the bins that are gone is what the others do not count themselves.
        repeats.update(snapshot.repeats_of(held))
        for part in parts:
            if _holds(table, part):
                repeats.subtract(snapshot.repeats_of(part))
    return snapshot.with_repeats(table.filter(pa.array(kept)), +repeats)


def _holds(daily: pa.Table, rows: pa.Table) -> bool:
    """Return whether a daily's rows of a bin are just these."""
    bin_ = bins_of(rows["tbin_utc"])[0]
    start, stop = np.searchsorted(bins_of(daily["tbin_utc"]), [bin_, bin_ + 1])
    return bool(daily.slice(start, stop - start).equals(rows))


def _delete_verified(lake: Lake, layout: Layout, day: Day) -> int:
    """Delete the snapshots all of whose rows the daily, read back, is found to hold."""
    listing = list(lake.entries(layout.bronze_day(day)))
    if not listing:
        return 0
    _, data = lake.fetch(layout.name(Daily(day)))
    daily = pq.read_table(io.BytesIO(data))
    deleted = 0
    for entry in listing:
        try:
            bin_ = _bin_in(layout, day, entry.name)
            rows, defects = snapshot.from_bytes(lake.read(entry), bin_)
        except (SnapshotError, ForeignNameError):
            continue
        if rows.num_rows and not defects and _holds(daily, rows):
            lake.delete(entry)
            deleted += 1
    return deleted
