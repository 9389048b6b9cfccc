"""What is started ends: with its context, and with whoever started it, killed or not."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from commands import VELIB, wait_until
from psutil import Process
from velib_local.emulator import processes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


def family(pid: int) -> list[Process]:
    """Return a process and all that it started, each known by its start too."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def running(members: list[Process]) -> Any:
    zombies = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return [p for p in members if p.is_running() and p.status() not in zombies]


def kinds(members: list[Process]) -> set[str]:
    """Return which parts of a local cloud are among processes."""
    known = ("fake-gcs-server", "functions_framework")
    lines = []
    for member in members:
        try:
            lines.append(" ".join(member.cmdline()))
        except psutil.Error:
            continue
    return {kind for kind in known if any(kind in line for line in lines)}


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_demo_that_is_stopped_half_way_leaves_no_process(tmp_path: Path, sent: Any) -> None:
    out = tmp_path / "out"
    with (tmp_path / "log").open("wb") as sink:
        command = [*VELIB, "demo", "--days", "1", "--stations", "4", "--out", str(out)]
        process = processes.start(command, stdout=sink, stderr=sink)
    try:
        wait_until((out / "_local" / "velib-build_serving_forecast.log").exists)
        members = family(process.pid)
        assert kinds(members) == {"fake-gcs-server", "functions_framework"}
        assert len(members) > 10
        os.kill(process.pid, sent)
        process.wait()
    finally:
        processes.stop(process)  # its own group, which holds none of what it started
    wait_until(lambda: running(members) == [])


def test_a_test_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    test = tmp_path / "test_hangs.py"
    test.write_text(
        "import time\n"
        "from commands import velib\n"
        "from velib_local.emulator.cloud import local_cloud\n"
        "from velib_core.events.messages import Tick\n"
        "def test_hangs(tmp_path):\n"
        "    with local_cloud({}, only=['ingest']) as cloud:\n"
        "        cloud.publish(Tick())\n"
        f"        velib('demo', '--days', '1', '--out', {str(tmp_path / 'demo')!r})\n"
    )
    started = tmp_path / "demo" / "_local" / "velib-ingest.log"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(test)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "log").open("wb") as sink:
        process = processes.start(command, env=env, stdout=sink, stderr=sink)
    try:
        wait_until(lambda: started.exists() or process.poll() is not None)
        assert started.exists(), (tmp_path / "log").read_text()
        members = family(process.pid)
        assert kinds(members) == {"fake-gcs-server", "functions_framework"}
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        processes.stop(process)
    wait_until(lambda: running(members) == [])


def test_a_process_ends_with_the_group_that_it_leads(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as sink:
        process = processes.start(["sh", "-c", "sleep 1000 & sleep 1000"], stdout=sink)
    wait_until(lambda: len(family(process.pid)) == 4)
    members = family(process.pid)
    processes.stop(process)
    wait_until(lambda: running(members) == [])
    assert process.returncode == -signal.SIGKILL
