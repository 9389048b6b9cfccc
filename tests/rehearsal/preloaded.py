"""The real gcloud, loaded once and forked for each command: a fraction of the second that it takes.

Run by the Python that comes with the Google Cloud SDK: ``preloaded.py SDK_ROOT SOCKET``. Each
connection to the socket is one command: its words, environment, folder and standard streams come
from the client, its exit code goes back. gcloud's own waiting between looks at an operation is
cut short; nothing else of it is changed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

LONGEST_WAIT_S = 0.01
COMMAND = "__calliope__"
"""What the names of loaded commands begin with; they are loaded anew each time."""


def main(root: Any, path: Any) -> None:
    sys.path[:0] = [f"{root}/lib", f"{root}/lib/third_party"]
    from googlecloudsdk import gcloud_main

    gcloud_main.CreateCLI([])
    wanted, learned = os.pipe2(os.O_NONBLOCK)
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    server.settimeout(1)
    while os.getppid() == parent:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        load(wanted)
        gc.freeze()  # a collection in a child would copy the pages of all that is loaded
        if os.fork() == 0:
            gc.disable()
            server.close()
            connection.setblocking(True)
            serve(connection, gcloud_main, learned)
        connection.close()


def load(wanted: int) -> None:
    """Import what earlier commands had to import, so that later ones find it loaded."""
    with contextlib.suppress(BlockingIOError):
        for name in os.read(wanted, 1 << 16).decode().split():
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def serve(connection: socket.socket, gcloud_main: Any, learned: int) -> None:
    """Run one command in a process of its own, and report how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 20)
    request = json.loads(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["gcloud", *request["words"]]
    child = os.fork()
    if child == 0:
        connection.close()
        code = execute(gcloud_main, learned)
        os._exit(code)
    _, status = os.waitpid(child, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 255]))
    os._exit(0)


def execute(gcloud_main: Any, learned: Any) -> int:
    before = set(sys.modules)
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(float(seconds), LONGEST_WAIT_S))
    try:
        gcloud_main.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 -- as the interpreter would at the top
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    new = sorted(name for name in set(sys.modules) - before if not name.startswith(COMMAND))
    for n in range(0, len(new), 40):  # whole lines: a pipe writes up to 4,096 bytes at once
        with contextlib.suppress(BlockingIOError):
            os.write(learned, ("\n".join(new[n : n + 40]) + "\n").encode()[:4096])
    return code or 0


if __name__ == "__main__":
    main(*sys.argv[1:])
