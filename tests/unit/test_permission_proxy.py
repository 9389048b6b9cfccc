"""The proxy names what the real clients ask for, refuses it, or loses the answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import permission_proxy
import pytest
from google.api_core import exceptions as api
from google.cloud import pubsub_v1, storage
from permission_proxy import Denial, Operation, permissions_for, proxied
from present import present
from velib_core.lake.artefact import JSON, Artefact, StoreError
from velib_core.lake.bucket import Lake
from velib_local.emulator.pubsub import PubSubServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOPIC = "projects/p/topics/velib-train"


def artefact(data: bytes) -> Artefact:
    return Artefact(data, JSON, "mark")


@pytest.fixture
def guarded_lake(lake: Lake, store_address: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A lake behind the proxy, what was asked of it, and what is to be refused."""
    asked: list[Any] = []
    denials: dict[str, Any] = {}

    def policy(operation: Any) -> Any:
        if (
            operation.permission != permission_proxy.BUCKET
        ):  # the client looks at the bucket when it likes
            asked.append((operation.permission, operation.resource))
        return denials.get(operation.permission)

    with proxied("ingest", policy, store_address, "127.0.0.1:1") as env:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", env["STORAGE_EMULATOR_HOST"])
        yield Lake(storage.Client(project="p").bucket(lake.bucket.name)), asked, denials


def test_each_call_of_the_lake_is_named_as_iam_names_it(guarded_lake: Any) -> None:
    lake, asked, _ = guarded_lake
    bucket = f"projects/_/buckets/{lake.bucket.name}"
    an_object = f"{bucket}/objects/a b/ç%2F.json"

    def names(call: Any) -> Any:
        asked.clear()
        call()
        return list(asked)

    name = "a b/ç%2F.json"
    assert names(lambda: lake.write(name, artefact(b"1"), expected_generation=0)) == [
        (permission_proxy.CREATE, an_object)
    ]
    assert names(lambda: lake.stat(name)) == [(permission_proxy.GET, an_object)]
    entry = lake.stat(name)
    assert names(lambda: lake.read(entry)) == [(permission_proxy.GET, an_object)]
    assert names(lambda: list(lake.entries("a"))) == [(permission_proxy.LIST, bucket)]
    assert names(lambda: lake.folders("")) == [(permission_proxy.LIST, bucket)]
    assert names(
        lambda: lake.write(name, artefact(b"2"), expected_generation=entry.generation)
    ) == [(permission_proxy.CREATE, an_object), (permission_proxy.DELETE, an_object)]
    entry = lake.stat(name)
    assert names(lambda: lake.delete(entry)) == [(permission_proxy.DELETE, an_object)]
    assert lake.stat(name) is None
    assert permissions_for(
        "GET", f"/storage/v1/b/{lake.bucket.name}?alt=json", b"", lambda *_: False
    ) == [(permission_proxy.BUCKET, bucket)]


def test_what_passes_the_proxy_arrives_complete_however_large(
    guarded_lake: Any, lake: Lake
) -> None:
    behind, asked, _ = guarded_lake
    data = bytes(range(256)) * (9 << 12)
    behind.write("large", artefact(data), expected_generation=0)
    assert asked == [
        (permission_proxy.CREATE, f"projects/_/buckets/{lake.bucket.name}/objects/large")
    ]
    assert lake.fetch("large")[1] == data
    assert behind.fetch("large")[1] == data


def test_a_denied_operation_does_not_happen_and_its_caller_gets_the_status(
    guarded_lake: Any, lake: Lake
) -> None:
    behind, _, denials = guarded_lake
    lake.write("x", artefact(b"old"), expected_generation=0)
    entry = lake.stat("x")
    denials |= {permission_proxy.DELETE: Denial(403), permission_proxy.GET: Denial(403)}
    calls: tuple[Callable[[], object], ...] = (
        lambda: behind.read(entry),
        lambda: behind.delete(entry),
        lambda: behind.write("x", artefact(b"new"), expected_generation=present(entry).generation),
    )
    for call in calls:
        with pytest.raises(StoreError, match="403"):
            call()
    assert lake.fetch("x") == (entry, b"old")


def test_a_write_whose_answer_is_lost_has_happened(guarded_lake: Any, lake: Lake) -> None:
    behind, _, denials = guarded_lake
    denials[permission_proxy.CREATE] = Denial(403, done=True)
    with pytest.raises(StoreError):
        behind.write("x", artefact(b"1"), expected_generation=0)
    assert lake.fetch("x")[1] == b"1"


def test_calls_that_no_function_makes_are_named_unknown(guarded_lake: Any, lake: Lake) -> None:
    behind, asked, denials = guarded_lake
    lake.write("x", artefact(b"1"), expected_generation=0)
    denials[permission_proxy.UNKNOWN] = Denial(403)
    blob = behind.bucket.get_blob("x")
    blob.metadata = {"velib-inputs": "forged"}
    for call in (
        blob.patch,
        lambda: behind.bucket.copy_blob(blob, behind.bucket, "y"),
        lambda: behind.bucket.blob("z").compose([blob]),
        behind.bucket.patch,
    ):
        with pytest.raises(api.Forbidden):
            call()
    assert {permission for permission, _ in asked} == {
        permission_proxy.GET,
        permission_proxy.UNKNOWN,
    }


def test_publishing_is_granted_by_topic(
    store_address: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    denials: dict[str, Any] = {}

    def policy(operation: Any) -> Any:
        asked.append(operation)
        return denials.get(operation.permission)

    with PubSubServer() as server, proxied("close_day", policy, store_address, server.address) as e:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        pubsub_v1.PublisherClient().create_topic(name=TOPIC)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", e["PUBSUB_EMULATOR_HOST"])
        publisher = pubsub_v1.PublisherClient()
        assert publisher.publish(TOPIC, b"{}").result(10)
        assert asked == [Operation("close_day", permission_proxy.PUBLISH, TOPIC)]
        with pytest.raises(api.NotFound):
            publisher.publish(TOPIC + "-not", b"{}").result(10)
        denials[permission_proxy.PUBLISH] = Denial(403)
        with pytest.raises(api.PermissionDenied):
            publisher.publish(TOPIC, b"{}").result(10)
