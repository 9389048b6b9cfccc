"""One value of a feed, read where there is only one way to read it; ``None`` everywhere else.

Feeds write numbers and flags as text, times in four units, and missing values as ``NaN``. A
reader takes what `json` decoded and returns the typed value. It never guesses.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import functools
import math
import re
import unicodedata
from typing import Any

_COUNT = re.compile(r"[+-]?[0-9]{1,18}(\.0+)?")
_REAL = re.compile(r"[+-]?[0-9]{1,18}([.,][0-9]{1,30})?")
_DIGITS = re.compile(r"[0-9]{1,20}(\.[0-9]{1,9})?")
_FLAGS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1", "1.0"), 1),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0", "0.0"), 0),
}
_OTHER_NAMES = {"lat": ("latitude",), "lon": ("lng", "longitude")}
_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))
"""From this number on, a count since 1970 has so many units a second: as seconds it would lie
beyond the year 5000."""

_YEAR_1, _YEAR_9999 = -62135596800, 253402214400
"""What `datetime` can hold, less a day for every zone."""

_WRITTEN = ("%Y%m%d%H%M%S", "%Y/%m/%d %H:%M:%S")
"""Forms of an instant besides the standards', of which there is one reading only. Fourteen digits
that are a date are no count since 1970: in milliseconds it would lie beyond the year 2600."""

_EXACT = 1 << 53
_LARGEST = 1 << 62


@functools.cache
def _spellings(name: str) -> tuple[str, ...]:
    """Return how dialects write a field's name: in camelCase, and some in other words."""
    first, *others = name.split("_")
    camel = first + "".join(word.capitalize() for word in others)
    return (name, *((camel,) if others else ()), *_OTHER_NAMES.get(name, ()))


def field(record: object, name: str) -> Any:  # noqa: ANN401 -- whatever the feed wrote
    """Return a field under the standard's name, else under a dialect's; null where absent."""
    if not isinstance(record, dict):
        return None
    for spelling in _spellings(name):
        value = record.get(spelling)
        if value is not None:
            return value
    return None


def count(value: object) -> int | None:
    """Read a whole number. One beyond 64 bits is cut to them and left to the range check."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        return int(text.partition(".")[0]) if _COUNT.fullmatch(text) else None
    if isinstance(value, float) and not value.is_integer():
        return None
    if isinstance(value, int | float):
        return max(-_LARGEST, min(_LARGEST, int(value)))
    return None


def real(value: object) -> float | None:
    """Read a finite number; a text may have a decimal point or comma."""
    if isinstance(value, str) and _REAL.fullmatch(value.strip()):
        return float(value.strip().replace(",", "."))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def flag(value: object) -> int | None:
    """Read 1 or 0: a boolean, a number, or the words for them."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    if isinstance(value, bool | int | float) and value in (0, 1):
        return int(value)
    return None


def text(value: object) -> str | None:
    """Read a name: a string, or the first text of 3.x's ``[{"text": …, "language": …}]``.

    Control characters become spaces. A text that the feed's encoding has damaged is no name.
    """
    if isinstance(value, list):
        texts = (part.get("text") for part in value if isinstance(part, dict))
        value = next((part for part in texts if isinstance(part, str)), None)
    if not isinstance(value, str) or _damaged(value):
        return None
    if not value.isprintable():
        value = "".join(" " if _is_control(c) else c for c in value)
    return value


def identifier(value: object) -> str | None:
    """Read a station's id as text; one with control characters would be taken for another's."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str) or _damaged(value):
        return None
    stripped = value.strip()
    if not stripped or (not stripped.isprintable() and any(map(_is_control, stripped))):
        return None
    return stripped


def instant(value: object) -> dt.datetime | None:
    """Read an instant as aware UTC; see `posix`."""
    seconds = posix(value)
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)


def posix(value: object) -> float | None:
    """Read an instant as seconds since 1970.

    A number, also as text, is a count since 1970 in seconds (2.x), milli-, micro- or nanoseconds:
    its size shows which. Any other text is RFC 3339 (3.x), RFC 5322 or ``YYYYMMDDhhmmss``; without
    a zone it is UTC.
    """
    if isinstance(value, str):
        stripped = value.strip()
        is_count = _DIGITS.fullmatch(stripped) and not _is_date(stripped)
        seconds = _since_1970(float(stripped)) if is_count else _posix_of_text(stripped)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _since_1970(value)
    else:
        return None
    return seconds if seconds is not None and _YEAR_1 <= seconds <= _YEAR_9999 else None


def _since_1970(count: float) -> float | None:
    """Return a count since 1970, of any unit, in seconds."""
    per_second = next((unit for least, unit in _UNITS if count >= least), 1)
    return count / per_second if -_LARGEST < count < _LARGEST else None


def _posix_of_text(stripped: str) -> float | None:
    try:
        stamp = _parse(stripped)
        return (stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_date(digits: str) -> bool:
    """Return whether so many digits are a date of this age and a time, and no count."""
    return len(digits) == len("20251103120730") and digits.startswith(("19", "20"))


def _parse(stripped: str) -> dt.datetime:
    said = stripped.upper()  # RFC 3339 allows small letters, and no version of Python reads them
    for zone in (" UTC", " GMT"):
        if said[4:5] in {"-", "/"}:
            said = said.removesuffix(zone)
    try:
        return dt.datetime.fromisoformat(said)
    except ValueError:
        for form in _WRITTEN:
            with contextlib.suppress(ValueError):
                return dt.datetime.strptime(said, form)  # noqa: DTZ007 -- in UTC, see `posix`
        return email.utils.parsedate_to_datetime(stripped)


def _damaged(value: str) -> bool:
    """Return whether a text holds halves of surrogate pairs, or stands for bytes that were none."""
    if "�" in value:
        return True
    return not value.isprintable() and any("\ud800" <= c <= "\udfff" for c in value)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc"
