"""A mirrored lake: the plain files that a replay leaves, read like the bucket they came from."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NoReturn

import click
from velib_core import lake as store
from velib_core.environment import SettingsError, as_network, as_prefix
from velib_core.lake import Entry, Lake, ObjectMissingError
from velib_core.layout import Layout
from velib_core.provenance import Making
from velib_core.settings import Settings, bucket_and_folder

from velib_local.chain import RECORDS
from velib_local.function_specs import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MIRROR = "gs://mirror"
"""The root of a mirrored lake: its paths are the names in a bucket of this name."""


class ReadOnlyLakeError(RuntimeError):
    """A mirrored lake was asked to change."""


class FolderLake(Lake):
    """The objects below a folder; names are paths. It is read and never written."""

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
        return Entry(name, path.stat().st_mtime_ns, size, store.crc32c(path.read_bytes()), None)

    def entries(
        self, prefix: str, start: str | None = None, stop: str | None = None
    ) -> Iterator[Entry]:
        """Yield the files below a prefix in order of name; loose files are no objects."""
        return store.within(self._files(prefix), start, stop)

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

    def makings(self, prefix: str) -> Iterator[Making]:
        """Yield how each object below a prefix came about, as the run recorded it."""
        records = self._folder / RECORDS / "makings.json"
        for item in json.loads(records.read_text("utf-8")) if records.exists() else []:
            if item["name"].startswith(prefix):
                yield Making(**item)

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

    def write(self, name: str, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise ReadOnlyLakeError(f"{name}: a mirrored lake is read only")

    def delete(self, entry: Entry) -> NoReturn:
        """Refuse."""
        raise ReadOnlyLakeError(f"{entry.name}: a mirrored lake is read only")


def copy_objects(source: Lake, target: Lake) -> int:
    """Copy every object with its fingerprint into an empty lake; return how many."""
    entries = list(source.entries(""))
    for entry in entries:
        kind = store.PARQUET if entry.name.endswith(".parquet") else store.JSON
        artefact = store.Artefact(source.read(entry), kind, entry.fingerprint or "")
        target.write(entry.name, artefact, expected_generation=0)
    return len(entries)


def deployed_settings(
    environ: Mapping[str, str],
    bucket: str,
    project: str | None = None,
    file: Path | None = None,
) -> Settings:
    """Return the settings of the network that lives in ``gs://BUCKET[/FOLDER]``.

    They are those of the file that it was deployed with, and else of the environment. A network
    is called like its folder, as deploy.sh has it, unless VELIB_NETWORK says otherwise. Raises
    `SettingsError` where the bucket is none, `FunctionSpecError` where the file is wrong.
    """
    root = as_prefix("--bucket", bucket)
    env = {**environ, **(read_settings(file) if file else {}), "GCS_BUCKET_ROOT": root}
    if project:
        env["GOOGLE_CLOUD_PROJECT"] = project
    with contextlib.suppress(SettingsError):
        env.setdefault("VELIB_NETWORK", as_network("--bucket", bucket_and_folder(root)[1]))
    return Settings.from_env(env)


def open_lake(
    bucket: str | None,
    folder: Path | None,
    project: str | None = None,
    file: Path | None = None,
) -> tuple[Lake, Settings]:
    """Open a deployed lake or a mirrored one; exactly one of the two is to be given.

    Raises ``click.UsageError`` where it is not, or where the folder holds no lake, and
    `SettingsError` where the bucket is none.
    """
    if (bucket is None) == (folder is None):
        raise click.UsageError("give either --bucket gs://BUCKET[/FOLDER] or --dir FOLDER")
    if folder is not None:
        settings = Settings.from_env({"GCS_BUCKET_ROOT": MIRROR})
        if not any((folder / place).is_dir() for place in Layout(settings).notified.values()):
            raise click.UsageError(f"{folder} holds no objects; `velib demo` or replay leaves some")
        return FolderLake(folder), settings
    settings = deployed_settings(os.environ, bucket or "", project, file)
    return store.connect(settings), settings
