"""Perf views → what was forecast and what came true, on the grid of issue bins."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.grid import Bin
from velib_core.monitoring.observations import assemble
from velib_core.panel import WEATHER_VARIABLES, Panel, Stations, bins_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from velib_core.grid import HorizonBins
    from velib_core.windows import LocalDays

COLUMNS = (
    "tbin_utc",
    "station_id",
    "horizon_bins",
    "y_true",
    "y_baseline_persist",
    "y_pred_int",
    "y_pred",
    "y_mean",
    "capacity",
    "model_version",
)
"""Columns of the perf view that are read."""

_VARIABLES = ("y_true", "y_baseline_persist", "y_pred_int", "y_pred", "y_mean", "capacity")


@dataclasses.dataclass(frozen=True)
class Hindcasts:
    """Forecasts of one horizon in a window; arrays ``float32[T, S]`` by issue bin, NaN unknown.

    ``truth`` is what was there at the target time; ``base`` the bikes at the issue bin, which
    is what persistence forecasts; ``published`` the whole number a user sees, ``median`` and
    ``mean`` the numbers behind it; ``capacity`` at the issue bin. ``versions`` counts the
    forecasts of each model.
    """

    horizon: HorizonBins
    window: LocalDays
    stations: Stations
    truth: NDArray[np.float32]
    base: NDArray[np.float32]
    published: NDArray[np.float32]
    median: NDArray[np.float32]
    mean: NDArray[np.float32]
    capacity: NDArray[np.float32]
    versions: dict[str, int]

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Where truth, baseline and forecast are all known: the mask of every comparison."""
        return np.isfinite(self.truth) & np.isfinite(self.base) & np.isfinite(self.published)


def lay_out(
    tables: Iterable[pa.Table], window: LocalDays, horizons: Sequence[HorizonBins]
) -> dict[HorizonBins, Hindcasts]:
    """Lay perf views with `COLUMNS`, one a day in time order, on the grid, by horizon.

    A horizon that no table has gets arrays without stations.
    """
    parts: dict[HorizonBins, list[Panel]] = {h: [] for h in horizons}
    versions = {h: collections.Counter[str]() for h in horizons}
    for table in tables:
        if not table.num_rows:
            continue
        horizon = np.asarray(table["horizon_bins"])
        for h, part in _day_panels(table, horizon, horizons).items():
            parts[h].append(part)
            rows = table["model_version"].filter(pa.array(horizon == h)).drop_null()
            versions[h].update({c["values"]: c["counts"] for c in rows.value_counts().to_pylist()})
    return {h: _join(h, window, parts.pop(h), versions[h]) for h in horizons}


def _day_panels(
    table: pa.Table, horizon: NDArray[np.int64], horizons: Sequence[HorizonBins]
) -> dict[HorizonBins, Panel]:
    """Lay one perf view on its own bins and stations, by horizon.

    Both horizons' rows are placed from one look at stamps and stations: a filtered table each
    costs twice as much.
    """
    encoded = table["station_id"].cast(pa.string()).combine_chunks().dictionary_encode()
    ids, rank = np.unique(encoded.dictionary.to_pylist(), return_inverse=True)
    bins = bins_of(table["tbin_utc"])
    start, shape = Bin(int(bins.min())), (int(bins.max() - bins.min()) + 1, len(ids))
    cells = (bins - start) * len(ids) + rank[np.asarray(encoded.indices)]
    columns = {name: _floats(table, name) for name in _VARIABLES}
    unknown = np.full(len(ids), np.nan)
    stations = Stations(
        ids, np.full(len(ids), "", np.str_), unknown, unknown, unknown.astype(np.float32)
    )
    weather = {name: np.full(shape[0], np.nan, np.float32) for name in WEATHER_VARIABLES}
    panels = {}
    for h in horizons:
        rows = np.flatnonzero(horizon == h)
        values = {name: np.full(shape, np.nan, np.float32) for name in ("bikes", *_VARIABLES)}
        for name, column in columns.items():
            values[name].reshape(-1)[cells[rows]] = column[rows]
        values["bikes"] = values["y_baseline_persist"]
        panels[h] = Panel(start, stations, values, weather)
    return panels


def _floats(table: pa.Table, name: str) -> NDArray[np.float32]:
    column = pc.cast(table[name], pa.float32(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float32)


def _join(
    horizon: HorizonBins, window: LocalDays, parts: list[Panel], versions: dict[str, int]
) -> Hindcasts:
    panel = assemble(parts, window.start, window.stop, _VARIABLES)
    return Hindcasts(
        horizon,
        window,
        panel.stations,
        panel["y_true"],
        panel["y_baseline_persist"],
        panel["y_pred_int"],
        panel["y_pred"],
        panel["y_mean"],
        panel["capacity"],
        dict(sorted(versions.items())),
    )
