"""One HTTP GET as a careful client makes it: bounded in time, in size, in hops and in retries.

A call ends when its budget is over, whatever the server does (or does not): a thread of its own
makes it, and its sockets are shut then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import email.utils
import ipaddress
import queue
import socket
import threading
import time
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import requests.adapters
import tenacity
import urllib3
import urllib3.connection

from velib_core.errors import InvalidValueError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 4
BACKOFF_S = 0.4

BUDGET_S = 12.0
"""One GET in all. Four feeds and the weather then always end within the function's 60 s."""

MAX_BODY_BYTES = 32 << 20
"""About 60 times the largest feed of a network of 1,500 stations, decompressed."""

MAX_REDIRECTS = 3

_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_GZIP_OR_ZLIB = 47  # zlib.decompressobj: https://docs.python.org/3/library/zlib.html


class FeedError(InvalidValueError):
    """What a feed serves is wrong: names the feed or field, the value, the expectation."""


class FeedUnavailableError(TransientError):
    """A feed could not be reached, or said that it is not able to answer."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response body, and the server's own clock where it says it (aware, UTC)."""

    url: str
    body: bytes
    date: dt.datetime | None


def open_session() -> requests.Session:
    """Return a session that keeps connections and leaves redirects to `get`."""
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    session.headers["User-Agent"] = "velib-forecast"
    session.headers["Accept-Encoding"] = "gzip"
    return session


def get(
    session: requests.Session, url: str, budget_s: float = BUDGET_S, *, origin: str = ""
) -> Answer:
    """Fetch one URL, trying again with jitter while the budget lasts.

    A server's Retry-After is waited for; one beyond the budget ends the attempts. Neither ``url``
    nor a redirect may lead to this machine or its links (loopback, link-local), unless ``origin``
    is there too: the configured address that named it, by default ``url`` itself.

    Raises
    ------
    FeedUnavailableError
        After timeouts, broken connections, 429 and 5xx, each tried again before.
    FeedError
        After any other status than 2xx, for a body over `MAX_BODY_BYTES`, and for an address that
        may not be asked. No message holds the query of an address, which may be secret.

    """
    deadline = time.monotonic() + budget_s
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(FeedUnavailableError),
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(budget_s),
        wait=_pause_s,
        reraise=True,
    )
    wanted = redacted(url)
    return _within(
        deadline, wanted, lambda: retrying(_follow, session, url, origin or url, deadline)
    )


def redacted(url: str) -> str:
    """Return an address without what may be secret in it: user, password, query, fragment."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        query = "…" if parts.query else ""
        return urllib.parse.urlunsplit((parts.scheme, host, parts.path, query, ""))
    except ValueError:
        return "an address that cannot be parsed"


_BEYOND = "one beyond this machine and its links"

_LOCAL_HOSTS: set[str] = set()
"""Hosts by which configured addresses led to this machine: what they name may do so too. A name
that leads here only later is not among them."""


class _Call(threading.local):
    """The sockets that this thread's call has used, and whether they may lead to this machine."""

    sockets: list[socket.socket] | None = None
    may_be_local: bool = True


_CALL = _Call()


class _Watched:
    """Makes a connection note its socket, so that it can be shut while a thread waits for it."""

    sock: socket.socket | None

    def _new_conn(self) -> socket.socket:
        """Connect; refuse a name that led elsewhere when its address was checked."""
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        peer = str(connected.getpeername()[0])
        if not getattr(self, "proxy", None) and _stays_here(peer):
            if not _CALL.may_be_local:
                connected.close()
                raise FeedError("address", peer, _BEYOND)
            _LOCAL_HOSTS.add(str(getattr(self, "host", "")))
        return connected

    def request(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- urllib3's own
        super().request(*args, **options)  # type: ignore[misc]
        if _CALL.sockets is not None and self.sock is not None:
            _CALL.sockets.append(self.sock)


class _HttpConnection(_Watched, urllib3.connection.HTTPConnection):
    pass


class _HttpsConnection(_Watched, urllib3.connection.HTTPSConnection):
    pass


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Hide redirects from requests, which reads their bodies whole, however large."""


def _within(deadline: float, wanted: str, call: Callable[[], T]) -> T:
    """Return what a call returns, or raise `FeedUnavailableError` when the deadline is over."""
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    sockets: list[socket.socket] = []

    def work() -> None:
        _CALL.sockets = sockets
        try:
            answers.put((call(), None))
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=max(deadline - time.monotonic(), 0.0))
    except queue.Empty:
        for used in sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(used, socket.SHUT_RDWR)
        raise FeedUnavailableError(f"{wanted} did not answer in time") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _pause_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, FeedUnavailableError) else 0.0
    jittered = tenacity.wait_random_exponential(multiplier=BACKOFF_S)
    return max(asked, jittered(state))


def _follow(session: requests.Session, url: str, origin: str, deadline: float) -> Answer:
    """Fetch a URL through its redirects, none of whose bodies is read."""
    for _ in range(MAX_REDIRECTS + 1):
        _CALL.may_be_local = _check_address(url, origin)
        found = _get_once(session, url, deadline)
        if isinstance(found, Answer):
            return found
        url = found
    raise FeedError(redacted(url), "one more", f"at most {MAX_REDIRECTS} redirects")


def _check_address(url: str, origin: str) -> bool:
    """Return whether an address may lead to this machine: it is the origin, or that led here.

    Raises `FeedError` where it is none of HTTP, or leads where its origin may not.
    """
    expected = "an http(s) address"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _port = parts.hostname, parts.port
        named_by = urllib.parse.urlsplit(origin).hostname
    except ValueError as error:
        raise FeedError("address", redacted(url), expected) from error
    if parts.scheme not in {"http", "https"} or not host:
        raise FeedError("address", redacted(url), expected)
    if url == origin or named_by in _LOCAL_HOSTS:
        return True
    if _is_local(host):
        raise FeedError("address", redacted(url), _BEYOND)
    return False


def _is_local(host: str) -> bool:
    """Return whether a name leads to a loopback, link-local or unspecified address."""
    try:
        found = {str(item[4][0]) for item in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return any(map(_stays_here, found))


def _stays_here(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_loopback or plain.is_link_local or plain.is_unspecified


def _get_once(session: requests.Session, url: str, deadline: float) -> Answer | str:
    """Return the answer, or the address to which it redirects."""
    left = max(deadline - time.monotonic(), 0.01)
    timeout = (min(CONNECT_TIMEOUT_S, left), min(READ_TIMEOUT_S, left))
    wanted = redacted(url)
    try:
        with session.get(url, timeout=timeout, stream=True, allow_redirects=False) as answer:
            status = answer.status_code
            if answer.is_redirect:
                return urllib.parse.urljoin(url, answer.headers["Location"])
            if status == 429 or status >= 500:
                raise FeedUnavailableError(f"{wanted} answered {status}", _retry_after_s(answer))
            if not 200 <= status < 300:
                raise FeedError(wanted, status, "status 200")
            return Answer(url, _body(wanted, answer, deadline), _date(answer.headers.get("Date")))
    except ValueError as error:  # what requests and urllib3 say of addresses they cannot use
        raise FeedError("address", wanted, "an http(s) address") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise FeedUnavailableError(f"{wanted}: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """Return the kind of an error and, where the system named it, its reason; no address."""
    inner: BaseException | None = error
    while inner is not None and not getattr(inner, "strerror", None):
        known = (getattr(inner, "reason", None), *inner.args[:1], inner.__cause__)
        inner = next((found for found in known if isinstance(found, Exception)), None)
    said = getattr(inner, "strerror", None)
    return f"{type(error).__name__} ({said})" if said else type(error).__name__


def _body(wanted: str, answer: requests.Response, deadline: float) -> bytes:
    """Read a body, decompressed; as it arrives, so that a trickle cannot outlast the deadline."""
    encoding = answer.headers.get("Content-Encoding", "")
    unpacked: Callable[[bytes, int], bytes] | None = None
    parts: list[bytes] = []
    size = 0
    while part := answer.raw.read1(_CHUNK, decode_content=False):
        if unpacked is None:  # files of a store may be packed without a header that says it
            packed = not encoding and part.startswith(_GZIP)
            unpacked = _decoder(wanted, "gzip" if packed else encoding)
        parts.append(unpacked(part, MAX_BODY_BYTES - size + 1))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise FeedError(wanted, "a longer body", f"at most {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise FeedUnavailableError(f"{wanted}: {size} bytes arrived in time, and no more")
    return b"".join(parts)


def _decoder(wanted: str, encoding: str) -> Callable[[bytes, int], bytes]:
    """Return what unpacks a body part by part, each to no more than so many bytes."""
    name = encoding.strip().lower()
    if name in {"", "identity"}:
        return lambda part, _most: part
    if name not in {"gzip", "x-gzip", "deflate"}:
        raise FeedError(wanted, encoding[:40], "a body that is plain or gzip")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)

    def unpack(part: bytes, most: int) -> bytes:
        try:
            return unpacker.decompress(part, most)
        except zlib.error:
            raise FeedUnavailableError(f"{wanted}: a body that is not {name}") from None

    return unpack


def _retry_after_s(answer: requests.Response) -> float:
    """Read a Retry-After header, seconds or date; 0 where it is absent or malformed."""
    header = answer.headers.get("Retry-After")
    try:
        return urllib3.Retry().parse_retry_after(header) if header else 0.0
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0


def _date(header: str | None) -> dt.datetime | None:
    """Read a Date header (RFC 9110, section 6.6.1); ``None`` where it is absent or malformed."""
    if header is None:
        return None
    try:
        stamp = email.utils.parsedate_to_datetime(header)
        return stamp.replace(tzinfo=dt.UTC) if stamp.tzinfo is None else stamp.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
