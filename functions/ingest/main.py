"""A tick → the feed's snapshot. See `velib_core.jobs.ingest`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import Tick, Trigger, UnexpectedTriggerError
from velib_core.jobs import ingest as job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def ingest(event: CloudEvent) -> None:
    """React to the scheduler's tick."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case Tick():
            return job.run(runtime.lake(), runtime.settings(), _feeds()).summary()
        case _:
            raise UnexpectedTriggerError(trigger)


@functools.cache
def _feeds() -> job.Feeds:
    return job.Feeds(runtime.settings())
