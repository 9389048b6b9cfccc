"""Processes that end with the one that started them, even where that one is killed."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any, Protocol

import urllib3

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_TIMEOUT_S = 300.0
"""A server that is alive and answers nothing for so long hangs; slow machines need a part of it."""

_WATCHED = """
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec "$@" 3<&-
"""
"""A shell script that becomes its arguments, with a watcher in the same process group.

The watcher reads a pipe that nobody writes to. The end of the pipe means that the starting process
has ended, however it ended: the watcher then kills the group, itself included. `prctl` has a signal
for a parent's death, but on Linux only, and it fires when the starting *thread* ends.
"""


class LocalServerError(RuntimeError):
    """A part of the local cloud did not start; the message says which, and what it printed."""


def start(
    command: Sequence[str],
    **options: Any,  # noqa: ANN401 -- of subprocess.Popen
) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a process group that ends when this process ends.

    Standard input is empty. End the group with `stop`.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", _WATCHED, "sh", *command],
        stdin=_lifeline(),
        start_new_session=True,
        **options,
    )


def stop(process: subprocess.Popen[Any]) -> None:
    """Kill a process of `start` with all that it started; call it once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running(Protocol):
    """What may have ended by itself."""

    def poll(self) -> int | None:
        """Return the exit code, ``None`` while it runs."""


def wait_until_answering(url: str, process: Running, log: Path) -> None:
    """Wait until a started server answers HTTP, with whatever status.

    Raises `LocalServerError`, with the end of its log, where the process ends or hangs.
    """
    http = urllib3.PoolManager()
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            http.request("GET", url, timeout=START_TIMEOUT_S, retries=False)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.02)
        else:
            return
    raise LocalServerError(f"{url} does not answer: {log.read_text('utf-8', 'replace')[-2000:]}")


@functools.cache
def _lifeline() -> int:
    """Return the read end of a pipe whose write end only this process holds, as long as it lives.

    File descriptors are not inherited, so no other process keeps the pipe open.
    """
    read_end, _ = os.pipe()
    return read_end
