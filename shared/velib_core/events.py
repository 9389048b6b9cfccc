"""CloudEvent → typed trigger, typed message → Pub/Sub, and the answer each failure gets.

A fact reaches a function as one of these, whichever way the platform wraps it: a Pub/Sub message
of ours, a bucket notification carried by Pub/Sub, or a direct Cloud Storage event. Names and
numbers in an event are somebody's claim: a trigger is only made from ones that pass the layout
and the settings.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Any

from velib_core import logs, provenance
from velib_core.errors import InvalidValueError, PermanentError, TransientError
from velib_core.grid import Day, HorizonMinutes, horizon_bins, parse_day
from velib_core.layout import ForeignNameError, Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cloudevents.http import CloudEvent

    from velib_core.lake import Entry
    from velib_core.layout import Key
    from velib_core.settings import Settings

PUBSUB_EVENT = "google.cloud.pubsub.topic.v1.messagePublished"
STORAGE_EVENT = "google.cloud.storage.object.v1.finalized"
FINALIZED = "OBJECT_FINALIZE"

FORCE = "velibForce"
"""Attribute that we add to a notification published again by force."""

MAX_MESSAGE_BYTES = 64 << 10
"""Our messages are tens of bytes and a notification about one KiB."""

ALERTS = "alerts"
"""The topic on which a monitoring alert is told when it is raised and when it is cleared."""

MAX_REPLAY_DAYS = 3660
PUBLISH_TIMEOUT_S = 30


class EventError(InvalidValueError):
    """An event or message that is not one of ours: names the field, the value, the expectation."""


class UnexpectedTriggerError(PermanentError):
    """A well-formed trigger that this function has nothing to do with."""

    def __init__(self, trigger: object) -> None:
        super().__init__(f"this function does not react to {trigger!r}")


@dataclasses.dataclass(frozen=True)
class ObjectFinalized:
    """An object of ours was written: its key, name and generation.

    ``force`` asks for what depends on it to be made again even where nothing changed.
    """

    key: Key
    name: str
    generation: int
    force: bool = False


@dataclasses.dataclass(frozen=True)
class Tick:
    """The scheduler's beat: time to look at the feed."""


@dataclasses.dataclass(frozen=True)
class DayClosed:
    """A UTC day is over (or was changed afterwards) and is to be compacted."""

    day: Day
    force: bool = False


@dataclasses.dataclass(frozen=True)
class TrainRequested:
    """Models are to be trained on the last ``window_days`` days.

    Without a horizon the training base is exported, and one message a horizon follows.
    """

    horizon: HorizonMinutes | None = None
    window_days: int | None = None


@dataclasses.dataclass(frozen=True)
class ReplayRequested:
    """Look for what is missing or stale, or (``force``) make it again.

    Without days all that exists is looked at; without a stage, every stage. ``dry_run`` only
    says what would be published.
    """

    first: Day | None = None
    last: Day | None = None
    stage: str | None = None
    force: bool = False
    dry_run: bool = False


Trigger = ObjectFinalized | Tick | DayClosed | TrainRequested | ReplayRequested
Message = Tick | DayClosed | TrainRequested | ReplayRequested

TOPICS: Mapping[type[Message], str] = {
    Tick: "tick",
    DayClosed: "day-closed",
    TrainRequested: "train",
    ReplayRequested: "replay",
}
"""The topic of each kind of message, without the network's name before it."""


def parse(event: CloudEvent, settings: Settings) -> Trigger:
    """Return the trigger that a CloudEvent carries.

    Raises
    ------
    EventError
        For anything malformed, and for objects of another bucket.
    velib_core.layout.ForeignNameError
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
    return _message(_topic_of(event["source"], settings), _payload(message.get("data")))


def encode(message: Message) -> bytes:
    """Return the JSON body of a message; `parse` reads it back."""
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
                )
                if value
            }
    return json.dumps(body).encode()


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

    def tell_alert(self, body: Mapping[str, object]) -> None:
        """Publish a change of an alert; whoever is on call subscribes to the topic."""
        self.send(self._settings.topic(ALERTS), json.dumps(body, ensure_ascii=False).encode())

    def send(self, topic: str, data: bytes, attributes: Mapping[str, str] | None = None) -> None:
        """Publish bytes to a topic by its full name."""
        try:
            self._client.publish(topic, data, **(attributes or {})).result(PUBLISH_TIMEOUT_S)
        except Exception as error:
            raise TransientError(f"publishing to {topic} failed: {error}") from error


def react(
    event: CloudEvent, settings: Settings, handle: Callable[[Trigger], Mapping[str, object]]
) -> None:
    """Handle one event and give the platform its answer.

    Returns (the event is acknowledged) after success and after a permanent error, which is
    logged with its reason. Raises after a transient one and after a bug, so that the platform
    delivers again and in the end moves the message to the dead-letter topic. Writes one summary
    line: what ``handle`` returned, the duration and the process's peak memory.
    """
    started = time.monotonic()
    with logs.context(event_id=event["id"]):
        try:
            trigger = parse(event, settings)
            cause = trigger.name if isinstance(trigger, ObjectFinalized) else repr(trigger)
            with logs.context(trigger=repr(trigger)), provenance.handling(event["id"], cause):
                summary = handle(trigger)
        except ForeignNameError as error:
            logs.log("WARNING", f"ignored: {error}")
        except PermanentError as error:
            logs.log("ERROR", f"gave up: {error}", error=type(error).__name__)
        except TransientError as error:
            logs.log("WARNING", f"will retry: {error}", error=type(error).__name__)
            raise
        else:
            logs.log(
                "INFO",
                "done",
                **summary,
                trigger=repr(trigger),
                duration_s=round(time.monotonic() - started, 3),
                peak_mib=peak_mib(),
            )


def peak_mib() -> int:
    """Return the process's peak resident memory in MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


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
    if not str(generation).isdecimal():
        raise EventError("generation", generation, "a whole number")
    return ObjectFinalized(Layout(settings).key(name), name, int(str(generation)), force)


def _topic_of(source: str, settings: Settings) -> str:
    """Return which of our topics a Pub/Sub event names as its source."""
    topic = source.rpartition("/topics/")[2]
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
    except ValueError:
        raise EventError("data.message.data", data, "base64 of a JSON object") from None
    if not isinstance(payload, dict):
        raise EventError("message", payload, "a JSON object")
    return payload


def _message(topic: str, payload: Mapping[str, Any]) -> Trigger:
    match topic:
        case "tick":
            return Tick()
        case "day-closed":
            return DayClosed(_day(payload, "day"), _flag(payload, "force"))
        case "train":
            return _train(payload)
        case _:
            return _replay(payload)


def _train(payload: Mapping[str, Any]) -> TrainRequested:
    horizon = payload.get("horizon_min")
    try:
        if horizon is not None:
            horizon_bins(HorizonMinutes(horizon if type(horizon) is int else 0))
    except ValueError:
        raise EventError("horizon_min", horizon, "minutes, a positive multiple of 5") from None
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
    return ReplayRequested(first, last, stage, _flag(payload, "force"), _flag(payload, "dry_run"))


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
