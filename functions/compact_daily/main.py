"""A day closed → its compact Parquet. See `velib_core.jobs.compact_daily`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import DayClosed, Trigger, UnexpectedTriggerError
from velib_core.jobs import compact_daily as job

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def compact_daily(trigger: Trigger) -> Job | None:
    """React to a closed day."""
    match trigger:
        case DayClosed(day, force):
            return partial(job.run_when_quiet, day=day, force=force)
        case _:
            raise UnexpectedTriggerError(trigger)
