"""What the network's stations are made from: a window of closed days."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs
from velib_core.lake.keys import Events

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableNetwork


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    window = closed.window(network.settings.monitoring.stations_days)
    return Inputs(closed, closed.of(window.utc_days()))


FAMILY = Family("build_network_stations", "network/stations", Events, "stations", _read)
