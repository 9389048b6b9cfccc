"""When a status file was made, by the evidence: its stamp, its reports, the clock of the poll.

A stamp is accepted if nothing contradicts it. One that its own records contradict (they are
newer: nobody maintains it), or that lies in the future or weeks back, is a defect of the feed, and
the time of the poll takes its place. Local time written as UTC is put right, for the reports too.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velib_core.tables.defects import Defect

if TYPE_CHECKING:
    from numpy.typing import NDArray

AHEAD = dt.timedelta(minutes=5)
"""Clocks differ by so much: a stamp, a report or a server's clock may run ahead by no more."""

MAX_BEHIND = dt.timedelta(days=7)
"""An older stamp is a field that nobody maintains rather than a frozen feed."""

LARGEST_OFFSET = dt.timedelta(hours=14)
"""Of local time from UTC, https://www.iana.org/time-zones."""

_HALF_HOUR = dt.timedelta(minutes=30)
_FRESH = dt.timedelta(minutes=10)
_ODD_CLOCKS = 0.02
"""Share of stations whose clocks may be wrong; their reports are no evidence."""


class Observed(NamedTuple):
    """When a status file was made.

    ``at`` is aware UTC to the second; ``by_stamp`` says whether it is the feed's own stamp.
    ``shift`` is to be taken off the stations' reports; ``latest`` is the latest that a report can
    be once it is. ``defects`` are those of the feed's stamp.
    """

    at: dt.datetime
    by_stamp: bool
    shift: dt.timedelta
    latest: dt.datetime
    defects: tuple[Defect, ...] = ()


def poll_time(clock: dt.datetime, date: dt.datetime | None) -> dt.datetime:
    """Return when a feed was polled: by its server's clock where ours is about the same."""
    return date if date is not None and abs(date - clock) <= AHEAD else clock


def observed_at(
    stamp: dt.datetime | None, reports: NDArray[np.float64], polled: dt.datetime, tz: str
) -> Observed:
    """Return when a status file was made.

    Parameters
    ----------
    stamp
        What the file says (aware UTC), if anything.
    reports
        When the stations reported, POSIX seconds, NaN where unknown.
    polled
        The clock of the poll (aware UTC).
    tz
        The network's zone: the offset that a feed in local time may be behind UTC.

    """
    polled = polled.replace(microsecond=0)
    latest = polled + AHEAD
    offset = dt.timedelta() if stamp is None else _offset(stamp, polled, tz)
    shift = _shift_of_reports(reports, offset, polled, tz)
    true_reports = reports - shift.total_seconds()
    newest = newest_report(true_reports[true_reports <= latest.timestamp()])

    def verdict(at: dt.datetime, wrong: str, *, by_stamp: bool) -> Observed:
        said = None if stamp is None else stamp.isoformat()
        found = {"last_updated": (said, wrong)}
        if shift and shift != offset:
            found["last_reported"] = ("every report", f"UTC; they are {shift} from it")
        defects = [
            Defect(None, field, value, expected, refused=False)
            for field, (value, expected) in found.items()
            if expected
        ]
        return Observed(at.replace(microsecond=0), by_stamp, shift, latest, tuple(defects))

    if stamp is None:
        return verdict(polled, "", by_stamp=False)
    made = stamp - offset
    if made > latest or made < polled - MAX_BEHIND:
        wrong = f"within {MAX_BEHIND.days} days of the poll at {polled:%FT%TZ}"
        return verdict(polled, wrong, by_stamp=False)
    if newest is not None and newest > made + AHEAD:
        wrong = f"no earlier than the stations' reports, {newest:%FT%TZ}"
        return verdict(polled, wrong, by_stamp=False)
    return verdict(made, f"UTC; it is {offset} from it" if offset else "", by_stamp=True)


def newest_report(reports: NDArray[np.float64]) -> dt.datetime | None:
    """Return the newest report but for the few of stations whose clocks may be wrong."""
    known = np.sort(reports[np.isfinite(reports)])
    if not len(known):
        return None
    return dt.datetime.fromtimestamp(known[-1 - int(len(known) * _ODD_CLOCKS)], dt.UTC)


def _offset(time: dt.datetime, polled: dt.datetime, tz: str) -> dt.timedelta:
    """Return how far a time that should be now is from UTC where it is local time, else 0.

    Ahead of UTC, any offset of half hours is accepted: no true time lies in the future. Behind
    it, only the network's own offset is, since a frozen feed is behind by any.
    """
    if time > polled + AHEAD:
        offset = round((time - polled) / _HALF_HOUR) * _HALF_HOUR
    else:
        local = polled.astimezone(zoneinfo.ZoneInfo(tz))
        offset = min(local.utcoffset() or dt.timedelta(), dt.timedelta())
    fits = abs(offset) <= LARGEST_OFFSET and abs(time - offset - polled) <= AHEAD
    return offset if fits else dt.timedelta()


def _shift_of_reports(
    reports: NDArray[np.float64], of_stamp: dt.timedelta, polled: dt.datetime, tz: str
) -> dt.timedelta:
    """Return what is to be taken off the reports: their own offset, else that of the stamp."""
    newest = newest_report(reports)
    if newest is None:
        return dt.timedelta()
    own = _offset(newest, polled, tz)
    if own:
        return own if _are_of(reports, newest, polled) else dt.timedelta()
    future = newest > polled + AHEAD
    return of_stamp if future and newest - of_stamp <= polled + AHEAD else dt.timedelta()


def _are_of(reports: NDArray[np.float64], newest: dt.datetime, polled: dt.datetime) -> bool:
    """Return whether the fresh reports are those near the newest one, and not those near now.

    Where more stations have just reported by the true time, the newest are of a few wrong clocks.
    """

    def fresh(at: dt.datetime) -> int:
        return int((np.abs(reports - at.timestamp()) <= _FRESH.total_seconds()).sum())

    return fresh(newest) > fresh(polled)
