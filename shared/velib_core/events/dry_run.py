"""A publisher that only logs what it would publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.events.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.events.messages import Message


class DryPublisher(Publisher):
    """A publisher that only says what it would publish."""

    def publish(self, message: Message) -> None:
        """Say what would be published."""
        logs.log("INFO", f"dry run: would publish {message!r}")

    def publish_alert(self, body: Mapping[str, object]) -> None:
        """Log which alert would be published."""
        logs.log("INFO", "dry run: would publish an alert", alert=dict(body))
