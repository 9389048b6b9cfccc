"""Takes pushed messages and hands them to functions.

The gateway notes every delivery, so that the local cloud knows what happened, how long it took,
and when all is quiet.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import http.server
import json
import threading
import time
from typing import TYPE_CHECKING, Any

from velib_core.events.topics import MAX_DELIVERY_ATTEMPTS

from velib_local.records import DeliveryRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from velib_local.emulator.functions import LocalFunction

NO_CONTENT, NOT_FOUND, BAD_GATEWAY = 204, 404, 502


class Gateway:
    """What push subscriptions point at: over HTTP at `address`, or `receive` in this process."""

    def __init__(
        self,
        functions: Mapping[str, LocalFunction],
        route: Callable[[Mapping[str, str], str], None],
    ) -> None:
        self._functions = functions
        self._route = route
        self._changed = threading.Condition()
        self._in_flight = 0
        self._last_activity = time.monotonic()
        self._finished: set[tuple[str, str]] = set()
        self._notified: dict[str, int] = {}
        self.answered = 0
        """How many events functions have answered, well or not: the progress of a run."""
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

    def wait_for(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition holds, looked at after each answer; return whether it does."""
        with self._changed:
            return self._changed.wait_for(done, timeout_s)

    def finished(self, function: str, key: str) -> bool:
        """Return whether a function handled an event, or was given it for the last time.

        ``key`` is the event's message id, or the `key` of its object.
        """
        return (function, key) in self._finished

    def notified(self, name: str) -> int:
        """Return the newest generation of an object that was announced, 0 where none was."""
        return self._notified.get(name, 0)

    def receive(self, path: str, push: Mapping[str, Any]) -> int:
        """Handle one push: a notification to route on, or an event for a function."""
        with self._changed:
            self._in_flight += 1
        try:
            return self._dispatch(path, push)
        finally:
            with self._changed:
                self._in_flight -= 1
                self._last_activity = time.monotonic()
                self._changed.notify_all()

    def _dispatch(self, path: str, push: Mapping[str, Any]) -> int:
        message = push["message"]
        attributes: Mapping[str, str] = message.get("attributes") or {}
        if path == "/route":
            self._route(attributes, message.get("data", ""))
            name, generation = attributes["objectId"], int(attributes["objectGeneration"])
            self._notified[name] = max(generation, self.notified(name))
            return NO_CONTENT
        name, _, topic = path.removeprefix("/functions/").partition("/")
        function = self._functions.get(name)
        if function is None:
            return NOT_FOUND
        status, seconds = function.call(json.dumps(push).encode(), f"/{topic}")
        record = DeliveryRecord(
            function=name,
            message_id=message["messageId"],
            subject=attributes.get("objectId") or _text(message),
            attempt=int(push.get("deliveryAttempt", 1)),
            started=time.time() - seconds,
            seconds=seconds,
            status=status,
        )
        with self._changed:
            self.answered += 1
            self.deliveries.append(record)
            if 200 <= status < 300 or record.attempt >= MAX_DELIVERY_ATTEMPTS:
                self._finished.add((name, record.message_id))
                if "objectId" in attributes:
                    generation = int(attributes["objectGeneration"])
                    self._finished.add((name, key(attributes["objectId"], generation)))
        return status or BAD_GATEWAY


def key(name: str, generation: int) -> str:
    """Return what names the event of one generation of an object."""
    return f"{name}#{generation}"


def _text(message: Mapping[str, Any]) -> str:
    return base64.b64decode(message.get("data", "")).decode("utf-8", "replace")


def _server(gateway: Gateway) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(gateway.receive(self.path, json.loads(body)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: every delivery is recorded."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    return Server(("127.0.0.1", 0), Handler)
