"""What a job writes: bytes with their type and fingerprint, and how a write can fail."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c

from velib_core.errors import TransientError

if TYPE_CHECKING:
    from velib_core.lake.readable import Entry

PARQUET = "application/vnd.apache.parquet"
JSON = "application/json"


class InputChangedError(TransientError):
    """An input was replaced or deleted between its listing and its reading."""


class RaceLostError(TransientError):
    """Another writer replaced the object first, again and again."""


class StoreError(TransientError):
    """The store could not answer."""


@dataclasses.dataclass(frozen=True)
class Artefact:
    """What a job made for one name: the bytes, their type, and what they were made from."""

    data: bytes
    content_type: str
    fingerprint: str


Outcome = Literal["written", "fresh", "absent"]
"""Of one artefact: made and written; made from the same inputs already; nothing to make it from."""


def is_same(current: Entry, artefact: Artefact) -> bool:
    """Return whether writing an artefact would change nothing: equal bytes and fingerprint."""
    return current.fingerprint == artefact.fingerprint and current.crc32c == crc32c(artefact.data)


def crc32c(data: bytes) -> str:
    """Return the CRC32C of bytes as the store writes it: base64 of the big-endian word."""
    word: int = google_crc32c.value(data)
    return base64.b64encode(word.to_bytes(4, "big")).decode()


def json_value(data: bytes) -> Any:  # noqa: ANN401 -- JSON is any value
    """Return the value of a JSON document.

    Raises ``ValueError`` for what is none, as for a number beyond any: NaN is none, and 1e999
    would be infinite, which `json_bytes` refuses. Raises ``RecursionError`` for a deep one.
    """
    return json.loads(data, parse_constant=_finite, parse_float=_finite)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:20]} is no number of JSON")
    return value


def json_bytes(document: object) -> bytes:
    """Encode a document as compact UTF-8 JSON; raise ``ValueError`` for NaN and infinities."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()
