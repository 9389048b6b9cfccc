"""Each kind of damage at the newest object of each folder, and strays in it: every job goes on.

Before the damage there is news for every job: late snapshots of a day, and one of now.
A job that needs the damaged object may end with an error that is acknowledged or retried; it never
ends with another, and what it names is the object. A job that reads nothing of the folder works as
ever.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import hostile
import job_table
import network
import pyarrow as pa
import pytest
from job_table import JOBS, restore
from velib_core.errors import PermanentError, TransientError
from velib_core.jobs import reconcile
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Monitoring
from velib_core.lake.layout import MAX_NAME_BYTES
from velib_deploy.function_specs import load_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

FOLDERS = {
    "bronze": "bronze/",
    "daily": "daily/",
    "monthly": "monthly/",
    "profiles": "profiles/profile",
    "calibrations": "profiles/h60/",
    "events": "exports/events_",
    "evaluations": "exports/perf_",
    "forecast log": "ledger/",
    "pointers": "models/h60/latest",
    "models": "models/h60/2",
    "forecasts": "serving/forecast/",
    "documents": "monitoring/network/overview/latest/kpis",
    "sums": "monitoring/network/overview/days/",
    "manifests": "monitoring/data/health/latest/manifest",
}
"""Where the newest object is damaged, by what lies there."""

TABLES = {"bronze", "daily", "monthly", "events", "evaluations", "forecast log"}
"""Folders of Parquet files."""

BYTES = {
    "nothing": b"",
    "text": b"<!doctype html>",
    "no UTF-8": hostile.NO_UTF8,
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "a wrong shape": b'{"a": 1}',
    "another table": hostile.parquet_bytes(pa.table({"a": [1, 2]})),
    "a long number": b"1" + b"0" * 5000,
}
"""What the object then holds; half of what it held is a kind of its own."""

TRUNCATED = "half of it"
ENCRYPTED = "encrypted with a key of somebody else"
SAMPLE = {
    ("bronze", "another table"),
    ("pointers", "nested 100,000 deep"),
    ("events", "no time"),
    ("profiles", "a zone that is none"),
    ("documents", "numbers of 400 digits"),
    ("bronze", ENCRYPTED),
    ("daily", "pages that are not what their checksums say"),
}
"""What the default suite tries."""

STRAYS = ("x", "notes.txt", "é\u202e.json", "deep/er/y.parquet", "\x1b[31m.json")


class Encrypted(Lake):
    """A lake that returns neither the bytes nor the checksum of one object."""

    def __init__(self, lake: Lake, entry: Entry) -> None:
        super().__init__(lake.bucket)
        self._locked = entry

    def _as_listed(self, entry: Entry) -> Entry:
        return dataclasses.replace(entry, crc32c="") if entry == self._locked else entry

    def stat(self, name: str) -> Entry | None:
        entry = super().stat(name)
        return self._as_listed(entry) if entry else None

    def entries(self, *span: Any, **page: Any) -> Iterator[Entry]:
        return map(self._as_listed, super().entries(*span, **page))


def kinds_of(folder: str) -> dict[str, Callable[[bytes], bytes]]:
    """Return the changes of an object that only objects of its folder can have."""
    return {**hostile.VALUES.get(folder, {}), **(hostile.FILES if folder in TABLES else {})}


@pytest.fixture
def hurt(complete: Lake, made: Any) -> Iterator[Lake]:
    """The complete lake, which is complete again afterwards."""
    yield complete
    restore(complete, made["whole"])


def strays(lake: Lake, prefix: str) -> None:
    """Put objects of foreign names next to those of a folder, one as long as a name may be."""
    folder = prefix[: prefix.rindex("/") + 1]
    names = [folder + stray for stray in STRAYS]
    names.append(folder + "n" * (MAX_NAME_BYTES - len(folder)))
    for name in names:
        network.put(lake, name, b"junk")


def readers_of(prefix: str) -> set[str]:
    """Return the functions that may read below a prefix."""
    return {
        name
        for name, spec in load_specs().items()
        if any(
            prefix.startswith(f"{folder}/") or folder.startswith(prefix.rstrip("/"))
            for folder in (*spec.access.read, *spec.access.create)
        )
    }


@pytest.mark.parametrize(
    ("folder", "damage"),
    [
        pytest.param(folder, damage, marks=[] if (folder, damage) in SAMPLE else pytest.mark.slow)
        for folder in FOLDERS
        for damage in (*BYTES, TRUNCATED, ENCRYPTED, *kinds_of(folder))
    ],
)
def test_a_damaged_object_and_strays_cost_nothing_but_what_is_made_of_them(
    hurt: Lake, quick: Settings, folder: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = FOLDERS[folder]
    if prefix.startswith("monitoring/"):
        for job in JOBS.values():
            if isinstance(job.seal, Monitoring):
                job.work(network.of(hurt, quick))
    for happens in (job_table.snapshots_come, job_table.a_snapshot_comes):
        happens(hurt, quick)
    newest = max(
        (entry for entry in hurt.entries("") if entry.name.startswith(prefix)),
        key=lambda entry: entry.name,
    )
    held = hurt.read(newest)
    lake: Lake = Encrypted(hurt, newest)
    if damage != ENCRYPTED:
        data = held[: len(held) // 2] if damage == TRUNCATED else BYTES.get(damage)
        network.put(hurt, newest.name, kinds_of(folder)[damage](held) if data is None else data)
        lake = hurt
    strays(hurt, prefix)
    failed: dict[str, Exception] = {}
    for name, job in JOBS.items():
        if name == "train_model" and folder not in {"daily", "models", "pointers"}:
            continue  # two seconds that read nothing of the folder
        try:
            job.work(network.of(lake, dataclasses.replace(quick, **job.changes)))
        except (PermanentError, TransientError) as error:
            failed[name.partition(" ")[0]] = error
    assert set(failed) <= readers_of(prefix), failed
    assert not isinstance(failed.get("reconcile"), reconcile.StagesFailedError), failed
    said = capsys.readouterr().err + "".join(map(str, failed.values()))
    with capsys.disabled():
        named = "named" if newest.name.rpartition("/")[2] in said else "made again"
        sys.stdout.write(f"\n{newest.name} is {damage}: {named}; ended early: {sorted(failed)}\n")
