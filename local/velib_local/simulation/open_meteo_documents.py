"""The documents of the weather API, as Open-Meteo answers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core.feeds.open_meteo import Weather

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from velib_local.simulation.feed_state import FeedState

    Column = Sequence[Any] | None
    Json = dict[str, Any]


class BadRequestError(ValueError):
    """A weather query that Open-Meteo would refuse; its text is the reason."""


WIND_UNITS = {
    "kmh": ("km/h", 3.6),
    "ms": ("m/s", 1.0),
    "mph": ("mp/h", 3600 / 1609.344),
    "kn": ("kn", 3600 / 1852),
}
"""Name as asked → name as answered, and how many of it make 1 m/s."""


CURRENT_INTERVAL_S = 3600
"""Over how long ``current.precipitation`` is summed.

Open-Meteo says 900. An hour says the same rain in a number that needs no scaling, so that what a
client computes is bit for bit what the state holds.
"""


_VARIABLES: dict[str, tuple[str, str]] = {
    "temperature_2m": ("temp_C", "°C"),
    "precipitation": ("precip_mm", "mm"),
    "wind_speed_10m": ("wind_mps", ""),
    "windspeed_10m": ("wind_mps", ""),
}


_MAX_DAYS = {"past_days": 92, "forecast_days": 16}


def forecast(state: FeedState, query: Mapping[str, str]) -> Json:
    """Return what Open-Meteo's ``/v1/forecast`` would say.

    ``query`` may hold ``latitude`` and ``longitude`` (required), ``current`` and ``hourly``
    (variables with commas), ``past_days``, ``forecast_days``, ``wind_speed_unit`` or
    ``windspeed_unit``, and ``timezone`` (UTC). Precipitation is the state's mm an hour in both
    blocks: the sum of the preceding `CURRENT_INTERVAL_S`, or of the preceding hour. Wind is exact
    in m/s. The weather of the moment holds for the hours to come, and the hours before the
    present one are null: a state remembers nothing.

    Raises `BadRequestError` for what the real service refuses.
    """
    if query.get("timezone", "UTC") not in {"UTC", "GMT"}:
        raise BadRequestError(f"timezone {query['timezone']!r} is not available, only UTC")
    unit, factor = _wind_unit(query)
    place = {name: _coordinate(query, name) for name in ("latitude", "longitude")}
    answer: Json = {**place, "utc_offset_seconds": 0, "timezone": "UTC"}
    air = state.weather or Weather()
    wind = None if air.wind_mps is None else air.wind_mps * factor
    values = {"temp_C": air.temp_C, "precip_mm": air.precip_mm, "wind_mps": wind}
    units = {name: reported or unit for name, (_, reported) in _VARIABLES.items()}
    if asked := _asked(query, "current"):
        answer["current_units"] = {"time": "iso8601", "interval": "seconds"} | {
            name: units[name] for name in asked
        }
        quarter = state.now.astimezone(dt.UTC).replace(minute=state.now.minute // 15 * 15)
        answer["current"] = {"time": f"{quarter:%Y-%m-%dT%H:%M}", "interval": CURRENT_INTERVAL_S}
        answer["current"] |= {name: values[_VARIABLES[name][0]] for name in asked}
    if asked := _asked(query, "hourly"):
        hours = _hours(state.now, query)
        answer["hourly_units"] = {"time": "iso8601"} | {name: units[name] for name in asked}
        answer["hourly"] = {"time": [f"{hour:%Y-%m-%dT%H:%M}" for hour in hours]}
        present = state.now.replace(minute=0, second=0, microsecond=0)
        for name in asked:
            value = values[_VARIABLES[name][0]]
            answer["hourly"][name] = [None if hour < present else value for hour in hours]
    return answer


def _asked(query: Mapping[str, str], block: str) -> list[str]:
    names = [name for name in query.get(block, "").split(",") if name]
    for name in names:
        if name not in _VARIABLES:
            raise BadRequestError(
                f"{block}: no variable {name!r}, there are {', '.join(_VARIABLES)}"
            )
    return names


def _wind_unit(query: Mapping[str, str]) -> tuple[str, float]:
    asked = query.get("wind_speed_unit", query.get("windspeed_unit", "kmh"))
    if asked not in WIND_UNITS:
        raise BadRequestError(f"wind_speed_unit {asked!r} is not one of {', '.join(WIND_UNITS)}")
    return WIND_UNITS[asked]


def _coordinate(query: Mapping[str, str], name: str) -> float:
    try:
        return float(query[name])
    except (KeyError, ValueError):
        raise BadRequestError(f"{name} {query.get(name)!r} is not a number") from None


def _hours(now: dt.datetime, query: Mapping[str, str]) -> list[dt.datetime]:
    """Return the hours from 00:00 UTC of the first day asked for to 23:00 of the last."""
    days = {"past_days": 0, "forecast_days": 7}
    for name in days:
        if name in query:
            text = query[name]
            if not text.isdecimal() or int(text) > _MAX_DAYS[name]:
                raise BadRequestError(f"{name} {text!r} is not within 0…{_MAX_DAYS[name]}")
            days[name] = int(text)
    midnight = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight - dt.timedelta(days=days["past_days"])
    return [first + dt.timedelta(hours=hour) for hour in range(24 * sum(days.values()))]
