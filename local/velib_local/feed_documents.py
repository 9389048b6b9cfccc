"""The documents of a feed: one state as GBFS 2.3, as GBFS 3.0, as Vélib' Métropole, as Open-Meteo.

Pure functions from a `FeedState` to what JSON can hold. What a state does not know is left out.
Sources: https://github.com/MobilityData/gbfs (2.3, 3.0), https://open-meteo.com/en/docs, and for
the Vélib' dialect the payloads of 2022 to 2026 as they were served.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core.grid import iso_z
from velib_core.weather import Weather

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_local.feed_state import FeedState, StationStatus

    Column = Sequence[Any] | None
    Json = dict[str, Any]

TTL_S = 0
"""A simulated or replayed feed may change whenever it is asked."""

VELIB_TTL_S = 3600
"""What Vélib' Métropole announces, for feeds that change every minute."""

FEEDS = ("station_information", "station_status", "vehicle_types")

PROPULSION = {"mechanical": "human", "ebike": "electric_assist"}
E_BIKE_RANGE_M = 60_000

_FLAGS = ("is_installed", "is_renting", "is_returning")


def gbfs_2(state: FeedState, base_url: str) -> dict[str, Callable[[], Json]]:
    """Return the documents of GBFS 2.3 by file name, each made when called.

    Stamps are POSIX seconds, flags booleans, bikes by type in ``vehicle_types_available``.
    """

    def document(data: Json) -> Json:
        head = {"last_updated": _posix(state.last_updated), "ttl": TTL_S, "version": "2.3"}
        return head | {"data": data}

    info = state.stations
    about = {"name": info.name, "lat": info.lat, "lon": info.lon, "capacity": info.capacity}
    return {
        "gbfs.json": lambda: document({"en": {"feeds": _listing(base_url, FEEDS)}}),
        "station_information.json": lambda: document(
            {"stations": _records({"station_id": info.station_id, **about})}
        ),
        "station_status.json": lambda: document(
            {"stations": _records(_status(state.status, "bikes", state.status.last_reported))}
        ),
        "vehicle_types.json": lambda: document({"vehicle_types": _vehicle_types(str)}),
    }


def gbfs_3(state: FeedState, base_url: str) -> dict[str, Callable[[], Json]]:
    """Return the documents of GBFS 3.0 by file name, each made when called.

    Stamps are RFC 3339, texts carry their language, bikes are vehicles.
    """

    def document(data: Json) -> Json:
        head = {"last_updated": iso_z(state.last_updated), "ttl": TTL_S, "version": "3.0"}
        return head | {"data": data}

    def stations() -> list[Json]:
        info = state.stations
        return _records(
            {
                "station_id": info.station_id,
                "name": [name and _localised(name) for name in info.name],
                "lat": info.lat,
                "lon": info.lon,
                "capacity": info.capacity,
            }
        )

    def status() -> list[Json]:
        reported = state.status.last_reported
        stamps = (
            None if reported is None else [None if s is None else _rfc3339(s) for s in reported]
        )
        return _records(_status(state.status, "vehicles", stamps))

    return {
        "gbfs.json": lambda: document({"feeds": _listing(base_url, FEEDS)}),
        "station_information.json": lambda: document({"stations": stations()}),
        "station_status.json": lambda: document({"stations": status()}),
        "vehicle_types.json": lambda: document({"vehicle_types": _vehicle_types(_localised)}),
    }


def velib(state: FeedState, base_url: str) -> dict[str, Callable[[], Json]]:
    """Return the documents of the Vélib' Métropole dialect by file name, each made when called.

    ``lastUpdatedOther`` in place of ``last_updated``, no ``version``, whole numbers for ids that
    are, flags 0 and 1, counts twice under twin keys and by type as a list of one-key objects.
    """

    def document(data: Json) -> Json:
        return {
            "lastUpdatedOther": _posix(state.last_updated),
            "ttl": VELIB_TTL_S,
            "data": data,
        }

    def stations() -> list[Json]:
        info = state.stations
        columns = {
            "station_id": [_number(station_id) for station_id in info.station_id],
            "stationCode": info.station_id,
            "name": info.name,
            "lat": info.lat,
            "lon": info.lon,
            "capacity": info.capacity,
        }
        return [record | {"station_opening_hours": None} for record in _records(columns)]

    return {
        "gbfs.json": lambda: document({"en": {"feeds": _listing(base_url, FEEDS[:2])}}),
        "station_information.json": lambda: document({"stations": stations()}),
        "station_status.json": lambda: document(
            {"stations": _records(_velib_status(state.status))}
        ),
    }


def _velib_status(status: StationStatus) -> dict[str, Column]:
    return {
        "station_id": [_number(station_id) for station_id in status.station_id],
        "num_bikes_available": status.bikes,
        "numBikesAvailable": status.bikes,
        "num_bikes_available_types": _types(status, lambda kind, count: {kind: count}),
        "num_docks_available": status.docks_available,
        "numDocksAvailable": status.docks_available,
        **{flag: getattr(status, flag) for flag in _FLAGS},
        "last_reported": status.last_reported,
        "stationCode": status.station_id,
        "station_status": status.station_status,
    }


def _status(status: StationStatus, vehicles: str, last_reported: Column) -> dict[str, Column]:
    return {
        "station_id": status.station_id,
        f"num_{vehicles}_available": status.bikes,
        "vehicle_types_available": _types(
            status, lambda kind, count: {"vehicle_type_id": kind, "count": count}
        ),
        f"num_{vehicles}_disabled": status.bikes_disabled,
        "num_docks_available": status.docks_available,
        "num_docks_disabled": status.docks_disabled,
        **{flag: _booleans(getattr(status, flag)) for flag in _FLAGS},
        "last_reported": last_reported,
        "station_status": status.station_status,
    }


def _records(columns: Mapping[str, Column]) -> list[Json]:
    """Return one object a row, without the keys that have no value."""
    present = {key: column for key, column in columns.items() if column is not None}
    return [
        {key: value for key, value in zip(present, row, strict=True) if value is not None}
        for row in zip(*present.values(), strict=True)
    ]


def _types(status: StationStatus, item: Callable[[str, int], Json]) -> Column:
    """Return the bikes by type of each record, ``None`` where a record tells neither."""
    if status.mechanical is None and status.ebike is None:
        return None
    unknown = [None] * len(status.station_id)
    counts = zip(status.mechanical or unknown, status.ebike or unknown, strict=True)
    return [
        [item(kind, n) for kind, n in zip(PROPULSION, pair, strict=True) if n is not None] or None
        for pair in counts
    ]


def _booleans(column: Column) -> Column:
    return None if column is None else [None if flag is None else bool(flag) for flag in column]


def _listing(base_url: str, feeds: Sequence[str]) -> list[Json]:
    return [{"name": feed, "url": f"{base_url}/{feed}.json"} for feed in feeds]


def _vehicle_types(text: Callable[[str], Any]) -> list[Json]:
    types: list[Json] = [
        {
            "vehicle_type_id": kind,
            "form_factor": "bicycle",
            "propulsion_type": propulsion,
            "name": text(kind),
        }
        for kind, propulsion in PROPULSION.items()
    ]
    types[1]["max_range_meters"] = E_BIKE_RANGE_M
    return types


def _localised(text: str) -> list[Json]:
    return [{"text": text, "language": "fr"}]


def _number(station_id: str | None) -> int | str | None:
    """Return an id as a whole number where that writes it unchanged."""
    if station_id is not None and station_id.isdecimal() and str(int(station_id)) == station_id:
        return int(station_id)
    return station_id


def _posix(instant: dt.datetime) -> int:
    return int(instant.timestamp())


def _rfc3339(posix: int) -> str:
    return iso_z(dt.datetime.fromtimestamp(posix, dt.UTC))


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
        raise BadRequestError(f"timezone {query['timezone']!r} is not served, only UTC")
    unit, factor = _wind_unit(query)
    place = {name: _coordinate(query, name) for name in ("latitude", "longitude")}
    answer: Json = {**place, "utc_offset_seconds": 0, "timezone": "UTC"}
    air = state.weather or Weather()
    wind = None if air.wind_mps is None else air.wind_mps * factor
    values = {"temp_C": air.temp_C, "precip_mm": air.precip_mm, "wind_mps": wind}
    units = {name: told or unit for name, (_, told) in _VARIABLES.items()}
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
