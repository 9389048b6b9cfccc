"""One station's last day: truth, forecast and persistence at the time they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

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

    Floats = NDArray[np.float32]


def series_document(
    hindcasts: Hindcasts, tz: str, min_points: int, stations: Stations | None
) -> dict[str, Any]:
    """Return the body of ``station_timeseries.json``: the last 24 full hours, by target time.

    Only times of which the truth, persistence and the forecast are known; ``y_pred`` is empty
    where there is no forecast at all. Empty lists and a reason where no station has
    ``min_points`` pairs in them.
    """
    horizon = hindcasts.horizon
    at = np.flatnonzero(np.isfinite(hindcasts.truth).any(axis=1))
    full_hours = (
        (hindcasts.window.start + int(at[-1]) + 1 + horizon) // BINS_PER_HOUR if len(at) else 0
    )
    last = full_hours * BINS_PER_HOUR - hindcasts.window.start - horizon
    rows = slice(max(last - BINS_PER_DAY, 0), max(last, 0))
    column = _median_station(hindcasts, rows, min_points)
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
    station = str(hindcasts.ids[column])
    drawn, forecast = _drawn(hindcasts, rows, column)
    return document | {
        "station_id": station,
        "name": _name(stations, station),
        "ts": [
            iso_z(bin_start(Bin(hindcasts.window.start + offset + horizon)))
            for offset in drawn.tolist()
        ],
        "y_true": hindcasts.truth[drawn, column],
        "y_pred": forecast,
        "y_base": hindcasts.persistence[drawn, column],
    }


def _drawn(hindcasts: Hindcasts, rows: slice, column: int) -> tuple[NDArray[np.int64], Floats]:
    """Return the bins to draw, and their forecasts; a null would be drawn as 0."""
    truth, base, forecast = (
        values[rows, column]
        for values in (hindcasts.truth, hindcasts.persistence, hindcasts.integer)
    )
    known = np.isfinite(truth) & np.isfinite(base)
    if np.isfinite(forecast).any():
        known &= np.isfinite(forecast)
        return rows.start + np.flatnonzero(known), forecast[known]
    return rows.start + np.flatnonzero(known), forecast[:0]


def _median_station(hindcasts: Hindcasts, rows: slice, min_points: int) -> int | None:
    """Return the station with the median MAE of the rows; of persistence without forecasts."""
    for forecast in (hindcasts.integer, hindcasts.persistence):
        error = np.abs(hindcasts.truth[rows] - forecast[rows])
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
