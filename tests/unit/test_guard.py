"""The guard names what the real clients ask for, refuses it, or loses the answer to it."""

from __future__ import annotations

import pytest
from google.api_core import exceptions as api
from google.cloud import pubsub_v1, storage
from velib_core import lake as store
from velib_core.lake import Lake, StoreError
from velib_local import guard
from velib_local.guard import Operation, Refusal, guarded, permissions_for
from velib_local.pubsub_server import PubSubServer

TOPIC = "projects/p/topics/velib-train"


def artefact(data: bytes) -> store.Artefact:
    return store.Artefact(data, store.JSON, "mark")


@pytest.fixture
def guarded_lake(lake, store_address, monkeypatch):
    """A lake behind the guard, what was asked of it, and what is to be refused."""
    asked, refusals = [], {}

    def judge(operation):
        if operation.permission != guard.BUCKET:  # the client looks at the bucket when it likes
            asked.append((operation.permission, operation.resource))
        return refusals.get(operation.permission)

    with guarded("ingest", judge, store_address, "127.0.0.1:1") as env:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", env["STORAGE_EMULATOR_HOST"])
        yield Lake(storage.Client(project="p").bucket(lake.bucket.name)), asked, refusals


def test_each_call_of_the_lake_is_named_as_iam_names_it(guarded_lake):
    lake, asked, _ = guarded_lake
    bucket = f"projects/_/buckets/{lake.bucket.name}"
    an_object = f"{bucket}/objects/a b/ç%2F.json"

    def names(call):
        asked.clear()
        call()
        return list(asked)

    name = "a b/ç%2F.json"
    assert names(lambda: lake.write(name, artefact(b"1"), expected_generation=0)) == [
        (guard.CREATE, an_object)
    ]
    assert names(lambda: lake.stat(name)) == [(guard.GET, an_object)]
    entry = lake.stat(name)
    assert names(lambda: lake.read(entry)) == [(guard.GET, an_object)]
    assert names(lambda: list(lake.entries("a"))) == [(guard.LIST, bucket)]
    assert names(lambda: lake.folders("")) == [(guard.LIST, bucket)]
    assert names(
        lambda: lake.write(name, artefact(b"2"), expected_generation=entry.generation)
    ) == [(guard.CREATE, an_object), (guard.DELETE, an_object)]
    entry = lake.stat(name)
    assert names(lambda: lake.delete(entry)) == [(guard.DELETE, an_object)]
    assert lake.stat(name) is None
    assert permissions_for("GET", f"/storage/v1/b/{lake.bucket.name}?alt=json", b"", None) == [
        (guard.BUCKET, bucket)
    ]


def test_what_passes_the_guard_arrives_whole_however_large(guarded_lake, lake):
    behind, asked, _ = guarded_lake
    data = bytes(range(256)) * (9 << 12)
    behind.write("large", artefact(data), expected_generation=0)
    assert asked == [(guard.CREATE, f"projects/_/buckets/{lake.bucket.name}/objects/large")]
    assert lake.fetch("large")[1] == data
    assert behind.fetch("large")[1] == data


def test_a_refused_operation_does_not_happen_and_its_caller_is_told(guarded_lake, lake):
    behind, _, refusals = guarded_lake
    lake.write("x", artefact(b"old"), expected_generation=0)
    entry = lake.stat("x")
    refusals |= {guard.DELETE: Refusal(403), guard.GET: Refusal(403)}
    for call in (
        lambda: behind.read(entry),
        lambda: behind.delete(entry),
        lambda: behind.write("x", artefact(b"new"), expected_generation=entry.generation),
    ):
        with pytest.raises(StoreError, match="403"):
            call()
    assert lake.fetch("x") == (entry, b"old")


def test_a_write_whose_answer_is_lost_has_happened(guarded_lake, lake):
    behind, _, refusals = guarded_lake
    refusals[guard.CREATE] = Refusal(403, done=True)
    with pytest.raises(StoreError):
        behind.write("x", artefact(b"1"), expected_generation=0)
    assert lake.fetch("x")[1] == b"1"


def test_calls_that_no_function_makes_are_named_unknown(guarded_lake, lake):
    behind, asked, refusals = guarded_lake
    lake.write("x", artefact(b"1"), expected_generation=0)
    refusals[guard.UNKNOWN] = Refusal(403)
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
    assert {permission for permission, _ in asked} == {guard.GET, guard.UNKNOWN}


def test_publishing_is_judged_by_topic(store_address, monkeypatch):
    asked, refusals = [], {}

    def judge(operation):
        asked.append(operation)
        return refusals.get(operation.permission)

    with PubSubServer() as server, guarded("close_day", judge, store_address, server.address) as e:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        pubsub_v1.PublisherClient().create_topic(name=TOPIC)
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", e["PUBSUB_EMULATOR_HOST"])
        publisher = pubsub_v1.PublisherClient()
        assert publisher.publish(TOPIC, b"{}").result(10)
        assert asked == [Operation("close_day", guard.PUBLISH, TOPIC)]
        with pytest.raises(api.NotFound):
            publisher.publish(TOPIC + "-not", b"{}").result(10)
        refusals[guard.PUBLISH] = Refusal(403)
        with pytest.raises(api.PermissionDenied):
            publisher.publish(TOPIC, b"{}").result(10)
