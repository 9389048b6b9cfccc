"""A daily, a profile or a model changed → the views. See `velib_core.jobs.build_datasets`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_datasets as job
from velib_core.lake.keys import CalibrationOf, Daily, ModelFile, Profile
from velib_core.model import registry

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_datasets(trigger: Trigger) -> Job | None:
    """React to what the views are made from."""
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return partial(job.run, day=day, force=force)
        case ObjectFinalized(Profile(day)):
            return partial(job.run_for_profile, day=day)
        case ObjectFinalized(ModelFile(horizon, None, registry.POINTER)):
            return partial(job.run_for_model, horizon=horizon)
        case ObjectFinalized(ModelFile() | CalibrationOf()):
            return None  # the pointer, or the profile, is written after it
        case _:
            raise UnexpectedTriggerError(trigger)
