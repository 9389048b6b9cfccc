"""A snapshot or a model is new → the forecasts. See `velib_core.jobs.build_serving_forecast`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_serving_forecast as job
from velib_core.lake.keys import ModelFile, Snapshot
from velib_core.model import registry

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_serving_forecast(trigger: Trigger) -> Job | None:
    """React to a finalized snapshot, or to a model that went live."""
    match trigger:
        case ObjectFinalized(Snapshot(arrived), force=force):
            return partial(job.run, warm=_warm(), arrived=arrived, force=force)
        case ObjectFinalized(ModelFile(_, None, registry.POINTER), force=force):
            return partial(job.run, warm=_warm(), force=force)
        case ObjectFinalized(ModelFile()):
            return None  # the pointer is written after it
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _warm() -> job.WarmState:
    return job.WarmState()
