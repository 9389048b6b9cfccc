"""One station's last day: truth, forecast and persistence at the time they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.monitoring.stats import run_lengths
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    BINS_PER_HOUR,
    Bin,
    bin_start,
    horizon_minutes,
    iso_z,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.monitoring.model.forecast_grid import Hindcasts
    from velib_core.tables.panel import Stations


def series_document(
    cast: Hindcasts, tz: str, min_points: int, stations: Stations | None
) -> dict[str, Any]:
    """Return the body of ``station_timeseries.json``: the last 24 full hours, by target time.

    Empty lists and a reason where no station has ``min_points`` pairs in them.
    """
    horizon = cast.horizon
    at = np.flatnonzero(np.isfinite(cast.truth).any(axis=1))
    full_hours = (cast.window.start + int(at[-1]) + 1 + horizon) // BINS_PER_HOUR if len(at) else 0
    last = full_hours * BINS_PER_HOUR - cast.window.start - horizon
    rows = slice(max(last - BINS_PER_DAY, 0), max(last, 0))
    column = _median_station(cast, rows, min_points)
    document: dict[str, Any] = {
        "h": horizon_minutes(horizon),
        "station_id": None,
        "name": None,
        "tz": tz,
        "time": "target",
        "ts": [],
        "y_true": [],
        "y_pred": [],
        "y_base": [],
        "reason": None,
    }
    if column is None:
        return document | {"reason": f"no station has {min_points} pairs in a day"}
    station = str(cast.ids[column])
    polled = _polled(cast, rows)
    return document | {
        "station_id": station,
        "name": _name(stations, station),
        "ts": [
            iso_z(bin_start(Bin(cast.window.start + offset + horizon)))
            for offset in polled.tolist()
        ],
        "y_true": cast.truth[polled, column],
        "y_pred": cast.published[polled, column],
        "y_base": cast.base[polled, column],
    }


def _polled(cast: Hindcasts, rows: slice) -> NDArray[np.int64]:
    """Return the bins to draw: all, or those polled of a network that is polled less often.

    A line through every third value would not be seen between nulls; a hole in a network that is
    observed in every bin stays one.
    """
    at = np.arange(rows.start, rows.stop)
    seen = np.isfinite(cast.truth)
    return at if run_lengths.lookback_of(seen) == 1 else at[seen[rows].any(axis=1)]


def _median_station(cast: Hindcasts, rows: slice, min_points: int) -> int | None:
    """Return the station with the median MAE of the rows; of persistence without forecasts."""
    for forecast in (cast.published, cast.base):
        error = np.abs(cast.truth[rows] - forecast[rows])
        known = np.isfinite(error)
        enough = np.flatnonzero(known.sum(axis=0) >= min_points)
        if len(enough):
            mae = np.where(known, error, 0).sum(axis=0)[enough] / known.sum(axis=0)[enough]
            return int(enough[np.argsort(mae, kind="stable")[(len(enough) - 1) // 2]])
    return None


def _name(stations: Stations | None, station: str) -> str | None:
    if stations is None:
        return None
    return next((str(n) or None for n in stations.names[stations.ids == station]), None)
