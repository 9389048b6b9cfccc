"""Recorded observations of a network, played snapshot by snapshot."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from velib_core.feeds.open_meteo import Weather
from velib_core.timeline.bins import Day, day_after

from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus
from velib_local.simulation.observations import Observations, RecordingError
from velib_local.simulation.recorded_values import STAMP

if TYPE_CHECKING:
    from collections.abc import Iterator

_COUNTS = ("mechanical", "ebike", "docks_available", "bikes_disabled", "docks_disabled")
_FLAGS = ("is_installed", "is_renting", "is_returning")
_PLACE = ("name", "lat", "lon", "capacity")
_WEATHER = ("temp_C", "precip_mm", "wind_mps")


class Recording:
    """Observations of a network; each distinct second of ``ts_utc`` is one snapshot.

    Parameters
    ----------
    source
        The file, as `velib_local.simulation.observations` reads it; rows in any order.
    from_day, to_day
        The first and the last UTC day to play, both included; open where ``None``.

    Raises
    ------
    RecordingError
        Where the file cannot be read or has no row in these days.

    """

    def __init__(
        self, source: Observations, from_day: Day | None = None, to_day: Day | None = None
    ) -> None:
        self._source = source
        self._bounds = (from_day, to_day)
        self.has_weather = set(_WEATHER) <= source.columns.keys()
        stamps = self._read(["ts_utc"])["ts_utc"].cast(pa.int64()).to_numpy()
        self._stamps = np.unique(stamps)
        if not len(self._stamps):
            days = f"{from_day or '…'} to {to_day or '…'}"
            raise RecordingError(str(source.path), f"no observation from {days}", "at least one")

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
        rows = self._read(None)
        stamps = rows["ts_utc"].cast(pa.int64()).to_numpy()
        order = np.argsort(stamps, kind="stable")
        cuts = np.searchsorted(stamps[order], self._stamps).tolist()
        rows = rows.take(pa.array(order)).combine_chunks()
        for start, stop in zip(cuts, [*cuts[1:], len(order)], strict=True):
            yield _state(rows.slice(start, stop - start))

    def _read(self, columns: list[str] | None) -> pa.Table:
        """Return the rows within the days, texts as dictionaries."""
        first, last = self._bounds
        parts = []
        for part in self._source.tables(columns):
            stamps = part["ts_utc"]
            keep = pc.is_valid(stamps)
            if first is not None:
                keep = pc.and_(keep, pc.greater_equal(stamps, _midnight(first)))
            if last is not None:
                keep = pc.and_(keep, pc.less(stamps, _midnight(day_after(last))))
            parts.append(_with_dictionaries(part.filter(keep)))
        return pa.concat_tables(parts).unify_dictionaries()


def _with_dictionaries(rows: pa.Table) -> pa.Table:
    for n, field in enumerate(rows.schema):
        if pa.types.is_string(field.type):
            rows = rows.set_column(n, field.name, rows[field.name].dictionary_encode())
    return rows


def _midnight(day: dt.date) -> pa.Scalar:
    return pa.scalar(dt.datetime.combine(day, dt.time()), STAMP)


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
        seconds = rows["last_reported_utc"].cast(STAMP, safe=False).cast(pa.int64())
        reported = _values(seconds)
    status = StationStatus(
        station_id=ids,
        bikes=columns["bikes"],
        **{name: columns.get(name) for name in (*_COUNTS, *_FLAGS)},
        last_reported=reported,
        station_status=columns.get("status"),
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


def _weather(rows: pa.Table) -> Weather | None:
    """Return the snapshot's weather: of each variable the first value that a row has."""
    if not set(_WEATHER) <= set(rows.column_names):
        return None
    return Weather(*(pc.first(rows[name], skip_nulls=True).as_py() for name in _WEATHER))
