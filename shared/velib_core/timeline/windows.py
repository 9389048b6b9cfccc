"""Local calendar windows on the UTC grid.

A day of metrics is a day as people live it: from one local midnight to the next, 23 or 25 hours
long where the clocks change. Windows are half-open, ``[start, stop)`` in bins.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING

import numpy as np

from velib_core.timeline.bins import Bin, Day, bin_of, bin_start, day_after, day_of, iso_z
from velib_core.timeline.local_time import LocalTimes, local_times

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class LocalDays:
    """Consecutive local days of an IANA zone.

    ``edges`` are the bins at which the days start, and the bin at which the last one ends:
    one more than there are days.
    """

    tz: str
    days: tuple[dt.date, ...]
    edges: tuple[Bin, ...]

    @property
    def start(self) -> Bin:
        """The first bin."""
        return self.edges[0]

    @property
    def stop(self) -> Bin:
        """The first bin after the window."""
        return self.edges[-1]

    @property
    def bins(self) -> int:
        """How many bins the window has."""
        return self.stop - self.start

    def utc_days(self) -> list[Day]:
        """Return the UTC days that the window touches, in order: which day files to read."""
        first, last = day_of(self.start), day_of(Bin(max(self.stop - 1, self.start)))
        return [day_after(first, n) for n in range((last - first).days + 1)]

    def local(self) -> LocalTimes:
        """Return the local time of each bin."""
        return local_times(np.arange(self.start, self.stop), self.tz)

    def days_with(self, seen: NDArray[np.bool_]) -> int:
        """Return on how many days something holds at all, of ``bool[bins, S]``."""
        starts = [edge - self.start for edge in self.edges[:-1]]
        return int(np.logical_or.reduceat(np.any(seen, axis=1), starts).sum())

    def as_json(self) -> dict[str, object]:
        """Return the window for a manifest: start included, end excluded, local dates."""
        return {
            "start_utc": iso_z(bin_start(self.start)),
            "end_utc": iso_z(bin_start(self.stop)),
            "first_day_local": self.days[0].isoformat(),
            "last_day_local": self.days[-1].isoformat(),
            "days": len(self.days),
        }


def local_midnight(date: dt.date, tz: str) -> Bin:
    """Return the bin at which a local day starts; the first of two midnights if there are two."""
    return bin_of(dt.datetime.combine(date, dt.time(), zoneinfo.ZoneInfo(tz)))


def local_date(instant: dt.datetime, tz: str) -> dt.date:
    """Return the local date of an instant (aware, or naive UTC)."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
    return aware.astimezone(zoneinfo.ZoneInfo(tz)).date()


def days_from(first: dt.date, count: int, tz: str) -> LocalDays:
    """Return so many whole local days from a date on; raise ``ValueError`` for none."""
    if count < 1:
        raise ValueError(f"a window has at least 1 day, not {count}")
    days = tuple(first + dt.timedelta(days=n) for n in range(count + 1))
    return LocalDays(tz, days[:-1], tuple(local_midnight(day, tz) for day in days))


def complete_days(as_of: dt.datetime, count: int, tz: str) -> LocalDays:
    """Return the complete local days J−count … J−1, where J is the local date of ``as_of``."""
    return days_from(local_date(as_of, tz) - dt.timedelta(days=count), count, tz)


def days_before(window: LocalDays, count: int) -> LocalDays:
    """Return so many whole local days that end where a window starts."""
    return days_from(window.days[0] - dt.timedelta(days=count), count, window.tz)


def today_so_far(as_of: dt.datetime, tz: str) -> LocalDays:
    """Return the local day of ``as_of`` up to and with the bin that holds it."""
    today = local_date(as_of, tz)
    return LocalDays(tz, (today,), (local_midnight(today, tz), Bin(bin_of(as_of) + 1)))


def share_of_history(
    as_of: dt.datetime, first_day: dt.date, days: int, reference_days: int, tz: str
) -> tuple[int, int]:
    """Return how many days to compare with how many before them, where history is short.

    As many as asked for once there are so many complete local days since ``first_day``; until
    then both shrink in proportion, each to at least one day, so that a young network is compared
    with what little past it has.
    """
    history = max((local_date(as_of, tz) - first_day).days, 2)
    if history >= days + reference_days:
        return days, reference_days
    current = min(max(round(history * days / (days + reference_days)), 1), history - 1)
    return current, history - current
