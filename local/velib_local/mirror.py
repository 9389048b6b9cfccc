"""A mirrored lake: the plain files that a replay leaves, read like the bucket they came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from velib_core.lake.artefact import crc32c
from velib_core.lake.lineage import LineageRecord
from velib_core.lake.readable import Entry, ObjectMissingError, ReadableLake, within

from velib_local.records import RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIRROR = "gs://mirror"
"""The root of a mirrored lake: its paths are the names in a bucket of this name."""


class FolderLake(ReadableLake):
    """The objects below a folder; names are paths."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        records = folder / RECORDS / "objects.json"
        listed = json.loads(records.read_text("utf-8")) if records.exists() else []
        self._recorded = {item["name"]: Entry(**item) for item in listed}

    def stat(self, name: str) -> Entry | None:
        """Return the entry of a file, as recorded where its bytes are still the same."""
        path = self._folder / name
        if not path.is_file():
            return None
        recorded = self._recorded.get(name)
        size = path.stat().st_size
        if recorded is not None and recorded.size == size:
            return recorded
        return Entry(name, path.stat().st_mtime_ns, size, crc32c(path.read_bytes()), None)

    def entries(
        self,
        prefix: str,
        start: str | None = None,
        stop: str | None = None,
        page: int | None = None,
    ) -> Iterator[Entry]:
        """Yield the files below a prefix in order of name; loose files are no objects."""
        del page
        return within(self._files(prefix), start, stop)

    def _files(self, prefix: str) -> Iterator[Entry]:
        base = self._folder / prefix.rpartition("/")[0]
        names = sorted(
            path.relative_to(self._folder).as_posix() for path in base.rglob("*") if path.is_file()
        )
        for name in names:
            if name.startswith(prefix) and "/" in name and not name.startswith(f"{RECORDS}/"):
                entry = self.stat(name)
                if entry is not None:
                    yield entry

    def lineage_records(self, prefix: str) -> Iterator[LineageRecord]:
        """Yield how each object below a prefix came about, as the run recorded it."""
        records = self._folder / RECORDS / "makings.json"
        for item in json.loads(records.read_text("utf-8")) if records.exists() else []:
            if item["name"].startswith(prefix):
                yield LineageRecord(**item)

    def folders(self, prefix: str) -> list[str]:
        """Return the folders one level below a prefix that ends in ``/``."""
        base = self._folder / prefix
        found = [path.name for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
        return sorted(f"{prefix}{name}/" for name in found)

    def read(self, entry: Entry) -> bytes:
        """Return a file's bytes."""
        try:
            return (self._folder / entry.name).read_bytes()
        except FileNotFoundError:
            raise ObjectMissingError(f"{entry.name} does not exist") from None
