"""Run a piece of work in a process of its own and measure what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


def in_own_process(script: str, *arguments: str) -> dict[str, float]:
    """Run ``python script arguments`` and return the figures that `report` printed in it."""
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(work: Callable[[], object]) -> None:
    """Do the work and print its wall and CPU seconds and the process's peak MiB, as JSON."""
    before = time.process_time()
    started = time.monotonic()
    base = reset_peak()
    work()
    figures = {
        "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - before,
        "peak_mib": peak_mib(),
        "base_mib": base,
    }
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def network_of(lake: Lake, settings: Settings) -> Network:
    """Return the network that a job works on, whose messages go nowhere.

    Imported here, since imports are measured too.
    """
    from velib_core.events.network import Network  # noqa: PLC0415
    from velib_core.events.publisher import Publisher  # noqa: PLC0415

    class Silent(Publisher):
        def publish(self, message: object) -> None:
            """Take a message."""

        def republish(self, topic: str, entry: object, *, force: bool = False) -> None:
            """Take a notification."""

        def publish_alert(self, body: object) -> None:
            """Take an alert."""

    return Network(settings, lake, Silent(settings))


def reset_peak() -> float:
    """Forget the peak so far (a process starts with that of its parent); return MiB in use."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")
    return peak_mib()


def peak_mib() -> float:
    """Return this process's peak resident memory in MiB since the last reset."""
    status = Path("/proc/self/status").read_text("ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
