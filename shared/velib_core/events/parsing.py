"""CloudEvent → typed trigger, made only of names and numbers that pass layout and settings."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

from velib_core.events.messages import (
    FINALIZED,
    FORCE,
    DayClosed,
    EventError,
    ObjectFinalized,
    ReplayRequested,
    Tick,
    TrainRequested,
    Trigger,
)
from velib_core.events.topics import TOPICS
from velib_core.lake.layout import Layout
from velib_core.timeline.bins import Day, HorizonMinutes, parse_day

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent

    from velib_core.settings.network import Settings

PUBSUB_EVENT = "google.cloud.pubsub.topic.v1.messagePublished"
STORAGE_EVENT = "google.cloud.storage.object.v1.finalized"

MAX_MESSAGE_BYTES = 64 << 10
"""Our messages are tens of bytes and a notification about one KiB."""

MAX_REPLAY_DAYS = 3660

MAX_GENERATION = (1 << 63) - 1

_GENERATION = re.compile(r"[0-9]{1,19}")


def parse(event: CloudEvent, settings: Settings) -> Trigger:
    """Return the trigger that a CloudEvent carries.

    Raises
    ------
    EventError
        For anything malformed, and for objects of another bucket.
    velib_core.lake.layout.ForeignNameError
        For an object of our bucket whose name is not one of ours.

    """
    kind = event["type"]
    data = event.get_data()
    if not isinstance(data, dict):
        raise EventError("data", data, "a JSON object")
    if kind == STORAGE_EVENT:
        return _finalized(data, settings)
    if kind != PUBSUB_EVENT:
        raise EventError("type", kind, f"{PUBSUB_EVENT} or {STORAGE_EVENT}")
    message = data.get("message")
    if not isinstance(message, dict):
        raise EventError("data.message", message, "a Pub/Sub message")
    attributes = message.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise EventError("data.message.attributes", attributes, "a JSON object of strings")
    if "eventType" in attributes:
        return _notified(attributes, settings)
    topic, payload = _topic_of(event["source"], settings), _payload(message.get("data"))
    if topic == TOPICS[Tick]:
        return Tick(_published(message.get("publishTime")))
    return _message(topic, payload, settings)


def _notified(attributes: Mapping[str, Any], settings: Settings) -> ObjectFinalized:
    if attributes["eventType"] != FINALIZED:
        raise EventError("attributes.eventType", attributes["eventType"], FINALIZED)
    return _finalized(
        {
            "bucket": attributes.get("bucketId"),
            "name": attributes.get("objectId"),
            "generation": attributes.get("objectGeneration"),
        },
        settings,
        force=attributes.get(FORCE) == "1",
    )


def _finalized(
    data: Mapping[str, Any], settings: Settings, *, force: bool = False
) -> ObjectFinalized:
    bucket, name, generation = data.get("bucket"), data.get("name"), data.get("generation")
    if bucket != settings.bucket:
        raise EventError("bucket", bucket, settings.bucket)
    if not isinstance(name, str) or not name or len(name) > 1024:
        raise EventError("name", name, "an object name of at most 1024 characters")
    if type(generation) is int and 0 <= generation <= MAX_GENERATION:
        generation = str(generation)
    if not isinstance(generation, str) or not _GENERATION.fullmatch(generation):
        raise EventError("generation", generation, "a whole number of at most 19 digits")
    return ObjectFinalized(Layout(settings).key(name), name, int(generation), force)


def _topic_of(source: object, settings: Settings) -> str:
    """Return which of our topics a Pub/Sub event names as its source."""
    topic = source.rpartition("/topics/")[2] if isinstance(source, str) else ""
    name = topic.removeprefix(f"{settings.network}-")
    if name == topic or name not in TOPICS.values():
        expected = ", ".join(f"{settings.network}-{known}" for known in TOPICS.values())
        raise EventError("source", source, f"a topic among {expected}")
    return name


def _payload(data: object) -> dict[str, Any]:
    if data is None or data == "":
        return {}
    if not isinstance(data, str) or len(data) > MAX_MESSAGE_BYTES * 4 // 3:
        raise EventError("data.message.data", data, f"base64 of at most {MAX_MESSAGE_BYTES} bytes")
    try:
        payload = json.loads(base64.b64decode(data, validate=True))
    except binascii.Error:
        raise EventError("data.message.data", data, "base64") from None
    except (ValueError, RecursionError):
        raise EventError("data.message.data", data, "base64 of a JSON object") from None
    if not isinstance(payload, dict):
        raise EventError("message", payload, "a JSON object")
    return payload


def _message(topic: str, payload: Mapping[str, Any], settings: Settings) -> Trigger:
    match topic:
        case "day-closed":
            return DayClosed(_day(payload, "day"), _flag(payload, "force"))
        case "train":
            return _train(payload, settings)
        case _:
            return _replay(payload)


def _published(stamp: object) -> dt.datetime | None:
    """Return when Pub/Sub took a message; ``None`` for an event that somebody sends by hand."""
    if stamp is None:
        return None
    try:
        published = dt.datetime.fromisoformat(stamp if isinstance(stamp, str) else "")
    except ValueError:
        published = None
    if published is None or published.tzinfo is None:
        raise EventError("data.message.publishTime", stamp, "an RFC 3339 stamp with its zone")
    return published


def _train(payload: Mapping[str, Any], settings: Settings) -> TrainRequested:
    horizon = payload.get("horizon_min")
    if horizon is not None and (type(horizon) is not int or horizon not in settings.horizons):
        known = ", ".join(map(str, settings.horizons))
        raise EventError("horizon_min", horizon, f"one of the network's horizons: {known}")
    window = payload.get("window_days")
    if window is not None and (type(window) is not int or not 0 < window <= MAX_REPLAY_DAYS):
        raise EventError("window_days", window, f"a whole number from 1 to {MAX_REPLAY_DAYS}")
    return TrainRequested(HorizonMinutes(horizon) if horizon else None, window)


def _replay(payload: Mapping[str, Any]) -> ReplayRequested:
    first = _day(payload, "from") if "from" in payload else None
    last = _day(payload, "to") if "to" in payload else first
    if (first is None) != (last is None):
        raise EventError("from", None, "a day, since to is given")
    if first is not None and last is not None and not 0 <= (last - first).days < MAX_REPLAY_DAYS:
        raise EventError("to", str(last), f"a day from {first} on, {MAX_REPLAY_DAYS} days at most")
    stage = payload.get("stage")
    if stage is not None and not isinstance(stage, str):
        raise EventError("stage", stage, "the name of a stage")
    flags = (_flag(payload, name) for name in ("force", "dry_run", "scheduled"))
    return ReplayRequested(first, last, stage, *flags)


def _day(payload: Mapping[str, Any], field: str) -> Day:
    value = payload.get(field)
    try:
        return parse_day(value if isinstance(value, str) else "")
    except ValueError:
        raise EventError(field, value, "a day, YYYY-MM-DD") from None


def _flag(payload: Mapping[str, Any], field: str) -> bool:
    value = payload.get(field, False)
    if not isinstance(value, bool):
        raise EventError(field, value, "true or false")
    return value
