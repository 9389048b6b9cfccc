"""Takes pushed messages and hands them to functions, starting each at its first event.

As in the cloud a function scales from zero: its process is started when something arrives for it,
and again after it died. The gateway notes every delivery, so that the local cloud can tell what
happened, how long it took, and when all is quiet.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import urllib3
from velib_core.events import messages
from velib_core.events.topics import TOPICS

from velib_local.emulator.object_store import free_port
from velib_local.records import DeliveryRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from velib_deploy.function_specs import FunctionSpec

START_TIMEOUT_S = 60.0
FUNCTION_TIMEOUT_S = 600.0


FOLLOWERS_PRIORITY = 5
"""On one machine all functions share its processors. The one that a beat waits for goes first;
what follows the newest snapshot then skips those that were overtaken, as in the cloud."""


class FunctionProcess:
    """One function under the real functions-framework, started when it is needed."""

    def __init__(self, spec: FunctionSpec, env: Mapping[str, str], log: Path) -> None:
        self.spec = spec
        self._env = dict(env)
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._slots = threading.Semaphore(spec.concurrency)
        self._http = urllib3.PoolManager(maxsize=spec.concurrency)
        self._busy = 0
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether an event is being handled right now."""
        return self._busy > 0

    @property
    def pid(self) -> int | None:
        """The process that runs now, the parent of its workers."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def call(self, body: bytes, path: str) -> int:
        """Deliver a push body; return the HTTP status, 0 where the process died on the way."""
        with self._slots:
            address = self._ensure_started()
            if address is None:
                return 0
            self._busy += 1
            try:
                response = self._http.request(
                    "POST",
                    address + path,
                    body=body,
                    headers={"Content-Type": "application/json"},
                    timeout=urllib3.Timeout(connect=5.0, read=FUNCTION_TIMEOUT_S),
                    retries=False,
                )
            except urllib3.exceptions.HTTPError:
                return 0
            finally:
                self._busy -= 1
        return int(response.status)

    def kill(self) -> None:
        """Kill the process and its workers at once, as a machine that is taken away."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def close(self) -> None:
        """Kill the process for good: what is delivered later starts no other."""
        with self._lock:
            self._closed = True
        self.kill()

    def _ensure_started(self) -> str | None:
        with self._lock:
            if self._closed:
                return None
            if self._process is None or self._process.poll() is not None:
                self._start()
            return f"http://127.0.0.1:{self._port}"

    def _start(self) -> None:
        self._port = free_port()
        command = [sys.executable, "-m", "functions_framework"]
        command += ["--target", self.spec.entry_point]
        command += ["--source", str(self.spec.folder / "main.py")]
        command += ["--signature-type", "cloudevent"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        env = self._env | {"WORKERS": "1", "THREADS": str(self.spec.concurrency)}
        env |= {"K_SERVICE": self.spec.name, "GUNICORN_CMD_ARGS": "--log-level warning"}
        with self._log.open("ab") as sink:
            self._process = subprocess.Popen(
                command, env=env, stdout=sink, stderr=sink, start_new_session=True
            )
        if TOPICS[messages.Tick] not in self.spec.topics:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, FOLLOWERS_PRIORITY)
        self._wait_until_listening()

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            try:
                self._http.request(
                    "GET", f"http://127.0.0.1:{self._port}/", timeout=START_TIMEOUT_S, retries=False
                )
            except urllib3.exceptions.HTTPError:
                time.sleep(0.02)
            else:
                return


class Gateway:
    """The HTTP server that push subscriptions point at."""

    def __init__(
        self,
        functions: Mapping[str, FunctionProcess],
        route: Callable[[Mapping[str, str], str], None],
    ) -> None:
        self._functions = functions
        self._route = route
        self._changed = threading.Condition()
        self._in_flight = 0
        self._last_activity = time.monotonic()
        self._answers: dict[tuple[str, str], int] = {}
        self.deliveries: collections.deque[DeliveryRecord] = collections.deque(maxlen=200_000)
        self._server = _server(self)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve for the length of a with-block, then kill every function."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            for function in self._functions.values():
                function.close()

    def quiet_seconds(self) -> float:
        """Return for how long nothing was delivered and nothing is under way."""
        with self._changed:
            return 0.0 if self._in_flight else time.monotonic() - self._last_activity

    def wait_for_answer(self, function: str, message_id: str, timeout_s: float) -> int:
        """Return the status of the first final answer to a message: success or a dead process.

        Raises ``TimeoutError`` where there is none in time.
        """
        key = (function, message_id)
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._answers, timeout_s):
                raise TimeoutError(f"{function} did not answer message {message_id} in time")
            return self._answers.pop(key)

    def receive(self, path: str, body: bytes) -> int:
        """Handle one push: a notification to route on, or an event for a function."""
        with self._changed:
            self._in_flight += 1
        try:
            return self._dispatch(path, body)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._last_activity = time.monotonic()
                self._changed.notify_all()

    def _dispatch(self, path: str, body: bytes) -> int:
        push = json.loads(body)
        message = push["message"]
        attributes: dict[str, str] = message.get("attributes") or {}
        if path == "/route":
            self._route(attributes, message.get("data", ""))
            return 204
        name, _, topic = path.removeprefix("/functions/").partition("/")
        function = self._functions.get(name)
        if function is None:
            return 404
        started = time.time()
        status = function.call(body, f"/{topic}")
        body_text = base64.b64decode(message.get("data", "")).decode("utf-8", "replace")
        subject = attributes.get("objectId") or body_text
        record = DeliveryRecord(
            function=name,
            message_id=message["messageId"],
            subject=subject,
            attempt=int(push.get("deliveryAttempt", 1)),
            started=started,
            seconds=time.time() - started,
            status=status,
        )
        with self._changed:
            self.deliveries.append(record)
            if 200 <= status < 300:
                self._answers[name, record.message_id] = status
        return status or 502


def _server(gateway: Gateway) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(gateway.receive(self.path, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: every delivery is recorded."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    return Server(("127.0.0.1", 0), Handler)
