"""What a live snapshot costs: requests to the object store, counted function by function."""

from __future__ import annotations

import collections
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import network
import pytest
from panels import make_panel
from present import present
from velib_core.jobs import (
    build_data_freshness,
    build_datasets,
    build_monitoring_intro,
    build_network_overview,
    build_serving_forecast,
    close_day,
    compact_daily,
    refresh_profiles,
)
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.pack import to_blobs
from velib_core.model.training import TrainingOptions, train_on
from velib_core.tables.history import SnapshotReader
from velib_core.timeline.bins import BINS_PER_DAY, Bin, day_after, day_of, first_bin, horizon_bins
from velib_deploy.function_specs import load_specs

if TYPE_CHECKING:
    from velib_core.events.job import JobResult
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

TODAY = day_after(network.FIRST_DAY, 2)
START = first_bin(TODAY)


class Cost(NamedTuple):
    """The requests for a snapshot: class A are lists and writes, class B single objects."""

    lists: int
    writes: int
    gets: int


BUDGET = {
    "close_day": Cost(0, 0, 0),
    "build_data_freshness": Cost(1, 3, 4),
    "build_network_overview": Cost(3, 6, 1),
    "build_serving_forecast": Cost(1, 10, 18),
    "build_monitoring_intro": Cost(0, 2, 15),
}
"""With two horizons, in the order in which they run here: the intro comes last. What makes a
snapshot cheaper lowers the table with it."""


class Requests:
    """Counts what a client asks the object store; of lists, also how many objects a page has."""

    def __init__(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: list[str] = []
        self.writes: list[str] = []
        self.gets: list[str] = []
        self.pages: dict[str, int] = {}
        session = lake.bucket.client._http
        ask = session.request

        def request(method: Any, url: Any, *args: Any, data: Any = None, **kwargs: Any) -> Any:
            if method == "GET":
                listed = re.search(r"/o\?.*prefix=([\w.%-]*)", url)
                if listed:
                    asked = re.search(r"maxResults=(\d+)", url)
                    self.pages[listed[1]] = int(asked[1]) if asked else 1000
                (self.lists if listed else self.gets).append(listed[1] if listed else url)
            else:
                assert method == "POST", f"{method} {url} is in no column of the table"
                self.writes.append(present(re.search(rb'"name": "([^"]+)"', data))[1].decode())
            return ask(method, url, *args, data=data, **kwargs)

        monkeypatch.setattr(session, "request", request)

    def clear(self) -> None:
        for made in (self.lists, self.writes, self.gets):
            made.clear()


class Followers:
    """What follows a snapshot, in warm instances."""

    def __init__(self, lake: Lake, settings: Settings) -> None:
        self.on = network.of(lake, settings)
        self.closing = close_day.WarmState()
        self.overview = build_network_overview.WarmState()
        self.serving = build_serving_forecast.WarmState()
        self.intro = build_monitoring_intro.WarmState()
        self.freshness = SnapshotReader(kept=1)

    def run(self, name: str, bin_: Bin) -> JobResult:
        match name:
            case "close_day":
                return close_day.run(self.on, self.closing, bin_)
            case "build_data_freshness":
                return build_data_freshness.run(self.on, bin_, reader=self.freshness)
            case "build_network_overview":
                return build_network_overview.run(self.on, self.overview, bin_)
            case "build_serving_forecast":
                return build_serving_forecast.run(self.on, self.serving, bin_)
            case "build_monitoring_intro":
                return build_monitoring_intro.run(self.on, self.intro)
        raise AssertionError(name)


@pytest.fixture
def live(lake: Lake, settings: Settings) -> Followers:
    """What follows a day that has begun, after two closed days, with a model of each horizon."""
    panel = make_panel(days=3, stations=network.STATIONS)
    days = [day_after(day_of(panel.start), n) for n in range(2)]
    options = TrainingOptions(max_rows=500, rounds=2, threads=1)
    for horizon in settings.horizons:
        ahead = horizon_bins(horizon)
        pack = train_on(panel, panel.stations, days, ahead, settings.tz, options).pack
        blobs = to_blobs(pack)
        folder = registry.folder_name("20251029-235500Z", blobs)
        about = {"horizon_bins": pack.horizon_bins, "end_date": "2025-10-29"}
        registry.register(lake, Layout(settings), horizon, folder, blobs, about, "test")
    followers = Followers(lake, settings)
    network.upload(lake, settings, network.bins_of_days(2))
    for day in (network.FIRST_DAY, day_after(network.FIRST_DAY)):
        compact_daily.run(followers.on, day)
        refresh_profiles.run(followers.on, day)
        build_datasets.run(followers.on, day)
        build_network_overview.sum_day(followers.on, day)
    for n in (1, 2):
        network.upload(lake, settings, [Bin(START + n)])
        for name in BUDGET:
            followers.run(name, Bin(START + n))
    return followers


def test_what_follows_a_snapshot_stays_in_its_budget(
    live: Followers, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = Bin(START + 3)
    network.upload(lake, settings, [bin_])
    requests = Requests(lake, monkeypatch)
    used = {}
    for name in BUDGET:
        requests.clear()
        live.run(name, bin_)
        assert sum(prefix.startswith("bronze") for prefix in requests.lists) <= 1
        repeated = collections.Counter(requests.writes) - collections.Counter(set(requests.writes))
        assert not repeated, f"{name} writes an object twice"
        used[name] = Cost(len(requests.lists), len(requests.writes), len(requests.gets))
    assert used == BUDGET


def started_by(name: str, layout: Layout) -> list[str]:
    """Return the functions that the notification of an object starts."""
    topics = {topic for topic, prefix in layout.notified.items() if name.startswith(prefix)}
    return [job for job, spec in load_specs().items() if topics & set(spec.topics)]


def test_a_snapshot_starts_each_follower_once_and_the_page_three_times(
    live: Followers, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = Bin(START + 3)
    network.upload(lake, settings, [bin_])
    requests = Requests(lake, monkeypatch)
    for name in BUDGET:
        live.run(name, bin_)
    layout = live.on.layout
    written = [layout.name(Snapshot(bin_)), *requests.writes]
    started = collections.Counter(job for name in written for job in started_by(name, layout))
    # With ingest, which its schedule starts, eight.
    assert started == dict.fromkeys(BUDGET, 1) | {"build_monitoring_intro": 3}


def test_the_same_snapshot_again_writes_nothing(
    live: Followers, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(lake, monkeypatch)
    for name in BUDGET:
        live.run(name, Bin(START + 2))
    assert not requests.writes


FOLLOWERS = ("build_data_freshness", "build_network_overview", "build_serving_forecast")


def test_an_overtaken_snapshot_costs_a_warm_instance_one_look(
    live: Followers, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(lake, monkeypatch)
    for name in FOLLOWERS:
        requests.clear()
        assert live.run(name, first_bin(network.FIRST_DAY)).counts == {"overtaken": 1}
        assert (requests.lists, requests.writes, len(requests.gets)) == ([], [], 1)


def test_an_overtaken_snapshot_costs_one_small_page_however_much_follows(
    live: Followers, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(lake, monkeypatch)
    for name in FOLLOWERS:
        requests.clear()
        cold = Followers(lake, settings)
        assert cold.run(name, first_bin(network.FIRST_DAY)).counts == {"overtaken": 1}
        assert [prefix for prefix in requests.lists if prefix.startswith("bronze")] == ["bronze%2F"]
        assert requests.pages["bronze%2F"] <= BINS_PER_DAY + 1
        assert not requests.writes


def test_a_network_without_a_profile_looks_for_one_once_an_hour(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    on, warm = network.of(lake, settings), build_serving_forecast.WarmState()
    requests = Requests(lake, monkeypatch)
    for n in range(13):
        network.upload(lake, settings, [Bin(START + n)])
        build_serving_forecast.run(on, warm, Bin(START + n))
    assert sum(prefix.startswith("profiles") for prefix in requests.lists) == 2
