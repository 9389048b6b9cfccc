"""Who wrote an object, because of what, and how long it took: noted in the object's metadata.

The note is no part of an object's bytes or fingerprint, so a replay still writes the same lake.
It shows how a lake came about without access to the logs.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FUNCTION, _CAUSE, _EVENT, _SECONDS = (
    f"velib-{what}" for what in ("function", "cause", "event", "seconds")
)


@dataclasses.dataclass(frozen=True)
class LineageRecord:
    """How one live object came about.

    ``written_at`` is the store's own stamp (ISO 8601, UTC). ``cause`` is the object or message
    that the function reacted to and ``event`` the event's id; ``seconds`` passed from the event's
    arrival in the function to this write. All are ``None`` where the object carries no note.
    """

    name: str
    written_at: str
    size: int
    function: str | None
    cause: str | None
    event: str | None
    seconds: float | None


@dataclasses.dataclass
class _Handling:
    event: str
    cause: str
    started: float


_CURRENT: contextvars.ContextVar[_Handling | None] = contextvars.ContextVar(
    "velib_handling", default=None
)


@contextlib.contextmanager
def handling(event: str, cause: str) -> Iterator[None]:
    """Let every object that is written inside the block say that this event caused it."""
    token = _CURRENT.set(_Handling(event, cause, time.monotonic()))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def note() -> dict[str, str]:
    """Return the metadata of an object written now; empty outside an event."""
    current = _CURRENT.get()
    if current is None:
        return {}
    return {
        _FUNCTION: os.environ.get("K_SERVICE", ""),  # set by the platform
        _CAUSE: current.cause,
        _EVENT: current.event,
        _SECONDS: f"{time.monotonic() - current.started:.3f}",
    }


def lineage_record(
    name: str, written_at: str, size: int, metadata: Mapping[str, str]
) -> LineageRecord:
    """Read the note back; what is not ours or not a number is ``None``."""
    try:
        seconds = float(metadata[_SECONDS])
    except (KeyError, ValueError):
        seconds = None
    function, cause, event = (metadata.get(key) or None for key in (_FUNCTION, _CAUSE, _EVENT))
    return LineageRecord(name, written_at, size, function, cause, event, seconds)
