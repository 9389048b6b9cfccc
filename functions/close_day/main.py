"""A snapshot arrived → which days are over. See `velib_core.jobs.close_day`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import close_day as job
from velib_core.lake.keys import Snapshot

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def close_day(trigger: Trigger) -> Job | None:
    """React to a finalized snapshot."""
    match trigger:
        case ObjectFinalized(Snapshot(arrived)):
            return partial(job.run, warm=_warm(), arrived=arrived)
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _warm() -> job.WarmState:
    return job.WarmState()
