"""How long a call to the store may take, and the session that holds its answer to that.

The client's own time limits are of silence: of a store that answers a byte a second nothing would
ever end. Here an answer must also arrive at a least rate. All limits together end within a
minute, the time limit of the smallest functions: so an event fails with its reason in the log.
"""

from __future__ import annotations

import http.client
import io
import os
import time
from typing import TYPE_CHECKING, Any

import requests
import requests.adapters
import urllib3
import urllib3.connection
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

if TYPE_CHECKING:
    from google.api_core.retry import Retry

    from velib_core.settings.network import Settings

SILENCE_S = 15.0
"""Connect and read timeout: of one attempt, until something arrives."""

RETRY_S = 15.0
"""No attempt begins later than this after the first; the event is delivered again instead."""

ANSWER_S = 20.0
LEAST_RATE = 1 << 18
"""An answer may take ``ANSWER_S``, and a second more for each 256 KiB of it that arrived."""


def retry() -> Retry:
    """Return how a call is tried again that changes nothing when it is done twice."""
    limited: Retry = DEFAULT_RETRY.with_timeout(RETRY_S)
    return limited


def open_client(settings: Settings) -> storage.Client:
    """Return a client of the store, or of the emulator that STORAGE_EMULATOR_HOST names."""
    client = storage.Client(project=settings.project or None, _http=_direct_session())
    session: requests.Session = client._http  # noqa: SLF001 -- it has no other way to be changed
    session.max_redirects = 0  # the API has none: what redirects is something else
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter())
    return client


def _direct_session() -> AuthorizedSession | None:
    """Return a session for an emulator, ``None`` where there is none.

    An emulator is on this machine: neither a proxy nor a password file of the environment is
    meant for it, and looking for both takes a sixth of the CPU of each call.
    """
    if not os.environ.get("STORAGE_EMULATOR_HOST"):
        return None
    session = AuthorizedSession(AnonymousCredentials())  # type: ignore[no-untyped-call]
    session.trust_env = False
    return session


class _Paced(io.RawIOBase):
    """What arrives on a socket; raises ``TimeoutError`` where it arrives too slowly."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._end = time.monotonic() + ANSWER_S

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def fileno(self) -> int:
        """Return the socket's number."""
        return self._raw.fileno()

    def readinto(self, buffer: Any, /) -> int | None:  # noqa: ANN401 -- any buffer
        """Read what has arrived; wait for something where nothing has."""
        if time.monotonic() > self._end:
            raise TimeoutError(f"the answer arrives at less than {LEAST_RATE} bytes a second")
        arrived: int | None = self._raw.readinto(buffer)
        self._end += (arrived or 0) / LEAST_RATE
        return arrived

    def close(self) -> None:
        """Close the socket's own reader too: the connection is not closed before."""
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 -- the base's own
        super().__init__(*args, **options)
        self.fp = io.BufferedReader(_Paced(self.fp.detach()))


class _HttpConnection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _HttpsConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class _Adapter(requests.adapters.HTTPAdapter):
    def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
