"""The servers that all networks of a local cloud share: the object store and Pub/Sub."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from google.cloud import pubsub_v1, storage
from google.pubsub_v1 import types

from velib_local.emulator.object_store import object_store
from velib_local.emulator.pubsub import PubSubServer, deliver_once
from velib_local.emulator.pubsub_google import google_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from velib_local.emulator.gateway import Gateway
    from velib_local.emulator.pubsub import Delivery

PROJECT = "velib-local"
BUCKET = "velib-local"
OBJECTS_TOPIC = f"projects/{PROJECT}/topics/objects"
"""What the object server publishes on: every object of every network."""


LIMITED_BACKOFF_S = (0.1, 10.0)
"""With limits, of a message and of a subscription: busy functions refuse many messages, which must
not all be dead-lettered for it."""

PubSubKind = Literal["embedded", "google"]


@dataclasses.dataclass(frozen=True)
class Servers:
    """The servers that all networks of a local cloud share: the object store and Pub/Sub."""

    store: str
    pubsub: str
    kind: PubSubKind
    embedded: PubSubServer | None
    logs: Path
    limited: bool
    _publisher: pubsub_v1.PublisherClient

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> str:
        """Publish to a topic by its full name; return the message's id."""
        if self.embedded is not None:
            message = types.PubsubMessage(data=data, attributes=attributes)
            return self.embedded.publish(topic, [message])[0]
        return str(self._publisher.publish(topic, data, **attributes).result(60))

    def subscribe(self, config: types.Subscription, gateway: Gateway) -> None:
        """Subscribe; the embedded server's pushes to the gateway stay in this process."""
        if self.embedded is not None:
            self.embedded.subscribe(config, gateway.receive)
            return
        if config.push_config.push_endpoint:
            config.push_config.push_endpoint = gateway.address + config.push_config.push_endpoint
        with pubsub_v1.SubscriberClient() as subscriber:
            subscriber.create_subscription(request=config)


@contextlib.contextmanager
def local_servers(
    *,
    kind: PubSubKind = "embedded",
    delivery: Delivery = deliver_once,
    logs: Path | None = None,
    limited: bool = False,
) -> Iterator[Servers]:
    """Start the object store and Pub/Sub; this process's clients reach them too.

    Parameters
    ----------
    kind
        ``embedded`` runs with nothing but this package; ``google`` runs Google's emulator.
    delivery
        Faults for the embedded Pub/Sub to commit.
    logs
        Where each part's output goes; by default a temporary folder.
    limited
        Hold functions to their ``function.toml`` as the platform does (see `LocalFunction`), and
        hold pushes back from what refuses them (embedded Pub/Sub only).

    """
    with contextlib.ExitStack() as stack:
        folder = logs or Path(stack.enter_context(_scratch()))
        folder.mkdir(parents=True, exist_ok=True)
        embedded: PubSubServer | None = None
        if kind == "embedded":
            backoff = LIMITED_BACKOFF_S if limited else (0.0, 0.0)
            embedded = stack.enter_context(PubSubServer(delivery, backoff))
            pubsub = embedded.address
        else:
            pubsub = stack.enter_context(google_emulator(folder / "pubsub.log"))
        wiring = {"PUBSUB_EMULATOR_HOST": pubsub, "GOOGLE_CLOUD_PROJECT": PROJECT}
        stack.enter_context(_environment(wiring))
        topic = OBJECTS_TOPIC.rpartition("/")[2]
        publisher = pubsub_v1.PublisherClient()
        publisher.create_topic(name=OBJECTS_TOPIC)
        store = stack.enter_context(
            object_store(folder / "objects.log", project=PROJECT, topic=topic, pubsub=pubsub)
        )
        stack.enter_context(_environment({"STORAGE_EMULATOR_HOST": store}))
        storage.Client(project=PROJECT).create_bucket(BUCKET)
        yield Servers(store, pubsub, kind, embedded, folder, limited, publisher)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the length of a with-block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="velib-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
