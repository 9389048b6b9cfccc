"""Sums of a day: what the network overview needs to know of the past."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.documents import clock, percent
from velib_core.monitoring.panels import day_panel
from velib_core.monitoring.stats import nan_stats, run_lengths
from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_DAY, Bin, bin_start
from velib_core.timeline.local_time import local_times
from velib_core.timeline.windows import complete_days

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.windows import LocalDays

HISTORY_COLUMNS = (
    "tbin_utc",
    "station_id",
    "bikes",
    "capacity",
    "docks_available",
    "is_penury",
    "is_saturation",
)
"""Columns of the observations table that `summarise` reads."""

HISTORY_VARIABLES = ("bikes", "free_docks", "is_penury", "is_saturation")

SLOT_BINS = 6
"""Counts of a day are kept by half hour: local midnights are on half hours everywhere."""

LAG_DAYS = (7, 14, 21)

_NOON = dt.timedelta(hours=12)
"""Added to a local midnight to be safely inside its day, whatever the clocks do."""


@dataclasses.dataclass(frozen=True)
class DaySums:
    """What the overview keeps of a past day.

    ``network`` is ``int32[T, 5]``: by bin, stations in service, and of them those with a bike,
    with a dock, in penury, in saturation. ``stations`` is ``uint8[T / 6, 4, S]``: by half hour
    and station, bins observed, in service, in penury, in saturation. ``ids`` is ``str[S]``.
    """

    start: Bin
    ids: NDArray[np.str_]
    network: NDArray[np.int32]
    stations: NDArray[np.uint8]


def summarise(table: pa.Table) -> DaySums | None:
    """Reduce a day's events (`HISTORY_COLUMNS`) to what the overview keeps; ``None`` if empty."""
    part = day_panel(table, HISTORY_VARIABLES)
    if part is None:
        return None
    start = Bin(part.start // SLOT_BINS * SLOT_BINS)
    stop = Bin(-(-part.stop // SLOT_BINS) * SLOT_BINS)
    panel = part.window(start, stop)
    flags = [np.isfinite(panel["bikes"]), np.isfinite(panel["is_penury"])]
    flags += [panel["is_penury"] == 1, panel["is_saturation"] == 1]
    slots = np.stack(
        [f.reshape(-1, SLOT_BINS, f.shape[1]).sum(axis=1, dtype=np.uint8) for f in flags], axis=1
    )
    return DaySums(start, panel.stations.ids, network_sums(panel), slots)


def network_sums(panel: Panel) -> NDArray[np.int32]:
    """Count a panel's stations by bin as `DaySums.network` does."""
    service = np.isfinite(panel["is_penury"])
    columns = [service, service & (panel["bikes"] > 0), service & (panel["free_docks"] > 0)]
    columns += [panel["is_penury"] == 1, panel["is_saturation"] == 1]
    return np.stack([c.sum(axis=1, dtype=np.int32) for c in columns], axis=1)


class StationCounts(NamedTuple):
    """Of each station in a window: bins observed, in service, in penury, in saturation.

    ``expected`` are the polls that were due in the window since the network's first observation
    ever: its bins, or one of so many where the network is polled less often.
    """

    ids: NDArray[np.str_]
    counts: NDArray[np.int64]
    expected: int


class PastDays:
    """The sums of past days, and of today so far, on one time axis."""

    def __init__(self, days: Sequence[DaySums], panel: Panel) -> None:
        self.days = sorted(days, key=lambda d: d.start)
        edge = min((d.start for d in self.days), default=panel.start)
        self.start = Bin(min(edge, panel.start))
        self.network = np.zeros((max(panel.stop - self.start, 0), 5), np.int32)
        for day in self.days:
            low = day.start - self.start
            room = self.network[low : low + len(day.network)]
            room[:] = day.network[: len(room)]
        # Today comes from the observations themselves; its sums may be older.
        seen = np.isfinite(panel["bikes"]).any(axis=1)
        self.network[panel.start - self.start :][seen] = network_sums(panel)[seen]

    def station_counts(self, window: LocalDays, also: NDArray[np.str_]) -> StationCounts:
        """Count over a window that starts and ends on a half hour."""
        inside = [d for d in self.days if d.start + BINS_PER_DAY > window.start]
        ids = np.unique(np.concatenate([also, *(d.ids for d in inside)]))
        counts = np.zeros((4, len(ids)), np.int64)
        for day in inside:
            at = day.start + np.arange(len(day.stations)) * SLOT_BINS
            keep = (at >= window.start) & (at < window.stop)
            counts[:, np.searchsorted(ids, day.ids)] += day.stations[keep].sum(
                axis=0, dtype=np.int64
            )
        first = min((_first_observed(day) for day in self.days), default=window.stop)
        step = run_lengths.poll_step(self.network[:, 0] > 0)
        return StationCounts(ids, counts, -(-(window.stop - max(first, window.start)) // step))

    def _shares(self, start: Bin, stop: Bin) -> NDArray[np.float64]:
        """Return `_MEASURES` of each bin in percent of stations in service, ``float64[T, 4]``."""
        shares = np.full((stop - start, 4), np.nan)
        low, high = max(start, self.start), min(stop, Bin(self.start + len(self.network)))
        if low < high:
            sums = self.network[low - self.start : high - self.start]
            part = shares[low - start : high - start]
            np.divide(100 * sums[:, 1:], sums[:, :1], out=part, where=sums[:, :1] > 0)
        return shares

    def typical_curve(self, today: LocalDays, reference_days: int) -> dict[str, Any]:
        """Return the median over earlier days of this weekday of the share with a bike."""
        curves = []
        for week in range(1, reference_days // 7 + 1):
            day = complete_days(bin_start(today.start) + _NOON, 7 * week, today.tz)
            start, stop = day.edges[0], day.edges[1]
            curve = np.full(BINS_PER_DAY, np.nan)
            at = local_times(np.arange(start, stop), today.tz).minute // BIN_MINUTES
            curve[at] = self._shares(start, stop)[:, 0]
            if np.isfinite(curve).any():
                curves.append(curve)
        # A curve of nothing, so that there is a median of no day at all.
        nothing = np.full(BINS_PER_DAY, np.nan)
        median = self._between_polls(nan_stats.median(np.stack([*curves, nothing])))
        return {
            "clock": "local",
            "n_days": len(curves),
            "median": [
                {"hhmm": clock(n * BIN_MINUTES), "pct_median": value}
                for n, value in enumerate(median.tolist())
                if math.isfinite(value)
            ],
        }

    def _between_polls(self, curve: NDArray[np.float64]) -> NDArray[np.float64]:
        """Draw a curve straight between polls, where a network is polled less often than bins."""
        lookback = run_lengths.lookback_of(self.network[:, :1] > 0)
        polls = np.flatnonzero(np.isfinite(curve))
        if lookback == 1 or not len(polls):
            return curve
        at = np.arange(len(curve))
        after = np.searchsorted(polls, at).clip(1, len(polls) - 1)
        is_near = (
            (polls[after] - polls[after - 1] <= lookback) & (at >= polls[0]) & (at <= polls[-1])
        )
        return np.where(is_near & np.isnan(curve), np.interp(at, polls, curve[polls]), curve)

    def today_and_lags(self, panel: Panel, today: LocalDays) -> dict[str, Any]:
        """Return today's shares so far, and those of the same hours on earlier days."""
        until = int(local_times(np.array([today.stop - 1]), today.tz).minute[0])
        noon = bin_start(today.start) + _NOON
        lags = {}
        for lag in LAG_DAYS:
            day = complete_days(noon, lag, today.tz)
            bins = np.arange(day.edges[0], day.edges[1])
            keep = local_times(bins, today.tz).minute <= until
            lags[f"J-{lag}"] = self._levels(bins[keep])
        return {
            "until_local": clock(until),
            "today": self._levels(np.arange(panel.start, panel.stop)),
            "lags": lags,
        }

    def _levels(self, bins: NDArray[np.int64]) -> dict[str, float | None]:
        at = bins - self.start
        sums = self.network[at[(at >= 0) & (at < len(self.network))]].sum(axis=0)
        names = ("avail_bike", "avail_dock", "pen", "sat")
        return {name: percent(part, sums[0]) for name, part in zip(names, sums[1:], strict=True)}


def _first_observed(day: DaySums) -> Bin:
    slot = int(day.stations[:, 0].any(axis=1).argmax())
    return Bin(day.start + slot * SLOT_BINS)
