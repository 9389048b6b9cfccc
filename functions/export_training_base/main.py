"""Training was asked for → the base to train on. See `velib_core.jobs.export_training_base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import TrainRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import export_training_base as job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def export_training_base(event: CloudEvent) -> None:
    """React to a request to train."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case TrainRequested() as request:
            lake, settings = runtime.lake(), runtime.settings()
            return job.on_request(lake, settings, runtime.publisher(), request).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
