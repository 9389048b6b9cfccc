"""A lease on an object: one holder at a time, and none for ever.

The object says who holds it and until when. Taking, renewing and releasing are guarded by its
generation, so that of two who start at once one gets it, and a holder that was killed blocks
nobody for longer than the lease.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import socket
import threading
import uuid
from typing import TYPE_CHECKING

from google.api_core.exceptions import PreconditionFailed

from velib_core import logs
from velib_core.errors import TransientError
from velib_core.lake.artefact import JSON, Artefact, InputChangedError, json_bytes
from velib_core.lake.readable import UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry

DURATION = dt.timedelta(minutes=2)
"""Renewed at a third of it; long enough to live through a slow call, short enough to wait for."""


class LeaseBusyError(TransientError):
    """Somebody else holds the lease."""


@contextlib.contextmanager
def lease(lake: Lake, name: str, duration: dt.timedelta = DURATION) -> Iterator[None]:
    """Hold the lease object for the length of a with-block, renewed as long as it lasts.

    Raises `LeaseBusyError` where another holder's lease has not expired.
    """
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    holder = _Holder(lake, name, owner, duration)
    holder.take()
    stop = threading.Event()
    renewer = threading.Thread(target=holder.renew_until, args=(stop,), daemon=True)
    renewer.start()
    try:
        yield
    finally:
        stop.set()
        renewer.join()
        holder.release()


class _Holder:
    """One attempt to hold one lease."""

    def __init__(self, lake: Lake, name: str, owner: str, duration: dt.timedelta) -> None:
        self._lake, self._name, self._owner, self._duration = lake, name, owner, duration
        self._generation = 0

    def take(self) -> None:
        try:
            entry = self._lake.stat(self._name)
            if entry is not None:
                held = _read(self._content(entry))
                if held is not None and held[1] > dt.datetime.now(dt.UTC):
                    until = f"{held[1]:%FT%TZ}"
                    raise LeaseBusyError(f"{self._name} is held by {held[0]} until {until}")
            self._write(entry.generation if entry else 0)
        except (PreconditionFailed, InputChangedError):
            raise LeaseBusyError(f"{self._name} was taken by another at this moment") from None

    def _content(self, entry: Entry) -> bytes:
        try:
            return self._lake.read(entry)
        except UnreadableObjectError:
            return b""

    def renew_until(self, stop: threading.Event) -> None:
        while not stop.wait(self._duration.total_seconds() / 3):
            try:
                self._write(self._generation)
            except PreconditionFailed:
                logs.log("ERROR", f"the lease {self._name} was taken over: it had expired")
                return
            except TransientError as error:
                logs.log("WARNING", f"the lease {self._name} could not be renewed yet: {error}")

    def release(self) -> None:
        """Let it expire at once; nothing happens where somebody else has taken it over."""
        with contextlib.suppress(PreconditionFailed):
            self._write(self._generation, until=dt.datetime.now(dt.UTC))

    def _write(self, expected: int, until: dt.datetime | None = None) -> None:
        expires = until or dt.datetime.now(dt.UTC) + self._duration
        document = {"owner": self._owner, "expires_at": expires.isoformat()}
        artefact = Artefact(json_bytes(document), JSON, self._owner)
        self._generation = self._lake.write(self._name, artefact, expected_generation=expected)


def _read(data: bytes) -> tuple[str, dt.datetime] | None:
    """Return owner and expiry; ``None`` for what is no lease, as an empty lock of older days."""
    try:
        document = json.loads(data)
        expires = dt.datetime.fromisoformat(document["expires_at"])
        return str(document["owner"]), expires if expires.tzinfo else expires.replace(tzinfo=dt.UTC)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
