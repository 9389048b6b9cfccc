"""Recorded observations of a network, played snapshot by snapshot."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from velib_core.errors import InvalidValueError

from velib_local.feed_server import FeedState, StationState, WeatherState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.grid import Day

REQUIRED = ("ts_utc", "station_id", "bikes")
_STATION = ("capacity", "mechanical", "ebike", "docks_available")
_FLAGS = ("is_installed", "is_renting", "is_returning")
_PLACE = ("lat", "lon", "name")
_WEATHER = ("temp_C", "precip_mm", "wind_mps")
_OPTIONAL = (*_STATION, *_FLAGS, *_PLACE, "status", "last_reported_utc", *_WEATHER)
_INSTANT = pa.timestamp("s")


class RecordingError(InvalidValueError):
    """A recording that cannot be played: names the file or column and what was expected."""


class Recording:
    """A Parquet file of observations; each distinct ``ts_utc`` is one snapshot.

    Parameters
    ----------
    path
        Columns ``ts_utc`` (naive UTC), ``station_id``, ``bikes``, and of the snapshot schema
        whatever else was recorded.
    from_day, to_day
        The first and the last UTC day to play, both included.

    """

    def __init__(self, path: Path, from_day: Day | None = None, to_day: Day | None = None) -> None:
        rows = _read(path, from_day, to_day)
        if not rows.num_rows:
            raise RecordingError(str(path), "no observation in these days", "at least one")
        stamps = rows["ts_utc"].cast(pa.int64()).to_numpy()
        # Files are sorted by station, then time: order by time once and cut where it changes.
        order = np.argsort(stamps, kind="stable")
        self._rows = rows.take(pa.array(order)).combine_chunks()
        ordered = stamps[order]
        self._cuts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
        self._stops = np.append(self._cuts[1:], len(ordered))
        self.has_weather = set(_WEATHER) <= set(rows.column_names)

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self._cuts)

    def snapshots(self) -> Iterator[FeedState]:
        """Yield the snapshots in order of time."""
        for start, stop in zip(self._cuts, self._stops, strict=True):
            yield _state(self._rows.slice(start, stop - start))


def _read(path: Path, from_day: Day | None, to_day: Day | None) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise RecordingError(str(path), str(error), "a readable Parquet file") from error
    there = set(file.schema_arrow.names)
    for column in REQUIRED:
        if column not in there:
            raise RecordingError(column, sorted(there), f"a column of {path}")
    wanted = [name for name in (*REQUIRED, *_OPTIONAL) if name in there]
    first = dt.datetime.combine(from_day or dt.date.min, dt.time())
    after = dt.datetime.combine(to_day, dt.time()) + dt.timedelta(days=1) if to_day else None
    parts = []
    for group in range(file.num_row_groups):
        part = file.read_row_group(group, wanted)
        stamps = _instants(part["ts_utc"])
        part = part.set_column(0, "ts_utc", stamps)
        keep = pc.is_valid(stamps)
        if from_day:
            keep = pc.and_(keep, pc.greater_equal(stamps, pa.scalar(first, _INSTANT)))
        if after:
            keep = pc.and_(keep, pc.less(stamps, pa.scalar(after, _INSTANT)))
        parts.append(part.filter(keep))
    return pa.concat_tables(parts)


def _instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(column.type):
        raise RecordingError("ts_utc", str(column.type), "a timestamp column")
    return column.cast(_INSTANT, safe=False)


def _state(rows: pa.Table) -> FeedState:
    columns: dict[str, list[Any]] = {
        name: rows[name].to_pylist() for name in rows.column_names if name not in _WEATHER
    }
    count = rows.num_rows
    blank: list[Any] = [None] * count

    def column(name: str) -> list[Any]:
        return columns.get(name, blank)

    reported = column("last_reported_utc")
    flags = [column(flag) for flag in _FLAGS]
    stations = [
        StationState(
            station_id=None if station_id is None else str(station_id),
            bikes=bikes,
            name=name,
            lat=lat,
            lon=lon,
            capacity=capacity,
            mechanical=mechanical,
            ebike=ebike,
            docks_available=docks,
            status=status,
            is_installed=installed,
            is_renting=renting,
            is_returning=returning,
            last_reported=None if stamp is None else stamp.replace(tzinfo=dt.UTC),
        )
        for (
            station_id,
            bikes,
            name,
            lat,
            lon,
            capacity,
            mechanical,
            ebike,
            docks,
            status,
            installed,
            renting,
            returning,
            stamp,
        ) in zip(
            columns["station_id"],
            columns["bikes"],
            column("name"),
            column("lat"),
            column("lon"),
            *(column(name) for name in _STATION),
            column("status"),
            *flags,
            reported,
            strict=True,
        )
    ]
    observed = columns["ts_utc"][0].replace(tzinfo=dt.UTC)
    return FeedState(last_updated=observed, stations=stations, weather=_weather(rows))


def _weather(rows: pa.Table) -> WeatherState | None:
    if not set(_WEATHER) <= set(rows.column_names):
        return None
    values = [pc.first(rows[name], skip_nulls=True).as_py() for name in _WEATHER]
    return WeatherState(*values)
