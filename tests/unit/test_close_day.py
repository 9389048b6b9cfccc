from __future__ import annotations

import dataclasses
import datetime as dt
import time
from typing import TYPE_CHECKING, Any

import network
import pytest
from network import PublisherLog
from velib_core.events.messages import DayClosed
from velib_core.jobs import close_day, compact_daily
from velib_core.timeline.bins import Bin, Day, day_after, first_bin

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY


def at(day: Day, n: int = 0) -> Bin:
    return Bin(first_bin(day) + n)


@pytest.fixture
def publisher() -> PublisherLog:
    return network.PublisherLog()


def test_the_first_snapshot_of_a_day_closes_the_one_before(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    newest = at(day_after(DAY))
    network.upload(lake, settings, [at(DAY), newest])
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), newest)
    assert publisher.messages == [DayClosed(DAY)]


def test_a_snapshot_of_the_day_under_way_closes_nothing(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    network.upload(lake, settings, [at(DAY), at(DAY, 1)])
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), at(DAY, 1))
    assert publisher.messages == []


def test_days_that_an_outage_left_open_are_closed_after_it(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    later = day_after(DAY, 5)
    network.upload(lake, settings, [at(DAY), at(day_after(DAY, 2)), at(later)])
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), at(later))
    assert publisher.messages == [DayClosed(DAY), DayClosed(day_after(DAY, 2))]


def test_a_late_snapshot_closes_its_day_again(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    newest = at(day_after(DAY))
    network.upload(lake, settings, [at(DAY), newest])
    compact_daily.run(network.of(lake, settings), DAY)
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), newest)
    assert publisher.messages == []
    network.upload(lake, settings, [at(DAY, 7)])
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), at(DAY, 7))
    assert publisher.messages == [DayClosed(DAY)]


def test_a_folder_of_the_future_closes_no_day(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    today = Day(dt.datetime.now(dt.UTC).date())
    network.upload(lake, settings, [at(today), at(day_after(today, 9))])
    close_day.run(network.of(lake, settings, publisher), close_day.WarmState(), at(today))
    assert publisher.messages == []


@pytest.fixture
def asked(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The prefixes that were listed."""
    found = []
    listed = lake.bucket.list_blobs

    def list_blobs(**options: Any) -> Any:
        found.append(options["prefix"])
        return listed(**options)

    monkeypatch.setattr(lake.bucket, "list_blobs", list_blobs)
    return found


def test_a_warm_instance_asks_the_store_once_a_day(
    lake: Lake, settings: Settings, publisher: PublisherLog, asked: Any
) -> None:
    warm = close_day.WarmState()
    bins = [at(DAY), *(at(day_after(DAY), n) for n in range(5))]
    network.upload(lake, settings, bins)
    for arrived in bins[1:]:
        close_day.run(network.of(lake, settings, publisher), warm, arrived)
    assert publisher.messages == [DayClosed(DAY)]
    assert asked == ["bronze/", "daily/"]


def test_a_burst_of_late_snapshots_closes_its_day_once(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    settings = dataclasses.replace(settings, late_data_wait_s=300)
    warm, newest = close_day.WarmState(), at(day_after(DAY))
    network.upload(lake, settings, [at(DAY), newest])
    close_day.run(network.of(lake, settings, publisher), warm, newest)
    compact_daily.run(network.of(lake, settings), DAY)
    publisher.messages.clear()
    warm.closed_at.clear()
    late = [at(DAY, n) for n in range(1, 9)]
    for arrived in late:
        network.upload(lake, settings, [arrived])
        close_day.run(network.of(lake, settings, publisher), warm, arrived)
    assert publisher.messages == [DayClosed(DAY)]


def test_a_year_of_copied_snapshots_asks_for_each_day_only(
    lake: Lake, settings: Settings, publisher: PublisherLog
) -> None:
    settings = dataclasses.replace(settings, late_data_wait_s=300)
    days = [day_after(DAY, n) for n in range(12)]
    network.upload(lake, settings, [at(days[-1], 50)])
    warm = close_day.WarmState()
    close_day.run(network.of(lake, settings, publisher), warm, at(days[-1], 50))
    for day in days[:-1]:
        for n in range(3):
            network.upload(lake, settings, [at(day, n)])
            close_day.run(network.of(lake, settings, publisher), warm, at(day, n))
    assert publisher.messages == [DayClosed(day) for day in days[:-1]]


def test_late_data_is_compacted_once_it_pauses(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.upload(lake, settings, [at(DAY), at(day_after(DAY))])
    compact_daily.run(network.of(lake, settings), DAY)
    late = [[at(DAY, 1)], [at(DAY, 2)], [], []]
    network.upload(lake, settings, [at(DAY, 3)])
    monkeypatch.setattr(time, "sleep", lambda _: network.upload(lake, settings, late.pop(0)))
    done = compact_daily.run_when_quiet(network.of(lake, settings), DAY)
    assert (len(late), done.counts["snapshots"]) == (1, 4)
    again = compact_daily.run_when_quiet(network.of(lake, settings), DAY)
    assert (len(late), list(again.outputs.values())) == (1, ["fresh"])
