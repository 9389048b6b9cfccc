"""A snapshot arrived: say which UTC days are over and have no up-to-date daily.

A day is over once a snapshot of a later day exists. Days that an outage skipped are closed by the
first snapshot after it, and a late snapshot closes its day again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.events import DayClosed
from velib_core.grid import day_after, day_of, today
from velib_core.jobs import compact_daily
from velib_core.jobs.result import JobResult
from velib_core.layout import Daily, Layout

if TYPE_CHECKING:
    from velib_core.events import Publisher
    from velib_core.grid import Bin, Day
    from velib_core.lake import Lake
    from velib_core.settings import Settings


def run(lake: Lake, settings: Settings, publisher: Publisher, arrived: Bin) -> JobResult:
    """Publish `DayClosed` for the days that the snapshot of bin ``arrived`` shows to need it."""
    layout = Layout(settings)
    result = JobResult("close_day")
    days = observed_days(lake, layout)
    closed = days[:-1]
    compacted = {entry.name: entry for entry in lake.entries(f"{layout.daily}/")}
    for day in closed:
        daily = compacted.get(layout.name(Daily(day)))
        late = day == day_of(arrived) and compact_daily.is_stale(
            list(lake.entries(layout.bronze_day(day))), daily
        )
        if daily is None or late:
            publisher.publish(DayClosed(day))
            result.published.append(f"day-closed {day}")
    return result


def observed_days(lake: Lake, layout: Layout) -> list[Day]:
    """Return the days that have snapshots, in order.

    A folder of a day after tomorrow (by this machine's clock) cannot be an observation; it is
    left out, since it would close every day before it.
    """
    tomorrow = day_after(today())
    days = layout.days_of_folders(lake.folders(f"{layout.bronze}/"))
    future = [day for day in days if day > tomorrow]
    if future:
        logs.log("WARNING", "snapshots of the future are ignored", days=[str(d) for d in future])
    return [day for day in days if day <= tomorrow]
