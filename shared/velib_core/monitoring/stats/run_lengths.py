"""Runs: consecutive observations of a station for which something holds, never across a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Runs(NamedTuple):
    """Maximal runs in order of station, then time; all ``int64[n]``.

    ``first`` and ``last`` are the bins (offsets in the panel) of the first and last observation,
    ``rows`` how many observations there are.
    """

    station: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    rows: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Runs:
        """Return the runs to keep."""
        return Runs(*(field[keep] for field in self))


FEWEST_GAPS = 12
"""Gaps between polls that are needed to know their usual length."""


def poll_step(observed: NDArray[np.bool_]) -> int:
    """Return every how many bins a network is polled, from the bins ``bool[T]`` it was seen in.

    Nearly all gaps (nine of ten) of a slower schedule are that long or longer. Polls that are lost
    leave short gaps between the others, so an outage is not taken for a slower schedule.
    """
    gaps = np.diff(np.flatnonzero(observed))
    return max(1, int(np.quantile(gaps, 0.1))) if len(gaps) >= FEWEST_GAPS else 1


def lookback_of(observed: NDArray[np.bool_]) -> int:
    """Return how many bins apart two observations may be and still follow one another.

    1 for a network observed in every bin. One that is polled less often, every ``step`` bins in
    the median, has holes by nature: only a spacing of twice that is a gap.
    """
    seen = np.flatnonzero(observed.any(axis=1))
    step = int(np.median(np.diff(seen))) if len(seen) > 1 else 1
    return 2 * step - 1


def find_runs(holds: NDArray[np.bool_], observed: NDArray[np.bool_], lookback: int) -> Runs:
    """Find the maximal runs of observations for which ``holds``.

    Parameters
    ----------
    holds, observed
        ``bool[T, S]``; ``holds`` is only looked at where ``observed``.
    lookback
        Largest distance in bins between consecutive observations of a run.

    """
    station, at = np.nonzero((holds & observed).T)
    if not len(at):
        nothing = np.zeros(0, np.int64)
        return Runs(nothing, nothing, nothing, nothing)
    rank = np.cumsum(observed, axis=0, dtype=np.int32)[at, station]
    joined = (np.diff(station) == 0) & (np.diff(rank) == 1) & (np.diff(at) <= lookback)
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    last = np.concatenate([first[1:], [len(at)]]) - 1
    return Runs(station[first], at[first], at[last], last - first + 1)


def changes(
    values: NDArray[np.float32], lookback: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the change since the observation before, and that observation's bin.

    Both ``[T, S]``. The change is NaN where nothing was observed, or nothing within
    ``lookback`` bins before; the bin is −1 where nothing was observed before at all.
    """
    before, at = previous(values)
    is_near = (at >= 0) & (np.arange(len(values))[:, None] - at <= lookback)
    return np.where(is_near, values - before, np.float32(np.nan)), at


def previous(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the observation before each cell, and its bin (−1 and NaN where there is none).

    Both ``[T, S]``; ``values`` is NaN where unobserved.
    """
    bins = np.arange(len(values), dtype=np.int32)[:, None]
    newest = np.maximum.accumulate(np.where(np.isfinite(values), bins, np.int32(-1)), axis=0)
    before = np.vstack([np.full((1, values.shape[1]), -1, np.int32), newest[:-1]])[: len(values)]
    held = np.take_along_axis(values, np.maximum(before, 0), axis=0) if len(values) else values
    return np.where(before >= 0, held, np.float32(np.nan)), before
