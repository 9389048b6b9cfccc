"""Evaluation tables → forecasts and observations on the grid of issue bins."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.monitoring.panels import encode
from velib_core.tables.panel import bins_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from velib_core.timeline.bins import HorizonBins
    from velib_core.timeline.windows import LocalDays

COLUMNS = (
    "tbin_utc",
    "station_id",
    "horizon_bins",
    "y_true",
    "y_baseline_persist",
    "y_pred_int",
    "y_pred",
    "y_mean",
    "crps",
    "docks",
    "model_version",
)
"""Columns of the evaluation table that are read."""

FIELDS = {
    "truth": "y_true",
    "persistence": "y_baseline_persist",
    "integer": "y_pred_int",
    "median": "y_pred",
    "mean": "y_mean",
    "crps": "crps",
    "docks": "docks",
}
"""Arrays of a `Hindcasts` and the columns that they come from."""


@dataclasses.dataclass(frozen=True)
class Hindcasts:
    """Forecasts of one horizon in a window; arrays ``float32[T, S]`` by issue bin, NaN unknown.

    ``ids`` are the stations, sorted; ``versions`` counts the forecasts of each model.
    ``truth`` is what was there at the target time; ``persistence`` the bikes at the issue bin;
    ``integer`` the forecast as a whole number, ``median`` and ``mean`` the numbers
    behind it, ``crps`` the score of the whole distribution in bikes;
    ``docks`` the free docks at the issue bin, as the forecasts of a dock are about them.
    """

    horizon: HorizonBins
    window: LocalDays
    ids: NDArray[np.str_]
    versions: dict[str, int]
    truth: NDArray[np.float32]
    persistence: NDArray[np.float32]
    integer: NDArray[np.float32]
    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    crps: NDArray[np.float32]
    docks: NDArray[np.float32]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Where truth, baseline and forecast are all known: the mask of every comparison."""
        return np.isfinite(self.truth) & np.isfinite(self.persistence) & np.isfinite(self.integer)


def to_grid(
    tables: Iterable[pa.Table], window: LocalDays, horizons: Sequence[HorizonBins]
) -> dict[HorizonBins, Hindcasts]:
    """Put evaluation tables with `COLUMNS`, one per day in time order, on the grid, by horizon.

    A horizon that no table has gets arrays of NaN.
    """
    known: dict[str, int] = {}
    arrays = {
        (h, name): np.zeros((window.bins, 0), np.float32) for h in horizons for name in FIELDS
    }
    versions = {h: collections.Counter[str]() for h in horizons}
    for table in filter(len, tables):
        ids, station = encode(table["station_id"])
        known |= {i: len(known) + n for n, i in enumerate(i for i in ids if i not in known)}
        for key, array in arrays.items():
            arrays[key] = _widened(array, len(known))
        column = np.array([known[i] for i in ids], np.int64)[station]
        at = bins_of(table["tbin_utc"]) - window.start
        inside = (at >= 0) & (at < window.bins)
        horizon = np.asarray(table["horizon_bins"])
        names, version = encode(table["model_version"])
        values = {name: _floats(table[source]) for name, source in FIELDS.items()}
        for h in horizons:
            rows = np.flatnonzero(inside & (horizon == h))
            cells = at[rows] * len(known) + column[rows]
            for name, value in values.items():
                arrays[h, name].reshape(-1)[cells] = value[rows]
            counts = np.bincount(version[rows] + 1, minlength=len(names) + 1)[1:]
            versions[h].update({n: c for n, c in zip(names, counts.tolist(), strict=True) if c})
        del table, values  # before the next one is read
    # Arrow keeps what the tables held: as much as the arrays themselves.
    pa.default_memory_pool().release_unused()
    stations, order = np.unique(np.array(list(known), np.str_), return_index=True)
    found = {}
    for h in horizons:
        fields = {name: _ordered(arrays.pop((h, name)), order) for name in FIELDS}
        found[h] = Hindcasts(h, window, stations, dict(sorted(versions[h].items())), **fields)
    return found


def _widened(array: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the array with columns of NaN added, itself where it is wide enough."""
    if array.shape[1] == width:
        return array
    wide = np.full((len(array), width), np.nan, np.float32)
    wide[:, : array.shape[1]] = array
    return wide


def _ordered(array: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.float32]:
    return array if (np.diff(order) > 0).all() else array[:, order]


def _floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    values = pc.cast(column, pa.float32(), safe=False)
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float32)
