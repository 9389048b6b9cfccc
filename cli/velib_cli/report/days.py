"""Observations by local day and clock: how many came, and how full the network was."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
from velib_core.monitoring.stats.run_lengths import poll_step
from velib_core.timeline.bins import BINS_PER_DAY, Bin, bin_start, day_of, first_bin
from velib_core.timeline.local_time import local_times
from velib_core.timeline.windows import local_date

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day

    from velib_cli.report.sources import Sources

COVERAGE_DAYS = 14
"""Days of the coverage heat map: the window of the health documents."""


def curve_block(sources: Sources) -> dict[str, Any] | None:
    """Return the share of stations with a bike by the local clock: today, and to compare with.

    That is yesterday, the same weekday a week ago, and the median of earlier ones.
    """
    documents = sources.documents
    today = (documents.get("network/overview/today_curve.json") or {}).get("points") or []
    usual = (documents.get("network/overview/ref_median_curve.json") or {}).get("median") or []
    if not today:
        return None
    return {
        "today": [[p["hhmm"] for p in today], [p["pct"] for p in today]],
        "usual": [[p["hhmm"] for p in usual], [p["pct_median"] for p in usual]],
        "before": {str(lag): _day_before(sources, lag) for lag in (1, 7)},
    }


def _day_before(sources: Sources, lag: int) -> list[list[Any]]:
    """Return clocks and shares of the local day so many days before that of the newest bin."""
    if sources.panel is None:
        return [[], []]
    wanted = local_date(bin_start(Bin(sources.panel.stop - 1)), sources.tz) - dt.timedelta(days=lag)
    clocks, shares = [], []
    for day in sorted(sources.bike_shares):
        bins = first_bin(day) + np.arange(BINS_PER_DAY)
        local = local_times(bins, sources.tz)
        inside = (local.day == wanted.toordinal()).tolist()
        for n in range(BINS_PER_DAY):
            share = sources.bike_shares[day][n]
            if inside[n] and share is not None:
                minute = int(local.minute[n])
                clocks.append(f"{minute // 60:02d}:{minute % 60:02d}")
                shares.append(share)
    return [clocks, shares]


def coverage_block(
    coverage: Mapping[Day, tuple[int, list[int]]], panel: Panel | None, tz: str
) -> dict[str, Any] | None:
    """Return the share of expected observations by local day and hour, per cent.

    Expected is every station of the (UTC) day in every bin from the first that was observed to
    the newest, or in one of so many where the network is polled less often; an hour outside of
    that has not come, and is ``None``.
    """
    counts = {day: (np.array(seen), stations) for day, (stations, seen) in coverage.items()}
    if panel is not None:
        today = day_of(Bin(panel.stop - 1))
        if today not in counts:
            inside = panel.window(first_bin(today), panel.stop)["bikes"]
            counts[today] = ((~np.isnan(inside)).sum(1), len(panel.stations))
    if not counts:
        return None
    bins = np.concatenate([first_bin(d) + np.arange(len(c)) for d, (c, _) in counts.items()])
    seen = np.concatenate([c for c, _ in counts.values()])
    expected = np.concatenate([np.full(len(c), n) for c, n in counts.values()])
    observed = bins[seen > 0]
    if not len(observed):
        return None
    come = (bins >= observed.min()) & (bins <= observed.max())
    step = poll_step(seen[come] > 0)
    local = local_times(bins[come], tz)
    days = sorted(set(local.day.tolist()))
    cell = np.searchsorted(days, local.day) * 24 + local.minute // 60
    sums = [np.bincount(cell, values[come], len(days) * 24) for values in (seen, expected)]
    with np.errstate(invalid="ignore", divide="ignore"):
        pct = np.minimum(100 * step * sums[0] / sums[1], 100).reshape(len(days), 24)
    return {
        "days": [dt.date.fromordinal(day).isoformat() for day in days][-COVERAGE_DAYS:],
        "pct": [_percents(row) for row in pct.tolist()][-COVERAGE_DAYS:],
    }


def _percents(row: list[float]) -> list[float | None]:
    return [None if value != value else round(value, 2) for value in row]  # noqa: PLR0124 -- NaN
