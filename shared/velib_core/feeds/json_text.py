"""JSON as feeds write it: one value that is none costs that value and not the whole file."""

from __future__ import annotations

import json
import math
import re

_MAX_DIGITS = 1000
"""Longer integers are no counts and no ids, and cost time that grows with their square."""

_MAX_PIECES = 3_000_000
"""More than 50,000 stations have; what is wrong in a larger file is not looked for. Each takes some
70 bytes while it is."""

_SPACE = " \t\r\n"
_PIECES = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?'
    r'|[^ \t\r\n\[\]{},:"][^\[\]{},:"]*+'
    r"|[,:](?=[ \t\r\n]*+[,\]}])",
    re.DOTALL,
)
"""What can be wrong outside a text: a bare word, a comma too many, a value that is missing.

A text is one piece, and needs no end: each character is looked at once, and nothing is kept to go
back to (``+`` after a repetition), whatever the file.
"""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {
    **{word: word for word in ("true", "false", "null")},
    **dict.fromkeys(("none", "undefined", "nil"), "null"),
    "infinity": "Infinity",
    "-infinity": "-Infinity",
}
"""Bare words, in lower case, and what they are in JSON; any other is a value that is none."""


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


_DECODER = json.JSONDecoder(parse_int=_integer, strict=False)


def parse(body: bytes) -> tuple[object, str | None]:
    """Return what a body says, and what was wrong with its JSON, if anything.

    ``NaN``, ``Infinity`` and control characters in a text are read, and bytes that are not of the
    encoding replaced. Where there is more after the end, the first value counts. Any other bare
    word is ``NaN``, which no reader takes for a value.

    Raises `ValueError` or `RecursionError` where it is no JSON all the same.
    """
    text = body.decode(json.detect_encoding(body), "replace").lstrip("\ufeff" + _SPACE)
    try:
        return _first(text)
    except ValueError as error:
        page = not text.startswith("{")  # of words, and no file with an odd value
        if page or sum(map(text.count, '":,')) > _MAX_PIECES:
            raise
        return _first(_PIECES.sub(_corrected, text))[0], str(error)


def _first(text: str) -> tuple[object, str | None]:
    value, end = _DECODER.raw_decode(text)
    rest = text[end : end + 60].strip("\0" + _SPACE)
    return value, f"more after its end: {rest}" if rest else None


def _corrected(piece: re.Match[str]) -> str:
    found = piece.group().strip(_SPACE)
    if found[0] == '"' or _NUMBER.fullmatch(found):
        return found
    if found == ",":
        return ""
    if found == ":":
        return ":null"
    return _WORDS.get(found.lower(), "NaN")
