"""What a run records of its deliveries."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from velib_core.lake.readable import Entry


RECORDS = "_local"
"""Folder of the records of how the mirrored objects were made."""

SETTINGS = "settings.env"
"""File of that folder with the settings that the run was given, ``NAME=value`` a line."""

COMMAND = "command.json"
"""File of that folder with the words of the command that made it, as a list."""


def record_entries(entries: Iterable[Entry], folder: Path) -> None:
    """Write what plain files cannot carry: each object's generation, checksum, fingerprint."""
    listed = [dataclasses.asdict(entry) for entry in entries]
    records = folder / RECORDS
    records.mkdir(parents=True, exist_ok=True)
    (records / "objects.json").write_text(json.dumps(listed, indent=1), "utf-8")


@dataclasses.dataclass(frozen=True)
class DeliveryRecord:
    """One delivery of one message to one function, and the answer it got.

    ``subject`` is the object or the message body; times are seconds of the Unix clock; ``status``
    is the HTTP status, 0 where the function died. Waiting for an instance is not in ``seconds``.
    """

    function: str
    message_id: str
    subject: str
    attempt: int
    started: float
    seconds: float
    status: int
