"""A family or a forecast is complete → the intro. See `velib_core.jobs.build_monitoring_intro`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_monitoring_intro as job
from velib_core.lake.keys import Monitoring, ServingManifest

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_monitoring_intro(trigger: Trigger) -> Job | None:
    """React to a manifest: it is the last of its family to be written."""
    match trigger:
        case ObjectFinalized(ServingManifest() | Monitoring(_, "manifest.json"), force=force):
            return partial(job.run, warm=_warm(), force=force)
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _warm() -> job.WarmState:
    return job.WarmState()
