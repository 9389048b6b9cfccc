"""One HTTP GET as a careful client makes it: bounded in time, in size and in retries."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils

import requests
import urllib3

from velib_core.errors import InvalidValueError, TransientError

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
RETRIES = 3
BACKOFF_S = 0.4
BACKOFF_JITTER_S = 0.5
MAX_RETRY_AFTER_S = 10
"""A server may ask for patience, but a tick is over before the next one comes."""

MAX_BODY_BYTES = 32 << 20
"""About 60 times the largest feed of a network of 1,500 stations, decompressed."""

_CHUNK = 1 << 16


class FeedError(InvalidValueError):
    """What a feed serves is wrong: names the feed or field, the value, the expectation."""


class FeedUnavailableError(TransientError):
    """A feed could not be reached, or said that it is not able to answer."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response body, and the server's own clock where it says it (aware, UTC)."""

    url: str
    body: bytes
    date: dt.datetime | None


def open_session(retries: int = RETRIES) -> requests.Session:
    """Return a session that tries again, with jitter, after 429, 5xx and broken connections."""
    policy = _BoundedRetry(
        total=retries,
        backoff_factor=BACKOFF_S,
        backoff_jitter=BACKOFF_JITTER_S,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=("GET",),
        raise_on_status=False,
    )
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(max_retries=policy)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.max_redirects = 3
    session.headers["User-Agent"] = "velib-forecast"
    return session


def get(session: requests.Session, url: str) -> Answer:
    """Fetch one URL.

    Raises
    ------
    FeedUnavailableError
        After timeouts, broken connections, 429 and 5xx, each tried again before.
    FeedError
        After any other status than 2xx, and for a body over `MAX_BODY_BYTES`.

    """
    try:
        with session.get(url, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), stream=True) as answer:
            if answer.status_code == 429 or answer.status_code >= 500:
                raise FeedUnavailableError(f"{url} answered {answer.status_code}")
            if not answer.ok:
                raise FeedError(url, answer.status_code, "status 200")
            return Answer(url, _body(url, answer), _date(answer.headers.get("Date")))
    except requests.TooManyRedirects as error:
        raise FeedError(url, str(error), "at most 3 redirects") from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise FeedError(url, url, "an http(s) address") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise FeedUnavailableError(f"{url}: {error}") from error


class _BoundedRetry(urllib3.Retry):
    """A retry policy that listens to Retry-After, within bounds."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        asked = super().get_retry_after(response)
        return None if asked is None else min(asked, MAX_RETRY_AFTER_S)


def _body(url: str, answer: requests.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in answer.iter_content(_CHUNK):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise FeedError(url, f"more than {size} bytes", f"at most {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _date(header: str | None) -> dt.datetime | None:
    """Read a Date header (RFC 9110, section 6.6.1); ``None`` where it is absent or malformed."""
    if header is None:
        return None
    try:
        stamp = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return stamp.replace(tzinfo=dt.UTC) if stamp.tzinfo is None else stamp.astimezone(dt.UTC)
