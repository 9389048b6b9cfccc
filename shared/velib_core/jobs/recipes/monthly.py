"""What a monthly is made from: all dailies of its month, once the month is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.keys import Daily
from velib_core.lake.layout import month_days

if TYPE_CHECKING:
    from collections.abc import Sequence

    from velib_core.lake.keys import Month
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake

RECIPE = "compact_monthly 1"


def fingerprint(parts: Sequence[Entry]) -> str:
    """Return the fingerprint that a monthly of these dailies must carry."""
    return fingerprint_of(RECIPE, parts)


def inputs(lake: ReadableLake, layout: Layout, month: Month) -> list[Entry]:
    """Return the dailies of a month in order, or nothing where it is not complete."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.daily}/")}
    dailies = layout.by_day(Daily, entries)
    days = month_days(month)
    if not dailies or max(dailies) < days[-1]:
        return []
    return [entries[dailies[day]] for day in days if day in dailies]


def is_stale(lake: ReadableLake, layout: Layout, month: Month, monthly: Entry | None) -> bool:
    """Return whether a complete month has dailies that its file was not made from."""
    parts = inputs(lake, layout, month)
    if not parts:
        return False
    return monthly is None or monthly.fingerprint != fingerprint(parts)
