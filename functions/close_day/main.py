"""A snapshot arrived → which days are over. See `velib_core.jobs.close_day`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import close_day as job
from velib_core.lake.keys import Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def close_day(event: CloudEvent) -> None:
    """React to a finalized snapshot."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ObjectFinalized(Snapshot(arrived)):
            lake, settings = runtime.lake(), runtime.settings()
            return job.run(lake, settings, runtime.publisher(), arrived).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
