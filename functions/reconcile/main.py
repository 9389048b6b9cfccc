"""An hour passed, or a replay was asked for → what is missing. See `velib_core.jobs.reconcile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ReplayRequested, Trigger, UnexpectedTriggerError
from velib_core.jobs import reconcile as job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def reconcile(event: CloudEvent) -> None:
    """React to the hourly beat or to a replay request."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ReplayRequested() as request:
            lake, settings = runtime.lake(), runtime.settings()
            return job.run(lake, settings, runtime.publisher(), request).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
