"""A feed that shows whatever state it is given: GBFS 2 and 3, Vélib's dialect, Open-Meteo.

The simulated city and recorded networks are shown through it, so that the real ingestion reads
them over real HTTP. The ``Date`` header is the feed's clock, not this machine's.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import http.server
import json
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MECHANICAL, EBIKE = "mechanical", "ebike"

WEATHER_INTERVAL_S = 3600
"""An hour, so that millimetres an hour cross the wire without rounding."""


@dataclasses.dataclass(frozen=True)
class StationState:
    """One station as a feed tells it; ``None`` where the feed does not say."""

    station_id: str | None
    bikes: int
    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    capacity: int | None = None
    mechanical: int | None = None
    ebike: int | None = None
    docks_available: int | None = None
    status: str | None = None
    is_installed: int | None = None
    is_renting: int | None = None
    is_returning: int | None = None
    last_reported: dt.datetime | None = None


@dataclasses.dataclass(frozen=True)
class WeatherState:
    """Temperature in °C, precipitation in mm an hour, wind in m/s."""

    temp_C: float | None  # noqa: N815 -- the column's name in the lake
    precip_mm: float | None
    wind_mps: float | None


@dataclasses.dataclass(frozen=True)
class FeedState:
    """What a network shows at one moment (aware, UTC)."""

    last_updated: dt.datetime
    stations: Sequence[StationState]
    weather: WeatherState | None = None


@dataclasses.dataclass
class Fault:
    """What to answer instead, for paths with a prefix, so many times (for ever when ``None``)."""

    prefix: str
    status: int = 503
    body: bytes = b""
    content_type: str = "text/plain"
    times: int | None = None


class FeedServer:
    """The server; show it a state before anybody asks."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._shown: _Encoded | None = None
        self._server = _server(self)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start serving."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def show(self, state: FeedState) -> None:
        """Show a state from now on."""
        self._shown = _Encoded(state, self.base_url)

    def answer(self, path: str) -> tuple[int, str, bytes, dt.datetime | None]:
        """Return status, content type, body and the feed's clock for a request path."""
        shown = self._shown
        clock = shown.state.last_updated if shown else None
        for fault in self.faults:
            if path.startswith(fault.prefix) and fault.times != 0:
                fault.times = None if fault.times is None else fault.times - 1
                return fault.status, fault.content_type, fault.body, clock
        body = shown.document(path) if shown else None
        if body is None:
            return 404, "text/plain", b"no such document", clock
        return 200, "application/json", body, clock


class _Encoded:
    """A state and its documents, each encoded at its first request."""

    def __init__(self, state: FeedState, base_url: str) -> None:
        self.state = state
        self._base_url = base_url
        self._documents: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def document(self, path: str) -> bytes | None:
        plain = path.partition("?")[0]
        make = _DOCUMENTS.get(plain)
        if make is None:
            return None
        with self._lock:
            if plain not in self._documents:
                text = json.dumps(make(self.state, self._base_url), separators=(",", ":"))
                self._documents[plain] = text.encode()
            return self._documents[plain]


def _posix(instant: dt.datetime) -> int:
    return int(instant.timestamp())


def _rfc3339(instant: dt.datetime) -> str:
    return instant.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _said(**fields: object) -> dict[str, object]:
    """Return the fields that have a value: a feed leaves out what it does not know."""
    return {key: value for key, value in fields.items() if value is not None}


def _listing(version: int, base_url: str) -> list[dict[str, str]]:
    names = ("station_information", "station_status", "vehicle_types")
    return [{"name": name, "url": f"{base_url}/gbfs/{version}/{name}.json"} for name in names]


def _wrap_2(state: FeedState, data: dict[str, Any]) -> dict[str, Any]:
    return {"last_updated": _posix(state.last_updated), "ttl": 0, "version": "2.3", "data": data}


def _wrap_3(state: FeedState, data: dict[str, Any]) -> dict[str, Any]:
    return {"last_updated": _rfc3339(state.last_updated), "ttl": 0, "version": "3.0", "data": data}


def _wrap_velib(state: FeedState, data: dict[str, Any]) -> dict[str, Any]:
    return {"lastUpdatedOther": _posix(state.last_updated), "ttl": 3600, "data": data}


def _discovery_2(state: FeedState, base_url: str) -> dict[str, Any]:
    return _wrap_2(state, {"en": {"feeds": _listing(2, base_url)}})


def _discovery_3(state: FeedState, base_url: str) -> dict[str, Any]:
    return _wrap_3(state, {"feeds": _listing(3, base_url)})


def _described(state: FeedState) -> list[StationState]:
    """Return the stations that information is published about."""
    return [
        s
        for s in state.stations
        if s.station_id is not None
        and not (s.name is None and s.lat is None and s.capacity is None)
    ]


def _information_2(state: FeedState, _: str) -> dict[str, Any]:
    stations = [
        _said(station_id=s.station_id, name=s.name, lat=s.lat, lon=s.lon, capacity=s.capacity)
        for s in _described(state)
    ]
    return _wrap_2(state, {"stations": stations})


def _information_3(state: FeedState, _: str) -> dict[str, Any]:
    stations = [
        _said(
            station_id=s.station_id,
            name=None if s.name is None else [{"text": s.name, "language": "fr"}],
            lat=s.lat,
            lon=s.lon,
            capacity=s.capacity,
        )
        for s in _described(state)
    ]
    return _wrap_3(state, {"stations": stations})


def _information_velib(state: FeedState, _: str) -> dict[str, Any]:
    stations = [
        _said(
            station_id=_as_number(s.station_id),
            stationCode=s.station_id,
            name=s.name,
            lat=s.lat,
            lon=s.lon,
            capacity=s.capacity,
            station_opening_hours=None,
        )
        for s in _described(state)
    ]
    return _wrap_velib(state, {"stations": stations})


def _status_2(state: FeedState, _: str) -> dict[str, Any]:
    stations = [
        _said(
            station_id=s.station_id,
            num_bikes_available=s.bikes,
            vehicle_types_available=_by_type(s),
            num_docks_available=s.docks_available,
            is_installed=s.is_installed,
            is_renting=s.is_renting,
            is_returning=s.is_returning,
            station_status=s.status,
            last_reported=None if s.last_reported is None else _posix(s.last_reported),
        )
        for s in state.stations
    ]
    return _wrap_2(state, {"stations": stations})


def _status_3(state: FeedState, _: str) -> dict[str, Any]:
    stations = [
        _said(
            station_id=s.station_id,
            num_vehicles_available=s.bikes,
            vehicle_types_available=_by_type(s),
            num_docks_available=s.docks_available,
            is_installed=_as_bool(s.is_installed),
            is_renting=_as_bool(s.is_renting),
            is_returning=_as_bool(s.is_returning),
            station_status=s.status,
            last_reported=None if s.last_reported is None else _rfc3339(s.last_reported),
        )
        for s in state.stations
    ]
    return _wrap_3(state, {"stations": stations})


def _status_velib(state: FeedState, _: str) -> dict[str, Any]:
    stations = []
    for s in state.stations:
        kinds = None
        if s.mechanical is not None and s.ebike is not None:
            kinds = [{MECHANICAL: s.mechanical}, {EBIKE: s.ebike}]
        stations.append(
            _said(
                station_id=_as_number(s.station_id),
                stationCode=s.station_id,
                num_bikes_available=s.bikes,
                numBikesAvailable=s.bikes,
                num_bikes_available_types=kinds,
                num_docks_available=s.docks_available,
                numDocksAvailable=s.docks_available,
                is_installed=s.is_installed,
                is_returning=s.is_returning,
                is_renting=s.is_renting,
                station_status=s.status,
                last_reported=None if s.last_reported is None else _posix(s.last_reported),
            )
        )
    return _wrap_velib(state, {"stations": stations})


def _vehicle_types(state: FeedState, wrap: Callable[[FeedState, dict[str, Any]], Any]) -> Any:  # noqa: ANN401
    kinds = ((MECHANICAL, "human"), (EBIKE, "electric_assist"))
    types = [
        {"vehicle_type_id": kind, "form_factor": "bicycle", "propulsion_type": propulsion}
        for kind, propulsion in kinds
    ]
    return wrap(state, {"vehicle_types": types})


def _weather(state: FeedState, _: str) -> dict[str, Any]:
    air = state.weather or WeatherState(None, None, None)
    stamp = state.last_updated.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M")
    return {
        "utc_offset_seconds": 0,
        "timezone": "UTC",
        "current_units": {
            "time": "iso8601",
            "interval": "seconds",
            "temperature_2m": "°C",
            "precipitation": "mm",
            "wind_speed_10m": "m/s",
        },
        "current": {
            "time": stamp,
            "interval": WEATHER_INTERVAL_S,
            "temperature_2m": air.temp_C,
            "precipitation": air.precip_mm,
            "wind_speed_10m": air.wind_mps,
        },
    }


_DOCUMENTS: dict[str, Callable[[FeedState, str], Any]] = {
    "/gbfs/2/gbfs.json": _discovery_2,
    "/gbfs/2/station_information.json": _information_2,
    "/gbfs/2/station_status.json": _status_2,
    "/gbfs/2/vehicle_types.json": lambda state, _: _vehicle_types(state, _wrap_2),
    "/gbfs/3/gbfs.json": _discovery_3,
    "/gbfs/3/station_information.json": _information_3,
    "/gbfs/3/station_status.json": _status_3,
    "/gbfs/3/vehicle_types.json": lambda state, _: _vehicle_types(state, _wrap_3),
    "/velib/station_information.json": _information_velib,
    "/velib/station_status.json": _status_velib,
    "/v1/forecast": _weather,
}


def _by_type(station: StationState) -> list[dict[str, object]] | None:
    if station.mechanical is None or station.ebike is None:
        return None
    counts = ((MECHANICAL, station.mechanical), (EBIKE, station.ebike))
    return [{"vehicle_type_id": kind, "count": count} for kind, count in counts]


def _as_number(station_id: str | None) -> int | str | None:
    return int(station_id) if station_id is not None and station_id.isdecimal() else station_id


def _as_bool(flag: int | None) -> bool | None:
    return None if flag is None else bool(flag)


def _server(feed: FeedServer) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            status, content_type, body, clock = feed.answer(path)
            self.send_response_only(status)
            if clock is not None:
                self.send_header("Date", email.utils.format_datetime(clock, usegmt=True))
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: who asks is the functions, and they log."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

    return Server(("127.0.0.1", 0), Handler)
