"""The time grid: 5-minute bins in UTC, the days they make, and horizons in either unit.

A bin is the number of whole 5-minute steps since 1970-01-01T00:00Z, so that arithmetic on time
is arithmetic on integers and a hole in the data stays a hole. Stored stamps are naive UTC.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NewType

BIN_MINUTES = 5
BIN_SECONDS = BIN_MINUTES * 60
BINS_PER_HOUR = 60 // BIN_MINUTES
BINS_PER_DAY = 24 * BINS_PER_HOUR

Bin = NewType("Bin", int)
"""A 5-minute bin: ``floor(unix seconds / 300)``."""

HorizonBins = NewType("HorizonBins", int)
"""How far ahead a forecast looks, in bins (3 or 12). What code passes around."""

HorizonMinutes = NewType("HorizonMinutes", int)
"""The same in minutes (15 or 60). What people and object names see."""

Day = NewType("Day", dt.date)
"""A UTC calendar day."""

YEARS = range(2000, 2200)
"""In which observations can have been made."""

_DAY_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}")


def horizon_bins(minutes: HorizonMinutes) -> HorizonBins:
    """Convert a horizon to bins; raise ``ValueError`` where it is not a positive multiple of 5."""
    if minutes <= 0 or minutes % BIN_MINUTES:
        raise ValueError(f"horizon {minutes} min is not a positive multiple of {BIN_MINUTES} min")
    return HorizonBins(minutes // BIN_MINUTES)


def horizon_minutes(bins: HorizonBins) -> HorizonMinutes:
    """Convert a horizon to minutes."""
    return HorizonMinutes(bins * BIN_MINUTES)


def bin_of(instant: dt.datetime) -> Bin:
    """Return the bin that holds an instant (aware, or naive UTC)."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
    return Bin(int(aware.timestamp() // BIN_SECONDS))


def bin_start(bin_: Bin) -> dt.datetime:
    """Return the first instant of a bin, aware in UTC."""
    return dt.datetime.fromtimestamp(bin_ * BIN_SECONDS, dt.UTC)


def day_of(bin_: Bin) -> Day:
    """Return the UTC day that a bin belongs to."""
    return Day(bin_start(bin_).date())


def first_bin(day: Day) -> Bin:
    """Return the bin that starts at 00:00 UTC of a day."""
    return Bin((day.toordinal() - dt.date(1970, 1, 1).toordinal()) * BINS_PER_DAY)


def day_after(day: dt.date, days: int = 1) -> Day:
    """Return the day so many days later (earlier when negative)."""
    return Day(day + dt.timedelta(days=days))


def today() -> Day:
    """Return the UTC day that this machine's clock shows."""
    return Day(dt.datetime.now(dt.UTC).date())


def parse_day(text: str) -> Day:
    """Parse ``YYYY-MM-DD``; raise ``ValueError`` for anything else, other ISO forms included.

    Days before or after `YEARS` are none: nothing was observed then, and of those at either end of
    the calendar nobody can ask for the day before or after.
    """
    if not _DAY_PATTERN.fullmatch(text):
        raise ValueError(f"{text!r} is not a day, expected YYYY-MM-DD")
    day = Day(dt.date.fromisoformat(text))
    if day.year not in YEARS:
        raise ValueError(f"{text} is not a day of the years {YEARS.start} to {YEARS.stop - 1}")
    return day


def iso_z(instant: dt.datetime) -> str:
    """Format an instant as ISO 8601 in UTC, to the second, ending in ``Z``."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
    return aware.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
