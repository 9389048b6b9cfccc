"""The documents of a feed: one state as GBFS 2.3, as GBFS 3.0, as Vélib' Métropole, as Open-Meteo.

Pure functions from a `FeedState` to what JSON can hold. What a state does not know is left out.
Sources: https://github.com/MobilityData/gbfs (2.3, 3.0), https://open-meteo.com/en/docs, and for
the Vélib' dialect the payloads of 2022 to 2026 as published.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core.timeline.bins import iso_z

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_local.simulation.feed_state import FeedState, StationStatus

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
    """Return the bikes by type of each record, ``None`` where a record has neither."""
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
