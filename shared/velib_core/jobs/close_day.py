"""A snapshot arrived: publish which UTC days are over and have no up-to-date daily.

A day is over once a snapshot of a later day exists. The first snapshot of a day closes all days
before it that have no daily, those that an outage skipped among them. A late snapshot closes its
own day again, once for all that arrive within `Settings.late_data_wait_s`: the compaction waits
that long for others (see `velib_core.jobs.compact_daily.run_when_quiet`).
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from velib_core.events.job import JobResult
from velib_core.events.messages import DayClosed
from velib_core.jobs.recipes.daily import is_stale
from velib_core.lake.keys import Daily
from velib_core.tables.snapshots_index import observed_days
from velib_core.timeline.bins import day_of

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.timeline.bins import Bin, Day


@dataclasses.dataclass
class WarmState:
    """What an instance keeps between events, so that a live snapshot asks the store nothing.

    ``newest`` is the newest day seen, ``closed_before`` the day before which every day was looked
    at, ``closed_at`` when each day was closed last (`time.monotonic`).
    """

    newest: Day | None = None
    closed_before: Day | None = None
    closed_at: dict[Day, float] = dataclasses.field(default_factory=dict)


def run(network: Network, warm: WarmState, arrived: Bin) -> JobResult:
    """Publish `DayClosed` for the days that the snapshot of bin ``arrived`` shows to need it."""
    result = JobResult("close_day")
    day = day_of(arrived)
    if day == warm.closed_before:
        return result
    if warm.newest is None or day >= warm.newest:
        days = observed_days(network.lake, network.layout)
        warm.newest = max(days, default=None)
        if day == warm.newest:
            for missing in _without_daily(network, days[:-1]):
                _close(network, warm, missing, result)
            warm.closed_before = day
            return result
    if warm.newest is not None and day < warm.newest:
        _close_again(network, warm, day, result)
    return result


def _without_daily(network: Network, days: list[Day]) -> list[Day]:
    held = {entry.name for entry in network.lake.entries(f"{network.layout.daily}/")}
    return [day for day in days if network.layout.name(Daily(day)) not in held]


def _close_again(network: Network, warm: WarmState, day: Day, result: JobResult) -> None:
    closed_at = warm.closed_at.get(day)
    if closed_at is not None and time.monotonic() - closed_at < network.settings.late_data_wait_s:
        result.counts["in_a_burst"] = 1
        return
    listing = list(network.lake.entries(network.layout.bronze_day(day)))
    # Listed and not looked at: this function may read no object.
    held = network.lake.entries(network.layout.name(Daily(day)))
    if is_stale(listing, next(iter(held), None)):
        _close(network, warm, day, result)


def _close(network: Network, warm: WarmState, day: Day, result: JobResult) -> None:
    warm.closed_at[day] = time.monotonic()
    network.publisher.publish(DayClosed(day))
    result.published.append(f"day-closed {day}")
