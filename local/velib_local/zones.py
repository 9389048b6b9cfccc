"""The time zone of a network, from where its stations are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tzfpy

if TYPE_CHECKING:
    from collections.abc import Iterable


def zone_of(places: Iterable[tuple[float, float]]) -> str:
    """Return the IANA zone in which the median of some places lies, UTC where none is usable.

    Places are (degrees north, degrees east); what is not finite, not on Earth or (0, 0) is left
    out. Source of the borders: OpenStreetMap, by timezone-boundary-builder, packaged as ``tzfpy``.
    """
    known = np.array(list(places), np.float64).reshape(-1, 2)
    inside = (np.abs(known[:, 0]) <= 90) & (np.abs(known[:, 1]) <= 180) & known.any(axis=1)
    if not inside.any():
        return "UTC"
    lat, lon = np.median(known[inside], axis=0).tolist()
    return tzfpy.get_tz(lon, lat)
