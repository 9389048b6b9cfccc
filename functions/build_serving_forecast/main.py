"""A snapshot or a model is new → the forecasts. See `velib_core.jobs.build_serving_forecast`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_serving_forecast as job
from velib_core.lake.keys import ModelFile, Snapshot
from velib_core.model import registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_serving_forecast(event: CloudEvent) -> None:
    """React to a finalized snapshot, or to a model that went live."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    lake, settings = runtime.lake(), runtime.settings()
    match trigger:
        case ObjectFinalized(Snapshot(arrived)):
            return job.run(lake, settings, _warm(), arrived).summary()
        case ObjectFinalized(ModelFile(_, None, registry.POINTER)):
            return job.run(lake, settings, _warm()).summary()
        case ObjectFinalized(ModelFile()):
            return {}  # the pointer is written after it
        case _:
            raise UnexpectedTriggerError(trigger)


@functools.cache
def _warm() -> job.WarmState:
    return job.WarmState()
