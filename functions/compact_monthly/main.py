"""A daily changed → the month it completes. See `velib_core.jobs.compact_monthly`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import compact_monthly as job
from velib_core.lake.keys import Daily

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def compact_monthly(trigger: Trigger) -> Job | None:
    """React to a finalized daily."""
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return partial(job.run_for_day, day=day, force=force)
        case _:
            raise UnexpectedTriggerError(trigger)
