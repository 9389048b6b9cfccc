"""A lake that is read: what every kind of lake answers, and the network that it belongs to."""

from __future__ import annotations

import dataclasses
import functools
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from velib_core.errors import PermanentError
from velib_core.lake.artefact import json_value
from velib_core.lake.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from velib_core.lake.lineage import LineageRecord
    from velib_core.settings.network import Settings


class ObjectMissingError(PermanentError):
    """An object that was asked for is not there."""


class UnreadableObjectError(PermanentError):
    """An object whose bytes nobody gets: it is not downloaded.

    It is larger than what it is taken for can be, or somebody wrote it with an encryption key of
    their own; the store then returns neither its bytes nor its checksum.
    """


MAX_DOCUMENT_BYTES = 64 << 20
"""Of a JSON document; the forecast of 20,000 stations has less than 8 MiB."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One live object: its name, generation, size in bytes, CRC32C (base64) and fingerprint."""

    name: str
    generation: int
    size: int
    crc32c: str
    fingerprint: str | None


class ReadableLake(Protocol):
    """The objects of a bucket, a folder or a listing, as far as they can be read."""

    @abstractmethod
    def stat(self, name: str) -> Entry | None:
        """Return an object's entry, or ``None`` where there is none."""

    @abstractmethod
    def entries(
        self,
        prefix: str,
        start: str | None = None,
        stop: str | None = None,
        page: int | None = None,
    ) -> Iterator[Entry]:
        """Yield the objects whose names start with a prefix, in order of name.

        Of these only those from ``start`` on and before ``stop``, where they are given. Whoever
        may stop early asks for few at a time: ``page``.
        """

    @abstractmethod
    def folders(self, prefix: str) -> list[str]:
        """Return the names one level below a prefix that ends in ``/``, each ending in ``/``."""

    @abstractmethod
    def lineage_records(self, prefix: str) -> Iterator[LineageRecord]:
        """Yield how each object below a prefix came about, in order of name."""

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """Return the bytes of exactly the generation that was listed."""

    def read_up_to(self, entry: Entry, most: int) -> bytes:
        """Return the bytes of an object that has at most so many.

        Raises `UnreadableObjectError` for a larger one.
        """
        if entry.size > most:
            raise UnreadableObjectError(f"{entry.name}: {entry.size} bytes, at most {most}")
        return self.read(entry)

    def fetch(self, name: str) -> tuple[Entry, bytes]:
        """Return the live object of a name; raise `ObjectMissingError` where there is none."""
        entry = self.stat(name)
        if entry is None:
            raise ObjectMissingError(f"{name} does not exist")
        return entry, self.read(entry)

    def fetch_json(self, name: str, most: int = MAX_DOCUMENT_BYTES) -> Any:  # noqa: ANN401 -- JSON is any value
        """Return a JSON object's value; raise `ObjectMissingError` or `PermanentError`.

        One of more bytes than ``most`` is not read.
        """
        entry = self.stat(name)
        if entry is None:
            raise ObjectMissingError(f"{name} does not exist")
        try:
            return json_value(self.read_up_to(entry, most))
        except (ValueError, RecursionError) as error:
            raise PermanentError(f"{name} is not JSON: {error}") from error


@dataclasses.dataclass(frozen=True)
class ReadableNetwork:
    """One network, to be looked at: its settings and its lake."""

    settings: Settings
    lake: ReadableLake

    @functools.cached_property
    def layout(self) -> Layout:
        """The names of the network's objects."""
        return Layout(self.settings)


def within(entries: Iterable[Entry], start: str | None, stop: str | None) -> Iterator[Entry]:
    """Yield the entries whose names are from ``start`` on and before ``stop``, where given."""
    for entry in entries:
        if (start is None or start <= entry.name) and (stop is None or entry.name < stop):
            yield entry
