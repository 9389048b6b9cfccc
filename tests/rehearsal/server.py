"""The HTTP side of the control plane: routes, errors as Google's APIs word them, a log of calls.

Each API module registers its routes with `route`. The first part of a path names the API, as in
``/pubsub/v1/projects/p/topics/t``: each endpoint override of gcloud ends in that name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import re
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rehearsal.world import World

    Handler = Callable[[World, "Call"], Any]


@dataclasses.dataclass(frozen=True)
class Call:
    """One request: the words of its path, its query and its body (JSON, or bytes of an upload)."""

    method: str
    path: str
    part: dict[str, str]
    query: dict[str, str]
    body: Any
    caller: str


class RefusedError(Exception):
    """An answer that is an error, in the form of https://cloud.google.com/apis/design/errors."""

    def __init__(self, code: int, status: str, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]
        self.body = {
            "error": {
                "code": code,
                "status": status,
                "message": message,
                "errors": [{"message": message, "reason": reason or status}],
                **({"details": details} if reason else {}),
            }
        }


def not_found(what: str) -> RefusedError:
    return RefusedError(404, "NOT_FOUND", f"Resource not found: {what}")


def invalid(message: str) -> RefusedError:
    return RefusedError(400, "INVALID_ARGUMENT", message)


_ROUTES: list[tuple[str, re.Pattern[str], str, Handler]] = []


def route(method: str, pattern: str, permission: str = "") -> Callable[[Handler], Handler]:
    """Register what answers a method on a path; ``{x}`` is one word of it, ``{x*}`` the rest."""
    regex = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", pattern)
    regex = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", regex)

    def register(handler: Handler) -> Handler:
        _ROUTES.append((method, re.compile(regex), permission, handler))
        return handler

    return register


def answer(world: World, method: str, target: str, raw: bytes, caller: str) -> tuple[int, Any]:
    """Return the status and the body that a request is answered with."""
    url = urllib.parse.urlsplit(target)
    path = url.path
    query = dict(urllib.parse.parse_qsl(url.query))
    for verb, regex, permission, handler in _ROUTES:
        found = regex.fullmatch(path) if verb == method else None
        if found is None:
            continue
        part = {k: urllib.parse.unquote(v) for k, v in found.groupdict().items()}
        try:
            body: Any = json.loads(raw) if raw else {}
        except ValueError:
            body = raw
        call = Call(method, path, part, query, body, caller)
        with world.lock:
            try:
                world.admit(call, permission)
                done = handler(world, call)
            except RefusedError as refused:
                world.log(call, refused.code)
                return refused.code, refused.body
            world.log(call, 200)
            return 200, done
    world.unknown.append(f"{method} {target}")
    return 501, RefusedError(501, "UNIMPLEMENTED", f"no route for {method} {path}").body


@contextlib.contextmanager
def serve(world: World) -> Iterator[str]:
    """Serve a world on a port of this machine; yield the address."""

    class Server(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def respond(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            caller = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            code, done = answer(world, self.command, self.path, raw, caller)
            body = done if isinstance(done, bytes) else json.dumps(done or {}).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond  # noqa: N815 -- the library's names

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    world.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield world.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
