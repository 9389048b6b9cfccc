"""Permanent and transient errors: the platform retries only the transient ones.

A permanent error would fail again however often it is delivered: it is logged, counted and
acknowledged. A transient one is raised, so that the platform delivers the event again. Anything
that is neither is a bug; it is raised too and ends on the dead-letter topic.
"""

from __future__ import annotations


class PermanentError(Exception):
    """Delivering this again cannot help: the input itself is wrong."""


class TransientError(Exception):
    """Delivering this again may help: a service was busy or a race was lost too often."""


class InvalidValueError(PermanentError):
    """A value that breaks its rule: names the field, the value and what was expected."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        super().__init__(f"{field}: got {shorten(value)}, expected {expected}")


class ModelError(PermanentError):
    """A model that cannot be used: corrupt, truncated, foreign, or none at all."""


def shorten(value: object, limit: int = 120) -> str:
    """Return ``repr(value)`` cut to a length that is safe to log."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"<{type(value).__name__} nested too deeply to show>"
    except ValueError:  # a whole number of more digits than Python writes
        text = f"<{type(value).__name__} too long to show>"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
