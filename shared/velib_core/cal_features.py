"""Calendar features: what a bin's instant means to the people of the city.

The clock is UTC where the older feature names say so and local where people's habits follow it.
A network's local time comes from its IANA zone, so both DST changes fall where they fall.
"""

from __future__ import annotations

import bisect
import datetime as dt
import functools
import importlib.resources
import math
import re
import zoneinfo
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velib_core.grid import BIN_MINUTES, BIN_SECONDS, BINS_PER_DAY, BINS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SLOTS_PER_DAY = 48
"""Half hours of the local day."""

DAY_TYPES = 3
"""Working day, Saturday, Sunday; a public holiday counts as a Sunday."""

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


class LocalTimes(NamedTuple):
    """Local time of each bin, all ``int64[n]``.

    ``minute`` of the local day (0…1439), ``day`` as a proleptic ordinal, ``dow`` with Monday 0,
    ``day_type`` in ``range(DAY_TYPES)``, ``holiday`` 1 on a public holiday.
    """

    minute: NDArray[np.int64]
    day: NDArray[np.int64]
    dow: NDArray[np.int64]
    day_type: NDArray[np.int64]
    holiday: NDArray[np.int64]


def local_times(bins: NDArray[np.int64], tz: str) -> LocalTimes:
    """Return the local time of each bin of ``bins`` in the IANA zone ``tz``.

    Raises ``zoneinfo.ZoneInfoNotFoundError`` for an unknown zone.
    """
    bins = np.asarray(bins, np.int64)
    # Every offset of the last half century is constant over a UTC half hour.
    steps, inverse = np.unique(bins // (BINS_PER_HOUR // 2), return_inverse=True)
    offsets = np.array([_offset_minutes(int(step) * 1800, tz) for step in steps], np.int64)
    local = bins * BIN_MINUTES + offsets[inverse]
    days_since_epoch, minute = np.divmod(local, 24 * 60)
    day = days_since_epoch + dt.date(1970, 1, 1).toordinal()
    dow = (day - 1) % 7
    days, day_index = np.unique(day, return_inverse=True)
    is_holiday = np.array([_is_public_holiday(int(d), country_of(tz)) for d in days], np.int64)
    holiday = is_holiday[day_index]
    day_type = np.where(holiday == 1, 2, np.maximum(dow - 4, 0))
    return LocalTimes(minute, day, dow, day_type, holiday)


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


def slot_weights(
    local: LocalTimes,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the two half-hour slots whose centres enclose each bin, and the second's weight.

    A quantity known per slot is read at a bin by linear interpolation between slot centres.
    """
    width = 24 * 60 // SLOTS_PER_DAY
    position = (local.minute + BIN_MINUTES / 2) / width - 0.5
    first = np.floor(position).astype(np.int64)
    return first % SLOTS_PER_DAY, (first + 1) % SLOTS_PER_DAY, position - first


def slot_of(local: LocalTimes) -> NDArray[np.int64]:
    """Return the half-hour slot of the local day that holds each bin, ``int64[n]``."""
    return local.minute * SLOTS_PER_DAY // (24 * 60)


@functools.cache
def country_of(tz: str) -> str | None:
    """Return the ISO 3166 code of the first country that uses a zone, ``None`` if it has none.

    Source: ``zone1970.tab`` of the IANA time zone database.
    """
    return next((row.country for row in _zones() if row.tz == tz), None)


def nearest_zone(lat: float, lon: float) -> str:
    """Return the zone whose principal place is nearest by great circle.

    A network that does not say its zone is still slotted by its own clock and DST rules: near a
    border the nearest place may belong to the neighbour, whose rules then mostly agree.
    Source of the places: ``zone1970.tab`` of the IANA time zone database.
    """
    zones = _zones()
    phi, lam = np.radians([z.lat for z in zones]), np.radians([z.lon for z in zones])
    here, there = math.radians(lat), math.radians(lon)
    closeness = np.sin(here) * np.sin(phi) + np.cos(here) * np.cos(phi) * np.cos(lam - there)
    return zones[int(np.argmax(closeness))].tz


class _Zone(NamedTuple):
    country: str
    lat: float
    lon: float
    tz: str


_PLACE = re.compile(r"([+-])(\d{2})(\d{2})(\d{2})?([+-])(\d{3})(\d{2})(\d{2})?")


@functools.cache
def _zones() -> tuple[_Zone, ...]:
    table = importlib.resources.files("tzdata.zoneinfo").joinpath("zone1970.tab").read_text("utf-8")
    zones = []
    for line in table.splitlines():
        if line.startswith("#"):
            continue
        countries, place, tz = line.split("\t")[:3]
        match = _PLACE.fullmatch(place)
        if match is None:
            raise ValueError(f"zone1970.tab places {tz} at {place!r}")
        lat, lon = (_degrees(*match.groups()[part : part + 4]) for part in (0, 4))
        zones.append(_Zone(countries.split(",")[0], lat, lon, tz))
    return tuple(zones)


def _degrees(sign: str, degrees: str, minutes: str, seconds: str | None) -> float:
    size = int(degrees) + int(minutes) / 60 + int(seconds or 0) / 3600
    return -size if sign == "-" else size


@functools.lru_cache(maxsize=8192)
def _offset_minutes(unix_seconds: int, tz: str) -> int:
    instant = dt.datetime.fromtimestamp(unix_seconds, zoneinfo.ZoneInfo(tz))
    return int((instant.utcoffset() or dt.timedelta()).total_seconds() // 60)


@functools.cache
def _public_holidays(country: str, year: int) -> Mapping[dt.date, str]:
    import holidays  # noqa: PLC0415 -- a tenth of a second that ingestion need not pay

    try:
        return holidays.country_holidays(country, years=year)
    except NotImplementedError:
        return {}


@functools.lru_cache(maxsize=8192)
def _is_public_holiday(ordinal: int, country: str | None) -> bool:
    date = dt.date.fromordinal(ordinal)
    return country is not None and date in _public_holidays(country, date.year)


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
