"""A day closed → its compact Parquet. See `velib_core.jobs.compact_daily`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import DayClosed, Trigger, UnexpectedTriggerError
from velib_core.jobs import compact_daily as job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def compact_daily(event: CloudEvent) -> None:
    """React to a closed day."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case DayClosed(day, force):
            return job.run(runtime.lake(), runtime.settings(), day, force=force).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
