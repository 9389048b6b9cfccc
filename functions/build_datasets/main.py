"""A daily changed → its events and perf views. See `velib_core.jobs.build_datasets`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core import runtime
from velib_core.events import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_datasets as job
from velib_core.layout import Daily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_datasets(event: CloudEvent) -> None:
    """React to a finalized daily."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ObjectFinalized(Daily(day), force=force):
            return job.run(runtime.lake(), runtime.settings(), day, force=force).summary()
        case _:
            raise UnexpectedTriggerError(trigger)
