from __future__ import annotations

import datetime as dt
import gzip
import http.server
import socket
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from velib_core.feeds import http as fetch
from velib_core.feeds.http import Answer, FeedError, FeedUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Scripted(http.server.ThreadingHTTPServer):
    """Answers each request by the next of its steps, the last one for ever; notes when."""

    daemon_threads = True

    def __init__(self, *steps: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps = list(steps)
        self.asked: list[Any] = []
        self.url = f"http://127.0.0.1:{self.server_port}/feed"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self) -> None:
        self.server.asked.append(time.monotonic())
        steps = self.server.steps
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    def log_message(self, *args: Any) -> None:
        pass


def answer(status: int = 200, body: Any = b"{}", length: Any = None, **headers: Any) -> Any:
    def step(handler: Any) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)

    return step


def hang_up(handler: Any) -> None:
    handler.close_connection = True


def trickle(handler: Any) -> None:
    handler.send_response_only(200)
    handler.send_header("Content-Length", "40")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a server that follows a script; retries wait a tenth of their usual time."""
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.04)
    servers = []

    def start(*steps: Any) -> Scripted:
        server = Scripted(*steps)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(server: Any, budget_s: Any = 5.0) -> Answer:
    with fetch.open_session() as session:
        return fetch.get(session, server.url, budget_s)


def test_the_body_comes_with_the_servers_clock(serve: Any) -> None:
    server = serve(answer(body=b"[1]", Date="Mon, 03 Nov 2025 12:07:30 GMT"))
    found = get(server)
    assert found.body == b"[1]"
    assert found.date == dt.datetime(2025, 11, 3, 12, 7, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Nov 2025 12:07:30 GMT"])
def test_a_clock_that_is_missing_or_malformed_is_none(serve: Any, date: str | None) -> None:
    headers: dict[str, Any] = {} if date is None else {"Date": date}
    assert get(serve(answer(**headers))).date is None


@pytest.mark.parametrize(
    "failure",
    [
        answer(429),
        answer(500),
        answer(503, Retry_After="0"),
        answer(503, Retry_After="soon"),
        hang_up,
        answer(body=b"cut sh", length=100),
        answer(body=b"no gzip", Content_Encoding="gzip"),
    ],
    ids=["429", "500", "retry-after", "bad-retry-after", "hang-up", "truncated", "bad-gzip"],
)
def test_a_passing_failure_is_tried_again(serve: Any, failure: Any) -> None:
    server = serve(failure, failure, answer(body=b"well"))
    assert get(server).body == b"well"
    assert len(server.asked) == 3


@pytest.mark.parametrize("failure", [answer(503), hang_up], ids=["503", "hang-up"])
def test_a_lasting_failure_is_transient_after_the_last_attempt(serve: Any, failure: Any) -> None:
    server = serve(failure)
    with pytest.raises(FeedUnavailableError, match=server.url):
        get(server)
    assert len(server.asked) == fetch.ATTEMPTS


def test_retry_after_is_waited_for(serve: Any) -> None:
    server = serve(answer(429, Retry_After="1"), answer())
    get(server)
    first, second = server.asked
    assert second - first >= 1


def test_a_retry_after_beyond_the_budget_ends_the_attempts(serve: Any) -> None:
    server = serve(answer(429, Retry_After="3600"), answer())
    with pytest.raises(FeedUnavailableError, match="429"):
        get(server)
    assert len(server.asked) == 1


def test_a_trickle_does_not_outlast_the_budget(serve: Any) -> None:
    server = serve(trickle)
    with pytest.raises(FeedUnavailableError):
        get(server, budget_s=0.3)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_any_other_status_is_permanent_and_named(serve: Any, status: int) -> None:
    server = serve(answer(status, body=b""))
    with pytest.raises(FeedError, match=str(status)):
        get(server)
    assert len(server.asked) == 1


def test_redirects_are_followed_but_not_in_circles(serve: Any) -> None:
    target = serve(answer(body=b"here"))
    assert get(serve(answer(302, body=b"", Location=target.url))).body == b"here"
    with pytest.raises(FeedError, match="redirects"):
        get(serve(answer(302, body=b"", Location="/feed")))


@pytest.mark.parametrize(
    "location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[bad", "http://a:99999/"]
)
def test_only_http_is_followed(serve: Any, location: str) -> None:
    with pytest.raises(FeedError):
        get(serve(answer(302, body=b"", Location=location)))


def test_a_body_is_bounded_after_decompression(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BODY_BYTES", 1 << 20)
    fits, bomb = b" " * (1 << 20), b" " * ((1 << 20) + 1)
    assert get(serve(answer(body=gzip.compress(fits), Content_Encoding="gzip"))).body == fits
    with pytest.raises(FeedError, match="at most 1048576 bytes"):
        get(serve(answer(body=gzip.compress(bomb), Content_Encoding="gzip")))


def test_an_address_that_nobody_answers_is_transient(serve: Any) -> None:
    server = serve(answer())
    server.shutdown()
    server.server_close()
    with pytest.raises(FeedUnavailableError, match="refused"):
        get(server)


def measured(call: Any) -> tuple[FeedError | FeedUnavailableError | None, float, float]:
    """Return what a call raises, its seconds and the MiB that it takes at its peak."""
    tracemalloc.start()
    started = time.monotonic()
    try:
        call()
        raised = None
    except (FeedError, FeedUnavailableError) as error:
        raised = error
    seconds, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return raised, seconds, peak / 2**20


def continue_for_ever(handler: Any) -> None:
    for _ in range(2000):
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        handler.wfile.flush()
        time.sleep(0.02)


def trickle_headers(handler: Any) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for n in range(90):
        handler.wfile.write(b"X-%d: slow\r\n" % n)
        handler.wfile.flush()
        time.sleep(0.1)


def silent(handler: Any) -> None:
    time.sleep(30)
    del handler


def never_end(handler: Any) -> None:
    handler.send_response_only(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


BOMB = gzip.compress(b" " * (256 << 20), 9)


def bomb_behind(status: int) -> Any:
    return answer(status, body=BOMB, Content_Encoding="gzip", Location="/elsewhere")


@pytest.mark.parametrize(
    "step", [continue_for_ever, trickle_headers, silent, trickle], ids=lambda step: step.__name__
)
def test_a_call_ends_with_its_budget_whatever_the_server_does(serve: Any, step: Any) -> None:
    server = serve(step)
    raised, seconds, _ = measured(lambda: get(server, budget_s=0.6))
    assert isinstance(raised, FeedUnavailableError)
    assert seconds < 2.0


@pytest.mark.parametrize("status", [200, 302, 404, 500])
def test_a_bomb_takes_no_more_than_the_bound_on_any_path(
    serve: Any, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(fetch, "MAX_BODY_BYTES", 4 << 20)
    server = serve(bomb_behind(status))
    raised, _, peak = measured(lambda: get(server))
    assert raised is not None
    assert peak < 12


def test_a_packed_file_is_opened_without_a_header_that_says_it(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_BODY_BYTES", 4 << 20)
    assert get(serve(answer(body=gzip.compress(b"{}")))).body == b"{}"
    raised, _, peak = measured(lambda: get(serve(answer(body=BOMB))))
    assert isinstance(raised, FeedError)
    assert peak < 12


def test_a_bomb_in_a_bomb_is_not_opened(serve: Any) -> None:
    twice = gzip.compress(BOMB)
    raised, _, peak = measured(
        lambda: get(serve(answer(body=twice, Content_Encoding="gzip, gzip")))
    )
    assert isinstance(raised, FeedError)
    assert peak < 12


def test_a_body_that_never_ends_is_bounded(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BODY_BYTES", 4 << 20)
    raised, seconds, peak = measured(lambda: get(serve(never_end)))
    assert isinstance(raised, FeedError)
    assert (seconds < 5, peak < 12) == (True, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/x",
        "http://169.254.169.254/computeMetadata/v1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0.0.0.0/",
        "http://localhost/",
    ],
)
def test_an_address_named_from_elsewhere_does_not_lead_to_this_machine(url: str) -> None:
    with fetch.open_session() as session, pytest.raises(FeedError, match="beyond this machine"):
        fetch.get(session, url, origin="http://192.0.2.1/gbfs.json")


@pytest.mark.parametrize("origin", ["http://192.0.2.1/", "http://rebound.example/gbfs.json"])
def test_a_name_that_leads_here_only_after_it_was_checked_is_refused(
    serve: Any, monkeypatch: pytest.MonkeyPatch, origin: str
) -> None:
    server, resolve = serve(answer(body=b"secret")), socket.getaddrinfo
    first = iter(["192.0.2.7"])

    def rebound(host: str, *rest: Any, **more: Any) -> Any:
        found = next(first, "127.0.0.1") if host == "rebound.example" else host
        return resolve(found, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    url = f"http://rebound.example:{server.server_port}/feed"
    with fetch.open_session() as session, pytest.raises(FeedError, match="beyond this machine"):
        fetch.get(session, url, origin=origin)
    assert server.asked == []


def test_the_query_of_an_address_is_in_no_message(serve: Any) -> None:
    for step in (answer(500), answer(404), hang_up, answer(302, Location="/feed?token=SECRET")):
        server = serve(step)
        with fetch.open_session() as session:
            address = server.url.replace("//", "//user:SECRET@") + "?token=SECRET"
            raised, _, _ = measured(lambda s=session, a=address: fetch.get(s, a, 1.0))
        assert "SECRET" not in str(raised)
