"""Scheduled trigger → the feed's snapshot. See `velib_core.jobs.ingest`."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from velib_core.events import runtime
from velib_core.events.messages import Tick, Trigger, UnexpectedTriggerError
from velib_core.feeds.poll import Feeds
from velib_core.jobs import ingest as job

if TYPE_CHECKING:
    from velib_core.events.job import Job


@runtime.function
def ingest(trigger: Trigger) -> Job | None:
    """React to the scheduled trigger."""
    match trigger:
        case Tick(published):
            return partial(job.run, feeds=_feeds(), published=published)
        case _:
            raise UnexpectedTriggerError(trigger)


@cache
def _feeds() -> Feeds:
    return Feeds(runtime.settings())
