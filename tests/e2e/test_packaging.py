"""Each staged function, alone with what it pins, answers the events that it is deployed for.

The folder is the one that is uploaded; its environment holds its own requirements.txt and nothing
else; the process is the platform's functions-framework; the object server and Pub/Sub are real.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import os
import subprocess
import sys
import venv
from typing import TYPE_CHECKING, Any

import network
import pytest
import requests
from google.cloud import pubsub_v1
from network import FIRST_DAY, bins_of_days, upload
from present import present
from velib_core.events.messages import DayClosed, ReplayRequested, Tick, TrainRequested
from velib_core.events.publisher import encode
from velib_core.events.topics import ALERTS, TOPICS
from velib_core.jobs import build_data_freshness, build_datasets, compact_daily
from velib_core.lake.keys import Daily, ExportsManifest, Key, Monitoring, Snapshot
from velib_core.lake.layout import Layout
from velib_core.timeline.bins import HorizonMinutes, day_after
from velib_deploy.function_specs import load_specs, place
from velib_deploy.staging import read_pins, stage
from velib_local.emulator import processes
from velib_local.emulator.pubsub import PubSubServer
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

pytestmark = pytest.mark.e2e

SPECS = load_specs()
HEAVY = {"pandas", "scikit-learn", "scipy", "xgboost", "xgboost-cpu"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Stage a function and install what it pins; functions that pin the same share a venv."""
    build = tmp_path_factory.mktemp("build")
    environments = {}

    def install(name: Any) -> tuple[Path, Path]:
        folder = stage(name, build)
        pins = (folder / "requirements.txt").read_text("utf-8")
        if pins not in environments:
            home = tmp_path_factory.mktemp("venv")
            venv.create(home, with_pip=False)
            python = home / "bin" / "python"
            # uv, since pip takes minutes for what is the same files, checked by the same hashes.
            install_all = ["uv", "pip", "install", "--quiet", "--require-hashes"]
            wanted = ["--python", str(python), "-r", str(folder / "requirements.txt")]
            subprocess.run(
                [sys.executable, "-m", *install_all, *wanted], check=True, capture_output=True
            )
            environments[pins] = python
        return folder, environments[pins]

    return install


@pytest.fixture
def pubsub(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Pub/Sub server with the topics of the network; maps a topic to what was published."""
    with PubSubServer() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
        publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
        topics = {*TOPICS.values(), *Layout(settings).notified, ALERTS}
        for topic in topics:
            publisher.create_topic(name=settings.topic(topic))
            name = f"projects/{settings.project}/subscriptions/{topic}"
            subscriber.create_subscription(
                request={"name": name, "topic": settings.topic(topic), "ack_deadline_seconds": 60}
            )

        def published(topic: Any) -> Any:
            name = f"projects/{settings.project}/subscriptions/{topic}"
            pulled = subscriber.pull(subscription=name, max_messages=100, timeout=60)
            return [json.loads(item.message.data) for item in pulled.received_messages]

        yield published
        subscriber.close()


@contextlib.contextmanager
def running(
    name: str, folder: Any, python: Any, settings: Settings, log: Path, **env: Any
) -> Iterator[Any]:
    """Start a staged function as the platform does; yield how to send it a push body."""
    port = processes.free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"],
        "PUBSUB_EMULATOR_HOST": os.environ["PUBSUB_EMULATOR_HOST"],
        "GCS_BUCKET_ROOT": settings.root,
        "VELIB_NETWORK": settings.network,
        "GOOGLE_CLOUD_PROJECT": settings.project,
    } | env
    command = [python, "-m", "functions_framework", "--target", SPECS[name].entry_point]
    command += ["--signature-type", "cloudevent", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as sink:
        process = processes.start(command, cwd=folder, env=environment, stdout=sink, stderr=sink)
    address = f"http://127.0.0.1:{port}"
    try:
        processes.wait_until_answering(address, process, log)
        yield lambda topic, message: push(address, settings.topic(topic), message)
    finally:
        processes.stop(process)


def push(address: str, topic: str, message: Any) -> int:
    body = {"message": {"messageId": "1", **message}, "subscription": "projects/p/subscriptions/s"}
    return requests.post(f"{address}/{topic}", json=body).status_code


def body_of(message: DayClosed | ReplayRequested | Tick | TrainRequested) -> dict[str, str]:
    return {"data": base64.b64encode(encode(message)).decode()}


def notification_of(lake: Lake, settings: Settings, name: str) -> Any:
    entry = present(lake.stat(name))
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "payloadFormat": "JSON_API_V1",
        "bucketId": settings.bucket,
        "objectId": entry.name,
        "objectGeneration": str(entry.generation),
    }
    return {"data": base64.b64encode(b"{}").decode(), "attributes": attributes}


def distributions(python: Any) -> set[str]:
    code = "import importlib.metadata as m; print(*(d.name for d in m.distributions()), sep='\\n')"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return {name.lower().replace("_", "-") for name in done.stdout.split()}


def records(log: Path) -> Any:
    """The function's log lines that are its own: one JSON object each."""
    lines = log.read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_close_day_alone_says_that_a_day_is_over(
    installed: Any, settings: Settings, lake: Lake, pubsub: Any, tmp_path: Path
) -> None:
    folder, python = installed("close_day")
    bins = bins_of_days(1)
    upload(lake, settings, bins)
    newest = notification_of(lake, settings, Layout(settings).name(Snapshot(bins[-1])))
    with running("close_day", folder, python, settings, tmp_path / "log") as send:
        assert send("bronze", newest) == 200
    assert pubsub("day-closed") == [{"day": str(FIRST_DAY)}]
    assert not HEAVY & distributions(python)


def test_compact_daily_alone_makes_a_day_once(
    installed: Any, settings: Settings, lake: Lake, pubsub: Any, tmp_path: Path
) -> None:
    folder, python = installed("compact_daily")
    upload(lake, settings, bins_of_days(1))
    closed = body_of(DayClosed(FIRST_DAY))
    daily = Layout(settings).name(Daily(FIRST_DAY))
    with running("compact_daily", folder, python, settings, tmp_path / "log") as send:
        assert send("day-closed", closed) == 200
        made = lake.stat(daily)
        assert send("day-closed", closed) == 200
    assert made is not None
    assert lake.stat(daily) == made, "the same event again changes nothing"


@pytest.mark.parametrize("name", ["close_day", "compact_daily"])
def test_an_environment_holds_what_is_pinned_and_nothing_else(installed: Any, name: str) -> None:
    folder, python = installed(name)
    assert distributions(python) == set(read_pins(folder / "requirements.txt"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "reconcile"])
def test_the_other_light_functions_install_no_heavy_library(installed: Any, name: str) -> None:
    assert not HEAVY & distributions(installed(name)[1])


@pytest.mark.slow
def test_ingest_alone_takes_a_snapshot(
    installed: Any, settings: Settings, lake: Lake, pubsub: Any, tmp_path: Path
) -> None:
    folder, python = installed("ingest")
    city = City(stations=20, seed=1, start=dt.datetime(2025, 11, 3, 8, 0, tzinfo=dt.UTC))
    with FeedServer() as feed:
        feed.show(city.state())
        env = feed.environment()
        with running("ingest", folder, python, settings, tmp_path / "log", **env) as send:
            assert send("tick", body_of(Tick())) == 200
    names = [entry.name for entry in lake.entries(f"{Layout(settings).bronze}/")]
    assert names == [f"{Layout(settings).bronze}/date=2025-11-03/hour=08/2025-11-03T08-00.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SPECS) - {"ingest", "close_day", "compact_daily"}))
def test_every_function_alone_answers_its_event(
    name: Any, installed: Any, settings: Settings, lake: Lake, pubsub: Any, tmp_path: Path
) -> None:
    folder, python = installed(name)
    trains = name == "train_model"
    days, every = (3, 1) if trains else (2, 24)
    bins = bins_of_days(days, every)
    upload(lake, settings, bins)
    for n in range(days):
        compact_daily.run(network.of(lake, settings), day_after(FIRST_DAY, n))
    if name != "build_datasets":
        build_datasets.run(network.of(lake, settings), FIRST_DAY)
    build_data_freshness.run(network.of(lake, settings))
    layout = Layout(settings)
    names: dict[str, list[Key]] = {
        "bronze": [Snapshot(bins[-1])],
        "daily": [Daily(FIRST_DAY)],
        "exports": [ExportsManifest()],
        "freshness": [Monitoring("data/freshness", "manifest.json")],
    }
    topic = SPECS[name].topics[0]
    training = TrainRequested(HorizonMinutes(15) if trains else None)
    asked: dict[str, TrainRequested | ReplayRequested | Tick]
    asked = {"train": training, "replay": ReplayRequested(), "tick": Tick()}
    if topic in asked:
        messages = [body_of(asked[topic])]
    else:
        messages = [notification_of(lake, settings, layout.name(key)) for key in names[topic]]
    with running(name, folder, python, settings, tmp_path / "log") as send:
        for message in messages:
            assert send(topic, message) == 200
    answers = records(tmp_path / "log")
    assert answers[-1]["message"] == "done"
    assert "ERROR" not in {answer["severity"] for answer in answers}
    written = {written for answer in answers for written in answer.get("written", [])}
    written = {name for name in written if lake.stat(name)}  # some add a version
    folders = {place(layout, folder) for folder in SPECS[name].access.create}
    outside = {name for name in written if not name.startswith(tuple(f"{f}/" for f in folders))}
    assert not outside
    if name.startswith("build_") and name != "build_data_freshness":
        assert written
