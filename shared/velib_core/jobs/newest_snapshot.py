"""Which snapshot is the newest: for what follows it, and not the day's close."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from velib_core.jobs.close_day import observed_days
from velib_core.jobs.history import snapshot_entries

if TYPE_CHECKING:
    from velib_core.grid import Bin
    from velib_core.lake import Entry, Lake
    from velib_core.layout import Layout


class Newest(NamedTuple):
    """The bin of the newest snapshot and its object."""

    bin: Bin
    entry: Entry


def newest_snapshot(lake: Lake, layout: Layout) -> Newest | None:
    """Return the newest snapshot, ``None`` where there is none yet."""
    for day in reversed(observed_days(lake, layout)):
        entries = snapshot_entries(lake, layout, day)
        if entries:
            newest = max(entries)
            return Newest(newest, entries[newest])
    return None
