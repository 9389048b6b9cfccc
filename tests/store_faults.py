"""A proxy before the object store that answers as a broken store, network or middlebox does."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import http.server
import json
import socket
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, Literal

import urllib3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Call = Literal["stat", "list", "read", "write", "delete", "other"]

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date"}


@dataclasses.dataclass
class Reply:
    """What the store answered: status, headers and body, and the address of the store."""

    status: int
    headers: dict[str, str]
    body: bytes
    store: str


Fault = "Callable[[_Handler, Callable[[], Reply]], None]"
"""Answers a request in the place of the store, which its second argument asks."""


@dataclasses.dataclass
class Attack:
    """Which requests are answered wrongly, how, and how often; ``met`` counts them."""

    fault: Any
    calls: frozenset[Call]
    prefix: str = ""
    times: float = float("inf")
    met: int = 0


class StoreProxy(http.server.ThreadingHTTPServer):
    """Passes requests to the object store; those that ``attack`` is about get its answer."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, store: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.store = store
        self.pool = urllib3.PoolManager(maxsize=16)
        self.attack: Attack | None = None
        self._one_at_a_time = threading.Lock()

    def fault_for(self, call: Call, name: str) -> Any:
        with self._one_at_a_time:
            attack = self.attack
            if attack is None or call not in attack.calls or not name.startswith(attack.prefix):
                return None
            attack.met += 1
            return attack.fault if attack.met <= attack.times else None

    @contextlib.contextmanager
    def attacked(
        self, fault: Any, *calls: Call, prefix: str = "", times: float = float("inf")
    ) -> Iterator[Attack]:
        """Answer these calls about these names wrongly for the length of a with-block."""
        self.attack = Attack(fault, frozenset(calls), prefix, times)
        try:
            yield self.attack
        finally:
            self.attack = None

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients are cut off on purpose."""


@contextlib.contextmanager
def store_proxy(store: str) -> Iterator[StoreProxy]:
    """Run the proxy for the length of a with-block."""
    with StoreProxy(store) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()


def call_of(method: str, target: str, body: bytes) -> tuple[Call, str]:
    """Return what a request to the JSON API does, and the name or prefix that it is about."""
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query))
    path = url.path.removeprefix("/upload").removeprefix("/download")
    match [method, *path.removeprefix("/storage/v1/").split("/")]:
        case ["GET", "b", _, "o"]:
            return "list", query.get("prefix", "")
        case ["GET", "b", _, "o", name]:
            return ("read" if query.get("alt") == "media" else "stat"), urllib.parse.unquote(name)
        case ["DELETE", "b", _, "o", name]:
            return "delete", urllib.parse.unquote(name)
        case ["POST" | "PUT", "b", _, "o"]:
            return "write", query.get("name") or _name_in(body)
    return "other", ""


def _name_in(body: bytes) -> str:
    start = 0 if body.startswith(b"{") else body.find(b"\r\n\r\n") + 4
    with contextlib.suppress(ValueError, KeyError):
        text = body[start : start + (64 << 10)].decode("utf-8", "replace").lstrip()
        return str(json.JSONDecoder().raw_decode(text)[0]["name"])
    return ""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: StoreProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call, name = call_of(self.command, self.path, body)
        fault = self.server.fault_for(call, name)
        if fault is None:
            self.reply(self.forward(body))
        else:
            fault(self, lambda: self.forward(body))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def forward(self, body: bytes) -> Reply:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        got = self.server.pool.request(
            self.command,
            self.server.store + self.path,
            body=body,
            headers=headers,
            decode_content=False,
            redirect=False,
            retries=False,
        )
        kept = {k: v for k, v in got.headers.items() if k.lower() not in _HOP_BY_HOP}
        return Reply(got.status, kept, got.data, self.server.store)

    def reply(self, reply: Reply, length: int | None = None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value.replace(reply.store, self.server.address))
        self.send_header("Content-Length", str(len(reply.body) if length is None else length))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    def cut(self) -> None:
        """Reset the connection."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def status(
    code: int, body: bytes | None = None, kind: str = "application/json", *, done: bool = False
) -> Any:
    """Answer with a status; with ``done`` after the store has carried the request out."""
    error = json.dumps({"error": {"code": code, "message": "by the proxy"}}).encode()

    def fault(handler: _Handler, ask: Callable[[], Reply]) -> None:
        if done:
            ask()
        handler.reply(Reply(code, {"Content-Type": kind}, error if body is None else body, ""))

    return fault


def changed(change: Callable[[Reply], Reply], length: Callable[[Reply], int] | None = None) -> Any:
    """Answer with what the store answers, changed; ``length`` of the body as it was is claimed."""

    def fault(handler: _Handler, ask: Callable[[], Reply]) -> None:
        reply = ask()
        claimed = length(reply) if length else None
        handler.reply(change(reply), claimed)
        if claimed is not None:
            handler.cut()

    return fault


def body(change: Callable[[bytes], bytes]) -> Any:
    return changed(lambda reply: dataclasses.replace(reply, body=change(reply.body)))


def headers(**more: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return changed(
        lambda reply: dataclasses.replace(reply, headers=_without(reply.headers, named) | named)
    )


def _without(headers: dict[str, str], names: Any) -> dict[str, str]:
    lower = {name.lower() for name in names}
    return {k: v for k, v in headers.items() if k.lower() not in lower}


def document(change: Callable[[Any], Any]) -> Any:
    """Change the JSON that the store answers."""
    return body(lambda data: json.dumps(change(json.loads(data))).encode())


def reset(handler: _Handler, ask: Callable[[], Reply]) -> None:
    """Reset the connection before anything is done."""
    handler.cut()


def reset_after(handler: _Handler, ask: Callable[[], Reply]) -> None:
    """Do it, and reset the connection instead of answering."""
    ask()
    handler.cut()


def trickle(handler: _Handler, ask: Callable[[], Reply]) -> None:
    """Answer a byte a while."""
    reply = ask()
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(reply.body)))
    handler.end_headers()
    with contextlib.suppress(OSError):
        for n in range(len(reply.body)):
            handler.wfile.write(reply.body[n : n + 1])
            handler.wfile.flush()
            time.sleep(0.2)


def hang(handler: _Handler, ask: Callable[[], Reply]) -> None:
    """Answer nothing, and keep the connection."""
    time.sleep(60)
    handler.cut()


def redirect_loop(handler: _Handler, ask: Callable[[], Reply]) -> None:
    handler.reply(Reply(302, {"Location": handler.server.address + handler.path}, b"", ""))


def redirect_elsewhere(handler: _Handler, ask: Callable[[], Reply]) -> None:
    """Lead to a listing of the bucket, where something else was asked for."""
    bucket = handler.path.partition("/b/")[2].partition("/")[0]
    address = f"{handler.server.store}/storage/v1/b/{bucket}/o"
    handler.reply(Reply(302, {"Location": address}, b"", ""))


def _plain_gzip(reply: Reply) -> Reply:
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return dataclasses.replace(reply, headers=headers, body=gzip.compress(reply.body))


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :] if data else b"x"


def _half_without_hash(reply: Reply) -> Reply:
    names = ["x-goog-hash", "x-goog-stored-content-length"]
    return dataclasses.replace(
        reply, headers=_without(reply.headers, names), body=reply.body[: len(reply.body) // 2]
    )


def _items(change: Callable[[list[Any]], list[Any]]) -> Any:
    return document(lambda found: found | {"items": change(found.get("items", []))})


def _each(change: Callable[[Any], Any]) -> Any:
    return _items(lambda items: [change(item) for item in items])


def _less(*fields: str) -> Callable[[Any], Any]:
    return lambda item: {k: v for k, v in item.items() if k not in fields}


HTML = b"<!doctype html><title>502</title>"
EVERY: tuple[Call, ...] = ("stat", "list", "read", "write", "delete")
SAID: tuple[Call, ...] = ("stat", "list", "read", "write")
"""Calls that are answered with more than a status: of a deletion it is all there is."""

WRONG_CRC = (
    "crc32c=" + base64.b64encode(b"abcd").decode() + ",md5=" + base64.b64encode(bytes(16)).decode()
)

FAULTS: dict[str, tuple[Any, tuple[Call, ...]]] = {
    **{
        str(code): (status(code), EVERY)
        for code in (400, 401, 403, 408, 409, 410, 416, 429, 500, 501, 502, 503, 504)
    },
    "404 of the bucket": (status(404), ("list", "read", "write")),  # else the object's absence
    "451": (status(451), EVERY),
    "500 of html": (status(500, HTML, "text/html"), EVERY),
    "200 of html": (status(200, HTML, "text/html"), SAID),
    "200 of nothing": (status(200, b""), SAID),
    "200 of an empty object": (status(200, b"{}"), ("stat", "read", "write")),
    "200 of a list": (status(200, b"[1]"), SAID),
    "200 of null": (status(200, b"null"), SAID),
    "200 of deep JSON": (status(200, b"[" * 100_000 + b"]" * 100_000), SAID),
    "200 of no UTF-8": (status(200, b'{"name": "\xff\xfe"}'), ("stat", "read", "write")),
    "204": (status(204, b""), SAID),
    "503 although done": (status(503, done=True), ("write", "delete")),
    "412": (status(412), ("stat", "list", "read")),
    "412 although done": (status(412, done=True), ("write", "delete")),
    "reset": (reset, EVERY),
    "reset after it is done": (reset_after, EVERY),
    "cut in the middle": (
        changed(
            lambda r: dataclasses.replace(r, body=r.body[: len(r.body) // 2]), lambda r: len(r.body)
        ),
        EVERY,
    ),
    "half of it with a matching length": (body(lambda data: data[: len(data) // 2]), EVERY),
    "half of it without a checksum": (changed(_half_without_hash), ("read",)),
    "a flipped byte": (body(_flip), ("read",)),
    "a flipped byte without a checksum": (
        changed(
            lambda r: dataclasses.replace(
                r, headers=_without(r.headers, ["x-goog-hash"]), body=_flip(r.body)
            )
        ),
        ("read",),
    ),
    "another's checksum": (headers(x_goog_hash=WRONG_CRC), ("read",)),
    "a checksum that is none": (headers(x_goog_hash="crc32c=!!"), ("read",)),
    "packed, as it says": (changed(_plain_gzip), EVERY),
    "not packed, as it says": (headers(Content_Encoding="gzip"), EVERY),
    "a byte a while": (trickle, EVERY),
    "hangs": (hang, EVERY),
    "a redirect to itself": (redirect_loop, EVERY),
    "a redirect to a listing": (redirect_elsewhere, EVERY),
    "a token that repeats": (document(lambda d: d | {"nextPageToken": "again"}), ("list",)),
    "each name twice": (
        _items(lambda items: [i for item in items for i in (item, item)]),
        ("list",),
    ),
    "names in reverse": (_items(lambda items: items[::-1]), ("list",)),
    "names of other prefixes": (
        _each(lambda item: item | {"name": "elsewhere/" + item["name"]}),
        ("list",),
    ),
    "items without a generation": (_each(_less("generation")), ("list",)),
    "items without a size": (_each(_less("size")), ("list",)),
    "items without a name": (_each(_less("name")), ("list",)),
    "items that are null": (_each(lambda _: None), ("list",)),
    "items that are numbers": (document(lambda d: d | {"items": 7}), ("list",)),
    "sizes that are words": (_each(lambda item: item | {"size": "many"}), ("list",)),
    "no generation": (document(_less("generation")), ("stat", "write")),
    "a generation of words": (document(lambda d: d | {"generation": "new"}), ("stat", "write")),
    "metadata that is a list": (document(lambda d: d | {"metadata": ["x"]}), ("stat",)),
    "metadata of items that is a list": (_each(lambda item: item | {"metadata": ["x"]}), ("list",)),
}
"""How a store may answer, by what it is, and the calls that it may answer so."""

SLOW = {
    *("408", "429", "500", "502", "503", "504", "500 of html", "503 although done"),
    *("400", "401", "409", "410", "416", "451", "501"),
    *("reset", "reset after it is done", "cut in the middle", "a byte a while", "hangs"),
}
"""What the client tries again or waits for, and statuses that are like another."""
