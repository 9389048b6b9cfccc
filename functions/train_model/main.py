"""Training of a horizon was asked for → a candidate, judged. See `velib_core.jobs.train_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import TrainRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import train_model as job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def train_model(event: CloudEvent) -> None:
    """React to a request to train."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    lake, settings = runtime.lake(), runtime.settings()
    match trigger:
        case TrainRequested() as request:
            return job.on_request(lake, settings, request).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
