"""A value of a feed that broke its rule, and what became of it."""

from __future__ import annotations

import dataclasses

from velib_core.errors import shorten

MAX_VALUE_LENGTH = 512
"""Characters of a text that are kept; where a value is printed it is shortened further."""


@dataclasses.dataclass(frozen=True)
class Defect:
    """One value that broke its rule, and what became of it.

    ``refused``: the whole row is left out; otherwise the field became null.
    """

    station_id: str | None
    field: str
    value: object
    expected: str
    refused: bool

    def as_json(self) -> dict[str, object]:
        """Return the defect as a JSON object."""
        value = self.value if isinstance(self.value, int) else shorten(self.value)
        if isinstance(self.value, str) and self.value.isprintable():
            value = self.value[:MAX_VALUE_LENGTH]
        return {**vars(self), "value": value}
