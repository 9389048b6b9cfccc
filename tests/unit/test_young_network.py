"""A new network has a model once three days are closed, and a newer one daily for two weeks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import network
import pytest
from velib_core.events.messages import TrainRequested
from velib_core.jobs import compact_daily, refresh_profiles
from velib_core.jobs.recipes.training import is_asked_for_by
from velib_core.timeline.bins import Day, day_after

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

FIRST = network.FIRST_DAY


class Sent:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[object] = []

    def publish(self, message: object) -> None:
        """Keep the message."""
        self.messages.append(message)


@pytest.mark.parametrize(
    ("closed", "asks"), [(1, False), (2, False), (3, True), (13, True), (14, False), (40, False)]
)
def test_the_newest_day_of_three_to_thirteen_asks(closed: int, asks: bool) -> None:
    days = [day_after(FIRST, n) for n in range(closed)]
    assert is_asked_for_by(days[-1], days) is asks


def test_days_that_the_network_missed_do_not_count() -> None:
    days = [FIRST, day_after(FIRST, 20), day_after(FIRST, 30)]
    assert is_asked_for_by(days[-1], days)


def test_an_older_day_that_changed_asks_for_nothing() -> None:
    days = [day_after(FIRST, n) for n in range(5)]
    assert [is_asked_for_by(day, days) for day in days] == [False] * 4 + [True]


def test_the_third_closed_day_asks_for_training_and_a_repeated_event_asks_again(
    lake: Lake, settings: Settings
) -> None:
    network.upload(lake, settings, network.bins_of_days(3))
    asked: list[int] = []
    for day in [day_after(FIRST, n) for n in range(3)]:
        compact_daily.run(network.of(lake, settings), day)
        asked.append(_asked(lake, settings, day))
    assert asked == [0, 0, 1]
    assert _asked(lake, settings, day_after(FIRST, 2)) == 1
    assert _asked(lake, settings, FIRST) == 0


def _asked(lake: Lake, settings: Settings, day: Day) -> int:
    sent = Sent()
    refresh_profiles.run(network.of(lake, settings, sent), day)
    assert all(message == TrainRequested() for message in sent.messages)
    return len(sent.messages)
