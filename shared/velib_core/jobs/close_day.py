"""A snapshot arrived: say which UTC days are over and have no up-to-date daily.

A day is over once a snapshot of a later day exists. Days that an outage skipped are closed by the
first snapshot after it, and a late snapshot closes its day again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.events.job import JobResult
from velib_core.events.messages import DayClosed
from velib_core.lake.keys import Daily
from velib_core.recipes.daily import is_stale
from velib_core.tables.snapshots_index import observed_days
from velib_core.timeline.bins import day_of

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.timeline.bins import Bin


def run(network: Network, arrived: Bin) -> JobResult:
    """Publish `DayClosed` for the days that the snapshot of bin ``arrived`` shows to need it."""
    layout = network.layout
    result = JobResult("close_day")
    days = observed_days(network.lake, layout)
    closed = days[:-1]
    compacted = {entry.name: entry for entry in network.lake.entries(f"{layout.daily}/")}
    for day in closed:
        daily = compacted.get(layout.name(Daily(day)))
        late = day == day_of(arrived) and is_stale(
            list(network.lake.entries(layout.bronze_day(day))), daily
        )
        if daily is None or late:
            network.publisher.publish(DayClosed(day))
            result.published.append(f"day-closed {day}")
    return result
