"""Define the typed triggers and messages of the functions.

An event reaches a function as one of these, whichever way the platform wraps it: a Pub/Sub message
of ours, a bucket notification carried by Pub/Sub, or a direct Cloud Storage event.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_core.errors import InvalidValueError, PermanentError

if TYPE_CHECKING:
    import datetime as dt

    from velib_core.lake.keys import Key
    from velib_core.timeline.bins import Day, HorizonMinutes

FINALIZED = "OBJECT_FINALIZE"

FORCE = "velibForce"
"""Attribute that we add to a notification published again by force."""


class EventError(InvalidValueError):
    """An event or message that is not one of ours: names the field, the value, the expectation."""


class UnexpectedTriggerError(PermanentError):
    """A well-formed trigger that this function has nothing to do with."""

    def __init__(self, trigger: object) -> None:
        super().__init__(f"this function does not react to {trigger!r}")


@dataclasses.dataclass(frozen=True)
class ObjectFinalized:
    """An object of ours was written: its key, name and generation.

    ``force`` asks for what depends on it to be made again even where nothing changed.
    """

    key: Key
    name: str
    generation: int
    force: bool = False


@dataclasses.dataclass(frozen=True)
class Tick:
    """The scheduled trigger: time to look at the feed. ``published`` is when, by Pub/Sub."""

    published: dt.datetime | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclasses.dataclass(frozen=True)
class DayClosed:
    """A UTC day is over (or was changed afterwards) and is to be compacted."""

    day: Day
    force: bool = False


@dataclasses.dataclass(frozen=True)
class TrainRequested:
    """Models are to be trained on the last ``window_days`` days.

    Without a horizon the training base is exported, and one message a horizon follows.
    """

    horizon: HorizonMinutes | None = None
    window_days: int | None = None


@dataclasses.dataclass(frozen=True)
class ReplayRequested:
    """Look for what is missing or stale, or (``force``) make it again.

    Without days all that exists is looked at; without a stage, every stage. ``dry_run`` only
    says what would be published. ``scheduled`` comes with the hourly schedule, which looks at all
    days once a day and at the newest ones otherwise.
    """

    first: Day | None = None
    last: Day | None = None
    stage: str | None = None
    force: bool = False
    dry_run: bool = False
    scheduled: bool = False


Trigger = ObjectFinalized | Tick | DayClosed | TrainRequested | ReplayRequested
Message = Tick | DayClosed | TrainRequested | ReplayRequested
