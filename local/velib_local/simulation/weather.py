"""The weather of a simulated city, hour by hour, and how many riders it leaves."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

import numpy as np
from velib_core.feeds.open_meteo import Weather

if TYPE_CHECKING:
    import zoneinfo
    from collections.abc import Iterator

HOUR = dt.timedelta(hours=1)

MEAN_C, SEASON_C, DAY_C = 12.5, 8.0, 4.0
"""Mean of the year and half the swings of year and day, about those of Paris."""

COLDEST_DAY, WARMEST_HOUR = 20, 15
SPELL_C, SPELL_HOURS = 3.0, 60
"""Spread of the warm and cold spells, and how long they last."""

RAIN_STARTS, RAIN_STOPS = 0.02, 0.25
"""Chances by hour: it rains 7% of the time, 4 hours in a row."""

GUST_HOURS = 24


def hours(seed: int, start: dt.datetime, zone: zoneinfo.ZoneInfo) -> Iterator[Weather]:
    """Yield the weather of each UTC hour, from the one that holds ``start`` (aware) on, for ever.

    To the tenth of a °C, of a mm an hour and of a m/s, as weather services round.
    """
    rng = np.random.default_rng([seed, 1])
    hour = start.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    spell, gusts, rains = rng.normal(), rng.normal(), False
    while True:
        local = hour.astimezone(zone)
        season = math.cos((local.timetuple().tm_yday - COLDEST_DAY) / 365.25 * math.tau)
        day = math.cos((local.hour - WARMEST_HOUR) / 24 * math.tau)
        temperature = MEAN_C - SEASON_C * season + DAY_C * day + SPELL_C * spell
        rain = rng.gamma(1.2, 1.0) if rains else 0.0
        wind = math.exp(1.2 + 0.4 * gusts)
        yield Weather(round(temperature, 1), round(rain, 1), round(wind, 1))
        spell = _drift(spell, SPELL_HOURS, rng)
        gusts = _drift(gusts, GUST_HOURS, rng)
        rains = rng.random() < (1 - RAIN_STOPS if rains else RAIN_STARTS)
        hour += HOUR


def _drift(value: float, memory_hours: float, rng: np.random.Generator) -> float:
    """Return the next value of a process with mean 0, spread 1 and a memory (AR(1))."""
    kept = math.exp(-1 / memory_hours)
    return kept * value + math.sqrt(1 - kept * kept) * rng.normal()


def riders(weather: Weather) -> float:
    """Return the share of the usual trips that are made in a weather; 1 on a mild dry day."""
    warmth = min(1.15, max(0.5, 0.75 + 0.02 * (weather.temp_C or 0.0)))
    rain = 1 / (1 + 0.35 * (weather.precip_mm or 0.0))
    wind = 1 - 0.02 * min(20.0, max(0.0, (weather.wind_mps or 0.0) - 6))
    return warmth * rain * wind
