"""Quantiles of whole numbers from how often each occurs: exact, and without sorting millions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class IntegerHistogram:
    """How often each whole number from ``low`` on occurs, ``int64[K]``."""

    low: int
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[np.signedinteger]) -> IntegerHistogram:
        """Count values."""
        if not len(values):
            return cls(0, np.zeros(0, np.int64))
        low = int(values.min())
        return cls(low, np.bincount(values - low))

    @property
    def values(self) -> NDArray[np.int64]:
        """The numbers counted, rising."""
        return self.low + np.arange(len(self.counts))

    def quantile(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the quantiles as ``numpy.quantile`` (linear) would of all values; none if empty.

        Raises ``ValueError`` where nothing was counted.
        """
        n = int(self.counts.sum())
        if not n:
            raise ValueError("no value was counted")
        place = np.asarray(shares, np.float64) * (n - 1)
        below = np.floor(place)
        cumulated = np.cumsum(self.counts)
        first = self.values[np.searchsorted(cumulated, below, side="right")]
        then = self.values[np.searchsorted(cumulated, np.ceil(place), side="right")]
        return np.asarray(first + (place - below) * (then - first), np.float64)
