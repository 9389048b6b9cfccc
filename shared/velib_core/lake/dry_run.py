"""A lake that is read as ever and only logs what it would write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.lake.artefact import Artefact, Outcome, is_same
from velib_core.lake.bucket import Lake

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.lake.readable import Entry


class DryLake(Lake):
    """A lake that is read as ever and only says what would be written."""

    def update(
        self,
        name: str,
        make: Callable[[Entry | None], Artefact | None],
        *,
        cache: str | None = None,
        force: bool = False,
    ) -> Outcome:
        """Make the artefact and say what would become of it."""
        del cache
        current = self.stat(name)
        artefact = make(current)
        if artefact is None or (current and not force and is_same(current, artefact)):
            logs.log("INFO", f"dry run: {name} is up to date, or has nothing to be made from")
            return "fresh" if current else "absent"
        size = len(artefact.data)
        logs.log("INFO", f"dry run: would write {name}", size=size, replaces=current is not None)
        return "written"

    def read(self, entry: Entry) -> bytes:
        """Read as ever, and say so."""
        logs.log("INFO", f"dry run: reads {entry.name}", size=entry.size)
        return super().read(entry)

    def write(
        self, name: str, artefact: Artefact, *, expected_generation: int, cache: str | None = None
    ) -> int:
        """Say what would be written."""
        del cache
        logs.log("INFO", f"dry run: would write {name}", size=len(artefact.data))
        return expected_generation

    def delete(self, entry: Entry) -> None:
        """Say what would be deleted."""
        logs.log("INFO", f"dry run: would delete {entry.name}")
