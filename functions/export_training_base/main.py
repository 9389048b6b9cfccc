"""Training was asked for → the base to train on. See `velib_core.jobs.export_training_base`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import TrainRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import export_training_base as job

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def export_training_base(trigger: Trigger) -> Job | None:
    """React to a request to train."""
    match trigger:
        case TrainRequested() as request:
            return partial(job.on_request, request=request)
        case _:
            raise UnexpectedTriggerError(trigger)
