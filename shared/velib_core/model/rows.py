"""One walk over the days of a history, and the feature rows of a day.

Training, judging, backtest and forecast all walk the same way: days in order, each read and laid
out once, each seen with the profiles of the days before it, as serving sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from velib_core.features.profiles import Profiles, empty_profiles, update_with_day
from velib_core.features.stack import FEATURES, feature_rows, lookback_bins
from velib_core.model.inference import ceilings
from velib_core.tables.climatology import Climatology
from velib_core.tables.panel import FROZEN_BINS, free_docks, is_frozen
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import Bin, Day, HorizonBins, day_after, first_bin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from velib_core.features.spatial_features import StaticFeatures
    from velib_core.tables.panel import Panel


class History(Protocol):
    """A network's past that is read in windows: a `Panel`, or days that lie in the lake."""

    def window(self, start: Bin, stop: Bin) -> Panel:
        """Return the panel of the bins ``[start, stop)``, always with the same stations."""

    def stations_seen(self, start: Bin, stop: Bin) -> NDArray[np.int64]:
        """Return how many stations were observed in each of the bins, ``int64[stop - start]``."""


class PastDay(NamedTuple):
    """A day as it was when it closed.

    ``panel`` holds the day, the look-back of the features before it and a horizon after it;
    ``profiles`` end before it.
    """

    day: Day
    panel: Panel
    profiles: Profiles


class Walk:
    """A walk over a history, day after day.

    ``profiles`` and ``climatology`` are those of the days passed so far.
    """

    def __init__(
        self, history: History, horizon: HorizonBins, tz: str, profiles: Profiles | None = None
    ) -> None:
        self.history, self.horizon, self.tz = history, horizon, tz
        self.profiles = profiles or empty_profiles(tz, (horizon,))
        self.climatology = Climatology(tz)

    def over(self, days: Iterable[Day]) -> Iterator[PastDay]:
        """Yield the next days, oldest first; each joins the profiles once it is passed."""
        for day in days:
            start = Bin(first_bin(day) - lookback_bins(self.horizon))
            panel = self.history.window(start, Bin(first_bin(day_after(day)) + self.horizon))
            yield PastDay(day, panel, self.profiles)
            self.profiles = update_with_day(self.profiles, panel, day)
            passed = panel.window(first_bin(day), first_bin(day_after(day)))
            self.climatology.add(panel.stations.ids, passed.start, passed["bikes"])


class Rows(NamedTuple):
    """Feature rows and what is known about each: arrays of length n.

    ``features`` is ``float32[n, F]``; ``bins`` the origins, ``station`` the panel column;
    ``bikes``, ``capacity`` (or the ceiling that stands for it) and ``docks`` at the origin,
    ``docks_later`` and ``target`` the docks and bikes a horizon later; docks are NaN where nothing
    is known of them.
    """

    features: NDArray[np.float32]
    bins: NDArray[np.int64]
    station: NDArray[np.int64]
    bikes: NDArray[np.float32]
    capacity: NDArray[np.float32]
    docks: NDArray[np.float32]
    docks_later: NDArray[np.float32]
    target: NDArray[np.float32]


def rows_of_day(
    past: PastDay,
    at: NDArray[np.int64],
    horizon: HorizonBins,
    static_features: StaticFeatures,
    names: tuple[str, ...] = FEATURES,
) -> Rows:
    """Return the rows at some bins of a day whose station is in service and whose target is known.

    No feature sees the targets, which lie up to a horizon after the bins. ``names`` are the
    features wanted, in order.
    """
    if not len(at):
        none = np.empty(0, np.float32)
        return Rows(np.empty((0, len(names)), np.float32), at, at, *[none] * 5)
    now = past.panel.window(Bin(int(at.min())), Bin(int(at.max()) + 1))
    later = past.panel.window(Bin(now.start + horizon), Bin(now.stop + horizon))
    rows = at - now.start
    keep = observed_in_service(now)[rows] & ~np.isnan(later["bikes"][rows])
    t, station = np.nonzero(keep)
    before = Bin(now.start - lookback_bins(horizon))
    most = ceilings(past.panel.window(before, now.stop))[-now.bins :]
    features = feature_rows(past.panel, at, horizon, static_features, past.profiles, names)
    return Rows(
        np.ascontiguousarray(features.reshape(len(features), -1)[:, keep.ravel()].T),
        at[t],
        station,
        now["bikes"][rows][keep],
        most[rows][keep],
        free_docks(now)[rows][keep],
        free_docks(later)[rows][keep],
        later["bikes"][rows][keep],
    )


def joined(blocks: Iterable[Rows]) -> Rows:
    """Return the rows of all blocks, of which there must be one."""
    return Rows(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def paired_bins(panel: Panel, start: Bin, stop: Bin, horizon: HorizonBins) -> NDArray[np.int64]:
    """Return the bins ``[start, stop)`` in which something was seen, and a horizon later too.

    Picking every so-manyth of these, and not of all bins, a network that is polled every 10 or 15
    minutes is looked at as evenly as one that is polled at every bin. What a frozen feed shows a
    horizon later is nothing to learn from.
    """
    bikes = panel.window(Bin(start - FROZEN_BINS), Bin(stop + horizon))["bikes"]
    seen = np.asarray(np.isfinite(bikes).any(axis=1))[FROZEN_BINS:]
    later = (seen & ~is_frozen(bikes)[FROZEN_BINS:])[horizon:]
    return start + np.flatnonzero(seen[:-horizon] & later)
