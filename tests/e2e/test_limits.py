"""With limits a local function is held to its configuration, as the platform does."""

from __future__ import annotations

import base64
import dataclasses
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from commands import wait_until
from permission_proxy import CREATE, GET, OneWriteASecond, Operation
from velib_deploy.function_specs import load_specs
from velib_local.emulator.functions import (
    DIED,
    GATEWAY_TIMEOUT,
    TOO_MANY_REQUESTS,
    LocalFunction,
    memory_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.e2e

MAIN = """
import base64, pathlib, time
import functions_framework

kept = []

@functions_framework.cloud_event
def work(event):
    said = base64.b64decode(event.data["message"]["data"]).decode()
    if said.isdigit():
        kept.append(b"x" * (int(said) << 20))
        time.sleep(3600)
    while said and not pathlib.Path(said).exists():
        time.sleep(0.01)
"""
PATH = "/projects/p/topics/t"


def push(said: object = "") -> bytes:
    """Return an event that is handled at once, takes MiB for an hour, or waits for a file."""
    data = base64.b64encode(str(said).encode()).decode()
    message = {"messageId": "1", "data": data, "attributes": {"a": "b"}}
    return json.dumps({"message": message, "subscription": "s"}).encode()


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Any]:
    """Start functions of a configuration; end them with the test."""
    (tmp_path / "main.py").write_text(MAIN)
    made = []

    def make(*, limited: Any = True, **changed: Any) -> LocalFunction:
        spec = dataclasses.replace(
            load_specs()["compact_daily"], folder=tmp_path, entry_point="work", **changed
        )
        made.append(LocalFunction(spec, {}, tmp_path / "log", limited=limited))
        return made[-1]

    yield make
    for each in made:
        each.close()


def at_once(function: Any, events: Sequence[Path | str | int]) -> Any:
    """Deliver events side by side; return the threads and where their answers come."""
    answers = []

    def deliver(said: Any) -> None:
        answers.append(function.call(push(said), PATH)[0])

    threads = [threading.Thread(target=deliver, args=(said,)) for said in events]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_call_that_takes_too_long_is_ended_and_the_next_one_has_a_new_instance(
    function: Any, tmp_path: Path
) -> None:
    slow = function(timeout_s=5)
    assert slow.call(push(tmp_path / "never"), PATH)[0] == GATEWAY_TIMEOUT
    assert slow.pids == []
    assert slow.call(push(), PATH)[0] == 200


def test_an_instance_that_takes_too_much_memory_is_killed(function: Any, tmp_path: Path) -> None:
    large = function(memory="256Mi")
    assert large.call(push(), PATH)[0] == 200
    large.end_what_takes_too_much_memory()
    assert large.pids, "an instance within its memory lives"
    (thread,), answers = at_once(large, [400])

    def killed() -> bool:
        large.end_what_takes_too_much_memory()
        return not thread.is_alive()

    wait_until(killed, "the end of an instance")
    assert answers == [DIED]
    assert "of 256Mi allowed" in (tmp_path / "log").read_text()
    assert large.call(push(), PATH)[0] == 200


def test_an_event_that_finds_no_free_instance_is_refused_for_now(
    function: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    two = function(max_instances=2, concurrency=1)
    threads, answers = at_once(two, [gate, gate])
    wait_until(lambda: len(two.pids) == 2, "a second instance")
    assert two.call(push(), PATH)[0] == TOO_MANY_REQUESTS
    gate.touch()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert two.call(push(), PATH)[0] == 200


def test_without_limits_events_wait_for_the_one_instance(function: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = function(limited=False, max_instances=5, concurrency=1)
    threads, answers = at_once(one, [gate, "", ""])
    wait_until(lambda: one.busy, "the first event")
    assert len(one.pids) == 1
    gate.touch()
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    assert len(one.pids) == 1


def test_an_instance_that_dies_at_work_costs_its_event_and_no_other(
    function: Any, tmp_path: Path
) -> None:
    mortal = function()
    (thread,), answers = at_once(mortal, [tmp_path / "never"])
    wait_until(lambda: mortal.busy, "the event")
    mortal.kill()
    thread.join()
    assert answers == [DIED]
    assert mortal.call(push(), PATH)[0] == 200


@pytest.mark.parametrize(("text", "expected"), [("256Mi", 2**28), ("1Gi", 2**30), ("8Gi", 2**33)])
def test_memory_is_read_as_the_platform_reads_it(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


def test_an_object_is_written_once_a_second() -> None:
    seconds = iter([10.0, 10.5, 10.6, 11.1])
    policy = OneWriteASecond(lambda: next(seconds))
    write = Operation("f", CREATE, "projects/_/buckets/b/objects/x")
    other = Operation("f", CREATE, "projects/_/buckets/b/objects/y")
    answers = [policy(operation) for operation in (write, write, other, write)]
    assert [answer and answer.status for answer in answers] == [None, 429, None, None]
    assert policy(Operation("f", GET, "projects/_/buckets/b/objects/x")) is None
