"""One HTTP GET as a careful client makes it: bounded in time, in size and in retries."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import time

import requests
import tenacity
import urllib3

from velib_core.errors import InvalidValueError, TransientError

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 4
BACKOFF_S = 0.4

BUDGET_S = 12.0
"""One GET in all. Four feeds and the weather then end within a tick's 60 s, whatever happens."""

MAX_BODY_BYTES = 32 << 20
"""About 60 times the largest feed of a network of 1,500 stations, decompressed."""

_CHUNK = 1 << 16


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
    """Return a session that keeps connections and follows few redirects."""
    session = requests.Session()
    session.max_redirects = 3
    session.headers["User-Agent"] = "velib-forecast"
    return session


def get(session: requests.Session, url: str, budget_s: float = BUDGET_S) -> Answer:
    """Fetch one URL, trying again with jitter while the budget lasts.

    A server's Retry-After is waited for; one beyond the budget ends the attempts.

    Raises
    ------
    FeedUnavailableError
        After timeouts, broken connections, 429 and 5xx, each tried again before.
    FeedError
        After any other status than 2xx, and for a body over `MAX_BODY_BYTES`.

    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(FeedUnavailableError),
        stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_before_delay(budget_s),
        wait=_pause_s,
        reraise=True,
    )
    return retrying(_get_once, session, url, time.monotonic() + budget_s)


def _pause_s(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, FeedUnavailableError) else 0.0
    jittered = tenacity.wait_random_exponential(multiplier=BACKOFF_S)
    return max(asked, jittered(state))


def _get_once(session: requests.Session, url: str, deadline: float) -> Answer:
    left = max(deadline - time.monotonic(), 0.01)
    timeout = (min(CONNECT_TIMEOUT_S, left), min(READ_TIMEOUT_S, left))
    try:
        with session.get(url, timeout=timeout, stream=True) as answer:
            if answer.status_code == 429 or answer.status_code >= 500:
                message = f"{url} answered {answer.status_code}"
                raise FeedUnavailableError(message, _retry_after_s(answer))
            if not 200 <= answer.status_code < 300:
                raise FeedError(url, answer.status_code, "status 200")
            body = _body(url, answer.raw, deadline)
            return Answer(url, body, _date(answer.headers.get("Date")))
    except requests.TooManyRedirects as error:
        raise FeedError(url, str(error), "at most 3 redirects") from error
    except ValueError as error:  # what requests and urllib3 say of addresses they cannot use
        raise FeedError("address", url, "an http(s) address") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise FeedUnavailableError(f"{url}: {error}") from error


def _body(url: str, raw: urllib3.HTTPResponse, deadline: float) -> bytes:
    """Read a body, decompressed; as it arrives, so that a trickle cannot outlast the deadline."""
    parts: list[bytes] = []
    size = 0
    while part := raw.read1(_CHUNK, decode_content=True):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise FeedError(url, f"more than {size} bytes", f"at most {MAX_BODY_BYTES} bytes")
        if time.monotonic() > deadline:
            raise FeedUnavailableError(f"{url}: {size} bytes arrived in time, and no more")
        parts.append(part)
    return b"".join(parts)


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
