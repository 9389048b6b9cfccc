"""Local time and days off, from the time zone database and the law."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo

from dateutil.easter import easter

FIXED = ((1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25))
"""French public holidays of a fixed date (month, day)."""

AFTER_EASTER = (1, 39, 50)
"""The others, in days after Easter Sunday: Easter Monday, Ascension, Whit Monday."""

SCHOOL_ZONE_C = (
    ("2024-10-19", "2024-11-04"),
    ("2024-12-21", "2025-01-06"),
    ("2025-02-15", "2025-03-03"),
    ("2025-04-12", "2025-04-28"),
    ("2025-07-05", "2025-09-01"),
    ("2025-10-18", "2025-11-03"),
    ("2025-12-20", "2026-01-05"),
)
"""First day off and first day of school again, 2024/25 and the start of 2025/26."""


def utc(t: int) -> dt.datetime:
    """The start of a bin."""
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=5 * t)


@functools.cache
def local(t: int, tz: str) -> dt.datetime:
    return utc(t).astimezone(zoneinfo.ZoneInfo(tz))


@functools.cache
def is_public_holiday(day: dt.date, tz: str) -> bool:
    """Of France, where the zone is Paris; no other country's are known here."""
    if tz != "Europe/Paris":
        raise ValueError(tz)
    if (day.month, day.day) in FIXED:
        return True
    return any(day == easter(day.year) + dt.timedelta(days=n) for n in AFTER_EASTER)


def is_school_holiday(day: dt.date) -> bool:
    return any(first <= day.isoformat() < again for first, again in SCHOOL_ZONE_C)


def days_to_day_off(day: dt.date, tz: str) -> int:
    ahead = 0
    while day.weekday() < 5 and not is_public_holiday(day, tz):
        day += dt.timedelta(days=1)
        ahead += 1
    return ahead


@functools.cache
def day_type(t: int, tz: str) -> int:
    """0 working day, 1 Saturday, 2 Sunday or public holiday."""
    day = local(t, tz).date()
    if day.weekday() == 6 or is_public_holiday(day, tz):
        return 2
    return 1 if day.weekday() == 5 else 0


@functools.cache
def minute_of_day(t: int, tz: str) -> int:
    at = local(t, tz)
    return 60 * at.hour + at.minute


def half_hour(t: int, tz: str) -> int:
    return minute_of_day(t, tz) // 30


def between_half_hours(t: int, tz: str) -> tuple[tuple[int, float], tuple[int, float]]:
    """The two half hours whose centres a bin's middle lies between, each with its weight."""
    middle = minute_of_day(t, tz) + 2.5
    before = 47 if middle < 15 else int((middle - 15) // 30)
    away = (middle - (15 + 30 * before)) % 1440
    return (before, 1 - away / 30), ((before + 1) % 48, away / 30)
