"""Hourly means: what a station, or the weather, was like over one hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velib_core.monitoring.panels import day_panel
from velib_core.timeline.bins import BINS_PER_HOUR, Bin
from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.windows import LocalDays

STATION_FEATURES = (
    "bikes",
    "capacity",
    "ebike",
    "is_penury",
    "is_saturation",
    "mechanical",
    "occ_ratio",
)
WEATHER_FEATURES = ("precip_mm", "temp_C", "wind_mps")


class Hours(NamedTuple):
    """Hourly means over reference and current window.

    ``values`` holds ``float32[H, S]`` for station features, ``float32[H, 1]`` for the weather;
    ``kind`` is the stratum of each hour, ``date`` its local day (proleptic ordinal), ``current``
    whether it lies in the current window; ``lat`` and ``lon`` of the stations. ``newest`` is the
    newest bin observed.
    """

    values: Mapping[str, NDArray[np.float32]]
    kind: NDArray[np.int64]
    date: NDArray[np.int64]
    current: NDArray[np.bool_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    newest: Bin | None


def average_hours(tables: Iterable[pa.Table], reference: LocalDays, window: LocalDays) -> Hours:
    """Average the observations of each hour, a day at a time."""
    start, bins = reference.start, window.stop - reference.start
    count = -(-bins // BINS_PER_HOUR)
    parts = []
    newest = None
    for table in tables:
        panel = day_panel(table, STATION_FEATURES)
        if panel is None:
            continue
        cut = panel.window(Bin(max(panel.start, start)), Bin(min(panel.stop, window.stop)))
        if cut.bins > 0:
            parts.append((panel.stations, _sums_by_hour(cut, start)))
            newest = Bin(cut.stop - 1)
    ids = np.unique(np.concatenate([np.zeros(0, np.str_), *(s.ids for s, _ in parts)]))
    sums = {name: np.zeros((count, len(ids)), np.float32) for name in STATION_FEATURES}
    sums |= {name: np.zeros((count, 1), np.float32) for name in WEATHER_FEATURES}
    counts = {name: np.zeros(array.shape, np.uint8) for name, array in sums.items()}
    lat, lon = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    for stations, (hour, by_feature) in parts:
        here = np.searchsorted(ids, stations.ids)
        lat[here] = np.where(np.isfinite(stations.lat), stations.lat, lat[here])
        lon[here] = np.where(np.isfinite(stations.lon), stations.lon, lon[here])
        for name, (added, seen) in by_feature.items():
            cells = np.ix_(hour, here if name in STATION_FEATURES else np.zeros(1, np.int64))
            sums[name][cells] += added
            counts[name][cells] += seen
    for name, array in sums.items():
        np.divide(array, counts[name], out=array, where=counts[name] > 0)
        # Equal means of fractions differ in the last digit by the order in which they were added,
        # and would fall to either side of an edge between bins.
        np.round(array, 5, out=array)
        array[counts[name] == 0] = np.nan
    at = start + np.arange(count) * BINS_PER_HOUR
    times = local_times(at, window.tz)
    kind = times.day_type * 24 + times.minute // 60
    return Hours(sums, kind, times.day, at >= window.start, lat, lon, newest)


def _sums_by_hour(
    panel: Panel, start: Bin
) -> tuple[NDArray[np.int64], dict[str, tuple[NDArray[np.float32], NDArray[np.uint8]]]]:
    """Return the hours (counted from ``start``) of a panel, and sum and count in each."""
    hour, first = np.unique(
        (panel.start - start + np.arange(panel.bins)) // BINS_PER_HOUR, return_index=True
    )
    arrays = {name: panel[name] for name in STATION_FEATURES}
    arrays |= {name: panel.weather[name][:, None] for name in WEATHER_FEATURES}
    sums = {}
    for name, array in arrays.items():
        known = np.isfinite(array)
        total = np.add.reduceat(np.where(known, array, np.float32(0)), first, axis=0)
        sums[name] = (total, np.add.reduceat(known, first, axis=0, dtype=np.uint8))
    return hour, sums
