"""Jobs with one call to the store or to Pub/Sub that fails, and two instances at once.

Whatever call fails, and however, the job ends well or with a transient error; delivered again it
leaves the lake of an undisturbed run, and has published the same.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import random
import threading
from typing import TYPE_CHECKING, Any, Literal

import network
import pytest
from google.api_core.exceptions import PreconditionFailed
from job_table import JOBS, before_job, restore
from velib_core.errors import TransientError
from velib_core.lake.artefact import StoreError
from velib_core.lake.bucket import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from job_table import Job
    from velib_core.settings.network import Settings

Call = Literal["read", "list", "write", "publish"]
Fault = Literal["refused", "answer lost", "overtaken", "cut"]

FAULTS: dict[Call, tuple[Fault, ...]] = {
    "read": ("refused",),
    "list": ("refused", "cut"),
    "write": ("refused", "answer lost", "overtaken"),
    "publish": ("refused", "answer lost"),
}
"""How a call can fail: without effect; with effect, unknown to the caller; as a write that comes
second to an equal one; in the middle of a listing."""

SAMPLE = (
    "compact_daily",
    "compact_daily that deletes",
    "build_datasets",
    "build_serving_forecast",
    "export_training_base",
)
"""Jobs that the default suite disturbs once each."""

POSITIONS = 4
"""At how many calls of a kind each fault is tried in the slow suite, first and last included."""


class FaultyCalls:
    """Counts calls by kind, and fails one of them."""

    def __init__(
        self, call: Call | None = None, position: int = 0, fault: Fault = "refused"
    ) -> None:
        self.call, self.position, self.fault = call, position, fault
        self.made: dict[Call, int] = dict.fromkeys(FAULTS, 0)
        self.published: set[str] = set()
        self._one_at_a_time = threading.Lock()

    def next(self, call: Call) -> Fault | None:
        """Return how the call that begins now is to fail."""
        with self._one_at_a_time:
            position = self.made[call]
            self.made[call] += 1
        return self.fault if (call, position) == (self.call, self.position) else None

    def act(self, call: Call, doing: Callable[[], Any]) -> Any:
        fault = self.next(call)
        if fault == "refused":
            raise StoreError("refused")
        done = doing()
        if fault == "overtaken":
            raise PreconditionFailed("overtaken")  # type: ignore[no-untyped-call]
        if fault == "answer lost":
            raise StoreError("answer lost")
        return done

    def listing(self, found: Iterator[Any]) -> Iterator[Any]:
        fault = self.next("list")
        if fault == "refused":
            raise StoreError("refused")
        if fault != "cut":
            yield from found
            return
        names = list(found)
        yield from names[: len(names) // 2]
        raise StoreError("the listing was cut")

    def publish(self, message: object) -> None:
        self.act("publish", lambda: self.published.add(str(message)))

    publish_alert = publish

    def republish(self, topic: str, entry: Any, *, force: bool = False) -> None:
        self.publish(f"{topic} {entry.name} {force}")

    def lake(self, lake: Lake) -> Lake:
        calls = self

        class Faulty(Lake):
            def stat(self, name: str) -> Any:
                return calls.act("read", lambda: Lake.stat(self, name))

            def read(self, entry: Any) -> Any:
                return calls.act("read", lambda: Lake.read(self, entry))

            def entries(self, *args: Any, **options: Any) -> Iterator[Any]:
                return calls.listing(Lake.entries(self, *args, **options))

            def lineage_records(self, prefix: str) -> Iterator[Any]:
                return calls.listing(Lake.lineage_records(self, prefix))

            def folders(self, prefix: str) -> Any:
                return list(calls.listing(iter(Lake.folders(self, prefix))))

            def write(self, *args: Any, **options: Any) -> Any:
                return calls.act("write", lambda: Lake.write(self, *args, **options))

            def delete(self, entry: Any) -> None:
                fault = calls.next("write")
                if fault != "refused":
                    Lake.delete(self, entry)
                if fault in {"refused", "answer lost"}:
                    raise StoreError(fault)

        return Faulty(lake.bucket)


def attempts(calls: dict[Call, int], *, seed: str | None) -> list[tuple[Call, int, Fault]]:
    """Return what to fail: each fault at calls spread over the run, or one that a seed draws."""
    every = [
        (call, position, fault)
        for call, count in calls.items()
        for position in sorted({n * (count - 1) // (POSITIONS - 1) for n in range(POSITIONS)})
        for fault in FAULTS[call]
        if count
    ]
    return [random.Random(seed).choice(every)] if seed else every


def run(job: Job, calls: FaultyCalls, lake: Lake, settings: Settings) -> None:
    job.work(network.of(calls.lake(lake), settings, calls))


def run_after(before: Any, job: Job, lake: Lake, settings: Settings) -> FaultyCalls:
    """Run a job on a lake of these objects, undisturbed; return the calls that it made."""
    restore(lake, before)
    calls = FaultyCalls()
    run(job, calls, lake, settings)
    return calls


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *[(name, False) for name in SAMPLE],
        *[pytest.param(name, True, marks=pytest.mark.slow) for name in JOBS],
    ],
)
def test_a_call_that_fails_is_a_transient_error_and_the_redelivery_leaves_the_undisturbed_lake(
    complete: Lake, quick: Settings, made: Any, name: str, every: bool
) -> None:
    job, settings = JOBS[name], dataclasses.replace(quick, **JOBS[name].changes)
    before = before_job(job, complete, quick, made)
    undisturbed = run_after(before, job, complete, settings)
    after = network.contents(complete)
    tried = attempts(undisturbed.made, seed=None if every else name)
    for call, position, fault in tried:
        restore(complete, before)
        failing, again = FaultyCalls(call, position, fault), FaultyCalls()
        with contextlib.suppress(TransientError):
            run(job, failing, complete, settings)
        assert failing.made[call] > position, "the call that was to fail was never made"
        run(job, again, complete, settings)
        what = f"{call} {position} of {undisturbed.made[call]}: {fault}"
        assert network.contents(complete) == after, what
        assert failing.published | again.published == undisturbed.published, what
    print(f"{name}: {undisturbed.made}, {len(tried)} faults")  # noqa: T201 -- `-s` shows counts


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in SAMPLE[:2] else pytest.mark.slow) for name in JOBS],
)
def test_two_instances_at_once_leave_the_lake_of_one(
    complete: Lake, quick: Settings, made: Any, name: str
) -> None:
    job, settings = JOBS[name], dataclasses.replace(quick, **JOBS[name].changes)
    before = before_job(job, complete, quick, made)
    undisturbed = run_after(before, job, complete, settings)
    after = network.contents(complete)
    restore(complete, before)
    start = threading.Barrier(2)

    def instance(calls: FaultyCalls) -> TransientError | None:
        start.wait()
        try:
            run(job, calls, complete, settings)
        except TransientError as error:
            return error
        return None

    both = [FaultyCalls(), FaultyCalls()]
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        errors = list(threads.map(instance, both))
    assert None in errors, "neither came first"
    assert network.contents(complete) == after
    assert both[0].published | both[1].published == undisturbed.published
