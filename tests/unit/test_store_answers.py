"""The store as it may answer: each answer is what was asked for, or a transient error in time."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

import network
import pytest
import store_faults
from google.api_core.exceptions import PreconditionFailed
from job_table import JOBS, before_job, restore
from present import present
from store_faults import FAULTS, store_proxy
from velib_core.errors import TransientError
from velib_core.lake import session
from velib_core.lake.artefact import JSON, Artefact, StoreError
from velib_core.lake.bucket import Lake, connect
from velib_core.settings.network import Settings
from velib_deploy.function_specs import load_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from store_faults import Call, StoreProxy

NEW = Artefact(b"new" * 1000, JSON, "new")
SOON_S = 5.0
"""A call that is limited to half a second of silence, of retries and of answers has ended then."""

CALLS: list[tuple[str, Call, Callable[[Lake, Any], Any]]] = [
    ("stat", "stat", lambda lake, entry: lake.stat(entry.name)),
    ("entries", "list", lambda lake, _: list(lake.entries("daily/"))),
    ("lineage records", "list", lambda lake, _: list(lake.lineage_records("daily/"))),
    ("folders", "list", lambda lake, _: lake.folders("daily/")),
    ("read", "read", lambda lake, entry: lake.read(entry)),
    ("create", "write", lambda lake, _: lake.create("daily/9", NEW)),
    ("update", "stat", lambda lake, entry: lake.update(entry.name, lambda _: NEW)),
    ("update", "write", lambda lake, entry: lake.update(entry.name, lambda _: NEW)),
    ("delete", "delete", lambda lake, entry: lake.delete(entry)),
]
"""What a lake is asked for, the call to the store that is answered wrongly, and how it is asked."""

SLOW_JOBS = ("compact_daily that deletes", "build_serving_forecast", "build_data_health")
JOB_FAULTS = (
    *("403", "429", "500 of html", "404 of the bucket", "200 of nothing", "a redirect to itself"),
    *("reset after it is done", "503 although done", "412 although done", "cut in the middle"),
    *("a flipped byte without a checksum", "each name twice", "a byte a while"),
)
FOLDERS = ("bronze", "daily", "models", "quarantine", "ledger", "profiles", "exports", "monitoring")


@pytest.fixture
def proxy(
    store_address: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreProxy]:
    """A proxy to the store; what is connected from now on passes through it, and waits little."""
    for limit in ("SILENCE_S", "RETRY_S", "ANSWER_S"):
        monkeypatch.setattr(session, limit, 0.5)
    with store_proxy(store_address) as running:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.address)
        yield running


def fill(lake: Lake) -> None:
    for entry in lake.entries(""):
        lake.delete(entry)
    for n in range(4):
        held = Artefact(bytes(3000) + bytes([n]), JSON, f"f{n}")
        lake.write(f"daily/{n}", held, expected_generation=0)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(name, marks=pytest.mark.slow if name in store_faults.SLOW else [])
        for name in FAULTS
    ],
)
def test_a_wrong_answer_of_the_store_is_a_transient_error_or_changes_nothing(
    lake: Lake, settings: Settings, proxy: StoreProxy, fault: str
) -> None:
    answer, calls = FAULTS[fault]
    through = connect(settings)
    for name, call, ask in CALLS:
        if call not in calls:
            continue
        for times in (1, float("inf")):
            fill(lake)
            entry = present(lake.stat("daily/2"))
            expected = ask(lake, entry)
            after = network.contents(lake)
            fill(lake)
            entry = present(lake.stat("daily/2"))
            if call in {"stat", "list"} and name != "update":
                expected = ask(lake, entry)
            began, got = time.monotonic(), None
            with proxy.attacked(answer, call, times=times) as attack:
                try:
                    got = ask(through, entry)
                except (TransientError, PreconditionFailed) as error:
                    got = error
            assert attack.met, name
            assert time.monotonic() - began < SOON_S, name
            if isinstance(got, Exception):
                continue
            if call in {"stat", "list", "read"} and name != "update":
                assert got == expected, name
            assert network.contents(lake) == after, name


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_JOBS)
def test_a_job_that_a_broken_store_ends_leaves_the_undisturbed_lake_when_redelivered(
    complete: Lake, quick: Settings, made: Any, proxy: StoreProxy, name: str
) -> None:
    job, settings = JOBS[name], dataclasses.replace(quick, **JOBS[name].changes)
    before = before_job(job, complete, quick, made)
    restore(complete, before)
    job.work(network.of(complete, settings))
    after = network.contents(complete)
    through = connect(settings)
    tried = [(fault, FAULTS[fault][1], "") for fault in JOB_FAULTS]
    tried += [("403", store_faults.EVERY, f"{folder}/") for folder in FOLDERS]
    for fault, calls, prefix in tried:
        for call in [calls] if prefix else [(call,) for call in calls]:
            restore(complete, before)
            times = 1 if "done" in fault else float("inf")
            attack = proxy.attacked(FAULTS[fault][0], *call, prefix=prefix, times=times)
            with attack, contextlib.suppress(TransientError):
                job.work(network.of(through, settings))
            job.work(network.of(complete, settings))
            assert network.contents(complete) == after, (fault, call, prefix)


def test_a_missing_bucket_is_never_a_missing_object(lake: Lake, settings: Settings) -> None:
    gone = connect(Settings.from_env({"GCS_BUCKET_ROOT": f"gs://{settings.bucket}-gone"}))
    for ask in (
        lambda: list(gone.entries("")),
        lambda: gone.folders(""),
        lambda: gone.create("bronze/x", NEW),
    ):
        with pytest.raises(StoreError):
            ask()


def test_the_limits_of_a_call_end_within_the_smallest_functions_time() -> None:
    smallest = min(spec.timeout_s for spec in load_specs().values())
    assert smallest >= session.RETRY_S + session.SILENCE_S + session.ANSWER_S
