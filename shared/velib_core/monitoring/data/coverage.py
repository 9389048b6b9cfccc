"""Coverage: which observations should be there, and which are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.panels import name_of
from velib_core.monitoring.stats.run_lengths import poll_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel


class Coverage(NamedTuple):
    """Of each station: polls seen and expected, ``int64[S]``.

    ``polls`` are the bins of the network's schedule, ``bool[T]``: every bin, or one of so many
    where it is polled less often. ``seen_at`` and ``expects`` are ``bool[T, S]``.
    """

    seen: NDArray[np.int64]
    expected: NDArray[np.int64]
    polls: NDArray[np.bool_]
    seen_at: NDArray[np.bool_]
    expects: NDArray[np.bool_]


def cover(panel: Panel, parts: Sequence[Panel]) -> Coverage:
    """Return what is expected in a window from when each station was first seen.

    ``parts`` are the panels that the window was made of, and earlier ones: a station that one of
    those saw before the window is expected from its start. Nothing is expected after the newest
    observation of all parts: a recording may end, or a day be closed, before the window does. An
    outage is followed by observations, and so it counts.
    """
    observed = np.isfinite(panel["bikes"])
    polls = _polls(observed) & (np.arange(panel.bins) < _stop(parts) - panel.start)
    seen = observed & polls[:, None]
    bins = np.arange(panel.bins)
    known_before = np.zeros(len(panel.stations), bool)
    for part in parts:
        if part.start < panel.start:
            early = np.isfinite(part["bikes"][: panel.start - part.start]).any(axis=0)
            known_before |= np.isin(panel.stations.ids, part.stations.ids[early])
    since_seen = np.where(seen.any(axis=0), _first(seen), panel.bins)
    first = np.where(known_before, 0, since_seen)
    expects = polls[:, None] & (bins[:, None] >= first[None, :])
    return Coverage(seen.sum(axis=0), expects.sum(axis=0), polls, seen, expects)


def _stop(parts: Sequence[Panel]) -> int:
    """Return the bin after the newest observation of some panels, 0 where there is none."""
    seen = [part.start + np.flatnonzero(np.isfinite(part["bikes"]).any(axis=1)) for part in parts]
    return max((int(bins[-1]) + 1 for bins in seen if len(bins)), default=0)


def _polls(observed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the bins in which a poll is due: of each step, the one that most stations were in."""
    count = observed.sum(axis=1)
    step = poll_step(count > 0)
    if step == 1:
        return np.ones(len(count), np.bool_)
    slots = np.append(count, np.zeros(-len(count) % step, count.dtype)).reshape(-1, step)
    polls = np.zeros(slots.shape, np.bool_)
    polls[np.arange(len(slots)), slots.argmax(axis=1)] = True
    return polls.reshape(-1)[: len(count)]


def _first(seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return seen.argmax(axis=0) if len(seen) else np.zeros(seen.shape[1], np.int64)


def coverage_kpis(
    coverage: Coverage, *, min_span: float = 0.0, weighted: bool = False
) -> dict[str, Any]:
    """Return the mean coverage of the calendar and of each station's own span, in percent.

    Of the latter, stations whose span is a smaller share than ``min_span`` of what is expected
    of them are left out, and each counts as much as its span is long where ``weighted``.
    """
    present = coverage.seen > 0
    there = coverage.seen_at[:, present]
    last = len(there) - 1 - _first(there[::-1])
    due = np.asarray(np.cumsum(coverage.polls), np.int64)
    spans = due[last] - due[_first(there)] + 1 if len(due) else np.zeros(0, np.int64)
    expected = coverage.expected > 0
    shares = coverage.seen[expected] / coverage.expected[expected]
    long = spans >= min_span * coverage.expected[present]
    active, weights = coverage.seen[present][long] / spans[long], spans[long]
    mean = np.average(active, weights=weights if weighted else None) if len(active) else None
    return {
        "coverage_global_pct": 100 * float(shares.mean()) if len(shares) else None,
        "coverage_active_pct": None if mean is None else 100 * float(mean),
        "missing_stations": int((expected & ~present).sum()),
        "stations_expected": int(expected.sum()),
    }


def station_health(panel: Panel, coverage: Coverage) -> list[dict[str, Any]]:
    """Return the rows of ``station_health.json``, the worst first."""
    rows = [
        {
            "station_id": str(panel.stations.ids[s]),
            "name": name_of(panel.stations, s),
            "obs": int(coverage.seen[s]),
            "expected": int(coverage.expected[s]),
            "coverage_pct": 100 * float(coverage.seen[s] / coverage.expected[s]),
            "missing": int(coverage.expected[s] - coverage.seen[s]),
        }
        for s in np.flatnonzero(coverage.expected > 0).tolist()
    ]
    return sorted(rows, key=lambda row: (row["coverage_pct"], row["station_id"]))


def coverage_by_hour(coverage: Coverage, hours: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return the mean coverage of each local hour; ``hours`` is the hour of each bin."""
    rows = []
    for hour in range(24):
        expected = coverage.expects[hours == hour].sum(axis=0)
        obs = coverage.seen_at[hours == hour].sum(axis=0)
        there = expected > 0
        if there.any():
            share = float((obs[there] / expected[there]).mean())
            rows.append({"hour": hour, "coverage_pct": 100 * share})
    return rows
