"""A lake as of one moment, and what reconciling the whole past asks of the store."""

from __future__ import annotations

import collections
import json
from typing import TYPE_CHECKING, Any

import network
import pytest
from present import present
from velib_core.events.messages import ReplayRequested
from velib_core.jobs import compact_daily, reconcile
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Events, Perf, Profile
from velib_core.lake.layout import Layout
from velib_core.lake.listed import ListedLake
from velib_core.model import registry
from velib_core.timeline.bins import HorizonMinutes, day_after
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

NAMES = [
    "daily/compact_2025-11-01.parquet",
    "daily/compact_2025-11-02.parquet",
    "models/h15/latest.json",
    "models/h15/20251128-235500Z-1f2e3d4c/version.json",
    "models/h60/20251128-235500Z-1f2e3d4c/version.json",
    "models2/other.json",
    "bronze/date=2025-11-01/hour=08/2025-11-01T08-05.parquet",
]
PREFIXES = ["daily/", "daily/compact_2025-11-02", "models/", "models/h15/", "models/h15/2025", ""]
PREFIXES += ["models", "bronze/", "bronze/date=2025-11-01/", "daily/compact_2026", "models2/"]
FOLDERS = ["daily/", "models/"]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    for name in NAMES:
        network.put(lake, name, json.dumps({"name": name}).encode())
    return lake


@pytest.mark.parametrize("prefix", PREFIXES)
def test_it_answers_as_the_lake_does(filled: Lake, prefix: Any) -> None:
    listed = ListedLake(filled, FOLDERS)
    assert list(listed.entries(prefix)) == list(filled.entries(prefix))
    for name in (*NAMES, f"{prefix}none"):
        assert listed.stat(name) == filled.stat(name)
    if prefix.endswith("/"):
        assert listed.folders(prefix) == filled.folders(prefix)
    assert listed.fetch_json(NAMES[2]) == {"name": NAMES[2]}


def test_it_answers_as_of_the_moment_when_it_was_first_asked(filled: Lake) -> None:
    listed = ListedLake(filled, FOLDERS)
    before = list(listed.entries("daily/"))
    network.put(filled, "daily/compact_2025-11-03.parquet", b"later")
    filled.delete(present(filled.stat(NAMES[0])))
    assert list(listed.entries("daily/")) == before
    assert listed.stat(NAMES[0]) == before[0]


class CountingLake(Lake):
    """A lake that counts what is asked of the store."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.bucket)
        self.asked: collections.Counter[Any] = collections.Counter()

    def stat(self, name: Any) -> Entry | None:
        self.asked["stat"] += 1
        return super().stat(name)

    def entries(self, *span: Any) -> Iterator[Any]:
        self.asked["list"] += 1
        for entry in super().entries(*span):
            self.asked["listed", entry.name.partition("/")[0]] += 1
            yield entry

    def folders(self, prefix: Any) -> list[str]:
        self.asked["list"] += 1
        return super().folders(prefix)

    def read(self, entry: Any) -> bytes:
        self.asked["read", entry.name] += 1
        return super().read(entry)


def live_through(lake: Lake, settings: Settings, days: int) -> None:
    """Leave something of every kind for each day; reconciling does not read it."""
    layout = Layout(settings)
    network.upload(lake, settings, network.bins_of_days(days, every=144))
    for day in (day_after(network.FIRST_DAY, n) for n in range(days)):
        compact_daily.run(network.of(lake, settings), day)
        for key in (Events(day), Perf(day), Profile(day)):
            network.put(lake, layout.name(key), b"of a day")
        network.put(lake, f"{layout.forecast_log_day(day)}page", b"of a day")


def asked(lake: Lake, settings: Settings, request: ReplayRequested | None = None) -> Any:
    counting = CountingLake(lake)
    reconcile.plan(network.of(counting, settings), request or ReplayRequested())
    return counting.asked


def test_reconcile_lists_as_often_however_many_days_there_are(
    lake: Lake, settings: Settings
) -> None:
    live_through(lake, settings, 2)
    short = asked(lake, settings)
    live_through(lake, settings, 9)
    longer = asked(lake, settings)
    assert longer["list"] == short["list"]
    assert longer["stat"] == short["stat"]


def test_an_hourly_run_costs_the_same_however_old_the_lake_is(
    lake: Lake, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the derived folders, a few objects a day: they are listed a thousand a call."""
    clock = tmp_path / "clock"
    monkeypatch.setenv(SIMULATED_CLOCK, str(clock))

    def used(days: int, hour: int) -> tuple[int, int, dict[str, int]]:
        clock.write_text(f"{day_after(network.FIRST_DAY, days)}T{hour:02}:17:00+00:00")
        found = asked(lake, settings, ReplayRequested(scheduled=True))
        by_day = {folder: found["listed", folder] for folder in ("bronze", "ledger")}
        return found["list"], found["stat"], by_day

    live_through(lake, settings, 5)
    young = used(5, hour=4)
    live_through(lake, settings, 50)
    assert used(50, hour=4) == young
    assert used(50, hour=3)[2]["ledger"] == 50, "once a day every day is looked at"


def test_reconcile_reads_the_record_of_a_model_once_however_many_days_there_are(
    lake: Lake, settings: Settings
) -> None:
    live_through(lake, settings, 5)
    horizon = HorizonMinutes(15)
    for content in (b"one", b"two", b"three"):
        files = {"model.ubj": content}
        folder = registry.folder_name("20251029-235500Z", files)
        about = {"end_date": "2025-10-29", "horizon_bins": 3}
        registry.register(lake, Layout(settings), horizon, folder, files, about, "mark")
    reads = {key: count for key, count in asked(lake, settings).items() if key[0] == "read"}
    records = [name for _, name in reads if name.endswith("version.json")]
    assert len(records) == 3
    assert {reads["read", name] for name in records} == {1}
