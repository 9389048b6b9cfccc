"""Observations tables changed → data health. See `velib_core.jobs.build_data_health`."""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_data_health as job
from velib_core.lake.keys import Events, ForecastLog, Perf, TrainingBase

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_data_health(trigger: Trigger) -> Job | None:
    """React to an export of a closed day."""
    match trigger:
        case ObjectFinalized(Events(dt.date()), force=force):
            return partial(job.run, force=force)
        case ObjectFinalized(Events() | Perf() | ForecastLog() | TrainingBase()):
            return None  # another view, or the alias of the newest
        case _:
            raise UnexpectedTriggerError(trigger)
