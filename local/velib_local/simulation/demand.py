"""Why and when people of a simulated city ride: purposes, types of day, hours."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

from velib_local.simulation.city_map import Draw

if TYPE_CHECKING:
    import datetime as dt


class DayType(enum.Enum):
    """Days that people spend alike."""

    WORKING = 0
    SATURDAY = 1
    SUNDAY = 2


_W, _SAT, _SUN = DayType.WORKING, DayType.SATURDAY, DayType.SUNDAY

PURPOSES: tuple[tuple[Draw, Draw, dict[DayType, tuple[float, float, float]]], ...] = (
    (Draw.HOME, Draw.WORK, {_W: (0.24, 8.5, 0.9)}),
    (Draw.WORK, Draw.HOME, {_W: (0.21, 18.2, 1.3)}),
    (Draw.WORK, Draw.LEISURE, {_W: (0.05, 12.3, 0.6)}),
    (Draw.LEISURE, Draw.WORK, {_W: (0.05, 13.5, 0.6)}),
    (Draw.HOME, Draw.HOME, {_W: (0.18, 14.0, 3.5), _SAT: (0.20, 13.0, 3.5), _SUN: (0.14, 14, 3.5)}),
    (
        Draw.HOME,
        Draw.LEISURE,
        {_W: (0.13, 18.5, 2.5), _SAT: (0.33, 16, 3.0), _SUN: (0.28, 15, 2.5)},
    ),
    (
        Draw.LEISURE,
        Draw.HOME,
        {_W: (0.12, 22.0, 2.0), _SAT: (0.24, 20, 3.5), _SUN: (0.26, 19, 2.5)},
    ),
    (
        Draw.LEISURE,
        Draw.HOME,
        {_W: (0.02, 1.0, 1.5), _SAT: (0.09, 2.0, 1.8), _SUN: (0.09, 2.0, 1.8)},
    ),
)
"""From where to where, and by type of day: the share of a working day's trips, the local hour
around which they start, and their spread in hours."""


def hourly_rates(local: dt.datetime) -> list[float]:
    """Return the trips an hour of each of `PURPOSES` at a local time.

    As shares of all trips of a working day, so that over such a day all of them sum to 1.
    """
    day = {5: DayType.SATURDAY, 6: DayType.SUNDAY}.get(local.weekday(), DayType.WORKING)
    hour = local.hour + local.minute / 60
    rates = []
    for _, _, days in PURPOSES:
        share, centre, spread = days.get(day, (0.0, 0.0, 1.0))
        away = abs(hour - centre)
        away = min(away, 24 - away) / spread
        rates.append(share * math.exp(-0.5 * away * away) / (spread * math.sqrt(math.tau)))
    return rates
