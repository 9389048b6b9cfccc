"""The map of a simulated city: where its stations are, what draws people there, their names."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

KM_PER_DEGREE = 111.2
STATIONS_PER_KM2 = 12.0
"""About the density of Vélib' in Paris, a station every 300 m."""

NEIGHBOURS = 8
DOCKS = (8, 70)

# fmt: off
_WORDS = (
    "Marché", "Jardin", "Mairie", "École", "Théâtre", "Gare", "Moulin", "Fontaine", "Pont", "Parc",
    "Halle", "Lavoir", "Église", "Stade", "Musée", "Canal", "Verger", "Ferme", "Octroi", "Passage",
    "Lilas", "Tilleuls", "Acacias", "Peupliers", "Cerisiers", "Roses", "Vignes", "Alouettes",
    "Hirondelles", "Forges", "Tanneurs", "Potiers", "Meuniers", "Bateliers", "Rémouleurs",
    "Écoliers", "Jardiniers", "Horlogers", "Cordiers", "Maraîchers", "Abeilles", "Rossignols",
    "Noyers", "Frênes", "Glycines", "Violettes", "Coquelicots", "Marronniers", "Place Haute",
    "Quai Vert", "Vieux Port", "Grand Puits", "Petit Pré", "Belle Étoile", "Croix Blanche",
)
# fmt: on


class Draw(enum.IntEnum):
    """What takes people to a place or from it."""

    HOME = 0
    WORK = 1
    LEISURE = 2


@dataclasses.dataclass(frozen=True)
class CityMap:
    """The stations of a city, S in all.

    ``x_km``, ``y_km`` east and north of the centre and ``lat``, ``lon`` in degrees are
    ``float64[S]``, ``capacity`` is ``int64[S]`` docks. ``draw`` is ``float64[3, S]``, how much of
    each `Draw` there is. ``near`` is ``int64[S, n]``, the nearest other stations by distance (the
    station itself where there is no other).
    """

    ids: list[str]
    names: list[str]
    x_km: Floats
    y_km: Floats
    lat: Floats
    lon: Floats
    capacity: Ints
    draw: Floats
    nearest: Ints

    def km(self, here: Ints, there: Ints) -> Floats:
        """Return distances as the crow flies; the arguments broadcast."""
        return np.hypot(self.x_km[here] - self.x_km[there], self.y_km[here] - self.y_km[there])


def to_grid(count: int, centre: tuple[float, float], rng: np.random.Generator) -> CityMap:
    """Draw a map: work in the centre, homes around it, leisure in spots.

    Parameters
    ----------
    count
        Number of stations; the city grows with it.
    centre
        Latitude and longitude in degrees.
    rng
        Where all chance comes from.

    """
    radius = np.sqrt(count / STATIONS_PER_KM2 / np.pi)
    # Vogel's sunflower spreads points evenly over a disc; the noise makes it a town.
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    away = radius * np.sqrt((np.arange(count) + 0.5) / count)
    noise = rng.normal(0, 0.08, (2, count))
    x, y = away * np.cos(turn) + noise[0], away * np.sin(turn) + noise[1]
    inner = np.exp(-2 * away / radius)
    leisure = np.where(rng.random(count) < 0.2, rng.gamma(2.0, 1.2, count), 0.2)
    draw = np.vstack(
        [
            (1.2 - inner) * rng.gamma(4.0, 0.25, count) + 0.05,
            (inner + 0.1) * rng.gamma(2.0, 0.5, count) + 0.02,
            leisure * (inner + 0.3),
        ]
    )
    busy = (draw / draw.mean(axis=1, keepdims=True)).sum(axis=0) / 3
    docks = (16 + 14 * busy) * rng.uniform(0.75, 1.35, count)
    points = np.column_stack([x, y])
    nearest = np.arange(count)[:, None]
    if count > 1:
        nearest = np.asarray(KDTree(points).query(points, min(NEIGHBOURS + 1, count))[1])[:, 1:]
    return CityMap(
        ids=_ids(count, rng),
        names=_names(count, rng),
        x_km=x,
        y_km=y,
        lat=np.round(centre[0] + y / KM_PER_DEGREE, 6),
        lon=np.round(centre[1] + x / (KM_PER_DEGREE * np.cos(np.radians(centre[0]))), 6),
        capacity=np.clip(np.round(docks), *DOCKS).astype(np.int64),
        draw=draw,
        nearest=nearest.astype(np.int64),
    )


def _ids(count: int, rng: np.random.Generator) -> list[str]:
    """Return distinct whole numbers of four to ten digits, as Vélib' has them."""
    drawn = np.unique((10 ** rng.uniform(3.3, 10, 2 * count + 8)).astype(np.int64))
    return [str(n) for n in rng.permutation(drawn)[:count].tolist()]


def _names(count: int, rng: np.random.Generator) -> list[str]:
    """Return distinct names of two parts, with a number where the pairs run out."""
    pairs = [f"{one} - {other}" for one in _WORDS for other in _WORDS if one != other]
    order = rng.permutation(len(pairs)).tolist()
    return [
        pairs[order[n % len(pairs)]] + (f" {n // len(pairs) + 1}" if n >= len(pairs) else "")
        for n in range(count)
    ]
