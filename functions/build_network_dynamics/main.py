"""Events views changed → network dynamics. See `velib_core.jobs.build_network_dynamics`."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_network_dynamics as job
from velib_core.lake.keys import Events, ForecastLog, Perf, TrainingBase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_network_dynamics(event: CloudEvent) -> None:
    """React to an export of a closed day."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ObjectFinalized(Events(dt.date()), force=force):
            return job.run(runtime.lake(), runtime.settings(), force=force).summary()
        case ObjectFinalized(Events() | Perf() | ForecastLog() | TrainingBase()):
            return {}  # another view, or the rolling copy of one
        case _:
            raise UnexpectedTriggerError(trigger)
