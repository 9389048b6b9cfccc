"""Structured logs: one JSON object a line, in the fields that Cloud Logging reads.

Every line written while an event is handled carries the event's id and what it is about, so that
all that one event caused is found with one search.
"""

from __future__ import annotations

import contextlib
import contextvars
import datetime as dt
import functools
import json
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Severity = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

_CONTEXT: contextvars.ContextVar[dict[str, object] | None] = contextvars.ContextVar(
    "velib_log_context", default=None
)


@contextlib.contextmanager
def context(**fields: object) -> Iterator[None]:
    """Add fields to every line written inside the block."""
    token = _CONTEXT.set({**(_CONTEXT.get() or {}), **fields})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def log(severity: Severity, message: str, **fields: object) -> None:
    """Write one line to standard error.

    ``severity`` and ``message`` are the names that Cloud Logging gives meaning to; see
    https://cloud.google.com/logging/docs/structured-logging.
    """
    line = {
        "severity": severity,
        "message": message,
        "time": dt.datetime.now(dt.UTC).isoformat(),
        **(_CONTEXT.get() or {}),
        **fields,
    }
    sys.stderr.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    sys.stderr.flush()


@functools.lru_cache(1024)
def log_once(severity: Severity, message: str) -> None:
    """Write a line that an instance has not written before.

    For what is found again at each event, as a damaged model is: once is enough for a person.
    """
    log(severity, message)
