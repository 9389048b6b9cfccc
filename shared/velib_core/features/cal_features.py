"""Calendar features: what a bin's instant means to the people of the city.

The clock is UTC where the older feature names say so and local where people's habits follow it.
A network's local time comes from its IANA zone, so both DST changes fall where they fall.
"""

from __future__ import annotations

import bisect
import datetime as dt
import math
from typing import TYPE_CHECKING

import numpy as np

from velib_core.timeline.bins import BIN_MINUTES, BIN_SECONDS, BINS_PER_DAY
from velib_core.timeline.local_time import _is_public_holiday, country_of, local_times

if TYPE_CHECKING:
    from numpy.typing import NDArray


CALENDAR_FEATURES = (
    "hour",
    "minute",
    "dow",
    "month",
    "is_weekend",
    "hod_sin",
    "hod_cos",
    "dow_sin",
    "dow_cos",
    "paris_hour",
    "paris_dow",
    "paris_is_we",
)
"""The contract's calendar features: the first nine in UTC, ``paris_*`` in the network's zone."""

LOCAL_CALENDAR_FEATURES = (
    "local_minute_of_day",
    "is_public_holiday",
    "is_school_holiday",
    "days_to_day_off",
)
"""Local calendar features beyond the contract."""

_ZONE_C = (
    ("2023-10-21", "2023-11-06"),
    ("2023-12-23", "2024-01-08"),
    ("2024-02-10", "2024-02-26"),
    ("2024-04-06", "2024-04-22"),
    ("2024-07-06", "2024-09-02"),
    ("2024-10-19", "2024-11-04"),
    ("2024-12-21", "2025-01-06"),
    ("2025-02-15", "2025-03-03"),
    ("2025-04-12", "2025-04-28"),
    ("2025-07-05", "2025-09-01"),
    ("2025-10-18", "2025-11-03"),
    ("2025-12-20", "2026-01-05"),
    ("2026-02-21", "2026-03-09"),
    ("2026-04-18", "2026-05-04"),
    ("2026-07-04", "2026-09-01"),
    ("2026-10-17", "2026-11-02"),
    ("2026-12-19", "2027-01-04"),
    ("2027-02-06", "2027-02-22"),
    ("2027-04-03", "2027-04-19"),
    ("2027-07-03", "2027-09-01"),
)
"""French school holidays of zone C (Paris): first day off, first day of school again.
Source: Ministère de l'Éducation nationale, education.gouv.fr/calendrier-scolaire-100148."""

SCHOOL_HOLIDAYS_WARNING_DAYS = 180
"""So many days before the table of school holidays ends each training warns of it."""


def school_holidays_end(day: dt.date, tz: str) -> dt.date | None:
    """Return the end of the table of school holidays if it is near or over, else ``None``."""
    end = dt.date.fromisoformat(_ZONE_C[-1][1])
    warned = (end - day).days <= SCHOOL_HOLIDAYS_WARNING_DAYS
    return end if tz == "Europe/Paris" and warned else None


def calendar_features(bins: NDArray[np.int64], tz: str) -> dict[str, NDArray[np.float32]]:
    """Return `CALENDAR_FEATURES` and `LOCAL_CALENDAR_FEATURES` of each bin, ``float32[n]`` each.

    ``days_to_day_off`` counts from the local day to the next Saturday, Sunday or public holiday
    (0 on one). School holidays are those of zone C in ``Europe/Paris`` and NaN elsewhere, or
    where the table ends.
    """
    bins = np.asarray(bins, np.int64)
    day, bin_of_day = np.divmod(bins, BINS_PER_DAY)
    minutes = bin_of_day * BIN_MINUTES
    dow = (day + 3) % 7  # 1970-01-01 was a Thursday
    months = (bins * BIN_SECONDS).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    angle_day, angle_week = 2 * math.pi * minutes / 1440, 2 * math.pi * dow / 7
    local = local_times(bins, tz)
    days, day_index = np.unique(local.day, return_inverse=True)
    country = country_of(tz)
    off = np.array([_days_to_day_off(int(d), country) for d in days])
    school = np.array([_is_school_holiday(int(d), tz) for d in days])
    columns = {
        "hour": minutes // 60,
        "minute": minutes % 60,
        "dow": dow,
        "month": months % 12 + 1,
        "is_weekend": dow >= 5,
        "hod_sin": np.sin(angle_day),
        "hod_cos": np.cos(angle_day),
        "dow_sin": np.sin(angle_week),
        "dow_cos": np.cos(angle_week),
        "paris_hour": local.minute // 60,
        "paris_dow": local.dow,
        "paris_is_we": local.dow >= 5,
        "local_minute_of_day": local.minute,
        "is_public_holiday": local.holiday,
        "is_school_holiday": school[day_index],
        "days_to_day_off": off[day_index],
    }
    return {name: np.asarray(column, np.float32) for name, column in columns.items()}


def _days_to_day_off(ordinal: int, country: str | None) -> int:
    return next(
        ahead
        for ahead in range(7)
        if (ordinal + ahead - 1) % 7 >= 5 or _is_public_holiday(ordinal + ahead, country)
    )


def _is_school_holiday(ordinal: int, tz: str) -> float:
    day = dt.date.fromordinal(ordinal).isoformat()
    if tz != "Europe/Paris" or not _ZONE_C[0][0] <= day < _ZONE_C[-1][1]:
        return math.nan
    started = bisect.bisect_right(_ZONE_C, (day, "9999"))
    return float(started > 0 and day < _ZONE_C[started - 1][1])
