"""What one function instance keeps between events: its settings and its open connections.

Everything is opened at the first event and not at import, so that a cold start pays only for
what the event needs and no connection is carried across a fork.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from velib_core.events.handler import react
from velib_core.events.publisher import Publisher
from velib_core.lake.bucket import Lake, connect
from velib_core.settings.network import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cloudevents.http import CloudEvent

    from velib_core.events.messages import Trigger


@functools.cache
def settings() -> Settings:
    """Return the settings of this instance, read once."""
    return Settings.from_env()


@functools.cache
def lake() -> Lake:
    """Return the open bucket of this instance."""
    return connect(settings())


@functools.cache
def publisher() -> Publisher:
    """Return the publisher of this instance."""
    return Publisher(settings())


def answer(event: CloudEvent, handle: Callable[[Trigger], Mapping[str, object]]) -> None:
    """Handle one event with this instance's settings; see `velib_core.events.handler.react`."""
    react(event, settings(), handle)
