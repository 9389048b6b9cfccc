"""Perf views → what was forecast and what came true, on the grid of issue bins."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from velib_core.monitoring.observations import assemble, day_panel
from velib_core.panel import Panel, bins_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.grid import HorizonBins
    from velib_core.panel import Stations
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
        bins = bins_of(table["tbin_utc"])
        inside = (bins >= window.start) & (bins < window.stop)
        horizon = np.asarray(table["horizon_bins"])
        for h in horizons:
            rows = table.filter(inside & (horizon == h))
            part = day_panel(rows, _VARIABLES)
            if part is not None:
                parts[h].append(part)
                counts = pc.value_counts(rows["model_version"].drop_null()).to_pylist()
                versions[h].update({c["values"]: c["counts"] for c in counts})
    return {h: _join(h, window, parts.pop(h), versions[h]) for h in horizons}


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
