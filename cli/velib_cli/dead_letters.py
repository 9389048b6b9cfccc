"""Dead-lettered messages of a deployed network or of a run of the local cloud."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

from velib_core.events.topics import DEAD_LETTER_TOPIC, MAX_DELIVERY_ATTEMPTS
from velib_local.records import RECORDS, DeliveryRecord

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import pubsub_v1
    from google.pubsub_v1 import types
    from velib_core.settings.network import Settings

LOOKED_AT = 100
"""Messages that are looked at; where there are more, the count says "or more"."""

PULL_TIMEOUT_S = 5
"""An empty subscription gives no answer, so this is also what a look at one takes."""

_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
_ATTEMPTS = "CloudPubSubDeadLetterSourceDeliveryCount"


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """One dead-lettered message.

    ``source`` is the subscription or the function that failed, ``subject`` the object or the
    message body, ``attempts`` how often it was delivered.
    """

    source: str
    subject: str
    attempts: int | None


@dataclasses.dataclass(frozen=True)
class DeadLetters:
    """The dead letters, or the ``reason`` why they are not known and ``count`` is ``None``.

    ``more``: ``count`` is only what was looked at.
    """

    count: int | None
    more: bool = False
    reason: str | None = None
    letters: tuple[DeadLetter, ...] = ()


def waiting(settings: Settings) -> DeadLetters:
    """Look at the dead letters of a deployed network; each is left where it is."""
    if not settings.project:
        return DeadLetters(None, reason="name the project with --project to count them")
    # Slow, and only here.
    from google.api_core.exceptions import GoogleAPIError, NotFound  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from google.cloud import pubsub_v1  # noqa: PLC0415

    subscription = (
        f"projects/{settings.project}/subscriptions/{settings.network}-{DEAD_LETTER_TOPIC}"
    )
    try:
        with pubsub_v1.SubscriberClient() as subscriber:
            received = _peek(subscriber, subscription)
    except NotFound:
        return DeadLetters(None, reason=f"there is no {subscription}: run deploy.sh")
    except (GoogleAPIError, GoogleAuthError) as error:
        return DeadLetters(None, reason=str(error))
    letters = tuple(_letter(item.message) for item in received)
    return DeadLetters(len(letters), len(letters) >= LOOKED_AT, None, letters)


def dead_lettered(folder: Path) -> DeadLetters:
    """Return what a run of the local cloud dead-lettered, by its record of deliveries."""
    record = folder / RECORDS / "deliveries.jsonl"
    if not record.is_file():
        return DeadLetters(None, reason=f"no run left a {record}")
    last: dict[tuple[str, str], DeliveryRecord] = {}
    with record.open(encoding="utf-8") as lines:
        for line in lines:
            delivery = DeliveryRecord(**json.loads(line))
            key = (delivery.function, delivery.message_id)
            if key not in last or last[key].attempt <= delivery.attempt:
                last[key] = delivery
    letters = tuple(
        DeadLetter(delivery.function, delivery.subject, delivery.attempt)
        for delivery in last.values()
        if delivery.attempt >= MAX_DELIVERY_ATTEMPTS and not 200 <= delivery.status < 300
    )
    return DeadLetters(len(letters), letters=letters)


def _peek(subscriber: pubsub_v1.SubscriberClient, subscription: str) -> list[types.ReceivedMessage]:
    """Take messages and give them back at once: whoever pulls next receives them again.

    The metric that counts them is minutes behind and does not say what failed.
    """
    from google.api_core.exceptions import DeadlineExceeded  # noqa: PLC0415

    seen: dict[str, types.ReceivedMessage] = {}
    try:
        while len(seen) < LOOKED_AT:
            answer = subscriber.pull(
                subscription=subscription,
                max_messages=LOOKED_AT - len(seen),
                timeout=PULL_TIMEOUT_S,
                retry=None,
            )
            taken = {item.message.message_id: item for item in answer.received_messages}
            new = taken.keys() - seen.keys()
            seen |= taken
            if not new:
                break
    except DeadlineExceeded:
        pass
    finally:
        if seen:
            subscriber.modify_ack_deadline(
                subscription=subscription,
                ack_ids=[item.ack_id for item in seen.values()],
                ack_deadline_seconds=0,
                timeout=PULL_TIMEOUT_S,
            )
    return list(seen.values())


def _letter(message: types.PubsubMessage) -> DeadLetter:
    attributes = dict(message.attributes)
    subject = attributes.get("objectId") or message.data.decode("utf-8", "replace")
    attempts = attributes.get(_ATTEMPTS, "")
    return DeadLetter(
        _harmless(attributes.get(_SOURCE, "?")),
        _harmless(subject),
        int(attempts) if re.fullmatch(r"[0-9]{1,9}", attempts) else None,
    )


def _harmless(text: str) -> str:
    """Return the start of a text from outside, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:200])
