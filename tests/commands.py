"""Commands as a person types them, which end with the test that started them."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from velib_local.emulator import processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S = 600.0
"""For what has to happen within moments, on any machine."""

VELIB = (sys.executable, "-m", "velib_cli.main")


def velib(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; return its exit code and what it printed.

    It has all the time it needs: each wait of the local cloud is limited by progress.
    """
    return run(*VELIB, *arguments)


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run any command to its end."""
    words = [str(word) for word in command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process: Any = processes.start(words, **pipes, **options)
    try:
        said, complained = process.communicate()
    finally:
        processes.stop(process)
    return subprocess.CompletedProcess(words, process.returncode, said, complained)


def wait_until(done: Callable[[], bool], what: str = "what is awaited") -> None:
    """Wait for what has to happen within moments."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"{what}: it never happened"
        time.sleep(0.02)
