"""A daily or a model changed → the profiles. See `velib_core.jobs.refresh_profiles`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import refresh_profiles as job
from velib_core.lake.keys import Daily, ModelFile
from velib_core.model import registry

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def refresh_profiles(trigger: Trigger) -> Job | None:
    """React to a finalized daily, or to a model that went live."""
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return partial(job.run, day=day, force=force)
        case ObjectFinalized(ModelFile(horizon, None, registry.POINTER)):
            return partial(job.run_for_model, horizon=horizon)
        case ObjectFinalized(ModelFile()):
            return None  # the pointer is written after it
        case _:
            raise UnexpectedTriggerError(trigger)
