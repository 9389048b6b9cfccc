"""The climatological forecast: how many bikes a station had at this hour of past days.

The simplest distribution to compare a forecast with: it knows the station and the local hour, and
nothing of today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.timeline.bins import day_after, first_bin
from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day

HOURS = 24
MOST = 100
"""Bikes beyond so many count as so many."""


class Climatology:
    """Counts of past levels, ``int32[S, 24, MOST + 1]``, by station, local hour and bikes."""

    def __init__(self, tz: str) -> None:
        self._tz = tz
        self._ids = np.array([], np.str_)
        self._counts = np.zeros((0, HOURS, MOST + 1), np.int32)

    def add(self, panel: Panel, day: Day) -> None:
        """Count the observations of a closed day."""
        self._widen(panel.stations.ids)
        start = first_bin(day)
        bikes = panel.window(start, first_bin(day_after(day)))["bikes"]
        t, station = np.nonzero(np.isfinite(bikes))
        hour = local_times(start + t, self._tz).minute // 60
        place = np.searchsorted(self._ids, panel.stations.ids)[station]
        np.add.at(self._counts, (place, hour, _level(bikes[t, station])), 1)

    def crps(
        self, ids: NDArray[np.str_], targets: NDArray[np.int64], true_bikes: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Return the CRPS of each row's climatology at its target bin, ``float64[n]``, in bikes.

        NaN for a station and hour that no past day knows.
        """
        found = np.full(len(ids), np.nan)
        if not len(self._ids):
            return found
        place = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        hour = local_times(targets, self._tz).minute // 60
        upto = np.cumsum(self._counts[place, hour], axis=1)
        known = (self._ids[place] == ids) & (upto[:, -1] > 0)
        share = upto[known] / upto[known, -1:]
        came_true = _level(true_bikes[known])[:, None] <= np.arange(MOST + 1)
        found[known] = ((share - came_true) ** 2).sum(axis=1)
        return found

    def _widen(self, ids: NDArray[np.str_]) -> None:
        wanted = np.union1d(self._ids, ids)
        if len(wanted) > len(self._ids):
            counts = np.zeros((len(wanted), HOURS, MOST + 1), np.int32)
            counts[np.searchsorted(wanted, self._ids)] = self._counts
            self._ids, self._counts = wanted, counts


def _level(bikes: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.clip(np.rint(bikes), 0, MOST).astype(np.int64)
