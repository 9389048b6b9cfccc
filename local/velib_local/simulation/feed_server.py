"""An HTTP feed server that shows a given state, and fails on demand.

Simulated and recorded networks are shown through it, so that the real ingestion reads them over
a real connection. Paths: ``/gbfs/2/…``, ``/gbfs/3/…``, ``/velib/…`` and ``/v1/forecast``.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import http
import http.server
import json
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from velib_core.timeline.clock import SIMULATED_CLOCK

from velib_local.simulation import feed_documents
from velib_local.simulation.feed_state import FeedState
from velib_local.simulation.open_meteo_documents import BadRequestError, forecast

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["FeedServer", "FeedState"]

FORECAST_PATH = "/v1/forecast"
IDLE_TIMEOUT_S = 60

_DIALECTS = {
    "/gbfs/2": feed_documents.gbfs_2,
    "/gbfs/3": feed_documents.gbfs_3,
    "/velib": feed_documents.velib,
}


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json; charset=utf-8"
    after_s: float = 0.0


@dataclasses.dataclass
class _Fault:
    prefix: str
    answer: _Answer
    left: int | None


class FeedServer:
    """Serves the state it was last shown, on a free port of 127.0.0.1.

    A document is encoded when it is first asked for and kept until another state is shown. The
    ``Date`` header is the state's ``now``, and so is the simulated clock in ``clock_file``, which a
    local cloud gives its functions (`velib_core.timeline.clock`). Bodies are not compressed: on one
    machine that costs more than it saves. Until a state is shown, every path answers 503.

    Used as a context manager; ``base_url`` ends without a slash.
    """

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        self._shown: _Shown | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="velib-clock-")
        self.clock_file = Path(self._folder.name) / "now"
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.feed = self
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start serving."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._folder.cleanup()

    def environment(self, dialect: str = "gbfs/2") -> dict[str, str]:
        """Return what makes functions read this feed, by its clock."""
        return {
            "GBFS_URL": f"{self.base_url}/{dialect}/gbfs.json",
            "OPENMETEO_URL": f"{self.base_url}{FORECAST_PATH}",
            SIMULATED_CLOCK: str(self.clock_file),
        }

    def show(self, state: FeedState) -> None:
        """Show a state from now on; a request under way is answered from the one before.

        The clock moves first: nothing is ever seen before its time.
        """
        fresh = self.clock_file.with_suffix(".new")
        fresh.write_text(state.now.isoformat(), "utf-8")
        fresh.replace(self.clock_file)
        self._shown = _Shown(state, self.base_url)

    def fail(self, path_prefix: str, status: int = 503, times: int | None = None) -> None:
        """Answer paths with a prefix by an empty error, so many times (for ever when ``None``)."""
        self._add_fault(path_prefix, _Answer(status, b"", "text/plain"), times)

    def reply(
        self,
        path_prefix: str,
        body: bytes,
        content_type: str = "application/json",
        times: int | None = None,
    ) -> None:
        """Answer paths with a prefix by 200 and a body, whatever it is."""
        self._add_fault(path_prefix, _Answer(200, body, content_type), times)

    def stall(self, path_prefix: str, seconds: float, times: int | None = None) -> None:
        """Let paths with a prefix wait, and answer 504 then."""
        self._add_fault(path_prefix, _Answer(504, b"", "text/plain", seconds), times)

    def heal(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._faults.clear()

    def _add_fault(self, prefix: str, answer: _Answer, times: int | None) -> None:
        with self._lock:
            self._faults.append(_Fault(prefix, answer, times))

    def answer(self, target: str) -> tuple[_Answer, dt.datetime]:
        """Return the answer to a request target (path and query) and the clock it was given at."""
        shown = self._shown
        clock = shown.state.now if shown else dt.datetime.now(dt.UTC)
        path, _, query = target.partition("?")
        fault = self._fault(path)
        if fault is not None:
            return fault, clock
        if shown is None:
            return _denial(503, "nothing to show yet"), clock
        return shown.answer(path, query), clock

    def _fault(self, path: str) -> _Answer | None:
        with self._lock:
            for fault in self._faults:
                if path.startswith(fault.prefix) and fault.left != 0:
                    fault.left = None if fault.left is None else fault.left - 1
                    return fault.answer
        return None


class _Shown:
    """A state and the answers made from it so far."""

    def __init__(self, state: FeedState, base_url: str) -> None:
        self.state = state
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()
        self._documents = {
            f"{prefix}/{name}": make
            for prefix, dialect in _DIALECTS.items()
            for name, make in dialect(state, f"{base_url}{prefix}").items()
        }

    def answer(self, path: str, query: str) -> _Answer:
        if path == FORECAST_PATH:
            try:
                document = forecast(self.state, dict(urllib.parse.parse_qsl(query)))
            except BadRequestError as error:
                return _denial(400, str(error))
            return _Answer(200, _encode(document))
        if path not in self._documents:
            return _denial(404, f"no document {path}")
        with self._lock:
            if path not in self._answers:
                self._answers[path] = _Answer(200, _encode(self._documents[path]()))
            return self._answers[path]


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _denial(status: int, reason: str) -> _Answer:
    return _Answer(status, _encode({"error": True, "reason": reason}))


class _Server(http.server.ThreadingHTTPServer):
    feed: FeedServer
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection open must not keep the server


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        answer, clock = self.server.feed.answer(self.path)
        time.sleep(answer.after_s)
        self.send_response_only(answer.status, http.HTTPStatus(answer.status).phrase)
        stamp = email.utils.format_datetime(clock.astimezone(dt.UTC), usegmt=True)
        self.send_header("Date", stamp)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        """Say nothing: those who ask keep their own log."""
