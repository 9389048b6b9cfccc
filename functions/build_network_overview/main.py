"""A snapshot or a day is new → the network now. See `velib_core.jobs.build_network_overview`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_network_overview as job
from velib_core.lake.keys import ExportsManifest, Snapshot

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_network_overview(trigger: Trigger) -> Job | None:
    """React to a finalized snapshot, or to complete views of a closed day."""
    match trigger:
        case ObjectFinalized(Snapshot(arrived), force=force):
            return partial(job.run, warm=_warm(), arrived=arrived, force=force)
        case ObjectFinalized(ExportsManifest(), force=force):
            return partial(job.run_for_days, warm=_warm(), force=force)
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _warm() -> job.WarmState:
    return job.WarmState()
