"""The station × bin panel: the one in-memory form of the network's history.

One dense array a variable, ``float32[T, S]`` (bins × stations), NaN where nothing was observed.
On it a lag is a slice, a rolling mean a running sum and the target a shift, so that time is
never mistaken for row order: a missing bin stays missing and moves nothing else.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.tables.service import OK, closed
from velib_core.timeline.bins import BIN_SECONDS, Bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

STATION_VARIABLES = (
    "bikes",
    "capacity",
    "mechanical",
    "ebike",
    "docks_available",
    "is_installed",
    "is_renting",
    "is_returning",
)
"""Columns that become ``float32[T, S]``."""

WEATHER_VARIABLES = ("temp_C", "precip_mm", "wind_mps")
"""Columns that are one value a snapshot and become ``float32[T]``."""

BATCH_ROWS = 100_000
"""How many rows are put into the panel at once: few enough to add little to its memory."""

FROZEN_BINS = 12
"""A feed that shows what it showed an hour before is frozen..."""

FROZEN_STATIONS = 200
"""...where so many stations are seen both times: fewer may well rest for an hour at night."""


@dataclasses.dataclass(frozen=True)
class Stations:
    """The station table, in the column order of the arrays.

    ``ids`` are sorted and unique. The rest is each station's newest known value, NaN or ``""``
    where it never had one: ``lat``, ``lon`` in degrees WGS84, ``capacity`` in docks.
    """

    ids: NDArray[np.str_]
    names: NDArray[np.str_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    capacity: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of stations S."""
        return len(self.ids)


@dataclasses.dataclass(frozen=True)
class Panel:
    """The network over the bins ``[start, start + T)``.

    ``values`` holds the station variables ``float32[T, S]`` that were asked for, and two more:
    ``ok`` (0 where the station is `velib_core.tables.service.closed`, 1 where it is reported as in
    order, NaN unobserved or unstated) and ``age_min`` (minutes from the station's own last report
    to the snapshot, never below 0).
    ``weather`` holds ``float32[T]``.
    """

    start: Bin
    stations: Stations
    values: Mapping[str, NDArray[np.float32]]
    weather: Mapping[str, NDArray[np.float32]]

    def __getitem__(self, variable: str) -> NDArray[np.float32]:
        """Return one station variable, ``float32[T, S]``."""
        return self.values[variable]

    @property
    def bins(self) -> int:
        """The number of bins T."""
        return len(self.values["bikes"])

    @property
    def stop(self) -> Bin:
        """The first bin after the panel."""
        return Bin(self.start + self.bins)

    def window(self, start: Bin, stop: Bin) -> Panel:
        """Return the bins ``[start, stop)``, a view where inside, NaN elsewhere."""
        if self.start <= start and stop <= self.stop:
            return self._map(lambda array: array[start - self.start : stop - self.start], start)

        def cut(array: NDArray[np.float32]) -> NDArray[np.float32]:
            out = np.full((max(stop - start, 0), *array.shape[1:]), np.nan, np.float32)
            low, high = max(start, self.start), min(stop, self.stop)
            if low < high:
                out[low - start : high - start] = array[low - self.start : high - self.start]
            return out

        return self._map(cut, start)

    def with_stations(self, ids: NDArray[np.str_]) -> Panel:
        """Return the panel with columns for all of ``ids`` too: NaN where they are new to it."""
        have = self.stations.ids
        wanted = np.union1d(have, ids)
        if len(wanted) == len(have):
            return self
        place = np.searchsorted(wanted, have)

        def spread(array: NDArray[Any]) -> NDArray[Any]:
            missing = "" if array.dtype.kind == "U" else np.nan
            out = np.full((*array.shape[:-1], len(wanted)), missing, array.dtype)
            out[..., place] = array
            return out

        table = self.stations
        columns = (table.names, table.lat, table.lon, table.capacity)
        values = {name: spread(array) for name, array in self.values.items()}
        return Panel(self.start, Stations(wanted, *map(spread, columns)), values, self.weather)

    def stations_seen(self, start: Bin, stop: Bin) -> NDArray[np.int64]:
        """Return how many stations were observed in each of the bins ``[start, stop)``."""
        seen = ~np.isnan(self.window(start, stop)["bikes"])
        return np.asarray(seen.sum(axis=1), np.int64)

    def _map(self, change, start: Bin) -> Panel:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return Panel(
            start,
            self.stations,
            {name: change(array) for name, array in self.values.items()},
            {name: change(array) for name, array in self.weather.items()},
        )


def join(panels: Sequence[Panel]) -> Panel:
    """Join panels of the same stations and variables that follow one another without a gap."""
    first = panels[0]
    return Panel(
        first.start,
        first.stations,
        {name: np.concatenate([p.values[name] for p in panels]) for name in first.values},
        {name: np.concatenate([p.weather[name] for p in panels]) for name in first.weather},
    )


def is_frozen(bikes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return in which bins of ``float32[T, S]`` the feed is frozen, ``bool[T]``.

    Snapshots go on coming then and differ in nothing: what they show is no observation, since a
    large network never rests for an hour. In the first `FROZEN_BINS` bins it is not known, and
    is false.
    """
    frozen = np.zeros(len(bikes), np.bool_)
    now, before = bikes[FROZEN_BINS:], bikes[:-FROZEN_BINS]
    moved = np.abs(now - before)
    enough = (~np.isnan(moved)).sum(axis=1) >= FROZEN_STATIONS
    frozen[FROZEN_BINS:] = enough & ~(moved > 0).any(axis=1)
    return frozen


def bins_of(stamps: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the bin of each naive UTC stamp of a ``timestamp`` column, ``int64[n]``."""
    seconds = pc.cast(pc.floor_temporal(stamps, unit="second"), pa.timestamp("s"))
    return np.asarray(pc.cast(seconds, pa.int64())) // BIN_SECONDS


def capacities(panel: Panel) -> NDArray[np.float32]:
    """Return the docks of each station, ``float32[T, S]``: as published, else as last known.

    A feed loses stations from its information now and then; what a station is does not change.
    """
    return np.where(np.isnan(panel["capacity"]), panel.stations.capacity, panel["capacity"])


def free_docks(panel: Panel) -> NDArray[np.float32]:
    """Return the docks a bike can be returned to: as stated, else capacity less bikes.

    NaN where the feed says neither.
    """
    free = np.maximum(capacities(panel) - panel["bikes"], 0)
    stated = panel.values.get("docks_available")
    return free if stated is None else np.where(np.isnan(stated), free, stated)


def build_panel(
    tables: Iterable[pa.Table],
    start: Bin,
    stop: Bin,
    *,
    station_ids: Sequence[str] | None = None,
    variables: Sequence[str] = STATION_VARIABLES,
) -> Panel:
    """Put snapshot rows on the grid.

    Parameters
    ----------
    tables
        Rows with ``tbin_utc`` (naive UTC), ``station_id``, ``bikes`` and any of the columns of
        the snapshot schema; other columns are ignored, absent ones become NaN. Consumed one
        table at a time, in time order where the newest name or position is to win.
    start, stop
        The bins ``[start, stop)``; rows outside are left out.
    station_ids
        The columns of the panel, in this order of sorting; by default every station seen.
    variables
        Which of `STATION_VARIABLES` to keep.

    Returns
    -------
    Panel
        With T = ``stop - start`` and S stations. Where several rows share a station and a bin
        the last row wins, so deduplicate by ``ts_utc`` first.

    """
    inside = [part for part in (_rows_inside(t, start, stop) for t in tables) if len(part)]
    rows = list(_batched(inside))
    ids = _all_ids(rows) if station_ids is None else np.array(sorted(station_ids), np.str_)
    shape = (stop - start, len(ids))
    values = {
        name: np.full(shape, np.nan, np.float32)
        for name in dict.fromkeys(("bikes", *variables, "ok", "age_min"))
    }
    weather = {name: np.full(shape[0], np.nan, np.float32) for name in WEATHER_VARIABLES}
    names = np.full(len(ids), "", object)
    newest = {name: np.full(len(ids), np.nan) for name in ("lat", "lon", "capacity")}
    for part in rows:
        t, station, known = _positions(part, start, ids)
        _put(values, t * len(ids) + station, part, known)
        _put_known(weather, t, part, known)
        _put_known(newest, station, part, known)
        _put_names(names, station, part, known)
    stations = Stations(
        ids, names.astype(np.str_), newest["lat"], newest["lon"], newest["capacity"].astype("f4")
    )
    return Panel(start, stations, values, weather)


def _put(
    arrays: Mapping[str, NDArray[np.float32]],
    cells: NDArray[np.int64],
    part: pa.Table,
    known: NDArray[np.bool_],
) -> None:
    """Put the known rows of a table into their cells of each variable, NaN included."""
    for name, array in arrays.items():
        column = _variable(part, name)
        if column is not None:
            array.reshape(-1)[cells] = column[known]


def _put_known(
    series: Mapping[str, NDArray[np.floating]],
    place: NDArray[np.int64],
    part: pa.Table,
    known: NDArray[np.bool_],
) -> None:
    """Put the finite values of the known rows at their places; the last one wins."""
    for name, array in series.items():
        column = _floats(part, name)
        if column is not None:
            there = np.isfinite(column[known])
            array[place[there]] = column[known][there]


def _put_names(
    names: NDArray[np.object_], station: NDArray[np.int64], part: pa.Table, known: NDArray[np.bool_]
) -> None:
    """Put the last name that each station has in a table."""
    if "name" not in part.column_names:
        return
    named = np.flatnonzero(known & np.asarray(part["name"].is_valid()))
    last = np.full(len(names), -1, np.int64)
    last[station[(np.cumsum(known) - 1)[named]]] = named
    there = last >= 0
    names[there] = part["name"].take(pa.array(last[there])).to_pylist()


def _rows_inside(table: pa.Table, start: Bin, stop: Bin) -> pa.Table:
    bins = bins_of(table["tbin_utc"])
    inside = (bins >= start) & (bins < stop)
    return table if inside.all() else table.filter(pa.array(inside))


def _batched(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Unite consecutive tables of one schema, as far as a batch holds.

    What is done to a table has a price of its own, far above that of a snapshot's rows.
    """
    for _, alike in itertools.groupby(tables, key=lambda table: table.schema):
        batch: list[pa.Table] = []
        held = 0
        for table in alike:
            if batch and held + len(table) > BATCH_ROWS:
                yield _united(batch)
                batch, held = [], 0
            batch.append(table)
            held += len(table)
        yield _united(batch)


def _united(batch: list[pa.Table]) -> pa.Table:
    return batch[0] if len(batch) == 1 else pa.concat_tables(batch).combine_chunks()


def _all_ids(rows: Sequence[pa.Table]) -> NDArray[np.str_]:
    unique: set[str] = set()
    for part in rows:
        unique.update(pc.unique(part["station_id"]).cast(pa.string()).to_pylist())
    return np.array(sorted(unique), np.str_)


def _positions(
    part: pa.Table, start: Bin, ids: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return bin and station indices of the rows whose station is known, and which those are."""
    codes = pc.index_in(part["station_id"].cast(pa.string()), pa.array(ids.tolist(), pa.string()))
    station = np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), np.int64)
    known = station >= 0
    return bins_of(part["tbin_utc"])[known] - start, station[known], known


def _variable(part: pa.Table, name: str) -> NDArray[np.float32] | None:
    if name == "ok":
        known = "status" in part.column_names
        status = part["status"] if known else pa.nulls(part.num_rows, pa.string())
        in_order = pc.cast(pc.equal(status, OK), pa.float32())
        return _to_float32(pc.if_else(closed(part), pa.scalar(0.0, pa.float32()), in_order))
    if name == "age_min":
        if not {"ts_utc", "last_reported_utc"} <= set(part.column_names):
            return None
        unit = pa.timestamp("s")
        age = pc.subtract(
            pc.cast(part["ts_utc"].cast(unit, safe=False), pa.int64()),
            pc.cast(part["last_reported_utc"].cast(unit, safe=False), pa.int64()),
        )
        # A station's clock may be ahead of the feed's; its report is then as new as can be.
        return _to_float32(
            pc.max_element_wise(pc.divide(pc.cast(age, pa.float64()), 60.0), 0.0, skip_nulls=False)
        )
    return _floats(part, name)


def _floats(part: pa.Table, name: str) -> NDArray[np.float32] | None:
    if name not in part.column_names:
        return None
    column = part[name]
    if name in ("lat", "lon"):
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
    return _to_float32(pc.cast(column, pa.float32(), safe=False))


def _to_float32(column: pa.ChunkedArray) -> NDArray[np.float32]:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)
