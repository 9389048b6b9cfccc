"""Current weather from Open-Meteo (https://open-meteo.com/en/docs): one value for the network."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import urllib.parse
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import PermanentError, TransientError
from velib_core.feeds import http
from velib_core.feeds.http import FeedError
from velib_core.tables.snapshot import naive

if TYPE_CHECKING:
    import requests

    from velib_core.settings.network import Settings

MAX_AGE = dt.timedelta(hours=2)
"""Open-Meteo's current values are at most a quarter of an hour old; much older ones describe
another weather than the snapshot's."""

BUDGET_S = 8.0
"""The weather may not hold a snapshot up for longer."""

_VARIABLES = ("temperature_2m", "precipitation", "wind_speed_10m")


@dataclasses.dataclass(frozen=True)
class Weather:
    """Temperature in °C, precipitation in mm an hour, wind at 10 m in m/s; null where unknown.

    ``weather_utc`` is the time that the values stand for (naive UTC).
    """

    temp_C: float | None = None  # noqa: N815 -- the column's name in the lake
    precip_mm: float | None = None
    wind_mps: float | None = None
    weather_utc: dt.datetime | None = None


def observe(session: requests.Session, settings: Settings, at: dt.datetime) -> Weather:
    """Return the weather at an instant (aware); nulls, and one warning, where it is not to be had.

    A snapshot is never lost for its weather.
    """
    if settings.weather_disabled:
        return Weather()
    query = urllib.parse.urlencode(
        {
            "latitude": settings.weather_lat,
            "longitude": settings.weather_lon,
            "current": ",".join(_VARIABLES),
            "wind_speed_unit": "ms",
            "timezone": "UTC",
        }
    )
    try:
        return read(http.get(session, f"{settings.weather_url}?{query}", BUDGET_S).body, at)
    except (PermanentError, TransientError) as error:
        logs.log("WARNING", f"no weather: {error}")
        return Weather()


def read(body: bytes, at: dt.datetime) -> Weather:
    """Read a response for an instant.

    ``current.precipitation`` is the sum over the preceding ``current.interval`` seconds and is
    scaled to an hour. Raises `velib_core.feeds.http.FeedError` where the response is malformed or
    its     time is more than `MAX_AGE` from the instant.
    """
    try:
        current = json.loads(body)["current"]
        stamp = dt.datetime.fromisoformat(current["time"]).replace(tzinfo=dt.UTC)
        interval_s = float(current["interval"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FeedError("weather", body[:80], "an Open-Meteo response with current") from error
    if abs(stamp - at) > MAX_AGE:
        raise FeedError("weather current.time", stamp.isoformat(), f"within {MAX_AGE} of {at}")
    if not 0 < interval_s <= 24 * 3600:
        raise FeedError("weather current.interval", interval_s, "seconds, at most a day")
    temperature, precipitation, wind = (_number(current.get(name)) for name in _VARIABLES)
    hourly = None if precipitation is None else precipitation * (3600 / interval_s)
    return Weather(temperature, hourly, wind, naive(stamp))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
