"""What is in a lake: how fresh, what is missing, what is stale, what was given up."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_core.events import ReplayRequested
from velib_core.grid import Bin, bin_start, day_after, iso_z
from velib_core.jobs import close_day, reconcile
from velib_core.layout import Daily, Events, ForeignNameError, Layout, Perf, Snapshot

if TYPE_CHECKING:
    import datetime as dt

    from velib_core.grid import Day
    from velib_core.lake import Lake
    from velib_core.settings import Settings


@dataclasses.dataclass(frozen=True)
class LakeStatus:
    """The state of one network's lake.

    ``newest_snapshot`` is an ISO 8601 stamp and ``age_min`` its age by ``now``; ``missing_days``
    lie between the first and the last observed day without any snapshot; ``repairs`` is what
    `velib_core.jobs.reconcile` would publish.
    """

    network: str
    newest_snapshot: str | None
    age_min: float | None
    first_day: str | None
    last_day: str | None
    missing_days: list[str]
    dailies: int
    events_views: int
    perf_views: int
    quarantined: int
    repairs: list[str]

    @property
    def healthy(self) -> bool:
        """Whether nothing is missing, stale or quarantined."""
        return not (self.missing_days or self.repairs or self.quarantined)


def look(lake: Lake, settings: Settings, now: dt.datetime) -> LakeStatus:
    """Read the state of a lake; costs listings only."""
    layout = Layout(settings)
    days = close_day.observed_days(lake, layout)
    newest = _newest_snapshot(lake, layout, days)
    span = (days[-1] - days[0]).days + 1 if days else 0
    expected = [day_after(days[0], n) for n in range(span)] if days else []
    exports = [entry.name for entry in lake.entries(f"{layout.exports}/")]
    dailies = [entry.name for entry in lake.entries(f"{layout.daily}/")]
    reasons = [e for e in lake.entries(f"{layout.quarantine}/") if e.name.endswith(".json")]
    start = bin_start(newest) if newest is not None else None
    return LakeStatus(
        network=settings.network,
        newest_snapshot=iso_z(start) if start else None,
        age_min=round((now - start).total_seconds() / 60, 1) if start else None,
        first_day=str(days[0]) if days else None,
        last_day=str(days[-1]) if days else None,
        missing_days=[str(day) for day in expected if day not in set(days)],
        dailies=len(layout.by_day(Daily, dailies)),
        events_views=len(layout.by_day(Events, exports)),
        perf_views=len(layout.by_day(Perf, exports)),
        quarantined=len(reasons),
        repairs=[str(r) for r in reconcile.plan(lake, settings, ReplayRequested())],
    )


def _newest_snapshot(lake: Lake, layout: Layout, days: list[Day]) -> Bin | None:
    for day in reversed(days):
        bins = []
        for entry in lake.entries(layout.bronze_day(day)):
            try:
                key = layout.key(entry.name)
            except ForeignNameError:
                continue
            if isinstance(key, Snapshot):
                bins.append(key.bin)
        if bins:
            return max(bins)
    return None
