"""Which snapshot is the newest: asked for in general, and of one that arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import network
import pytest
from present import present
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables.history import SnapshotReader, recent_entries
from velib_core.tables.snapshots_index import (
    is_overtaken,
    newest_snapshot,
    observed_days,
    still_newest,
)
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    bin_start,
    day_after,
    day_of,
    first_bin,
    today,
)
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

START = first_bin(network.FIRST_DAY)
BINS = [Bin(START + n) for n in (0, 5, 13, BINS_PER_DAY - 1, BINS_PER_DAY, 3 * BINS_PER_DAY + 7)]
FUTURE = first_bin(day_after(today(), 2))


@pytest.fixture
def kept(lake: Lake, settings: Settings) -> Lake:
    """A lake of few snapshots in four days, one of the future, and names that are foreign."""
    layout = Layout(settings)
    for bin_ in [*BINS, FUTURE]:
        network.put(lake, layout.name(Snapshot(bin_)), network.snapshot_object(bin_))
    for day in (network.FIRST_DAY, day_after(network.FIRST_DAY, 3)):
        network.put(lake, f"{layout.bronze_day(day)}hour=23/notes.txt", b"")
    network.put(lake, f"{layout.bronze}/zzz", b"")
    return lake


@pytest.mark.parametrize("since", [None, *BINS, Bin(BINS[-1] + 1), FUTURE])
def test_the_newest_is_the_same_wherever_one_looks_from(
    kept: Lake, settings: Settings, since: Any
) -> None:
    newest = present(newest_snapshot(kept, Layout(settings), since))
    assert newest.bin == BINS[-1]
    assert newest.entry.name == Layout(settings).name(Snapshot(BINS[-1]))


@pytest.mark.parametrize("arrived", [*BINS, Bin(BINS[-1] + 1), Bin(BINS[-1] - 1), FUTURE])
def test_only_the_newest_of_those_that_arrive_is_looked_at(
    kept: Lake, settings: Settings, arrived: Any
) -> None:
    found = still_newest(kept, Layout(settings), arrived, SnapshotReader())
    assert (found is not None) == (arrived == BINS[-1])
    assert present(still_newest(kept, Layout(settings), None, SnapshotReader())).bin == BINS[-1]


def test_nothing_is_newest_where_nothing_is(lake: Lake, settings: Settings) -> None:
    assert newest_snapshot(lake, Layout(settings)) is None
    assert newest_snapshot(lake, Layout(settings), BINS[0]) is None
    assert still_newest(lake, Layout(settings), BINS[0], SnapshotReader()) is None


@pytest.mark.parametrize("newest", BINS)
@pytest.mark.parametrize("bins", [1, 9, BINS_PER_DAY, 2 * BINS_PER_DAY + 1])
def test_the_recent_ones_are_those_of_the_bins_before_and_no_others(
    kept: Lake, settings: Settings, newest: Any, bins: Any
) -> None:
    found = recent_entries(kept, Layout(settings), newest, bins)
    assert list(found) == [bin_ for bin_ in BINS if newest - bins < bin_ <= newest]


def test_what_is_later_than_a_few_minutes_from_now_is_never_newest_and_begins_no_day(
    kept: Lake, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = tmp_path / "clock"
    monkeypatch.setenv(SIMULATED_CLOCK, str(clock))
    layout = Layout(settings)
    for at in BINS:
        clock.write_text(bin_start(at).isoformat())
        assert present(newest_snapshot(kept, layout)).bin == max(
            bin_ for bin_ in BINS if bin_ <= at + 2
        )
        assert max(observed_days(kept, layout)) == day_of(Bin(at + 2))
        assert still_newest(kept, layout, Bin(at + 3), SnapshotReader()) is None


@pytest.mark.parametrize("damaged", [BINS[-1:], BINS[-2:], BINS])
def test_an_unreadable_snapshot_is_not_the_newest_and_holds_no_other_back(
    kept: Lake, settings: Settings, damaged: Any
) -> None:
    layout, reader = Layout(settings), SnapshotReader()
    for bin_ in damaged:
        network.put(kept, layout.name(Snapshot(bin_)), b"no snapshot")
    good = [bin_ for bin_ in BINS if bin_ not in damaged]
    newest = still_newest(kept, layout, None, reader)
    assert (newest.bin if newest else None) == (good[-1] if good else None)
    for arrived in BINS:
        found = still_newest(kept, layout, arrived, reader)
        assert (found is not None) == (arrived in good[-1:])


def test_a_newer_one_that_was_known_and_is_gone_holds_no_other_back(
    kept: Lake, settings: Settings
) -> None:
    layout, reader = Layout(settings), SnapshotReader()
    before, newest = BINS[-2:]
    assert not is_overtaken(kept, before, reader), "unknown"
    assert still_newest(kept, layout, before, reader) is None
    assert is_overtaken(kept, before, reader)
    assert not is_overtaken(kept, newest, reader)
    assert not is_overtaken(kept, None, reader)
    kept.delete(present(kept.stat(layout.name(Snapshot(newest)))))
    assert not is_overtaken(kept, before, reader)
    assert still_newest(kept, layout, before, reader) is not None
    assert still_newest(kept, layout, BINS[0], reader) is None


def test_a_reader_loses_no_snapshot_of_a_long_look_back(kept: Lake, settings: Settings) -> None:
    entries = recent_entries(kept, Layout(settings), BINS[-1], 10 * BINS_PER_DAY)
    reader = SnapshotReader(kept=1)
    assert len(entries) == len(BINS) > 1
    for _ in range(2):
        assert len(list(reader.tables(kept, entries))) == len(BINS)
