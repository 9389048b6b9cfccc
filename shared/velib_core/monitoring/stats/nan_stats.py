"""Statistics of the values that are known; NaN stands for the others, and for no value at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def median(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the median along the first axis."""
    ordered = np.sort(values, axis=0)  # NaN last
    last = np.isfinite(ordered).sum(axis=0, keepdims=True) - 1
    low, high = (
        np.take_along_axis(ordered, np.maximum(last + one, 0) // 2, axis=0)[0] for one in (0, 1)
    )
    middle: NDArray[np.float64] = (low.astype(np.float64) + high) / 2
    return middle


def std(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the standard deviation (ddof 0) along the first axis."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    divisor = np.maximum(count, 1)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / divisor
    squares = np.where(known, (values - mean.astype(np.float32)) ** 2, 0)
    spread: NDArray[np.float64] = np.sqrt(squares.sum(axis=0, dtype=np.float64) / divisor)
    return np.where(count > 0, spread, np.nan)
