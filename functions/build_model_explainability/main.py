"""Evaluations changed → model explainability. See `velib_core.jobs.build_model_explainability`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_model_explainability as job
from velib_core.lake.keys import ExportsManifest

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_model_explainability(trigger: Trigger) -> Job | None:
    """React to complete views of a closed day."""
    match trigger:
        case ObjectFinalized(ExportsManifest(), force=force):
            return partial(job.run, force=force)
        case _:
            raise UnexpectedTriggerError(trigger)
