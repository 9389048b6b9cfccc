"""What makes a cloud of stations a map: names of quarters, and lines of a base map or tiles.

Quarters are named after their largest station, so any network has them without another source.
A base map is a GeoJSON file of the operator's (RFC 7946), thinned out to what the page may hold.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from velib_core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from velib_core.tables.panel import Stations

QUARTERS = 10
"""Most quarters that are named."""

QUARTER_SHARE = 0.16
"""How far apart quarters are at least, as a share of the network's extent."""

BASEMAP_BYTES = 300_000
"""Most bytes that the lines of a base map take in the page."""

SIMPLEST_KM = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Details below which lines are thinned out, in kilometres, until they fit."""

MARGIN_KM = 1.5
"""How far around the stations lines are kept."""

TILES = 40
"""Most tiles that a page asks for."""


class BasemapError(InvalidValueError):
    """A base map that cannot be drawn."""


def quarters(
    x: NDArray[np.float64], y: NDArray[np.float64], stations: Stations
) -> tuple[list[int], list[int | None]]:
    """Return the stations that name a quarter, and the quarter of each station.

    A quarter is named after the station with the most docks around; every other station belongs
    to the nearest of them. Stations without a place belong to none.
    """
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 2:
        return [], [None] * len(stations)
    places = np.stack([x, y], axis=1)
    extent = float(np.hypot(*(np.ptp(places[known], axis=0))))
    docks = np.nan_to_num(stations.capacity, nan=0.0)
    docks_nearby = np.zeros(len(stations))
    for n in np.flatnonzero(known).tolist():
        nearby = np.hypot(*(places - places[n]).T) < extent * QUARTER_SHARE / 2
        docks_nearby[n] = docks[nearby & known].sum()
    chosen: list[int] = []
    for n in np.argsort(-docks_nearby, kind="stable").tolist():
        apart = all(np.hypot(*(places[n] - places[m])) >= extent * QUARTER_SHARE for m in chosen)
        if known[n] and apart and len(chosen) < QUARTERS:
            chosen.append(n)
    distances = np.stack([np.hypot(*(places - places[n]).T) for n in chosen])
    nearest = np.nan_to_num(distances, nan=np.inf).argmin(axis=0)
    names = [_largest(n, nearest == q, docks) for q, n in enumerate(chosen)]
    return names, [int(q) if k else None for q, k in zip(nearest, known, strict=True)]


def _largest(centre: int, members: NDArray[np.bool_], docks: NDArray[np.floating[Any]]) -> int:
    inside = np.flatnonzero(members)
    return int(inside[docks[inside].argmax()]) if len(inside) else centre


class Projection:
    """Kilometres east and north of the middle of a network; equirectangular."""

    def __init__(self, stations: Stations, radius_km: float) -> None:
        known = np.isfinite(stations.lat) & np.isfinite(stations.lon)
        self.known = bool(known.any())
        self.lat0, self.lon0 = (
            float(np.median(a[known])) if self.known else 0.0 for a in (stations.lat, stations.lon)
        )
        self._east = math.radians(1) * math.cos(math.radians(self.lat0)) * radius_km
        self._north = math.radians(1) * radius_km

    def place(self, lon: Any, lat: Any) -> tuple[Any, Any]:  # noqa: ANN401 -- numbers or arrays
        """Return the place of degrees."""
        return (lon - self.lon0) * self._east, (lat - self.lat0) * self._north


def basemap_lines(
    geojson: Mapping[str, Any], projection: Projection, box: Sequence[float]
) -> dict[str, list[list[float | None]]]:
    """Return the lines of a base map around the stations by kind, as ``[x…], [y…]`` with gaps.

    Kinds are ``water``, ``green`` and ``street``, by what the properties of a feature say; what
    says nothing is a street. Lines are thinned out until they take `BASEMAP_BYTES`.
    """
    lines = [
        (kind, np.array(projection.place(*np.array(line).T)))
        for kind, line in _lines(geojson)
        if len(line) > 1
    ]
    left, right, low, high = box
    inside = [
        (kind, line)
        for kind, line in lines
        if (line[0].max() > left - MARGIN_KM and line[0].min() < right + MARGIN_KM)
        and (line[1].max() > low - MARGIN_KM and line[1].min() < high + MARGIN_KM)
    ]
    for detail in SIMPLEST_KM:
        drawn: dict[str, list[list[float | None]]] = {}
        for kind, line in inside:
            thinned = _thinned(line, detail)
            columns = drawn.setdefault(kind, [[], []])
            for column, values in zip(columns, thinned.tolist(), strict=True):
                column.extend([*(round(value, 3) for value in values), None])
        if len(json.dumps(drawn)) <= BASEMAP_BYTES:
            return drawn
    raise BasemapError("--basemap", f"{len(inside)} lines", "a file of fewer lines")


def _thinned(line: NDArray[np.float64], detail: float) -> NDArray[np.float64]:
    """Keep the points of a line that are a detail apart, and its ends."""
    kept = [0]
    for n in range(1, line.shape[1] - 1):
        if math.dist(line[:, n], line[:, kept[-1]]) >= detail:
            kept.append(n)
    return line[:, [*kept, line.shape[1] - 1]]


def _lines(geojson: Mapping[str, Any]) -> Iterator[tuple[str, list[list[float]]]]:
    features = geojson.get("features")
    if geojson.get("type") != "FeatureCollection" or not isinstance(features, list):
        raise BasemapError("--basemap", geojson.get("type"), "a GeoJSON FeatureCollection")
    for feature in features:
        geometry = (feature or {}).get("geometry") or {}
        kind = _kind((feature or {}).get("properties") or {})
        try:
            for line in _rings(geometry.get("type"), geometry.get("coordinates")):
                yield kind, [[float(point[0]), float(point[1])] for point in line]
        except (TypeError, ValueError, IndexError):
            raise BasemapError("--basemap", str(geometry)[:80], "lines or polygons") from None


def _rings(kind: object, coordinates: Any) -> Iterator[Any]:  # noqa: ANN401 -- JSON is any value
    match kind:
        case "LineString":
            yield coordinates
        case "MultiLineString" | "Polygon":
            yield from coordinates
        case "MultiPolygon":
            for polygon in coordinates:
                yield from polygon


def _kind(properties: Mapping[str, Any]) -> str:
    """Separate water and green from streets, by OpenStreetMap's and Natural Earth's words."""
    said = " ".join(f"{key} {value}".lower() for key, value in properties.items())
    if any(word in said for word in ("water", "river", "canal", "lake", "coast", "stream")):
        return "water"
    if any(word in said for word in ("park", "forest", "wood", "garden", "grass", "green")):
        return "green"
    return "street"


def tiles_block(
    template: str, projection: Projection, lat: Sequence[float], lon: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the tiles that cover some degrees, each with its address and its place in km.

    ``template`` has ``{z}``, ``{x}`` and ``{y}`` (Web Mercator, as most tile servers); the
    deepest zoom is taken that needs at most `TILES`.
    """
    for zoom in range(16, 0, -1):
        x = [math.floor(_tile_x(value, zoom)) for value in (min(lon), max(lon))]
        y = [math.floor(_tile_y(value, zoom)) for value in (max(lat), min(lat))]
        if (x[1] - x[0] + 1) * (y[1] - y[0] + 1) <= TILES:
            return [
                _tile(template, projection, zoom, column, row)
                for row in range(y[0], y[1] + 1)
                for column in range(x[0], x[1] + 1)
            ]
    return []


def _tile(template: str, projection: Projection, zoom: int, x: int, y: int) -> dict[str, Any]:
    def degrees(column: int, row: int) -> tuple[float, float]:
        north = math.pi * (1 - 2 * row / 2**zoom)
        return column / 2**zoom * 360 - 180, math.degrees(math.atan(math.sinh(north)))

    left, top = projection.place(*degrees(x, y))
    right, bottom = projection.place(*degrees(x + 1, y + 1))
    address = template.replace("{z}", str(zoom)).replace("{x}", str(x)).replace("{y}", str(y))
    size = {"w": round(right - left, 4), "h": round(top - bottom, 4)}
    return {"src": address, "x": round(left, 4), "y": round(top, 4)} | size


def _tile_x(lon: float, zoom: int) -> float:
    tiles: int = 1 << zoom
    return (lon + 180) / 360 * tiles


def _tile_y(lat: float, zoom: int) -> float:
    tiles: int = 1 << zoom
    return (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * tiles
