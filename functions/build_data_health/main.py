"""Observations tables changed → data health. See `velib_core.jobs.build_data_health`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_data_health as job
from velib_core.lake.keys import ExportsManifest

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_data_health(trigger: Trigger) -> Job | None:
    """React to complete views of a closed day."""
    match trigger:
        case ObjectFinalized(ExportsManifest(), force=force):
            return partial(job.run, force=force)
        case _:
            raise UnexpectedTriggerError(trigger)
