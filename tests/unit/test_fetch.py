import datetime as dt
import gzip
import http.server
import threading
import time

import pytest
from velib_core.feeds import http as fetch
from velib_core.feeds.http import FeedError, FeedUnavailableError


class Scripted(http.server.ThreadingHTTPServer):
    """Answers each request by the next of its steps, the last one for ever; notes when."""

    daemon_threads = True

    def __init__(self, *steps):
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps = list(steps)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/feed"

    def handle_error(self, request, client_address):
        """A client that hangs up is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def do_GET(self):
        self.server.asked.append(time.monotonic())
        steps = self.server.steps
        (steps.pop(0) if len(steps) > 1 else steps[0])(self)

    def log_message(self, *args):
        pass


def answer(status=200, body=b"{}", length=None, **headers):
    def step(handler):
        handler.send_response_only(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(body)

    return step


def hang_up(handler):
    handler.close_connection = True


def trickle(handler):
    handler.send_response_only(200)
    handler.send_header("Content-Length", "40")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(40):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.fixture
def serve(monkeypatch):
    """Start a server that follows a script; retries wait a tenth of their usual time."""
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.04)
    servers = []

    def start(*steps):
        server = Scripted(*steps)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(server, budget_s=5.0):
    with fetch.open_session() as session:
        return fetch.get(session, server.url, budget_s)


def test_the_body_comes_with_the_servers_clock(serve):
    server = serve(answer(body=b"[1]", Date="Mon, 03 Nov 2025 12:07:30 GMT"))
    found = get(server)
    assert found.body == b"[1]"
    assert found.date == dt.datetime(2025, 11, 3, 12, 7, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Mon, 99 Nov 2025 12:07:30 GMT"])
def test_a_clock_that_is_missing_or_malformed_is_none(serve, date):
    headers = {} if date is None else {"Date": date}
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
def test_a_passing_failure_is_tried_again(serve, failure):
    server = serve(failure, failure, answer(body=b"well"))
    assert get(server).body == b"well"
    assert len(server.asked) == 3


@pytest.mark.parametrize("failure", [answer(503), hang_up], ids=["503", "hang-up"])
def test_a_lasting_failure_is_transient_after_the_last_attempt(serve, failure):
    server = serve(failure)
    with pytest.raises(FeedUnavailableError, match=server.url):
        get(server)
    assert len(server.asked) == fetch.ATTEMPTS


def test_retry_after_is_waited_for(serve):
    server = serve(answer(429, Retry_After="1"), answer())
    get(server)
    first, second = server.asked
    assert second - first >= 1


def test_a_retry_after_beyond_the_budget_ends_the_attempts(serve):
    server = serve(answer(429, Retry_After="3600"), answer())
    with pytest.raises(FeedUnavailableError, match="429"):
        get(server)
    assert len(server.asked) == 1


def test_a_trickle_does_not_outlast_the_budget(serve):
    server = serve(trickle)
    with pytest.raises(FeedUnavailableError):
        get(server, budget_s=0.3)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 304])
def test_any_other_status_is_permanent_and_named(serve, status):
    server = serve(answer(status, body=b""))
    with pytest.raises(FeedError, match=str(status)):
        get(server)
    assert len(server.asked) == 1


def test_redirects_are_followed_but_not_in_circles(serve):
    target = serve(answer(body=b"here"))
    assert get(serve(answer(302, body=b"", Location=target.url))).body == b"here"
    with pytest.raises(FeedError, match="redirects"):
        get(serve(answer(302, body=b"", Location="/feed")))


@pytest.mark.parametrize(
    "location", ["file:///etc/hostname", "ftp://127.0.0.1/x", "http://[bad", "http://a:99999/"]
)
def test_only_http_is_followed(serve, location):
    with pytest.raises(FeedError):
        get(serve(answer(302, body=b"", Location=location)))


def test_a_body_is_bounded_after_decompression(serve, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BODY_BYTES", 1 << 20)
    fits, bomb = b" " * (1 << 20), b" " * ((1 << 20) + 1)
    assert get(serve(answer(body=gzip.compress(fits), Content_Encoding="gzip"))).body == fits
    with pytest.raises(FeedError, match="at most 1048576 bytes"):
        get(serve(answer(body=gzip.compress(bomb), Content_Encoding="gzip")))


def test_an_address_that_nobody_answers_is_transient(serve):
    server = serve(answer())
    server.shutdown()
    server.server_close()
    with pytest.raises(FeedUnavailableError):
        get(server)
