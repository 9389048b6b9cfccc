"""A daily or a model changed → the profiles. See `velib_core.jobs.refresh_profiles`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import refresh_profiles as job
from velib_core.lake.keys import Daily, ModelFile
from velib_core.model import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def refresh_profiles(event: CloudEvent) -> None:
    """React to a finalized daily, or to a model that went live."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    lake, settings = runtime.lake(), runtime.settings()
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return job.run(lake, settings, day, force=force).summary()
        case ObjectFinalized(ModelFile(horizon, None, registry.POINTER)):
            return job.run_for_model(lake, settings, horizon).summary()
        case ObjectFinalized(ModelFile()):
            return {}  # the pointer is written after it
        case _:
            raise UnexpectedTriggerError(trigger)
