"""Where a station is and what happens around it.

`StaticFeatures` are computed once, at training, and travel with the model: serving cannot draw
other clusters or neighbours than the trees have learnt from.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from velib_core.features.time_features import recent, running, window_sum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from velib_core.features.time_features import Movements
    from velib_core.tables.panel import Panel, Stations

PARIS = (48.853, 2.349)
"""The point that ``dist_center_km`` is measured from in Paris."""

EARTH_RADIUS_KM = 6371.0
KNN5 = 5
"""Neighbours of the contract's ``knn_*`` features."""
KNN15 = 15
"""Neighbours that make up a station's surroundings."""
CLUSTERS = 30

STATIC_FEATURES = (
    "lat",
    "lon",
    "dist_center_km",
    "grid_x",
    "grid_y",
    "kmeans_cluster",
    "te_cap_mean",
)
KNN_LAGS = (1, 3, 12)
KNN_FEATURES = tuple(f"knn_mean_bikes_lag{lag}" for lag in KNN_LAGS)
NEIGHBOUR_FEATURES = (
    "near_occ",
    "near_change_3",
    "near_change_12",
    "around_occ",
    "around_arrived_12",
    "around_left_12",
    "around_arrived_3",
    "around_left_3",
)


@dataclasses.dataclass(frozen=True)
class StaticFeatures:
    """What does not change from bin to bin, per station, in order of the sorted ``ids``.

    ``columns`` is ``float32[S, 7]`` in the order of `STATIC_FEATURES`, NaN where the position is
    unknown; ``neighbours`` ``int32[S, KNN15]`` the nearest stations as indices into ``ids``,
    nearest first, −1 where there are fewer.
    """

    ids: NDArray[np.str_]
    columns: NDArray[np.float32]
    neighbours: NDArray[np.int32]


def fit_static_features(stations: Stations) -> StaticFeatures:
    """Draw the clusters and neighbours of a network.

    Clusters are k-means over kilometres east, kilometres north and capacity, each in its own
    standard deviation (unscaled degrees would leave nothing but bands of capacity), numbered by
    the size of their mean capacity; ``te_cap_mean`` is that mean.
    """
    placed = np.flatnonzero(np.isfinite(stations.lat) & np.isfinite(stations.lon))
    columns = np.full((len(stations), len(STATIC_FEATURES)), np.nan, np.float32)
    lat, lon = stations.lat, stations.lon
    columns[:, 0], columns[:, 1] = lat, lon
    columns[:, 2] = distance_km(lat, lon, *_centre(lat[placed], lon[placed]))
    columns[:, 3] = np.floor(lon * 75000 / 300)
    columns[:, 4] = np.floor(lat * 111000 / 300)
    if len(placed):
        columns[placed, 5:] = _clusters(lat[placed], lon[placed], stations.capacity[placed])
    return StaticFeatures(stations.ids, columns, _neighbours(lat, lon, placed))


def station_features(
    static_features: StaticFeatures, history: Panel, rows: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield each of `STATIC_FEATURES`, ``float32[n, S]``; NaN for a station the model never met."""
    place, known = _find(static_features.ids, history.stations.ids)
    columns = np.where(known[:, None], static_features.columns[place], np.float32(np.nan))
    for i, name in enumerate(STATIC_FEATURES):
        yield name, np.broadcast_to(columns[:, i], (len(rows), len(place)))


def neighbour_features(
    static_features: StaticFeatures, history: Panel, rows: NDArray[np.int64], movements: Movements
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield `KNN_FEATURES` and `NEIGHBOUR_FEATURES` at rows of a history, ``float32[n, S]``.

    Means over the neighbours that were observed, NaN where none was; ``near`` is the nearest
    `KNN5`, ``around`` the nearest `AROUND`.
    """
    knn15 = _columns_of_neighbours(static_features, history)
    knn5 = knn15[:, :KNN5]
    bikes, capacity = history["bikes"], history["capacity"]
    for lag in KNN_LAGS:
        yield f"knn_mean_bikes_lag{lag}", _mean_of(bikes[rows - lag], knn5)
    now = bikes[rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        occupancy = np.where(capacity[rows] > 0, now / capacity[rows], np.nan).astype(np.float32)
    yield "near_occ", _mean_of(occupancy, knn5)
    for lag in (3, 12):
        change = now - recent(bikes, movements.last, rows - lag, 3)
        yield f"near_change_{lag}", _mean_of(change, knn5)
    yield "around_occ", _mean_of(occupancy, knn15)
    seen = running(~np.isnan(movements.step))
    for width in (12, 3):
        there = window_sum(seen, rows + 1, width) > 0
        for name, sums in (("arrived", movements.arrived), ("left", movements.left)):
            moved = np.where(there, window_sum(sums, rows + 1, width), np.nan)
            yield f"around_{name}_{width}", _mean_of(moved.astype(np.float32), knn15)


def distance_km(
    lat: NDArray[np.float64], lon: NDArray[np.float64], lat0: float, lon0: float
) -> NDArray[np.float64]:
    """Return great-circle distances by the haversine formula, degrees in, kilometres out."""
    phi, phi0 = np.radians(lat), np.radians(lat0)
    half = np.sin((phi - phi0) / 2) ** 2 + np.cos(phi) * np.cos(phi0) * (
        np.sin(np.radians(lon - lon0) / 2) ** 2
    )
    away: NDArray[np.float64] = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half))
    return away


def _centre(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> tuple[float, float]:
    """Return the contract's centre in Paris, the median station in any other city."""
    if not len(lat):
        return PARIS
    middle = np.array([np.median(lat)]), np.array([np.median(lon)])
    in_paris = distance_km(*middle, *PARIS)[0] < 50
    return PARIS if in_paris else (float(middle[0][0]), float(middle[1][0]))


def _plane(lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return kilometres east and north, ``float64[n, 2]``, true to scale across a city."""
    scale = np.pi / 180 * EARTH_RADIUS_KM
    return np.column_stack([lon * np.cos(np.radians(lat.mean())), lat]) * scale


def _clusters(
    lat: NDArray[np.float64], lon: NDArray[np.float64], capacity: NDArray[np.float32]
) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans  # noqa: PLC0415 -- only training draws clusters

    known = capacity[np.isfinite(capacity)]
    filled = np.where(np.isfinite(capacity), capacity, np.median(known) if len(known) else 0)
    points = np.column_stack([_plane(lat, lon), filled])
    spread = points.std(0)
    points = (points - points.mean(0)) / np.where(spread > 0, spread, 1)
    distinct = len(np.unique(points, axis=0))
    labels = KMeans(min(CLUSTERS, distinct), n_init=10, random_state=42).fit_predict(points)
    sizes = np.bincount(labels)
    means = np.bincount(labels, weights=filled) / sizes
    rank = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    return np.column_stack([rank[labels], means[labels]]).astype(np.float32)


def _neighbours(
    lat: NDArray[np.float64], lon: NDArray[np.float64], placed: NDArray[np.int64]
) -> NDArray[np.int32]:
    from scipy.spatial import cKDTree  # noqa: PLC0415 -- only training draws neighbours

    out = np.full((len(lat), KNN15), -1, np.int32)
    if len(placed) < 2:
        return out
    points = _plane(lat[placed], lon[placed])
    wanted = min(KNN15 + 1, len(placed))
    found = cKDTree(points).query(points, k=wanted)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    # Stations at one point come in any order: put oneself first, then by distance and id.
    distance[index == np.arange(len(placed))[:, None]] = -1
    order = np.lexsort((index, distance), axis=1)
    nearest = np.take_along_axis(index, order, axis=1)[:, 1:]
    out[placed, : wanted - 1] = placed[nearest]
    return out


def _find(
    have: NDArray[np.str_], want: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each wanted id is among the sorted ones, and whether it is there at all."""
    place = np.minimum(np.searchsorted(have, want), max(len(have) - 1, 0))
    return place, have[place] == want


def _columns_of_neighbours(static_features: StaticFeatures, history: Panel) -> NDArray[np.int64]:
    """Return the panel columns of each panel station's neighbours, −1 where there is none."""
    ids = history.stations.ids
    place, known = _find(static_features.ids, ids)
    neighbours = np.where(known[:, None], static_features.neighbours[place], -1)
    column, present = _find(ids, static_features.ids)
    to_column = np.append(np.where(present, column, -1), -1)
    return to_column[neighbours]


def _mean_of(values: NDArray[np.float32], neighbours: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean over each station's observed neighbours, ``float32[n, S]``."""
    # Stations on the first axis: a neighbour's series is then one contiguous run.
    series = np.full((values.shape[1] + 1, len(values)), np.nan, np.float32)
    series[:-1] = values.T
    known = ~np.isnan(series)
    series[~known] = 0
    total = np.zeros((values.shape[1], len(values)), np.float32)
    for k in range(neighbours.shape[1]):
        total += series[neighbours[:, k]]
    if known[:-1].all():
        count = (neighbours >= 0).sum(axis=1, keepdims=True).astype(np.float32)
    else:
        seen = known.astype(np.float32)
        count = np.zeros_like(total)
        for k in range(neighbours.shape[1]):
            count += seen[neighbours[:, k]]
    with np.errstate(invalid="ignore", divide="ignore"):
        total /= count
    return total.T
