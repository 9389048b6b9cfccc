"""Which snapshot is the newest: for what follows it, and not the day's close."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, NamedTuple

from velib_core import logs
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.tables.history import snapshot_entries, snapshots_between
from velib_core.timeline import clock
from velib_core.timeline.bins import Bin, bin_of, day_of

if TYPE_CHECKING:
    from velib_core.lake.readable import Entry, ReadableLake
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
        come = snapshots_between(lake, layout, since, _end())
        if come:
            newest = max(come)
            return Newest(newest, come[newest])
    end = _end()
    for day in reversed(observed_days(lake, layout)):
        entries = snapshot_entries(lake, layout, day)
        past = [bin_ for bin_ in entries if bin_ < end]
        if past:
            newest = max(past)
            return Newest(newest, entries[newest])
    return None


def still_newest(lake: ReadableLake, layout: Layout, arrived: Bin | None) -> Newest | None:
    """Return the snapshot that arrived, ``None`` where it is not the newest or is gone.

    That is one call to the store, however late the event is. Where none arrived, the newest.
    """
    if arrived is None:
        return newest_snapshot(lake, layout)
    end = _end()
    if arrived >= end:
        return None
    found = None
    names = layout.name(Snapshot(arrived)), layout.name(Snapshot(end))
    for entry in lake.entries(f"{layout.bronze}/", *names):
        try:
            key = layout.key(entry.name)
        except ForeignNameError:
            continue
        if key != Snapshot(arrived):
            return None
        found = Newest(arrived, entry)
    return found


def _end() -> Bin:
    """Return the first bin that no snapshot can be of by the clock; what is later is ignored."""
    return Bin(bin_of(clock.now() + AHEAD) + 1)


def observed_days(lake: ReadableLake, layout: Layout) -> list[Day]:
    """Return the days that have snapshots, in order.

    A folder of a day that has not begun by the clock cannot be an observation; it is left out,
    since it would close every day before it.
    """
    last = day_of(Bin(_end() - 1))
    days = layout.days_of_folders(lake.folders(f"{layout.bronze}/"))
    future = [day for day in days if day > last]
    if future:
        logs.log("WARNING", "snapshots of the future are ignored", days=[str(d) for d in future])
    return [day for day in days if day <= last]
