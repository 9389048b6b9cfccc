"""The topics of a network, and how often a message is delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.events.messages import DayClosed, Message, ReplayRequested, Tick, TrainRequested

if TYPE_CHECKING:
    from collections.abc import Mapping

ALERTS = "alerts"
"""The topic of monitoring alerts: one message when an alert is raised and one when it clears."""

TOPICS: Mapping[type[Message], str] = {
    Tick: "tick",
    DayClosed: "day-closed",
    TrainRequested: "train",
    ReplayRequested: "replay",
}
"""The topic of each kind of message, without the network's name before it."""

DEAD_LETTER_TOPIC = "dead-letter"

MAX_DELIVERY_ATTEMPTS = 20
