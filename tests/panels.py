"""Small synthetic networks for tests of features and forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from velib_core.tables.panel import Panel, Stations
from velib_core.timeline.bins import BINS_PER_DAY, Bin, first_bin, parse_day

if TYPE_CHECKING:
    from numpy.typing import NDArray

START = first_bin(parse_day("2025-03-24"))
"""A Monday; Paris changes to summer time the Sunday after."""


def make_panel(
    days: int = 3, stations: int = 6, seed: int = 0, missing: float = 0.1, start: Bin = START
) -> Panel:
    """A network whose stations fill and empty by the hour, with holes."""
    rng = np.random.default_rng(seed)
    bins = days * BINS_PER_DAY
    capacity = rng.integers(8, 30, stations)
    hour = (np.arange(bins) % BINS_PER_DAY)[:, None] / 12
    drift = 0.12 * np.sin((hour - 3) * np.pi / 6) * rng.choice([-1, 1], stations)
    bikes = np.empty((bins, stations), np.float32)
    level = (capacity // 2).astype(float)
    for t in range(bins):
        level = np.clip(
            level
            + rng.poisson(0.08 + np.maximum(drift[t], 0))
            - rng.poisson(0.08 + np.maximum(-drift[t], 0)),
            0,
            capacity,
        )
        bikes[t] = level
    hole = rng.random((bins, stations)) < missing
    hole |= (rng.random(bins) < missing / 2)[:, None]

    def observed(values: NDArray[Any]) -> NDArray[np.float32]:
        return np.where(hole, np.nan, values).astype(np.float32)

    full = np.broadcast_to(capacity, bikes.shape)
    values = {
        "bikes": observed(bikes),
        "capacity": observed(full),
        "mechanical": observed(bikes // 2),
        "ebike": observed(bikes - bikes // 2),
        "docks_available": observed(full - bikes),
        "ok": observed(np.ones_like(bikes)),
        "age_min": observed(rng.integers(0, 20, bikes.shape)),
    }
    weather = {
        name: rng.normal(10, 3, bins).astype(np.float32)
        for name in ("temp_C", "precip_mm", "wind_mps")
    }
    ids = np.array([f"{1000 + n}" for n in range(stations)])
    table = Stations(
        ids,
        ids,
        48.85 + rng.normal(0, 0.02, stations),
        2.35 + rng.normal(0, 0.03, stations),
        capacity.astype(np.float32),
    )
    return Panel(Bin(start), table, values, weather)


def changed(panel: Panel, values: Any = None, weather: Any = None) -> Panel:
    """The same panel with other arrays."""
    return Panel(
        panel.start,
        panel.stations,
        dict(panel.values) | (values or {}),
        dict(panel.weather) | (weather or {}),
    )


def mapped(panel: Panel, change: Any, stations: Any = None) -> Panel:
    """The same panel with a function applied to each station array."""
    return Panel(
        panel.start,
        stations or panel.stations,
        {name: change(array) for name, array in panel.values.items()},
        panel.weather,
    )
