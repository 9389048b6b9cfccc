"""A training request → an evaluated candidate. See `velib_core.jobs.train_model`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import TrainRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import train_model as job

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def train_model(trigger: Trigger) -> Job | None:
    """React to a request to train."""
    match trigger:
        case TrainRequested() as request:
            return partial(job.on_request, request=request)
        case _:
            raise UnexpectedTriggerError(trigger)
