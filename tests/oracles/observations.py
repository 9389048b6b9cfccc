"""What was observed of a network, as plain Python."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

Value = float | None


@dataclasses.dataclass(eq=False)
class Observations:
    """Observations of stations by bin, counted from ``start``.

    ``values`` holds for each variable one list a station, ``weather`` one list a variable;
    ``ids`` are sorted. ``places`` are (lat, lon) or ``None``, ``docks`` the newest capacity.
    """

    start: int
    ids: list[str]
    places: list[tuple[float, float] | None]
    docks: list[Value]
    values: dict[str, list[list[Value]]]
    weather: dict[str, list[Value]]

    def get(self, variable: str, s: int, t: int) -> Value:
        """What was observed of a station in a bin, ``None`` if nothing."""
        series = self.values[variable][s]
        return series[t - self.start] if 0 <= t - self.start < len(series) else None

    def bikes(self, s: int, t: int) -> Value:
        return self.get("bikes", s, t)

    @functools.cache  # noqa: B019 -- as long-lived as the tests that hold it
    def row(self, t: int) -> list[Value]:
        """The bikes of all stations in a bin."""
        return [self.bikes(s, t) for s in range(len(self.ids))]

    def air(self, variable: str, t: int) -> Value:
        series = self.weather[variable]
        return series[t - self.start] if 0 <= t - self.start < len(series) else None


def known(values: Any) -> list[float]:
    return [value for value in values if value is not None]


def mean(values: Any) -> Value:
    """The mean of the known values, ``None`` where there is none."""
    there = known(values)
    return math.fsum(there) / len(there) if there else None


def minus(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a - b


def times(a: Value, b: Value) -> Value:
    return None if a is None or b is None else a * b


def plain(array: Any) -> list[Any]:
    """A NumPy array as nested lists, NaN as ``None``."""
    if array.ndim > 1:
        return [plain(part) for part in array]
    return [None if math.isnan(value) else value for value in array.tolist()]
