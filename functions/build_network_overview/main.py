"""A snapshot or a day is new → the network now. See `velib_core.jobs.build_network_overview`."""

from __future__ import annotations

import datetime as dt
import functools
from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_network_overview as job
from velib_core.lake.keys import Events, ForecastLog, Perf, Snapshot, TrainingBase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_network_overview(event: CloudEvent) -> None:
    """React to a finalized snapshot, or to the events of a closed day."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    lake, settings = runtime.lake(), runtime.settings()
    match trigger:
        case ObjectFinalized(Snapshot(arrived), force=force):
            return job.run(lake, settings, _warm(), arrived, force=force).summary()
        case ObjectFinalized(Events(dt.date() as day), force=force):
            return job.run_for_day(lake, settings, _warm(), day, force=force).summary()
        case ObjectFinalized(Events() | Perf() | ForecastLog() | TrainingBase()):
            return {}  # another view, or the rolling copy of one
        case _:
            raise UnexpectedTriggerError(trigger)


@functools.cache
def _warm() -> job.WarmState:
    return job.WarmState()
