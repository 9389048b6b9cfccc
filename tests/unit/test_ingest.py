from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import network
import pyarrow.parquet as pq
import pytest
from velib_core.feeds import http
from velib_core.feeds.http import FeedError, FeedUnavailableError
from velib_core.feeds.open_meteo import Weather
from velib_core.feeds.poll import Feeds
from velib_core.jobs import ingest
from velib_core.lake.bucket import Lake
from velib_core.tables import snapshot
from velib_core.timeline.bins import bin_of
from velib_core.timeline.clock import SIMULATED_CLOCK
from velib_local.simulation.feed_server import FeedServer
from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud.storage.bucket import Bucket
    from velib_core.settings.network import Settings

NOON = dt.datetime(2025, 11, 3, 12, 5, tzinfo=dt.UTC)
MILD = Weather(11.0, 0.5, 3.0)
IDS = ["36255", "007", "1001"]
BINNED = "bronze/date=2025-11-03/hour=12/2025-11-03T12-05.parquet"


def state(second: int, bikes: Any = (8, 3, 0), *, air: Any = MILD, **changes: Any) -> FeedState:
    """Three stations as the feed saw them so many seconds after noon's bin began."""
    at = NOON + dt.timedelta(seconds=second)
    information = StationInformation(
        IDS, ["Clauzel", "Mondor", "Relais"], [48.87, 48.1, 48.2], [2.33, 2.2, 2.3], [21, 10, 5]
    )
    status = StationStatus(
        IDS[: len(bikes)],
        list(bikes),
        mechanical=[0] * len(bikes),
        ebike=list(bikes),
        last_reported=[int(at.timestamp()) - 90] * len(bikes),
    )
    return dataclasses.replace(FeedState(at, at, information, status, air), **changes)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    with FeedServer() as feed:
        monkeypatch.setenv(SIMULATED_CLOCK, str(feed.clock_file))
        feed.show(state(30))
        yield feed


@pytest.fixture
def configured(settings: Settings, server: Any) -> Settings:
    return at_server(settings, server, gbfs="/gbfs/2/gbfs.json")


def at_server(settings: Settings, server: Any, gbfs: str = "") -> Settings:
    return dataclasses.replace(
        settings,
        gbfs_url=f"{server.base_url}{gbfs}" if gbfs else "",
        status_url=f"{server.base_url}/velib/station_status.json",
        info_url=f"{server.base_url}/velib/station_information.json",
        weather_url=f"{server.base_url}/v1/forecast",
    )


@pytest.fixture
def feeds(configured: Settings) -> Feeds:
    return Feeds(configured)


def stored(lake: Lake, name: str = BINNED) -> Any:
    return pq.read_table(io.BytesIO(lake.fetch(name)[1])).to_pylist()


def names(lake: Lake, prefix: str = "") -> list[str]:
    return [entry.name for entry in lake.entries(prefix)]


def bikes(lake: Lake) -> Any:
    return {row["station_id"]: row["bikes"] for row in stored(lake)}


@pytest.mark.parametrize("gbfs", ["/gbfs/2/gbfs.json", "/gbfs/3/gbfs.json", "/velib/gbfs.json", ""])
def test_a_trigger_writes_the_feeds_bin_in_every_dialect(
    lake: Lake, settings: Settings, server: Any, gbfs: str
) -> None:
    configured = at_server(settings, server, gbfs)
    result = ingest.run(network.of(lake, configured), Feeds(configured))
    assert result.outputs == {BINNED: "written"}
    assert result.counts == {
        "stations": 3,
        "defects": 0,
        "refused": 0,
        "weather": 1,
        "newest_report_age_min": 1,
    }
    row = next(row for row in stored(lake) if row["station_id"] == "36255")
    assert row["ts_utc"] == dt.datetime(2025, 11, 3, 12, 5, 30)
    assert (row["bikes"], row["mechanical"], row["ebike"]) == (8, 0, 8)
    assert (row["temp_C"], row["precip_mm"], row["wind_mps"]) == pytest.approx((11.0, 0.5, 3.0))
    assert row["weather_utc"] == dt.datetime(2025, 11, 3, 12)


def test_a_bin_seen_twice_holds_the_latest_observation_of_each_station(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    ingest.run(network.of(lake, configured), feeds)
    server.show(state(90, bikes=(7, 2)))
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}
    assert names(lake) == [BINNED]
    assert bikes(lake) == {"36255": 7, "007": 2, "1001": 0}


def test_a_bin_polled_twice_counts_a_repeated_record_as_often_as_one_poll_did(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    def repeated(second: int, ids: list[str]) -> FeedState:
        report = int(NOON.timestamp()) + second - 90
        zeros = [0] * len(ids)
        status = StationStatus(
            ids, zeros, mechanical=zeros, ebike=zeros, last_reported=[report] * len(ids)
        )
        return state(second, status=status)

    for second, ids in ((30, [*IDS, "007"]), (90, [*IDS, "007"]), (150, [*IDS, "007", "007"])):
        server.show(repeated(second, ids))
        ingest.run(network.of(lake, configured), feeds)
        held = snapshot.from_bytes(lake.fetch(BINNED)[1], bin_of(NOON))[0]
        assert snapshot.repeats_of(held) == {"007": len(ids) - len(IDS)}


def test_an_older_observation_never_replaces_a_newer_one(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    server.show(state(90, bikes=(7, 2, 1)))
    ingest.run(network.of(lake, configured), feeds)
    server.show(state(30))
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "fresh"}
    assert bikes(lake) == {"36255": 7, "007": 2, "1001": 1}


def test_a_trigger_delivered_late_writes_the_bin_in_which_the_feed_was_made(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    server.show(state(30, now=NOON + dt.timedelta(hours=3)))
    assert list(ingest.run(network.of(lake, configured), feeds).outputs) == [BINNED]


@pytest.mark.parametrize(("minutes", "ingested"), [(4, True), (6, False), (180, False)])
def test_a_trigger_older_than_a_bin_is_acknowledged_whatever_the_feed_does(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, minutes: int, ingested: bool
) -> None:
    published = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes)
    if not ingested:
        server.reply("/", b"no feed")
    result = ingest.run(network.of(lake, configured), feeds, published)
    assert bool(result.outputs) == ingested
    assert names(lake) == ([BINNED] if ingested else [])
    assert (result.counts.get("late_s", 0) >= minutes * 60) != ingested


def test_a_frozen_feed_makes_no_new_bins_and_writes_nothing(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    ingest.run(network.of(lake, configured), feeds)
    before = lake.stat(BINNED)
    frozen = state(30, air=Weather(2.0, 9.0, 9.0))
    for hours in (1, 5, 24):
        server.show(dataclasses.replace(frozen, now=NOON + dt.timedelta(hours=hours)))
        assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "fresh"}
    assert lake.stat(BINNED) == before
    assert names(lake) == [BINNED]


@pytest.mark.parametrize("off", [dt.timedelta(hours=1), -dt.timedelta(days=30)])
def test_an_absurd_stamp_gives_way_to_the_servers_clock(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, off: Any
) -> None:
    polled = NOON + dt.timedelta(seconds=45)
    server.show(state(30, last_updated=polled + off, now=polled))
    assert list(ingest.run(network.of(lake, configured), feeds).outputs) == [BINNED]
    assert stored(lake)[0]["ts_utc"] == dt.datetime(2025, 11, 3, 12, 5, 45)


def test_weather_that_fails_leaves_nulls_and_is_filled_in_by_the_next_look(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    server.fail("/v1/forecast")
    assert ingest.run(network.of(lake, configured), feeds).counts["weather"] == 0
    assert [row["temp_C"] for row in stored(lake)] == [None] * 3
    server.heal()
    ingest.run(network.of(lake, configured), feeds)
    assert [row["temp_C"] for row in stored(lake)] == pytest.approx([11.0] * 3)


def test_an_unreadable_object_in_the_way_is_quarantined_and_replaced(
    lake: Lake, configured: Settings, feeds: Feeds
) -> None:
    lake.bucket.blob(BINNED).upload_from_string(b"PAR1 no more")
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}
    assert len(stored(lake)) == 3
    copies = [name for name in names(lake, "quarantine/") if not name.endswith(".json")]
    assert [lake.fetch(name)[1] for name in copies] == [b"PAR1 no more"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/gbfs/2/station_status.json", b"<!DOCTYPE html>"),
        ("/gbfs/2/station_status.json", b""),
        ("/gbfs/2/station_status.json", b'{"data": {"stations": [{"stati'),
        ("/gbfs/2/station_status.json", b"\x00junk" * 2_000_000),
        ("/gbfs/2/gbfs.json", b"\xff\xfe{"),
    ],
    ids=["html", "empty", "truncated", "10 MB", "discovery"],
)
def test_bytes_that_are_no_feed_are_permanent_and_kept_with_their_reason(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, path: str, body: bytes
) -> None:
    server.reply(path, body)
    for _ in range(2):
        with pytest.raises(FeedError):
            ingest.run(network.of(lake, configured), feeds)
    copy, note = names(lake)
    assert lake.fetch(copy)[1] == body[: ingest.MAX_KEPT_BYTES]
    assert lake.fetch_json(note)["reason"].startswith(
        path.rsplit("/", maxsplit=1)[-1].split(".", maxsplit=1)[0]
    )
    server.heal()
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}


@pytest.mark.parametrize("feed", ["station_status", "station_information", "gbfs"])
def test_a_feed_that_is_cut_off_once_costs_no_snapshot(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, feed: str
) -> None:
    server.reply(f"/gbfs/2/{feed}.json", b'{"data": {"stations": [{"stati', times=1)
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}
    assert names(lake) == [BINNED]


def test_a_feed_without_one_usable_station_is_permanent_and_writes_no_snapshot(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    server.show(state(30, bikes=(-1, -1, -1)))
    with pytest.raises(FeedError, match="at least one usable station"):
        ingest.run(network.of(lake, configured), feeds)
    assert not names(lake, "bronze/")


def test_a_bad_record_is_reported_once_a_day_however_often_it_comes(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    for minute in range(0, 20, 5):
        server.show(state(60 * minute, bikes=(8, -1 - minute, 0)))
        result = ingest.run(network.of(lake, configured), feeds)
        assert (result.counts["stations"], result.counts["refused"]) == (2, 1)
    (note,) = names(lake, "quarantine/")
    assert lake.fetch_json(note)["listed"] == [
        {"station_id": "007", "field": "bikes", "value": -1, "expected": "0…5000", "refused": True}
    ]
    server.show(state(86_400, bikes=(8, -1, 0)))
    ingest.run(network.of(lake, configured), feeds)
    assert len(names(lake, "quarantine/")) == 2


@pytest.mark.parametrize("feed", ["gbfs", "station_status"])
def test_an_outage_is_transient_and_over_when_the_feed_is_back(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, feed: str
) -> None:
    server.fail(f"/gbfs/2/{feed}.json")
    with pytest.raises(FeedUnavailableError):
        ingest.run(network.of(lake, configured), feeds)
    assert names(lake) == []
    server.heal()
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}


def test_a_404_is_permanent(lake: Lake, configured: Settings, feeds: Feeds, server: Any) -> None:
    server.fail("/gbfs/2/station_status.json", 404)
    with pytest.raises(FeedError, match="404"):
        ingest.run(network.of(lake, configured), feeds)


def test_information_past_its_ttl_is_better_than_none(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest.run(network.of(lake, configured), feeds)
    server.fail("/gbfs/2/station_information.json")
    server.show(state(86_400 * 3))
    (name,) = ingest.run(network.of(lake, configured), feeds).outputs
    assert [row["capacity"] for row in stored(lake, name)] == [10, 5, 21]
    warnings = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("station_information is past its ttl" in line["message"] for line in warnings)


def test_without_vehicle_types_the_split_is_unknown_and_the_snapshot_is_written(
    lake: Lake, settings: Settings, server: Any
) -> None:
    server.fail("/gbfs/3/vehicle_types.json")
    configured = at_server(settings, server, "/gbfs/3/gbfs.json")
    ingest.run(network.of(lake, configured), Feeds(configured))
    rows = {row["station_id"]: row for row in stored(lake)}
    assert (rows["36255"]["bikes"], rows["36255"]["ebike"]) == (8, None)


@pytest.mark.parametrize(
    ("ttl", "second", "read_again"), [(60, 59, False), (60, 60, True), (0, 0, True)]
)
def test_information_is_read_again_when_its_ttl_is_over_by_the_feeds_clock(
    lake: Lake,
    configured: Settings,
    feeds: Feeds,
    server: Any,
    ttl: int,
    second: int,
    read_again: bool,
) -> None:
    logged_forecasts: dict[str, Any] = {
        "last_updated": int(NOON.timestamp()),
        "ttl": ttl,
        "data": {"stations": [{"station_id": "36255", "capacity": 1}]},
    }
    path = "/gbfs/2/station_information.json"
    server.reply(path, json.dumps(logged_forecasts).encode())
    server.show(state(0))
    ingest.run(network.of(lake, configured), feeds)
    server.heal()
    logged_forecasts["data"]["stations"][0]["capacity"] = 2
    server.reply(path, json.dumps(logged_forecasts).encode())
    server.show(state(second))
    ingest.run(network.of(lake, configured), feeds)
    capacity = {row["station_id"]: row["capacity"] for row in stored(lake)}["36255"]
    assert capacity == (2 if read_again else 1)


def test_a_feed_that_moved_is_found_again_at_the_next_trigger(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    addresses = [
        {"name": name, "url": f"{server.base_url}/gone/{name}.json"}
        for name in ("station_status", "station_information")
    ]
    moved = {"ttl": 86_400, "last_updated": int(NOON.timestamp()), "data": {"feeds": addresses}}
    server.reply("/gbfs/2/gbfs.json", json.dumps(moved).encode(), times=1)
    with pytest.raises(FeedError, match="404"):
        ingest.run(network.of(lake, configured), feeds)
    assert ingest.run(network.of(lake, configured), feeds).outputs == {BINNED: "written"}


class OvertakenLake(Lake):
    """A lake on which somebody else acts just before this one's first write."""

    def __init__(self, bucket: Bucket, act: Callable[[], None]) -> None:
        super().__init__(bucket)
        self._acts = [act]

    def write(self, *args: Any, **options: Any) -> int:
        if self._acts:
            self._acts.pop()()
        return super().write(*args, **options)


@pytest.mark.parametrize("first_there", [False, True])
def test_two_instances_at_once_lose_no_station(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any, first_there: bool
) -> None:
    if first_there:
        server.show(state(10, bikes=(1, 1, 1)))
        ingest.run(network.of(lake, configured), feeds)
        server.show(state(30))

    def overtake() -> None:
        server.show(state(90, bikes=(7, 2)))
        ingest.run(network.of(lake, configured), Feeds(configured))

    ingest.run(network.of(OvertakenLake(lake.bucket, overtake), configured), feeds)
    assert bikes(lake) == {"36255": 7, "007": 2, "1001": 0}


def test_ingesting_imports_no_heavy_library() -> None:
    script = (
        "import sys, velib_core.jobs.ingest;"
        "print([m for m in ('pandas', 'scipy', 'sklearn', 'xgboost') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def at_minute(minute: int, **changes: Any) -> FeedState:
    """The stations so many minutes after noon's bin, by a feed whose stamp does not change."""
    now = NOON + dt.timedelta(minutes=minute)
    return state(60 * minute, last_updated=NOON, now=now, **changes)


def without_reports(shown: FeedState) -> Any:
    return dataclasses.replace(
        shown, status=dataclasses.replace(shown.status, last_reported=[None] * len(IDS))
    )


def test_the_same_stamp_with_other_counts_is_one_that_nobody_maintains(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    counts = [(8, 3, 0), (8, 3, 0), (7, 3, 0), (6, 3, 0)]
    for n, bikes in enumerate(counts):
        server.show(without_reports(at_minute(10 * n, bikes=bikes)))
        ingest.run(network.of(lake, configured), feeds)
    held = {name[-13:-8]: stored(lake, name)[-1]["bikes"] for name in names(lake, "bronze/")}
    assert held == {"12-05": 8, "12-25": 7, "12-35": 6}
    (note,) = names(lake, "quarantine/")
    assert [d["field"] for d in lake.fetch_json(note)["listed"]] == ["last_updated"]


def test_a_feed_without_a_stamp_that_shows_the_same_reports_is_frozen(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    for minute in (0, 5, 10):
        shown = state(30, now=NOON + dt.timedelta(minutes=minute))
        server.show(dataclasses.replace(shown, last_updated=NOON + dt.timedelta(days=9)))
        ingest.run(network.of(lake, configured), feeds)
    assert names(lake, "bronze/") == [BINNED]


def test_a_cold_start_without_information_takes_places_from_the_newest_snapshot(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    ingest.run(network.of(lake, configured), feeds)
    server.fail("/gbfs/2/station_information.json")
    server.show(state(330))
    (name,) = ingest.run(network.of(lake, configured), Feeds(configured)).outputs
    assert name != BINNED
    for before, after in zip(stored(lake), stored(lake, name), strict=True):
        assert [before[f] for f in ("name", "lat", "lon", "capacity")] == [
            after[f] for f in ("name", "lat", "lon", "capacity")
        ]


def test_no_header_moves_a_snapshot_away_from_the_clock(
    lake: Lake, configured: Settings, feeds: Feeds, server: Any
) -> None:
    server.show(state(30, last_updated=NOON + dt.timedelta(days=1, seconds=30)))
    server.show(dataclasses.replace(server._shown.state, now=NOON + dt.timedelta(days=1)))
    server.clock_file.write_text(NOON.isoformat())
    assert list(ingest.run(network.of(lake, configured), feeds).outputs) == [BINNED]
