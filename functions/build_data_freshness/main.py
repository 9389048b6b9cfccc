"""A snapshot is new → how old what it says is. See `velib_core.jobs.build_data_freshness`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_data_freshness as job
from velib_core.lake.keys import Snapshot
from velib_core.tables.history import SnapshotReader

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def build_data_freshness(trigger: Trigger) -> Job | None:
    """React to a finalized snapshot."""
    match trigger:
        case ObjectFinalized(Snapshot(arrived), force=force):
            return partial(job.run, arrived=arrived, reader=_reader(), force=force)
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _reader() -> SnapshotReader:
    return SnapshotReader(kept=1)
