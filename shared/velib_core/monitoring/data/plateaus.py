"""Plateaus: counts that did not change for improbably long, by state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from velib_core.monitoring.stats import run_lengths
from velib_core.timeline.bins import BINS_PER_DAY

if TYPE_CHECKING:
    from velib_core.tables.panel import Panel


class Plateau(NamedTuple):
    """A station's unchanged count: how long, in what state, how likely by chance."""

    station: int
    first: int
    last: int
    steps: int
    state: str
    chance: float


def find_plateaus(panel: Panel, least_steps: int, least_chance: float) -> list[Plateau]:
    """Return the plateaus of at least so many steps, longest first, each with its state.

    A station can be ``out_of_service``, ``empty`` or ``full`` for long; else it is ``stuck``
    where that is less likely than ``least_chance``, or merely ``quiet``.

    The chance that a count stays unchanged for so long is ``(1 − p)^steps`` with its own rate of
    change p, drawn towards the network's by the weight of one day (so that a station that never
    moved at all has a rate).
    """
    bikes, rated = panel["bikes"], np.isfinite(panel["is_penury"])
    observed = np.isfinite(bikes)
    lookback = run_lengths.lookback_of(observed)
    change, at = run_lengths.changes(bikes, lookback)
    unchanged = change == 0
    steps = np.isfinite(change).sum(axis=0)
    changes = steps - unchanged.sum(axis=0)
    network = changes.sum() / max(steps.sum(), 1)
    rate = (changes + BINS_PER_DAY * network) / (steps + BINS_PER_DAY)
    found = run_lengths.find_runs(unchanged, observed, lookback)
    found = found.where(found.rows + 1 >= least_steps)
    plateaus = []
    for station, first, last, rows in zip(*(field.tolist() for field in found), strict=True):
        chance = float((1 - rate[station]) ** rows)
        opening = int(at[first, station])
        if not rated[opening : last + 1, station].any():
            state = "out_of_service"
        elif bikes[first, station] == 0:
            state = "empty"
        elif panel["free_docks"][first, station] == 0:
            state = "full"
        else:
            state = "stuck" if chance < least_chance else "quiet"
        plateaus.append(Plateau(station, opening, last, rows + 1, state, chance))
    return sorted(plateaus, key=lambda p: (p.first - p.last, panel.stations.ids[p.station]))
