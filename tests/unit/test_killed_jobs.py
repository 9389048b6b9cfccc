"""Jobs killed between their writes and run again, and what the hourly reconcile sees of them.

A job may die after any of its writes. Its event comes again, or is lost; then reconcile has to
find what is unfinished. Both are tried half way and before the last write; in the slow suite at
each.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import TYPE_CHECKING, Any

import network
import pytest
from job_table import JOBS, Job, before_job, restore
from velib_core.events.messages import ReplayRequested
from velib_core.jobs import reconcile
from velib_core.lake.bucket import Lake
from velib_core.lake.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.settings.network import Settings


class KilledError(BaseException):
    """The process dies: what handles exceptions does not hold it up."""


class Process:
    """A process that dies when it has written, deleted and published so many times."""

    def __init__(self, lives: float = math.inf) -> None:
        self.lives = lives
        self.done = 0
        self.reported: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def act(self, doing: Callable[[], object]) -> object:
        with self._one_at_a_time:
            if self.done >= self.lives:
                raise KilledError
            self.done += 1
            return doing()

    def lake(self, lake: Lake) -> Lake:
        act = self.act

        class Dying(Lake):
            def write(self, *args: Any, **options: Any) -> Any:
                return act(lambda: Lake.write(self, *args, **options))

            def delete(self, entry: Any) -> None:
                act(lambda: Lake.delete(self, entry))

        return Dying(lake.bucket)

    def publish(self, message: object) -> None:
        self.act(lambda: self.reported.add(str(message)))

    publish_alert = publish

    def republish(self, topic: str, entry: Any, *, force: bool = False) -> None:
        self.publish(f"{topic} {entry.name} {force}")


def spots(writes: int, *, every: bool) -> list[int]:
    """Return after how many writes to die: on the way and before the last, or at each."""
    return list(range(writes)) if every else sorted({writes // 2, writes - 1})


def unfinished(lake: Lake, settings: Settings, job: Job) -> set[str]:
    """Return what reconcile would ask for, of other jobs' work too."""
    request = ReplayRequested(stage=job.stage)
    return (
        {str(fix) for fix in reconcile.plan(network.of(lake, settings), request)}
        if job.stage
        else set()
    )


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_job_killed_at_any_write_ends_as_an_undisturbed_one_when_redelivered(
    complete: Lake, quick: Settings, made: Any, name: Any, every: bool
) -> None:
    job = JOBS[name]
    lake, settings = complete, dataclasses.replace(quick, **job.changes)
    before = before_job(job, lake, quick, made)
    restore(lake, before)
    undisturbed = Process()
    job.work(network.of(undisturbed.lake(lake), settings, undisturbed))
    after = network.contents(lake)
    assert undisturbed.done
    others = unfinished(lake, settings, job)
    for lives in spots(undisturbed.done, every=every):
        restore(lake, before)
        mortal = Process(lives)
        with pytest.raises(KilledError):
            job.work(network.of(mortal.lake(lake), settings, mortal))
        left = network.contents(lake)
        if job.seal is not None and lives:
            seal = Layout(settings).name(job.seal)
            assert left.get(seal) != after[seal], (
                f"sealed after {lives} of {undisturbed.done} writes"
            )
        if job.stage:
            found = unfinished(lake, settings, job)
            assert found - others, (
                f"reconcile does not see that {lives} of {undisturbed.done} are written"
            )
        again = Process()
        job.work(network.of(again.lake(lake), settings, again))
        assert network.contents(lake) == after, f"killed after {lives} of {undisturbed.done} writes"
        assert mortal.reported | again.reported == undisturbed.reported
        assert unfinished(lake, settings, job) == others
