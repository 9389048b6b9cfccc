"""The intro page is written once a snapshot, by the last of the documents that it waits for."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import network
import pytest
from velib_core.jobs import (
    build_data_freshness,
    build_monitoring_intro,
    build_network_overview,
    build_serving_forecast,
)
from velib_core.timeline.bins import Bin, first_bin

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

START = first_bin(network.FIRST_DAY)

FOLLOWERS: dict[str, Callable[[Network, Bin], object]] = {
    "overview": lambda on, bin_: build_network_overview.run(
        on, build_network_overview.WarmState(), bin_
    ),
    "freshness": build_data_freshness.run,
    "serving": lambda on, bin_: build_serving_forecast.run(
        on, build_serving_forecast.WarmState(), bin_
    ),
}


@pytest.fixture
def on(lake: Lake, settings: Settings) -> Network:
    return network.of(lake, settings)


def written(on: Any, bin_: Bin, names: Any) -> list[int]:
    """Return how many objects the page wrote after each follower of a snapshot."""
    network.upload(on.lake, on.settings, [bin_])
    counts = []
    for name in names:
        FOLLOWERS[name](on, bin_)
        outputs = build_monitoring_intro.run(on, build_monitoring_intro.WarmState()).outputs
        counts.append(sum(outcome == "written" for outcome in outputs.values()))
    return counts


@pytest.mark.parametrize("order", list(itertools.permutations(FOLLOWERS)), ids="-".join)
def test_the_last_follower_of_a_snapshot_makes_the_page(on: Network, order: Any) -> None:
    written(on, START, FOLLOWERS)
    for n in (1, 2):
        assert written(on, Bin(START + n), order) == [0, 0, 2]


@pytest.mark.parametrize("dead", FOLLOWERS)
def test_a_follower_that_died_is_not_waited_for(on: Network, dead: Any) -> None:
    written(on, START, FOLLOWERS)
    alive = [name for name in FOLLOWERS if name != dead]
    assert written(on, Bin(START + 1), alive) == [0, 0]
    assert written(on, Bin(START + 2), alive) == [2, 2]  # the first finds that one has died
    assert written(on, Bin(START + 3), alive) == [0, 2]


def test_a_follower_that_is_always_a_snapshot_late_still_has_a_page_of_each(on: Network) -> None:
    written(on, START, FOLLOWERS)
    written(on, Bin(START + 1), ["overview", "freshness"])
    network.upload(on.lake, on.settings, [Bin(START + 2)])
    FOLLOWERS["overview"](on, Bin(START + 2))
    assert written(on, Bin(START + 2), ["freshness", "serving"])[-1] == 2


def test_a_page_that_is_asked_for_by_force_waits_for_nobody(on: Network) -> None:
    written(on, START, FOLLOWERS)
    written(on, Bin(START + 1), ["overview"])
    outputs = build_monitoring_intro.run(on, build_monitoring_intro.WarmState(), force=True).outputs
    assert "written" in outputs.values()
