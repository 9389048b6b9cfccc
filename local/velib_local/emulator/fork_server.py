"""Function processes that are forked from one which has the libraries loaded already.

A process that imports the framework and the libraries takes more than a second of CPU; a test or a
demo starts many. What runs in it is the real functions-framework all the same. Instances that are
held to limits are started anew: their memory counts, libraries included.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

LIBRARIES: Final = (
    "functions_framework._cli",
    "gunicorn.app.base",
    "gunicorn.workers.gthread",
    "google.cloud.pubsub_v1",
    "google.cloud.storage",
    "pandas",
    "pyarrow.compute",
    "pyarrow.parquet",
    "requests",
    "velib_core.events.runtime",
)
"""Loaded before the fork. None of them starts a thread, opens a connection or reads a setting.
XGBoost is none of them: the threads of OpenMP do not outlive a fork."""

IS_AVAILABLE: Final = sys.platform == "linux"
"""Elsewhere system libraries are not made for processes that fork and go on."""


class ForkedProcess:
    """A process of the functions-framework; the leader of a process group, like `processes.start`.

    Ends with this process, however that ends.
    """

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self._lock = threading.Lock()
        self._process = _context().Process(target=_serve, args=(list(arguments), dict(env), log))
        with _LOCK:
            self._process.start()
        self.pid: int = self._process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code, ``None`` while it runs."""
        with self._lock:
            return None if self._process.is_alive() else self._process.exitcode

    def stop(self) -> None:
        """Kill it with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with self._lock:
            self._process.kill()  # where it leads no group yet
            self._process.join()


_LOCK = threading.Lock()


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    return context


def _serve(arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    """Become the framework's command with this environment and log."""
    os.setsid()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with log.open("ab") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
        os.dup2(sink.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["functions_framework", *arguments]
    from functions_framework._cli import _cli  # noqa: PLC0415 -- loaded before the fork

    _cli()


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)
