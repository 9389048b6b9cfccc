"""A lake as of one moment: each folder is listed once, whatever is asked about it.

What compares every day of a lake with its inputs asks for the same listings and the same small
documents day after day. Asked of the store each time, they would grow with days times models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.errors import TransientError
from velib_core.lake.readable import Entry, ReadableLake, within

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from velib_core.lake.lineage import LineageRecord

KEPT_BYTES = 1 << 20
"""Documents up to this size are kept once they are read: what describes a model is smaller."""


class ListedLake(ReadableLake):
    """Answers from one listing of each of some folders, and asks another lake about the others.

    ``folders`` are prefixes that end in ``/`` and lie apart.
    """

    def __init__(self, lake: ReadableLake, folders: Iterable[str]) -> None:
        self._lake = lake
        self._prefixes = tuple(folders)
        self._listings: dict[str, dict[str, Entry]] = {}
        self._failed: dict[str, TransientError] = {}
        self._kept: dict[tuple[str, int], bytes] = {}

    def stat(self, name: str) -> Entry | None:
        """Return an object's entry as listed, or ``None`` where there was none."""
        listing = self._listing(name)
        return self._lake.stat(name) if listing is None else listing.get(name)

    def entries(
        self,
        prefix: str,
        start: str | None = None,
        stop: str | None = None,
        page: int | None = None,
    ) -> Iterator[Entry]:
        """Yield the objects whose names start with a prefix, in order of name, as listed."""
        listing = self._listing(prefix)
        if listing is None:
            yield from self._lake.entries(prefix, start, stop, page)
        else:
            below = (entry for name, entry in listing.items() if name.startswith(prefix))
            yield from within(below, start, stop)

    def folders(self, prefix: str) -> list[str]:
        """Return the names one level below a prefix that ends in ``/``, as listed."""
        listing = self._listing(prefix)
        if listing is None:
            return self._lake.folders(prefix)
        below = (name[len(prefix) :] for name in listing if name.startswith(prefix))
        return sorted({f"{prefix}{rest.partition('/')[0]}/" for rest in below if "/" in rest})

    def lineage_records(self, prefix: str) -> Iterator[LineageRecord]:
        """Yield how each object below a prefix came about, as the lake has it now."""
        return self._lake.lineage_records(prefix)

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of a generation; small ones are read once."""
        key = (entry.name, entry.generation)
        if key in self._kept:
            return self._kept[key]
        data = self._lake.read(entry)
        if len(data) <= KEPT_BYTES:
            self._kept[key] = data
        return data

    def _listing(self, name: str) -> dict[str, Entry] | None:
        """Return the listing of the folder that a name or prefix lies in, if it is one of ours."""
        folder = next((p for p in self._prefixes if name.startswith(p)), None)
        if folder is None:
            return None
        if folder in self._failed:  # a store that is not able to answer takes long to say so
            raise self._failed[folder]
        if folder not in self._listings:
            try:
                self._listings[folder] = {entry.name: entry for entry in self._lake.entries(folder)}
            except TransientError as error:
                self._failed[folder] = error
                raise
        return self._listings[folder]
