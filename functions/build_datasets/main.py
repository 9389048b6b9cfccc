"""A daily, a profile or a model changed → the views. See `velib_core.jobs.build_datasets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_datasets as job
from velib_core.lake.keys import CalibrationOf, Daily, ModelFile, Profile
from velib_core.model import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_datasets(event: CloudEvent) -> None:
    """React to what the views are made from."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    lake, settings = runtime.lake(), runtime.settings()
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return job.run(lake, settings, day, force=force).summary()
        case ObjectFinalized(Profile(day)):
            return job.run_for_profile(lake, settings, day).summary()
        case ObjectFinalized(ModelFile(horizon, None, registry.POINTER)):
            return job.run_for_model(lake, settings, horizon).summary()
        case ObjectFinalized(ModelFile() | CalibrationOf()):
            return {}  # the pointer, or the profile, is written after it
        case _:
            raise UnexpectedTriggerError(trigger)
