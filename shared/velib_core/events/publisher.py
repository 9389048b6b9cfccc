"""Typed message → Pub/Sub."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.errors import TransientError
from velib_core.events.messages import (
    FINALIZED,
    FORCE,
    DayClosed,
    Message,
    ReplayRequested,
    Tick,
    TrainRequested,
)
from velib_core.events.topics import ALERTS, TOPICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

PUBLISH_TIMEOUT_S = 30


class Publisher:
    """Publishes messages of one network; the client is opened at the first one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def _client(self) -> Any:  # noqa: ANN401 -- imported late: half a second of cold start
        from google.cloud import pubsub_v1  # noqa: PLC0415

        return pubsub_v1.PublisherClient()

    def publish(self, message: Message) -> None:
        """Publish one message and wait until the service has it.

        Raises `TransientError` where it did not within `PUBLISH_TIMEOUT_S`.
        """
        topic = self._settings.topic(TOPICS[type(message)])
        self.send(topic, encode(message))
        logs.log("INFO", "published", topic=topic, published=encode(message).decode())

    def republish(self, topic: str, entry: Entry, *, force: bool = False) -> None:
        """Publish the notification about an object again, as the bucket words it."""
        attributes = {
            "eventType": FINALIZED,
            "payloadFormat": "JSON_API_V1",
            "bucketId": self._settings.bucket,
            "objectId": entry.name,
            "objectGeneration": str(entry.generation),
        } | ({FORCE: "1"} if force else {})
        self.send(self._settings.topic(topic), b"{}", attributes)
        logs.log("INFO", "published", topic=topic, published=entry.name)

    def publish_alert(self, body: Mapping[str, object]) -> None:
        """Publish a change of an alert; whoever is on call subscribes to the topic."""
        self.send(self._settings.topic(ALERTS), json.dumps(body, ensure_ascii=False).encode())

    def send(self, topic: str, data: bytes, attributes: Mapping[str, str] | None = None) -> None:
        """Publish bytes to a topic by its full name."""
        try:
            self._client.publish(topic, data, **(attributes or {})).result(PUBLISH_TIMEOUT_S)
        except Exception as error:
            raise TransientError(f"publishing to {topic} failed: {error}") from error


def encode(message: Message) -> bytes:
    """Return the JSON body of a message; `velib_core.events.parsing.parse` reads it back."""
    match message:
        case Tick():
            body: dict[str, object] = {}
        case DayClosed(day, force):
            body = {"day": str(day)} | ({"force": True} if force else {})
        case TrainRequested(horizon, window_days):
            body = {"horizon_min": horizon} if horizon else {}
            body |= {"window_days": window_days} if window_days else {}
        case ReplayRequested():
            body = {
                key: str(value) if key in {"from", "to"} else value
                for key, value in (
                    ("from", message.first),
                    ("to", message.last),
                    ("stage", message.stage),
                    ("force", message.force),
                    ("dry_run", message.dry_run),
                    ("scheduled", message.scheduled),
                )
                if value
            }
    return json.dumps(body).encode()
