"""A value that a test takes for granted."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """Return a value that may not be None here; a test whose value is missing fails at once."""
    assert value is not None
    return value
