"""A daily changed → the month it completes. See `velib_core.jobs.compact_monthly`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import compact_monthly as job
from velib_core.lake.keys import Daily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def compact_monthly(event: CloudEvent) -> None:
    """React to a finalized daily."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            lake, settings = runtime.lake(), runtime.settings()
            return job.run_for_day(lake, settings, day, force=force).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
