import datetime as dt

import network
import pytest
from velib_core.events.messages import DayClosed
from velib_core.jobs import close_day, compact_daily
from velib_core.timeline.bins import Bin, Day, day_after, first_bin

DAY = network.FIRST_DAY


def at(day: Day, n: int = 0) -> Bin:
    return Bin(first_bin(day) + n)


@pytest.fixture
def publisher():
    return network.PublisherLog()


def test_the_first_snapshot_of_a_day_closes_the_one_before(lake, settings, publisher):
    newest = at(day_after(DAY))
    network.upload(lake, settings, [at(DAY), newest])
    close_day.run(network.of(lake, settings, publisher), newest)
    assert publisher.messages == [DayClosed(DAY)]


def test_a_snapshot_of_the_day_under_way_closes_nothing(lake, settings, publisher):
    network.upload(lake, settings, [at(DAY), at(DAY, 1)])
    close_day.run(network.of(lake, settings, publisher), at(DAY, 1))
    assert publisher.messages == []


def test_days_that_an_outage_left_open_are_closed_after_it(lake, settings, publisher):
    later = day_after(DAY, 5)
    network.upload(lake, settings, [at(DAY), at(day_after(DAY, 2)), at(later)])
    close_day.run(network.of(lake, settings, publisher), at(later))
    assert publisher.messages == [DayClosed(DAY), DayClosed(day_after(DAY, 2))]


def test_a_late_snapshot_closes_its_day_again(lake, settings, publisher):
    newest = at(day_after(DAY))
    network.upload(lake, settings, [at(DAY), newest])
    compact_daily.run(network.of(lake, settings), DAY)
    close_day.run(network.of(lake, settings, publisher), newest)
    assert publisher.messages == []
    network.upload(lake, settings, [at(DAY, 7)])
    close_day.run(network.of(lake, settings, publisher), at(DAY, 7))
    assert publisher.messages == [DayClosed(DAY)]


def test_a_folder_of_the_future_closes_no_day(lake, settings, publisher):
    today = Day(dt.datetime.now(dt.UTC).date())
    network.upload(lake, settings, [at(today), at(day_after(today, 9))])
    close_day.run(network.of(lake, settings, publisher), at(today))
    assert publisher.messages == []
