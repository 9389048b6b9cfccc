"""A proxy between one function and the cloud: each operation is named, checked, and passed or not.

Cloud Storage and Pub/Sub know who calls from the caller's account. Local servers do not, so each
function is given a proxy of its own to both, and what comes through it is checked as that
function's: refused where its account has no right to it, or failed where a test wants a fault.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import math
import threading
import time
import urllib.parse
from concurrent import futures
from typing import TYPE_CHECKING, TypeAlias

import grpc
import urllib3
from google.pubsub_v1 import types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from velib_core.settings.network import Settings
    from velib_deploy.function_specs import FunctionSpec
    from velib_local.emulator.cloud import Proxy
    from velib_local.emulator.servers import Servers

GET, LIST = "storage.objects.get", "storage.objects.list"
CREATE, DELETE = "storage.objects.create", "storage.objects.delete"
BUCKET = "storage.buckets.get"
PUBLISH = "pubsub.topics.publish"
UNKNOWN = "unknown"
"""Permissions by their names in IAM; ``UNKNOWN`` is what no function has a reason to call."""


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a function asks for: the permission it takes, and on what, by IAM's names.

    ``resource`` is ``projects/_/buckets/B/objects/NAME``, ``projects/_/buckets/B`` for a listing,
    or ``projects/P/topics/T``.
    """

    function: str
    permission: str
    resource: str


@dataclasses.dataclass(frozen=True)
class Denial:
    """The HTTP status that an operation is answered with instead.

    With ``done`` it is carried out all the same and only its answer is lost: the caller
    cannot know that.
    """

    status: int
    done: bool = False


Policy: TypeAlias = "Callable[[Operation], Denial | None]"
"""Operation → how it is refused, ``None`` to let it pass. Called from many threads."""


class OneWriteASecond:
    """Refuses an object's second write within a second, as Cloud Storage does.

    "Maximum rate of writes to the same object name", https://cloud.google.com/storage/quotas.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}

    def __call__(self, operation: Operation) -> Denial | None:
        """Apply the policy to an operation of any function."""
        if operation.permission != CREATE:
            return None
        with self._lock:
            now = self._clock()
            if now - self._written.get(operation.resource, -math.inf) < 1.0:
                return Denial(429)
            self._written[operation.resource] = now
        return None


_GRPC = {
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date"}


@contextlib.contextmanager
def proxied(function: str, policy: Policy, store: str, pubsub: str) -> Iterator[Mapping[str, str]]:
    """Open a function's proxies to the object store and to Pub/Sub; yield the environment to them.

    ``store`` is the store's ``http://host:port`` and ``pubsub`` the server's ``host:port``.
    """

    def checked(*operations: tuple[str, str]) -> Denial | None:
        verdicts = (policy(Operation(function, *operation)) for operation in operations)
        return next(filter(None, verdicts), None)

    with _storage_proxy(checked, store) as storage, _pubsub_proxy(checked, pubsub) as topics:
        yield {"STORAGE_EMULATOR_HOST": storage, "PUBSUB_EMULATOR_HOST": topics}


Rule: TypeAlias = "Callable[[Mapping[str, FunctionSpec], Settings], Policy]"
"""The functions and the settings of a network → the policy for what they do."""


def behind_proxy(rule: Rule) -> Proxy:
    """Return what `velib_local.emulator.cloud.deployed` puts between functions and servers."""

    def proxy(
        specs: Mapping[str, FunctionSpec], settings: Settings, servers: Servers
    ) -> Callable[[str], contextlib.AbstractContextManager[Mapping[str, str]]]:
        policy = rule(specs, settings)
        return lambda function: proxied(function, policy, servers.store, servers.pubsub)

    return proxy


_Check: TypeAlias = "Callable[..., Denial | None]"


def object_resource(bucket: str, name: str) -> str:
    """Return an object's name in IAM ("Resource name format for IAM conditions")."""
    return f"projects/_/buckets/{bucket}/objects/{name}"


def permissions_for(
    method: str, target: str, body: bytes, is_there: Callable[[str, str], bool]
) -> list[tuple[str, str]]:
    """Return which permissions a request to the JSON API takes, and on which resources.

    ``is_there`` says whether there is an object of a name in a bucket: replacing it takes the
    right to delete it too ("IAM permissions for JSON methods", objects.insert). The later
    requests of a resumable upload take none; the first one has been checked.
    """
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query))
    upload = url.path.startswith("/upload/")
    path = url.path.removeprefix("/upload").removeprefix("/download")
    needed = [(UNKNOWN, f"{method} {url.path}")]
    match [method, *map(urllib.parse.unquote, path.removeprefix("/storage/v1/").split("/"))]:
        case ["GET", "b", bucket]:
            needed = [(BUCKET, f"projects/_/buckets/{bucket}")]
        case ["GET", "b", bucket, "o"]:
            needed = [(LIST, f"projects/_/buckets/{bucket}")]
        case ["GET", "b", bucket, "o", name]:
            needed = [(GET, object_resource(bucket, name))]
        case ["DELETE", "b", bucket, "o", name]:
            needed = [(DELETE, object_resource(bucket, name))]
        case ["POST", "b", bucket, "o"] if upload:
            name = query.get("name") or _name_in(body)
            needed = [(CREATE, object_resource(bucket, name))]
            if is_there(bucket, name):
                needed.append((DELETE, object_resource(bucket, name)))
        case ["PUT", "b", _, "o"] if upload and "upload_id" in query:
            needed = []
    return needed


def _name_in(body: bytes) -> str:
    """Return the object's name in an upload's metadata: the body, or its first part."""
    start = 0 if body.startswith(b"{") else body.index(b"\r\n\r\n") + 4
    text = body[start : start + (64 << 10)].decode("utf-8", "replace").lstrip()
    metadata, _ = json.JSONDecoder().raw_decode(text)
    return str(metadata["name"])


@contextlib.contextmanager
def _storage_proxy(checked: _Check, store: str) -> Iterator[str]:
    """Serve the object store's API on a port of its own, request by request."""
    with _StorageProxy(checked, store) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy.address
        finally:
            proxy.shutdown()


class _StorageProxy(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not keep the server

    def __init__(self, checked: _Check, store: str) -> None:
        super().__init__(("127.0.0.1", 0), _StorageHandler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.checked = checked
        self.store = store
        self.pool = urllib3.PoolManager(maxsize=8)

    def is_there(self, bucket: str, name: str) -> bool:
        quoted = urllib.parse.quote(name, safe="")
        url = f"{self.store}/storage/v1/b/{bucket}/o/{quoted}"
        return self.pool.request("GET", url).status == 200

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: functions are killed while they call."""


class _StorageHandler(http.server.BaseHTTPRequestHandler):
    server: _StorageProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        needed = permissions_for(self.command, self.path, body, self.server.is_there)
        denial = self.server.checked(*needed)
        if denial is None or denial.done:
            answer = self._forward(body)
        if denial is not None:
            error = {"error": {"code": denial.status, "message": "refused by the proxy"}}
            self._answer(denial.status, {}, json.dumps(error).encode())
        else:
            self._answer(answer.status, answer.headers, answer.data)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 -- the base looks for these

    def _forward(self, body: bytes) -> urllib3.BaseHTTPResponse:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        return self.server.pool.request(
            self.command,
            self.server.store + self.path,
            body=body,
            headers=headers,
            decode_content=False,
            redirect=False,
            retries=False,
        )

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value.replace(self.server.store, self.server.address))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        """Say nothing: the policy sees every operation."""


@contextlib.contextmanager
def _pubsub_proxy(checked: _Check, pubsub: str) -> Iterator[str]:
    """Serve the Pub/Sub server's API on a port of its own, call by call."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            forward: Callable[..., bytes] = channel.unary_unary(call.method)

            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                denial = checked(_rpc_permission(call.method, request))
                response = b""
                if denial is None or denial.done:
                    try:
                        response = forward(request, timeout=60)
                    except grpc.RpcError as error:
                        context.abort(error.code(), error.details() or "")
                if denial is not None:
                    context.abort(_GRPC[denial.status], "refused by the proxy")
                return response

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    with grpc.insecure_channel(pubsub) as channel:
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=0).wait()


def _rpc_permission(method: str, request: bytes) -> tuple[str, str]:
    if method == "/google.pubsub.v1.Publisher/Publish":
        return PUBLISH, types.PublishRequest.deserialize(request).topic
    return UNKNOWN, method
