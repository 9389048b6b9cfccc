"""Objects on Google Cloud Storage: listings, reads, and atomic, generation-guarded writes.

Three facts carry the correctness of everything above:

* A write replaces a whole object, and only if the generation it expects is still the live one.
* An artefact carries in its metadata the *fingerprint* of what it was made from: the names and
  checksums of its inputs and the recipe. Equal fingerprints mean that making it again would give
  the same bytes, so duplicates cost one look, and what is stale can be found without clocks.
* `Lake.update` notes the live generation before any input is read and redoes the work when it lost
  the race, so the last write has seen every input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as api

from velib_core.errors import PermanentError, TransientError
from velib_core.lake import lineage, session
from velib_core.lake.artefact import (
    InputChangedError,
    RaceLostError,
    StoreError,
    crc32c,
    is_same,
)
from velib_core.lake.readable import Entry, ObjectMissingError, ReadableLake, UnreadableObjectError
from velib_core.timeline.bins import iso_z

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.api_core.page_iterator import HTTPIterator
    from google.cloud import storage

    from velib_core.lake.artefact import Artefact, Outcome
    from velib_core.lake.lineage import LineageRecord
    from velib_core.settings.network import Settings

MAX_READ_BYTES = 2 << 30
"""No object of ours is larger; what is, is refused before it is downloaded."""

RACES = 8
"""How often a lost race is run again before the event is given back to the platform."""

_INPUTS = "velib-inputs"


class Lake(ReadableLake):
    """The objects of one bucket."""

    def __init__(self, bucket: storage.Bucket) -> None:
        self.bucket = bucket

    def stat(self, name: str) -> Entry | None:
        """Return an object's entry, or ``None`` where there is none."""
        with _store_errors(name):
            blob = self.bucket.get_blob(name, **_limits())
            return _entry(blob) if blob is not None else None

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
        with _store_errors(prefix):
            yield from map(_entry, self._blobs(prefix, start, stop, page))

    def lineage_records(self, prefix: str) -> Iterator[LineageRecord]:
        """Yield how each object below a prefix came about, in order of name."""
        with _store_errors(prefix):
            for blob in self._blobs(prefix):
                note = blob.metadata or {}
                yield lineage.lineage_record(blob.name, iso_z(blob.updated), int(blob.size), note)

    def folders(self, prefix: str) -> list[str]:
        """Return the names one level below a prefix that ends in ``/``, each ending in ``/``."""
        with _store_errors(prefix):
            listing = self.bucket.list_blobs(prefix=prefix, delimiter="/", **_limits())
            for _page in _pages(listing):
                pass
            return sorted(listing.prefixes)

    def _blobs(
        self,
        prefix: str,
        start: str | None = None,
        stop: str | None = None,
        page: int | None = None,
    ) -> Iterator[storage.Blob]:
        """Yield what a listing returns; raise `StoreError` where it is not in order of name.

        A page that comes twice would never end and its objects would count twice.
        """
        last = ""
        listing = self.bucket.list_blobs(
            prefix=prefix, start_offset=start, end_offset=stop, page_size=page, **_limits()
        )
        for found in _pages(listing):
            for blob in found:
                if not (blob.name > last and blob.name.startswith(prefix)):
                    raise StoreError(f"{prefix}: the listing has {blob.name} after {last}")
                last = blob.name
                yield blob

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of exactly the generation that was listed, as its checksum has them.

        They are the stored ones: what claims to be compressed is not unpacked, whose size nobody
        knows. Raises `InputChangedError` where that generation is no longer live,
        `UnreadableObjectError` where it is larger than `MAX_READ_BYTES` or has no checksum, and
        `StoreError` where the store is not able to answer.
        """
        if entry.size > MAX_READ_BYTES:
            most = f"at most {MAX_READ_BYTES}"
            raise UnreadableObjectError(f"{entry.name}: {entry.size} bytes, {most}")
        if not entry.crc32c:
            raise UnreadableObjectError(f"{entry.name} is encrypted with a key of somebody else")
        blob = self.bucket.blob(entry.name, generation=entry.generation)
        try:
            with _store_errors(entry.name, ObjectMissingError):
                data: bytes = blob.download_as_bytes(raw_download=True, checksum=None, **_limits())
        except ObjectMissingError as error:
            raise InputChangedError(f"{entry.name} changed while it was being read") from error
        if crc32c(data) != entry.crc32c:
            raise StoreError(f"{entry.name}: {len(data)} bytes arrived that are not its content")
        return data

    def write(
        self, name: str, artefact: Artefact, *, expected_generation: int, cache: str | None = None
    ) -> int:
        """Replace an object if its live generation is still the expected one (0: none exists).

        Returns the new generation. Raises `google.api_core.exceptions.PreconditionFailed` where
        the race was lost: `Lake.update` is the caller that knows what to do then.
        """
        blob = self.bucket.blob(name)
        blob.metadata = {_INPUTS: artefact.fingerprint} | lineage.note()
        blob.cache_control = cache
        with _store_errors(name):
            blob.upload_from_string(
                artefact.data,
                content_type=artefact.content_type,
                if_generation_match=expected_generation,
                checksum="crc32c",
                **_limits(),
            )
            return int(blob.generation)

    def create(self, name: str, artefact: Artefact) -> Outcome:
        """Write an object that never changes, unless there is one of that name: it is the same."""
        try:
            self.write(name, artefact, expected_generation=0)
        except api.PreconditionFailed:
            return "fresh"
        return "written"

    def delete(self, entry: Entry) -> None:
        """Delete one generation of an object; nothing happens where it is gone or newer."""
        blob = self.bucket.blob(entry.name)
        try:
            with _store_errors(entry.name, ObjectMissingError):
                blob.delete(if_generation_match=entry.generation, **_limits())
        except (ObjectMissingError, api.PreconditionFailed):
            return

    def update(
        self,
        name: str,
        make: Callable[[Entry | None], Artefact | None],
        *,
        cache: str | None = None,
        force: bool = False,
    ) -> Outcome:
        """Bring one artefact up to date, guarded by its generation.

        Parameters
        ----------
        name
            The artefact's object.
        make
            Reads the inputs and returns the artefact, or ``None`` where there is nothing to make
            it from, or the live one (its entry is the argument) was made from the same inputs.
            Called again, with inputs to be read afresh, each time another writer came first.
        cache
            The Cache-Control header of the object.
        force
            Write even if unchanged, to retrigger downstream.

        Raises
        ------
        RaceLostError
            After `RACES` lost races, or inputs that changed while they were read.

        """
        for _ in range(RACES):
            current = self.stat(name)
            try:
                artefact = make(current)
            except InputChangedError:
                continue
            if artefact is None:
                return "fresh" if current else "absent"
            if current and not force and is_same(current, artefact):
                return "fresh"
            try:
                self.write(
                    name,
                    artefact,
                    expected_generation=current.generation if current else 0,
                    cache=cache,
                )
            except api.PreconditionFailed:
                continue
            return "written"
        raise RaceLostError(f"{name} or its inputs were replaced by others {RACES} times in a row")


def connect(settings: Settings) -> Lake:
    """Open the bucket of a deployment (or of the emulator that STORAGE_EMULATOR_HOST names)."""
    return Lake(session.open_client(settings).bucket(settings.bucket))


def _limits() -> dict[str, Any]:
    """Return how long a call may take, as the client's calls take it."""
    return {"timeout": session.SILENCE_S, "retry": session.retry()}


def _pages(listing: HTTPIterator) -> Iterator[Any]:
    """Yield the pages of a listing; raise `StoreError` where one leads back to itself."""
    tokens = {None}
    for page in listing.pages:
        yield page
        token = listing.next_page_token
        if token is not None and token in tokens:
            raise StoreError("the listing leads back to a page that was read")
        tokens.add(token)


def _entry(blob: storage.Blob) -> Entry:
    return Entry(
        name=blob.name,
        generation=int(blob.generation),
        size=int(blob.size),
        crc32c=blob.crc32c or "",
        fingerprint=(blob.metadata or {}).get(_INPUTS),
    )


class _store_errors:  # noqa: N801 -- used as a with-statement
    """Name the object in a failure and sort it into permanent and transient.

    Whatever else the client raises is transient: what it makes of an answer that is none is on no
    list. A refused permission is among that, because it is the deployment that is wrong then and
    the event must not be lost. So is a bucket that is missing (``missing``): only an object's
    own absence is a fact.
    """

    def __init__(self, name: str, missing: type[Exception] = StoreError) -> None:
        self._name, self._missing = name, missing

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        known = (api.PreconditionFailed, PermanentError, TransientError)
        if isinstance(error, known) or not isinstance(error, Exception):
            return
        if isinstance(error, api.NotFound):
            raise self._missing(f"{self._name} does not exist") from error
        # An error of the API states its status; others may have no text at all.
        said = str(error) if isinstance(error, api.GoogleAPIError) else repr(error)
        raise StoreError(f"{self._name}: {said:.300}") from error
