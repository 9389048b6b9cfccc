"""Bins → local time of day, day type and public holidays, by the IANA zone of the network."""

from __future__ import annotations

import datetime as dt
import functools
import importlib.resources
import zoneinfo
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_HOUR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

SLOTS_PER_DAY = 48
"""Half hours of the local day."""


DAY_TYPES = 3
"""Working day, Saturday, Sunday; a public holiday counts as a Sunday."""


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
    """Return the ISO 3166 code of the country of a zone, ``None`` if it has none.

    Source: ``zone.tab`` of the IANA time zone database, which names a zone for each country.
    """
    table = importlib.resources.files("tzdata.zoneinfo").joinpath("zone.tab").read_text("utf-8")
    rows = (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    return {row[2]: row[0] for row in rows}.get(tz)


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
