"""The climatological forecast: how many bikes a station had at this hour of past days.

The simplest distribution to compare a forecast with: it knows the station and the local hour, and
nothing of today.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.timeline.local_time import local_times

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.timeline.bins import Bin

HOURS = 24
MOST = 100
"""Bikes beyond so many count as so many."""


class Climatology:
    """Counts of past levels, ``int32[S, 24, MOST + 1]``, by station, local hour and bikes."""

    def __init__(self, tz: str) -> None:
        self._tz = tz
        self._ids = np.array([], np.str_)
        self._counts = np.zeros((0, HOURS, MOST + 1), np.int32)
        self._scores: NDArray[np.float32] | None = None

    def add(self, ids: NDArray[np.str_], start: Bin, bikes: NDArray[np.float32]) -> None:
        """Count observations ``[T, S]`` of stations ``ids`` from a bin on; NaN is none."""
        self._scores = None
        self._widen(ids)
        t, station = np.nonzero(np.isfinite(bikes))
        hour = local_times(start + t, self._tz).minute // 60
        place = np.searchsorted(self._ids, ids)[station]
        np.add.at(self._counts, (place, hour, _level(bikes[t, station])), 1)

    def crps(
        self,
        ids: NDArray[np.str_],
        station: NDArray[np.int64],
        targets: NDArray[np.int64],
        true_bikes: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Return the CRPS of each row's climatology at its target bin, ``float64[n]``, in bikes.

        ``station`` is the place of each row's station in ``ids``. NaN for a station and hour that
        no past day knows, and where the truth is NaN.
        """
        found = np.full(len(station), np.nan)
        if not len(self._ids):
            return found
        if self._scores is None:
            self._scores = _score_table(self._counts)
        column = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        place = column[station]
        hour = local_times(targets, self._tz).minute // 60
        known = (self._ids[column] == ids)[station] & np.isfinite(true_bikes)
        cells = place[known], hour[known], _level(true_bikes[known])
        found[known] = self._scores[cells]
        return found

    def _widen(self, ids: NDArray[np.str_]) -> None:
        wanted = np.union1d(self._ids, ids)
        if len(wanted) > len(self._ids):
            counts = np.zeros((len(wanted), HOURS, MOST + 1), np.int32)
            counts[np.searchsorted(wanted, self._ids)] = self._counts
            self._ids, self._counts = wanted, counts


def _level(bikes: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.clip(np.rint(bikes), 0, MOST).astype(np.int64)


def _score_table(counts: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the CRPS of each distribution of levels for each truth, ``float32`` like ``counts``.

    With F the share of levels up to k it is the sum of F² below the truth and of (1 − F)² from the
    truth on. NaN where a distribution has no counts.
    """
    upto = np.cumsum(counts, axis=-1, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        upto /= upto[..., -1:].copy()
    below = np.cumsum(upto**2, axis=-1) - upto**2
    above = np.flip(np.cumsum(np.flip((1 - upto) ** 2, axis=-1), axis=-1), axis=-1)
    scores: NDArray[np.float32] = below + above
    return scores
