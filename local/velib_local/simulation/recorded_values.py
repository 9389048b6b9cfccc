"""The values of a recording: each column's type, and how what a file holds becomes it."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from velib_core.feeds import values
from velib_core.tables import service
from velib_core.tables.snapshot import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable

STAMP = pa.timestamp("s")
"""Feeds stamp to the second, and so does the ``Date`` of HTTP."""

TYPES: dict[str, pa.DataType] = {
    "ts_utc": STAMP,
    "station_id": pa.string(),
    **dict.fromkeys(("bikes", "capacity", "mechanical", "ebike", "docks_available"), pa.int64()),
    **dict.fromkeys(("bikes_disabled", "docks_disabled"), pa.int64()),
    **dict.fromkeys(("is_installed", "is_renting", "is_returning"), pa.int64()),
    **dict.fromkeys(("status", "name"), pa.string()),
    **dict.fromkeys(("lat", "lon", "temp_C", "precip_mm", "wind_mps"), pa.float64()),
    "last_reported_utc": STAMP,
}
"""The columns that are read, in order, and what each becomes."""

_FIRST, _LAST = (pa.scalar(dt.datetime(year, 1, 1), STAMP) for year in (1970, 9999))  # noqa: DTZ001

_FLAGS = ("is_installed", "is_renting", "is_returning")

_MEANING: dict[str, tuple[str | None, tuple[int | None, int, int]]] = {
    "ok": (service.OK, (1, 1, 1)),
    "renting+returning": (service.OK, (1, 1, 1)),
    "renting": (None, (1, 1, 0)),
    "returning": (None, (1, 0, 1)),
    "closed": (service.CLOSED, (None, 0, 0)),
}


def convert(raw: pa.ChunkedArray, ours: str, zone: str) -> pa.ChunkedArray:
    """Return a column as its type, null where a value has no reading."""
    wanted = TYPES[ours]
    if wanted == STAMP and pa.types.is_timestamp(raw.type):
        return _instants(raw, zone)
    if wanted == pa.float64() and (pa.types.is_floating(raw.type) or pa.types.is_integer(raw.type)):
        numbers = raw.cast(wanted)
        return pc.if_else(pc.is_finite(numbers), numbers, None)
    if pa.types.is_decimal(raw.type):
        raw = raw.cast(pa.float64())
    return _by_value(raw, _reader(ours, zone), wanted)


def _instants(raw: pa.ChunkedArray, zone: str) -> pa.ChunkedArray:
    if raw.type.tz is None and zone:
        raw = pc.assume_timezone(raw, zone, ambiguous="earliest", nonexistent="latest")
    if raw.type.tz is not None:
        raw = raw.cast(pa.timestamp(raw.type.unit, "UTC")).cast(pa.timestamp(raw.type.unit))
    seconds = raw.cast(STAMP, safe=False)
    usable = pc.and_(pc.greater(seconds, _FIRST), pc.less(seconds, _LAST))
    return pc.if_else(usable, seconds, pa.scalar(None, STAMP))


def _by_value(
    raw: pa.ChunkedArray, read: Callable[[object], object], wanted: pa.DataType
) -> pa.ChunkedArray:
    """Read each distinct value once: a column has few."""
    if pa.types.is_nested(raw.type):
        return pa.chunked_array([pa.array([read(v) for v in raw.to_pylist()], wanted)])
    encoded = raw if pa.types.is_dictionary(raw.type) else raw.dictionary_encode()
    encoded = encoded.unify_dictionaries()
    if not encoded.num_chunks:
        return pa.chunked_array([], wanted)
    distinct = encoded.chunk(0).dictionary.to_pylist()
    typed = pa.array([None if v is None else read(v) for v in distinct], wanted)
    return pa.chunked_array([typed.take(chunk.indices) for chunk in encoded.chunks], wanted)


def _reader(ours: str, zone: str) -> Callable[[object], object]:
    if TYPES[ours] == STAMP:
        return lambda value: _second(value, zone)
    by_type = values.real if TYPES[ours] == pa.float64() else _count
    return _READERS.get(ours, by_type)


def with_meaning(rows: pa.Table) -> pa.Table:
    """Return rows whose status is OK, CLOSED or null, and whose flags say what it means.

    Recorded flags stay. A status that names one direction only (``renting``) is given by the flags,
    so that a full station is not closed for it.
    """
    if "status" not in rows.column_names:
        return rows
    words = rows["status"]
    for n, flag in enumerate(_FLAGS):
        meant = _by_value(words, lambda word, n=n: _meaning(word)[1][n], pa.int64())  # type: ignore[misc]
        if flag in rows.column_names:
            both = pc.coalesce(rows[flag], meant)
            rows = rows.set_column(rows.schema.get_field_index(flag), flag, both)
        else:
            rows = rows.append_column(flag, meant)
    status = _by_value(words, lambda word: _meaning(word)[0], pa.string())
    return rows.set_column(rows.schema.get_field_index("status"), "status", status)


def _meaning(word: object) -> tuple[str | None, tuple[int | None, int | None, int | None]]:
    """Return the status that a recorded word is, and the three flags that go with it."""
    text = str(word).strip()
    if not text:
        return None, (None, None, None)
    known = _MEANING.get(text.lower())
    return known or (service.status_of(text), (None, None, None))


def _station(value: object) -> str | None:
    """Read an id; ``1001.0`` is what a program makes of 1001 where some are missing."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}\.0", value.strip()):
        value = value.strip().removesuffix(".0")
    return values.identifier(value)


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _bikes(value: object) -> int | None:
    found = values.count(value)
    return found if found is not None and 0 <= found <= MAX_COUNT else None


def _count(value: object) -> int | None:
    found = values.count(value)
    return found if found is not None and found >= 0 else None


def _second(value: object, zone: str) -> int | None:
    """Read an instant as POSIX seconds; a text that names no zone is of ``zone``."""
    if zone and isinstance(value, str):
        try:
            stamp = dt.datetime.fromisoformat(value.strip())
        except ValueError:
            stamp = None
        if stamp is not None and stamp.tzinfo is None:
            return int(stamp.replace(tzinfo=zoneinfo.ZoneInfo(zone)).timestamp())
    seconds = values.posix(value)
    return None if seconds is None else int(seconds)


_READERS: dict[str, Callable[[object], object]] = {
    "station_id": _station,
    "status": _word,
    "name": values.text,
    "bikes": _bikes,
    **dict.fromkeys(_FLAGS, values.flag),
}
