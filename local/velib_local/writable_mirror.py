"""A mirrored lake that can be written, and copies of whole lakes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from velib_core.lake.artefact import JSON, PARQUET, Artefact, RaceLostError, crc32c
from velib_core.lake.bucket import Lake
from velib_core.lake.readable import Entry

from velib_local.mirror import FolderLake
from velib_local.records import record_entries

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableLake


class WritableFolderLake(FolderLake, Lake):
    """A mirrored lake whose files may be replaced, one by one, by one process at a time."""

    def write(
        self, name: str, artefact: Artefact, *, expected_generation: int, cache: str | None = None
    ) -> int:
        """Replace a file and the record of it; return its new generation."""
        del cache
        current = self.stat(name)
        if (current.generation if current else 0) != expected_generation:
            raise RaceLostError(f"{name} was replaced by another process")
        generation = time.time_ns()
        digest = crc32c(artefact.data)
        entry = Entry(name, generation, len(artefact.data), digest, artefact.fingerprint)
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(artefact.data)
        self._recorded[name] = entry
        record_entries(self._recorded.values(), self._folder)
        return generation

    def delete(self, entry: Entry) -> None:
        """Delete a file and the record of it; nothing happens where it is gone or newer."""
        if self.stat(entry.name) == entry:
            (self._folder / entry.name).unlink()
            self._recorded.pop(entry.name, None)
            record_entries(self._recorded.values(), self._folder)


def copy_objects(source: ReadableLake, target: Lake) -> int:
    """Copy every object with its fingerprint into an empty lake; return how many."""
    entries = list(source.entries(""))
    for entry in entries:
        kind = PARQUET if entry.name.endswith(".parquet") else JSON
        artefact = Artefact(source.read(entry), kind, entry.fingerprint or "")
        target.write(entry.name, artefact, expected_generation=0)
    return len(entries)
