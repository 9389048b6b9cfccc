"""Which snapshot is the newest: for what follows it, and not the day's close."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING, NamedTuple

from velib_core import logs
from velib_core.tables.history import (
    listed_between,
    recent_entries,
    snapshot_entries,
    snapshots_between,
)
from velib_core.timeline import clock
from velib_core.timeline.bins import Bin, bin_of, day_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.tables.history import SnapshotReader
    from velib_core.timeline.bins import Day


AHEAD = dt.timedelta(minutes=10)
"""Ingestion files nothing later than 5 minutes after its clock; ours may be behind by as much."""


class Newest(NamedTuple):
    """The bin of the newest snapshot and its object."""

    bin: Bin
    entry: Entry


def newest_snapshot(lake: ReadableLake, layout: Layout, since: Bin | None = None) -> Newest | None:
    """Return the newest snapshot, ``None`` where there is none yet.

    ``since`` is a bin after which few have come: only those are listed, if there are any.
    """
    if since is not None:
        come = snapshots_between(lake, layout, since, end_of_observations())
        if come:
            newest = max(come)
            return Newest(newest, come[newest])
    return next(_newest_first(lake, layout), None)


def is_overtaken(lake: ReadableLake, arrived: Bin | None, reader: SnapshotReader) -> bool:
    """Return whether a reader knows of a newer snapshot than the one that arrived.

    It must still be there, which takes one look; `recent_snapshots` takes a list. Events of a
    history that is copied into a running network are answered so. False where none is known.
    """
    if arrived is None or reader.newest is None:
        return False
    bin_, entry = reader.newest
    return arrived < bin_ and lake.stat(entry.name) == entry


def still_newest(
    lake: ReadableLake, layout: Layout, arrived: Bin | None, reader: SnapshotReader
) -> Newest | None:
    """Return the snapshot that arrived, ``None`` where a newer one is there or it is gone.

    Where none arrived, the newest. An unreadable snapshot is passed over, whichever it is: it is
    neither the newest nor does it hold back the one that is.
    """
    recent = recent_snapshots(lake, layout, arrived, lambda _: 1, reader)
    return Newest(*recent.popitem()) if recent else None


def recent_snapshots(
    lake: ReadableLake,
    layout: Layout,
    arrived: Bin | None,
    bins_of: Callable[[Bin], int],
    reader: SnapshotReader | None = None,
) -> dict[Bin, Entry]:
    """Return the snapshots of the last bins through the one that arrived, in order.

    Empty where a newer one is there or it is gone. That is one call to the store, however late
    the event is: it asks for one object more than there may be, and the first newer one ends it.
    Where none arrived, the newest counts.

    Parameters
    ----------
    lake, layout
        Where the snapshots are.
    arrived
        The bin of the snapshot that an event is about, if it is about one.
    bins_of
        How many bins to return, from the newest one.
    reader
        Reads what may be the newest, to pass over the unreadable; without, every object counts.

    """

    def counts(found: Newest) -> bool:
        if reader is None:
            return True
        readable = reader.table(lake, found.bin, found.entry) is not None
        if readable and (reader.newest is None or reader.newest[0] <= found.bin):
            reader.newest = found
        return readable

    if arrived is None:
        newest = next(filter(counts, _newest_first(lake, layout)), None)
        if newest is None:
            return {}
        return recent_entries(lake, layout, newest.bin, bins_of(newest.bin))
    recent: dict[Bin, Entry] = {}
    bins = bins_of(arrived)
    listed = listed_between(
        lake, layout, Bin(arrived - bins + 1), end_of_observations(), page=bins + 1
    )
    for found in itertools.starmap(Newest, listed):
        if found.bin <= arrived:
            recent[found.bin] = found.entry
        elif counts(found):
            return {}
    return recent if arrived in recent and counts(Newest(arrived, recent[arrived])) else {}


def _newest_first(lake: ReadableLake, layout: Layout) -> Iterator[Newest]:
    """Yield every snapshot, the newest first; a day is listed when it is its turn."""
    end = end_of_observations()
    for day in reversed(observed_days(lake, layout)):
        entries = snapshot_entries(lake, layout, day)
        yield from _descending({bin_: entries[bin_] for bin_ in entries if bin_ < end})


def _descending(entries: dict[Bin, Entry]) -> Iterator[Newest]:
    return (Newest(bin_, entries[bin_]) for bin_ in sorted(entries, reverse=True))


def end_of_observations() -> Bin:
    """Return the first bin that no snapshot can be of by the clock; what is later is ignored."""
    return Bin(bin_of(clock.now() + AHEAD) + 1)


def observed_days(lake: ReadableLake, layout: Layout) -> list[Day]:
    """Return the days that have snapshots, in order.

    A folder of a day that has not begun by the clock cannot be an observation; it is left out,
    since it would close every day before it.
    """
    last = day_of(Bin(end_of_observations() - 1))
    days = layout.days_of_folders(lake.folders(f"{layout.bronze}/"))
    future = [day for day in days if day > last]
    if future:
        logs.log("WARNING", "snapshots of the future are ignored", days=[str(d) for d in future])
    return [day for day in days if day <= last]
