"""A server of files as a test wrote them, for feeds that no simulated city would publish."""

from __future__ import annotations

import contextlib
import email.utils
import http.server
import json
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping


class RawFeed(http.server.ThreadingHTTPServer):
    """Serves each file under its name: bytes or what JSON can hold; a number is a status."""

    daemon_threads = True

    def __init__(self, now: dt.datetime) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.now = now
        self.files: Mapping[str, object] = {}

    def publish(self, **files: object) -> None:
        """Serve these feeds, and a discovery file that names them unless one is given."""
        listed = [{"name": name, "url": f"{self.url}/{name}.json"} for name in files]
        self.files = {"gbfs": {"data": {"en": {"feeds": listed}}}, **files}


class _Handler(http.server.BaseHTTPRequestHandler):
    server: RawFeed
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        content = self.server.files.get(self.path.strip("/").removesuffix(".json"), 404)
        status = content if isinstance(content, int) else 200
        body = b"" if isinstance(content, int) else content
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Date", email.utils.format_datetime(self.server.now, usegmt=True))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        """Say nothing."""


@contextlib.contextmanager
def raw_feed(now: dt.datetime) -> Iterator[RawFeed]:
    """Serve for the length of a with-block."""
    with RawFeed(now) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
