"""What the network's dynamics are made from: its window, and the weekdays that it compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs
from velib_core.lake.keys import Events
from velib_core.timeline.bins import day_after

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableNetwork

REGULARITY_WEEKS = 5
"""How far back the dynamics compare a day with earlier ones of its weekday."""


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    days = set(closed.window(network.settings.monitoring.dynamics_days).utc_days())
    newest = max(closed.files, default=None)
    if newest is not None:
        for week in range(REGULARITY_WEEKS + 1):
            at = day_after(newest, -7 * week)
            # A local day is in at most three UTC days.
            days |= {day_after(at, n) for n in (-1, 0, 1)}
    return Inputs(closed, closed.of(days))


FAMILY = Family("build_network_dynamics", "network/dynamics", Events, "dynamics", _read)
