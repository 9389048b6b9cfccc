"""The dailies of a complete month → ``monthly/compact_YYYY-MM.parquet``, streamed day by day.

A month is complete once its last day, or any later one, is compacted. It is made again when one
of its dailies changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.events.job import JobResult
from velib_core.jobs.recipes import monthly
from velib_core.lake.artefact import PARQUET, Artefact
from velib_core.lake.keys import Monthly
from velib_core.lake.layout import month_of
from velib_core.tables import snapshot
from velib_core.timeline.bins import day_after

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.lake.keys import Month
    from velib_core.lake.readable import Entry
    from velib_core.timeline.bins import Day


def months_touched(day: Day) -> list[Month]:
    """Return the months that a changed daily may complete or change: its own and the last."""
    this = month_of(day)
    return [month_of(day_after(this, -1)), this]


def run_for_day(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Compact the months that a changed daily may have completed or changed."""
    result = JobResult("compact_monthly")
    for month in months_touched(day):
        result.add(run(network, month, force=force))
    return result


def run(network: Network, month: Month, *, force: bool = False) -> JobResult:
    """Compact one month; an incomplete one is left alone."""
    layout = network.layout
    name = layout.name(Monthly(month))
    result = JobResult("compact_monthly")

    def make(current: Entry | None) -> Artefact | None:
        parts = monthly.inputs(network.lake, layout, month)
        fingerprint = monthly.fingerprint(parts)
        if not parts or (current and current.fingerprint == fingerprint and not force):
            return None
        result.counts["days"] = len(parts)
        data = snapshot.concatenate((part.name, network.lake.read(part)) for part in parts)
        return Artefact(data, PARQUET, fingerprint)

    result.outputs[name] = network.lake.update(name, make, force=force)
    return result
