"""``velib store`` as a process of its own: what it serves, from its first answer on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import requests
from click.testing import CliRunner
from velib_cli.main import cli
from velib_local.emulator import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OBJECTS = 150
PATIENCE_S = 120


@contextlib.contextmanager
def serving(folder: Path, port: int, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    scratch.mkdir()
    arguments = ["store", "--dir", str(folder), "--port", str(port)]
    command = [sys.executable, "-m", "velib_cli.main", *arguments]
    with subprocess.Popen(command, env=dict(os.environ) | {"TMPDIR": str(scratch)}) as process:
        try:
            yield process
        finally:
            process.terminate()


def first_answer(port: int, process: subprocess.Popen[bytes]) -> requests.Response:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{port}/storage/v1/b/mirror/o", timeout=60)
        time.sleep(0.01)
    raise AssertionError("the store does not answer")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_answer_has_every_object_and_the_end_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder, scratch, port = tmp_path / "lake" / "daily", tmp_path / "tmp", processes.free_port()
    folder.mkdir(parents=True)
    for n in range(OBJECTS):
        (folder / f"{n:03}.json").write_text("{}", "utf-8")
    with serving(folder.parent, port, scratch) as process:
        answer = first_answer(port, process)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["items"]) == OBJECTS
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    assert not list(scratch.iterdir())


def test_a_port_in_use_is_one_line_that_names_the_next(tmp_path: Path) -> None:
    (tmp_path / "daily").mkdir()
    (tmp_path / "daily" / "x.json").write_text("{}", "utf-8")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = CliRunner().invoke(cli, ["store", "--dir", str(tmp_path), "--port", str(port)])
    assert done.exit_code == 2
    last = done.output.splitlines()[-1]
    assert last == f"Error: --port {port} is in use; name another, as in --port {port + 1}"
