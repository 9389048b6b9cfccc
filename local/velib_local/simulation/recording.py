"""Recorded observations of a network, played snapshot by snapshot."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from velib_core.errors import InvalidValueError
from velib_core.feeds.open_meteo import Weather
from velib_core.timeline.bins import Day, day_after

from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUIRED = ("ts_utc", "station_id", "bikes")

_TEXTS = ("station_id", "name", "status")
_COUNTS = ("mechanical", "ebike", "docks_available", "bikes_disabled", "docks_disabled")
_FLAGS = ("is_installed", "is_renting", "is_returning")
_INTEGERS = ("bikes", "capacity", *_COUNTS, *_FLAGS)
_PLACE = ("name", "lat", "lon", "capacity")
_WEATHER = ("temp_C", "precip_mm", "wind_mps")
_OPTIONAL = (*_PLACE, *_COUNTS, "status", *_FLAGS, "last_reported_utc", *_WEATHER)

_STAMP = pa.timestamp("s")
"""Feeds stamp to the second, and so does the ``Date`` of HTTP."""

_MEANING: dict[str, tuple[str, tuple[int | None, int, int]]] = {
    "ok": ("OK", (1, 1, 1)),
    "renting+returning": ("OK", (1, 1, 1)),
    "renting": ("CLOSED", (1, 1, 0)),
    "returning": ("CLOSED", (1, 0, 1)),
    "closed": ("CLOSED", (None, 0, 0)),
}
"""What a recorded status says (in lower case): its canonical form and the three flags."""


class RecordingError(InvalidValueError):
    """A recording that cannot be played: names the file or column and what was expected."""


class Recording:
    """A Parquet file of observations; each distinct second of ``ts_utc`` is one snapshot.

    Parameters
    ----------
    path
        Columns ``ts_utc`` (naive UTC or aware), ``station_id`` and ``bikes``; of ``capacity,
        mechanical, ebike, status, lat, lon, name, docks_available, bikes_disabled,
        docks_disabled, is_installed, is_renting, is_returning, last_reported_utc, temp_C,
        precip_mm, wind_mps`` whatever was recorded. In any order; rows without a time are no
        observation.
    from_day, to_day
        The first and the last UTC day to play, both included; open where ``None``.

    Raises
    ------
    RecordingError
        Where the file cannot be read, lacks a required column, or has no row in these days.

    """

    def __init__(self, path: Path, from_day: Day | None = None, to_day: Day | None = None) -> None:
        self._path = path
        self._bounds = (from_day, to_day)
        self._columns = _columns(path)
        self.has_weather = set(_WEATHER) <= set(self._columns)
        stamps = self._read(["ts_utc"])["ts_utc"].cast(pa.int64()).to_numpy()
        self._stamps = np.unique(stamps)
        if not len(self._stamps):
            days = f"{from_day or '…'} to {to_day or '…'}"
            raise RecordingError(str(path), f"no observation from {days}", "at least one")

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self._stamps)

    def days(self) -> list[Day]:
        """Return the UTC days that have a snapshot, in order."""
        epoch = Day(dt.date(1970, 1, 1))
        return [day_after(epoch, int(n)) for n in np.unique(self._stamps // 86_400)]

    def snapshots(self) -> Iterator[FeedState]:
        """Yield the snapshots in order of time, rows in the order of the file.

        Holds the rows of the chosen days once, as Arrow columns with texts as dictionaries:
        about 100 bytes a row.
        """
        rows = self._read(self._columns)
        stamps = rows["ts_utc"].cast(pa.int64()).to_numpy()
        order = np.argsort(stamps, kind="stable")
        cuts = np.searchsorted(stamps[order], self._stamps).tolist()
        rows = rows.take(pa.array(order)).combine_chunks()
        for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True):
            yield _state(rows.slice(start, stop - start))

    def _read(self, columns: list[str]) -> pa.Table:
        """Read columns of the rows within the days, stamps to the second in naive UTC."""
        first, last = self._bounds
        texts = [name for name in columns if name in _TEXTS]
        file = pq.ParquetFile(self._path, read_dictionary=texts)
        parts = []
        for group in range(file.num_row_groups):
            part = file.read_row_group(group, columns)
            stamps = part["ts_utc"].cast(_STAMP, safe=False)
            part = _plain(part).set_column(0, "ts_utc", stamps)
            keep = pc.is_valid(stamps)
            if first is not None:
                keep = pc.and_(keep, pc.greater_equal(stamps, _midnight(first)))
            if last is not None:
                keep = pc.and_(keep, pc.less(stamps, _midnight(day_after(last))))
            parts.append(part.filter(keep))
        return pa.concat_tables(parts).unify_dictionaries()


def _columns(path: Path) -> list[str]:
    """Return the columns to read; raise `RecordingError` where the file is no recording."""
    if not path.is_file():
        raise RecordingError("source", str(path), "a Parquet file that exists")
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise RecordingError("source", str(path), f"a Parquet file ({error})") from error
    for column in REQUIRED:
        if column not in schema.names:
            raise RecordingError(f"{path}", schema.names, f"a column {column}")
    if not pa.types.is_timestamp(schema.field("ts_utc").type):
        found = str(schema.field("ts_utc").type)
        raise RecordingError(f"{path}: column ts_utc", found, "a timestamp")
    return [name for name in (*REQUIRED, *_OPTIONAL) if name in schema.names]


def _plain(rows: pa.Table) -> pa.Table:
    """Turn what is not a number into null, and counts that were stored as reals into integers."""
    for n, field in enumerate(rows.schema):
        if pa.types.is_floating(field.type):
            column = pc.if_else(pc.is_finite(rows[field.name]), rows[field.name], None)
            if field.name in _INTEGERS:
                column = column.cast(pa.int64())
            rows = rows.set_column(n, field.name, column)
    return rows


def _midnight(day: dt.date) -> pa.Scalar:
    return pa.scalar(dt.datetime.combine(day, dt.time()), _STAMP)


def _state(rows: pa.Table) -> FeedState:
    """Return one snapshot's rows as the state of a feed."""
    columns: dict[str, list[Any]] = {
        name: _values(rows[name])
        for name in rows.column_names
        if name not in {"ts_utc", "last_reported_utc", *_WEATHER}
    }
    ids = [None if value is None else str(value) for value in columns["station_id"]]
    now = rows["ts_utc"][0].as_py().replace(tzinfo=dt.UTC)
    reported = None
    if "last_reported_utc" in rows.column_names:
        seconds = rows["last_reported_utc"].cast(_STAMP, safe=False).cast(pa.int64())
        reported = _values(seconds)
    said, flags = _status(columns, len(ids))
    status = StationStatus(
        station_id=ids,
        bikes=columns["bikes"],
        **{name: columns.get(name) for name in _COUNTS},
        **flags,
        last_reported=reported,
        station_status=said,
    )
    return FeedState(now, now, _information(ids, columns), status, _weather(rows))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return what ``to_pylist`` would, at a fraction of its cost where nothing is null."""
    values: list[Any] = column.to_pylist() if column.null_count else column.to_numpy().tolist()
    return values


def _information(ids: list[str | None], columns: dict[str, list[Any]]) -> StationInformation:
    """Return the station table of the rows; of a station's several rows the last."""
    place = [columns.get(name) or [None] * len(ids) for name in _PLACE]
    known = {
        station_id: about
        for station_id, *about in zip(ids, *place, strict=True)
        if station_id is not None
    }
    name, lat, lon, capacity = ([about[n] for about in known.values()] for n in range(len(_PLACE)))
    return StationInformation(list(known), name, lat, lon, capacity)


def _status(
    columns: dict[str, list[Any]], count: int
) -> tuple[list[str | None] | None, dict[str, list[int | None]]]:
    """Return the canonical statuses, and the flags: as recorded, else what the status means."""
    texts: list[str | None] = columns.get("status") or [None] * count
    nothing = (None, (None, None, None))
    meanings = {
        text: nothing if text is None else _MEANING.get(text.lower(), (text, nothing[1]))
        for text in set(texts)
    }
    flags = {}
    for n, flag in enumerate(_FLAGS):
        recorded = columns.get(flag) or [None] * count
        flags[flag] = [
            meanings[text][1][n] if value is None else int(value)
            for value, text in zip(recorded, texts, strict=True)
        ]
    said = [meanings[text][0] for text in texts] if any(texts) else None
    return said, flags


def _weather(rows: pa.Table) -> Weather | None:
    """Return the snapshot's weather: of each variable the first value that a row has."""
    if not set(_WEATHER) <= set(rows.column_names):
        return None
    return Weather(*(pc.first(rows[name], skip_nulls=True).as_py() for name in _WEATHER))
