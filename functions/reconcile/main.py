"""An hour passed, or a replay was asked for → what is missing. See `velib_core.jobs.reconcile`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ReplayRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import reconcile as job

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def reconcile(trigger: Trigger) -> Job | None:
    """React to the hourly schedule or to a replay request."""
    match trigger:
        case ReplayRequested() as request:
            return partial(job.run, request=request)
        case _:
            raise UnexpectedTriggerError(trigger)
