"""Day tables → one panel of a window, a day at a time, so that no more than a day is in rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.tables.panel import WEATHER_VARIABLES, Panel, Stations, bins_of, build_panel
from velib_core.tables.service import free_docks
from velib_core.timeline.bins import Bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray


def to_grid(tables: Iterable[pa.Table], start: Bin, stop: Bin, variables: Sequence[str]) -> Panel:
    """Put day tables (observations or evaluation) on the grid.

    Parameters
    ----------
    tables
        One a day (or a snapshot), in time order, not overlapping; each is released before the
        next is asked for. Rows outside the window contribute their stations only.
    start, stop
        The bins ``[start, stop)``.
    variables
        Numeric columns to keep as ``float32[T, S]``; ``free_docks`` is the reported free docks,
        else capacity − bikes; ``ok`` and ``age_min`` as in `velib_core.tables.panel.Panel`.

    """
    parts = [part for part in (day_panel(table, variables) for table in tables) if part]
    return assemble(parts, start, stop, variables)


def day_panel(table: pa.Table, variables: Sequence[str]) -> Panel | None:
    """Lay one table on its own bins and stations; ``None`` where it has no rows."""
    if not table.num_rows:
        return None
    bins = bins_of(table["tbin_utc"])
    start, stop = Bin(int(bins.min())), Bin(int(bins.max()) + 1)
    if "free_docks" in variables:
        table = table.append_column("free_docks", free_docks(table))
    panel = build_panel([table], start, stop, variables=variables)
    return dataclasses.replace(panel, values={name: panel.values[name] for name in variables})


def newest_rows(table: pa.Table) -> pa.Table:
    """Return the last row of each station of a table in time order."""
    ids, station = encode(table["station_id"])
    last = np.zeros(len(ids), np.int64)
    last[station] = np.arange(table.num_rows)
    return table.take(pa.array(np.sort(last)))


def encode(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct strings of a column in order of appearance, and each row's place there.

    Parquet reads a string column as a dictionary on request: that is taken as it is, and costs a
    fraction of the memory. Nulls have place −1.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of a column without chunks
        return [], np.zeros(0, np.int64)
    places = pc.fill_null(encoded.indices.cast(pa.int64()), -1)
    distinct: list[str] = encoded.dictionary.to_pylist()
    return distinct, np.asarray(places)


def assemble(parts: Sequence[Panel], start: Bin, stop: Bin, variables: Sequence[str]) -> Panel:
    """Join panels of different days and stations into one over the bins ``[start, stop)``.

    Its stations are all that any part has, also outside the window; none where there are no
    parts.
    """
    bins = max(stop - start, 0)
    stations, columns = _join_stations(parts)
    values = {n: np.full((bins, len(stations)), np.nan, np.float32) for n in variables}
    weather = {n: np.full(bins, np.nan, np.float32) for n in WEATHER_VARIABLES}
    for part, place in zip(parts, columns, strict=True):
        low, high = max(start, part.start), min(stop, part.stop)
        if low >= high:
            continue
        into, out_of = slice(low - start, high - start), slice(low - part.start, high - part.start)
        for name, array in values.items():
            array[into, place] = part.values[name][out_of]
        for name, series in weather.items():
            series[into] = part.weather[name][out_of]
    return Panel(start, stations, values, weather)


def _join_stations(parts: Sequence[Panel]) -> tuple[Stations, list[NDArray[np.int64]]]:
    """Return the stations of all parts, newest description first, and each part's columns."""
    ids = np.unique(np.concatenate([np.zeros(0, np.str_), *(p.stations.ids for p in parts)]))
    names = np.full(len(ids), "", object)
    lat, lon, capacity = (np.full(len(ids), np.nan) for _ in range(3))
    columns = []
    for part in parts:
        here = np.searchsorted(ids, part.stations.ids)
        columns.append(here)
        named = part.stations.names != ""
        names[here[named]] = part.stations.names[named]
        for slot, known in (
            (lat, part.stations.lat),
            (lon, part.stations.lon),
            (capacity, part.stations.capacity),
        ):
            there = np.isfinite(known)
            slot[here[there]] = known[there]
    stations = Stations(ids, names.astype(np.str_), lat, lon, capacity.astype(np.float32))
    return stations, columns


def zones(
    lat: NDArray[np.float64], lon: NDArray[np.float64], per_degree: int
) -> Iterator[tuple[tuple[str, str], NDArray[np.bool_]]]:
    """Yield the cells of a grid of so many to the degree, and who lies in each.

    A cell goes by its middle, to a hundredth of a degree; from the south-west.
    """
    y, x = np.rint(lat * per_degree), np.rint(lon * per_degree)
    placed = np.isfinite(y) & np.isfinite(x)
    for north, east in sorted(set(zip(y[placed].tolist(), x[placed].tolist(), strict=True))):
        middle = (f"{north / per_degree:.2f}", f"{east / per_degree:.2f}")
        yield middle, (y == north) & (x == east)


def name_of(stations: Stations, column: int) -> str | None:
    """Return a station's name, ``None`` where it has none."""
    return str(stations.names[column]) or None
