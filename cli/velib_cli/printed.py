"""Texts for a terminal, which obeys nothing that comes from outside."""

from __future__ import annotations

LONGEST = 300
"""Characters of one text from outside that are printed."""


def harmless(text: object) -> str:
    """Return a text from outside on one line, without what a terminal would obey.

    Escape sequences, line breaks and invisible characters become U+FFFD, so that a name cannot
    move the cursor, forge a line or hide what follows it.
    """
    shown = str(text)
    cut = shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun, as in ``1 day`` and ``2 days``."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def age(minutes: float) -> str:
    """Return an age in the largest unit that it fills twice, as in ``40 minutes``."""
    for unit, size in (("day", 24 * 60), ("hour", 60)):
        if minutes >= 2 * size:
            return counted(round(minutes / size), unit)
    return counted(round(minutes), "minute")
