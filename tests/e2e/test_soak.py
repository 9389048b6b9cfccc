"""A day and night of a whole network, fast, with everything failing now and then.

1,500 stations, 24 simulated hours as fast as the machine can. The feed answers 5xx, 429, cut
off JSON and nothing at all; the object store and Pub/Sub refuse calls or lose their answers;
messages come late and twice; functions are killed. Then everything that was fetched is in the
lake, the queues are empty, the memory is flat and every document keeps to its contract. For an hour
nobody asks the feed, and for another every station is closed: each raises its alarm, which clears.

``VELIB_SOAK_REPORT=FILE`` leaves the figures there as JSON.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import io
import itertools
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import hostile
import numpy as np
import permission_proxy
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import wait_until
from contract.documents import problems
from google.cloud import pubsub_v1
from google.pubsub_v1 import types
from permission_proxy import Denial, OneWriteASecond, behind_proxy
from present import present
from velib_core.events.messages import DayClosed, ReplayRequested, TrainRequested
from velib_core.events.topics import ALERTS, TOPICS
from velib_core.feeds import gbfs, kinds, stations
from velib_core.feeds.observed import observed_at
from velib_core.feeds.open_meteo import Weather
from velib_core.jobs import reconcile
from velib_core.lake.artefact import PARQUET, Artefact, InputChangedError, crc32c
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.keys import Daily, Monitoring, Snapshot
from velib_core.lake.layout import Layout
from velib_core.lake.readable import ObjectMissingError, ReadableNetwork
from velib_core.settings.network import Settings
from velib_core.tables import snapshot
from velib_core.timeline.bins import BINS_PER_DAY, Bin, bin_of, day_after, first_bin, parse_day
from velib_local.emulator.cloud import LocalCloud, deployed
from velib_local.emulator.servers import BUCKET, PROJECT, local_servers
from velib_local.simulation import feed_documents
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from velib_local.emulator.cloud import LocalCloud
    from velib_local.simulation.feed_state import FeedState

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STATIONS = 1500
PAST_DAYS, PAST_STEP = 3, dt.timedelta(minutes=15)
DAY = parse_day("2025-11-05")
START = dt.datetime(2025, 11, 5, tzinfo=dt.UTC)
BIN = dt.timedelta(minutes=5)

SPEED = 200
"""Simulated seconds a second, at most: the clock waits until a snapshot was fetched."""

STORE_FAULTS = {500: 0.005, 503: 0.01, 429: 0.01}
LOST_ANSWERS = 0.005
"""Shares of the calls to the object store and to Pub/Sub."""

FEED_FAULTS = {"5xx": 0.05, "429": 0.02, "cut off": 0.03, "silent": 0.012, "weather": 0.05}
"""Shares of the triggers."""

DUPLICATES, LATE_S = 0.1, 3.0
KILL_EVERY_ANSWERS = 40
"""How many events are answered between two kills, on average: a slow machine has as many kills."""
KILLING_BINS, KILLS_AT_CLOSE = 120, 5
"""Functions are killed for so many bins, and when the day is closed; between, memory is watched."""

GROWTH_MIB_PER_HOUR = collections.defaultdict(lambda: 2.0, build_network_overview=8.0)
"""Of one function's process, by simulated time; the overview keeps the snapshots of its day."""

SETTINGS = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30"}

SILENT_HOUR = range(138, 150)
"""Bins of the day at which nobody asks the feed, and an hourly run of `reconcile` is due."""

CLOSED_HOUR = range(200, 212)
"""Bins of the day at which every station is closed: there is no forecast to publish."""

FORECAST_DOWN = "batch_forecast_down"
NO_NUMBER = "the forecast is fresh, but no station has a number"
ON_CALL = "on-call"

HOSTILE_EVERY_BINS = 16
"""How often somebody puts objects into the bucket and messages on the topics that are none."""

HOSTILE_MESSAGES = (
    b"[" * 30_000,
    b'{"horizon_min": 1' + b"0" * 400 + b"}",
    b'{"day": "2025-02-30"}',
    b"caf\xe9",
)


class Weathering:
    """The faults that are to be committed, and how many were."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._feed_rng = random.Random(seed)
        self._lock = threading.Lock()
        self.on = False
        self.killing = True
        self.counts: collections.Counter[str] = collections.Counter()
        self._one_write_a_second = OneWriteASecond()

    def draw(self, shares: Mapping[Any, float], rng: random.Random | None = None) -> Any:
        """Return one of the faults, each with its share, or ``None``; count it."""
        with self._lock:
            at = (rng or self._rng).random()
            for fault, share in shares.items() if self.on else ():
                at -= share
                if at < 0:
                    self.counts[str(fault)] += 1
                    return fault
        return None

    def policy(self, operation: permission_proxy.Operation) -> Denial | None:
        """Refuse some calls, and lose the answers to some more."""
        with self._lock:
            self.counts["calls"] += self.on
            self.counts[operation.permission] += self.on
        too_soon = self._one_write_a_second(operation)
        if too_soon is not None:
            return too_soon
        fault = self.draw(STORE_FAULTS | {"lost answer": LOST_ANSWERS})
        if fault == "lost answer":
            return Denial(503, done=True)
        return Denial(fault) if fault else None

    def deliver(self, subscription: str, _message: object) -> list[float]:
        """Deliver late, and some messages twice."""
        if not self.on or subscription.endswith(("dead-letter", ON_CALL)):
            return [0.0]
        copies = 2 if self.draw({"duplicate": DUPLICATES}) else 1
        return [self._rng.uniform(0, LATE_S) ** 2 / LATE_S for _ in range(copies)]

    def spoil(self, feed: FeedServer) -> None:
        """Let the feed fail at this trigger, as far as a careful reader can recover."""
        status = "/gbfs/2/station_status"
        match self.draw(FEED_FAULTS, self._feed_rng):
            case "5xx":
                feed.fail(status, 503, times=self._feed_rng.randint(1, 5))
            case "429":
                feed.fail(status, 429, times=1)
            case "cut off":
                body = feed.answer(f"{status}.json")[0].body
                feed.reply(status, body[: self._feed_rng.randrange(len(body))], times=1)
            case "silent":
                feed.stall(status, 11.0, times=1)
            case "weather":
                feed.fail("/v1/forecast", 503)

    def intrude(self, cloud: LocalCloud, bin_: Bin) -> set[str]:
        """Write hostile objects in every folder, one in place of the next snapshot, and messages.

        Return the names of those that stay.
        """
        layout, far = Layout(cloud.settings), parse_day("2099-01-01")
        kinds_of = list(hostile.UNREADABLE.values())
        data = kinds_of[self.counts["intrusion"] % len(kinds_of)](bin_)
        self.counts["intrusion"] += 1
        n = self.counts["intrusion"]
        folder = layout.name(Snapshot(bin_)).rpartition("/")[0]
        stay = {
            f"{folder}/intruder-{n}.parquet",
            f"{layout.daily}/compact_2025-11-03 ({n}).parquet",
            f"{layout.profiles}/h60/{n}.bak",
            f"models/h60/{n}/version.json",
            f"ledger/date={DAY}/{n}.parquet",
            f"monitoring/data/health/latest/{n}.json",
        }
        if n == 1:
            stay |= {layout.name(Snapshot(first_bin(far))), layout.name(Daily(far))}
        for name in (*stay, layout.name(Snapshot(Bin(bin_ + 1)))):
            artefact = Artefact(data, PARQUET, crc32c(data))
            cloud.lake.write(name, artefact, expected_generation=0)
        for topic, message in itertools.product(TOPICS.values(), HOSTILE_MESSAGES):
            cloud.servers.publish(cloud.settings.topic(topic), message, {})
        return stay

    def kill(self, cloud: LocalCloud, stop: threading.Event) -> None:
        """Kill a function at work now and then, until stopped."""
        due = 0
        while not stop.wait(0.01):
            at_work = [f for f in cloud.functions.values() if f.busy]
            if self.killing and at_work and cloud.gateway.answered >= due:
                victim = self._rng.choice(at_work)
                victim.kill()
                self.counts["kill"] += 1
                self.counts[f"kill {victim.spec.name}"] += 1
                due = cloud.gateway.answered + self._rng.randint(1, 2 * KILL_EVERY_ANSWERS)


class Alarms:
    """What was alarming: the alerts of the intro at each bin, and those that were published."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._subscription = f"projects/{PROJECT}/subscriptions/{ON_CALL}"
        on_call = types.Subscription(
            name=self._subscription,
            topic=cloud.settings.topic(ALERTS),
            ack_deadline_seconds=600,
        )
        cloud.servers.subscribe(on_call, cloud.gateway)
        self.shown: dict[int, set[str]] = {}
        self.published: list[dict[str, Any]] = []

    def look(self, n: int) -> None:
        """Note the alerts that the intro shows after so many bins of the day."""
        name = Layout(self._cloud.settings).name(Monitoring("intro", "manifest.json"))
        with contextlib.suppress(ObjectMissingError, InputChangedError):
            manifest = self._cloud.lake.fetch_json(name)
            self.shown[n] = {alert["text"] for alert in manifest["alerts"]}

    def take_published(self) -> None:
        """Take what was published so far off its topic."""
        with pubsub_v1.SubscriberClient() as subscriber:
            pulled = subscriber.pull(
                subscription=self._subscription, max_messages=1000, timeout=10
            ).received_messages
        self.published = [json.loads(item.message.data) for item in pulled]


def with_every_station_closed(state: FeedState) -> FeedState:
    nothing = [0] * len(state.status.station_id)
    status = dataclasses.replace(state.status, is_renting=nothing, is_returning=nothing)
    return dataclasses.replace(state, status=status)


@dataclasses.dataclass(frozen=True)
class MemorySample:
    """Resident MiB of a function's process and its workers, at a simulated hour."""

    function: str
    pid: int
    hour: float
    mib: float


def watch_memory(cloud: LocalCloud, hour: Any, samples: Any, stop: Any) -> None:
    """Sample each function's resident memory until stopped."""
    while not stop.wait(1.0):
        for name, function in cloud.functions.items():
            for pid in function.pids:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    family = [process, *process.children(recursive=True)]
                    resident = sum(member.memory_info().rss for member in family)
                    samples.append(MemorySample(name, pid, hour(), resident / 2**20))


def growth(samples: list[MemorySample]) -> dict[str, float]:
    """Return each function's growth in MiB a simulated hour: Theil's slope of its last process.

    The first third of the process's life is left out: caches fill then. So is what comes after
    the day, when functions wake that slept.
    """
    slopes = {}
    for name in {sample.function for sample in samples if sample.hour < 24}:
        last = [s for s in samples if s.function == name and s.hour < 24]
        last = [s for s in last if s.pid == last[-1].pid]
        last = last[len(last) // 3 :]
        if last[-1].hour - last[0].hour < 4:
            continue
        picked = last[:: max(1, len(last) // 100)]
        hours, mib = (np.array([getattr(s, f) for s in picked]) for f in ("hour", "mib"))
        gaps = np.subtract.outer(hours, hours)
        rises = np.subtract.outer(mib, mib)
        slopes[name] = float(np.median(rises[gaps > 0.5] / gaps[gaps > 0.5]))
    return slopes


def seen(state: FeedState) -> pa.Table:
    """Return what a state's feed says of each station, straight from the state."""
    stamp = pa.scalar(state.last_updated.replace(tzinfo=None), pa.timestamp("ns"))
    capacity = dict(zip(state.stations.station_id, state.stations.capacity, strict=True))
    ids = list(state.status.station_id)
    columns = {"ts_utc": pa.repeat(stamp, len(ids)), "station_id": ids}
    for column in ("bikes", "mechanical", "ebike"):
        columns[column] = pa.array(getattr(state.status, column), pa.int64())
    columns["capacity"] = pa.array([capacity[present(station)] for station in ids], pa.int64())
    return pa.table(columns)


def past_snapshot(state: FeedState) -> tuple[Bin, bytes]:
    """Return the snapshot object of a state, without a chain."""
    feeds = {
        feed: gbfs.decode(feed, json.dumps(make()).encode())
        for feed, make in (
            (name.removesuffix(".json"), make)
            for name, make in feed_documents.gbfs_2(state, "http://feed").items()
        )
    }
    types, _ = kinds.vehicle_kinds(feeds["vehicle_types"])
    status = stations.read_status(feeds["station_status"], types)
    information = stations.read_information(feeds["station_information"])
    at = observed_at(state.last_updated, status.reports(), state.last_updated, "Europe/Paris")
    rows, _ = stations.snapshot_rows(status, information, {}, at)
    rows = stations.at_instant(rows, at.at, state.weather or Weather())
    bin_ = bin_of(at.at)
    rows, _ = snapshot.validate(rows, bin_)
    return bin_, snapshot.to_bytes(rows)


def remember_the_past(city: City, lake: Lake, layout: Layout) -> None:
    """Write the snapshots of the days before, as an earlier deployment left them."""
    while city.now < START:
        bin_, data = past_snapshot(city.state())
        artefact = Artefact(data, PARQUET, crc32c(data))
        lake.write(layout.name(Snapshot(bin_)), artefact, expected_generation=0)
        city.advance(city.now + PAST_STEP)


def rows_apart(daily: bytes, expected: pa.Table) -> int:
    """Return how many rows the daily lacks, adds or changes; its numbers read by DuckDB."""
    found = pq.read_table(io.BytesIO(daily), columns=expected.column_names)
    with duckdb.connect() as connection:
        connection.register("found", found)
        connection.register("expected", expected)
        names = ", ".join(
            f"{n}::varchar as {n}" if n == "station_id" else n for n in expected.column_names
        )
        count: int = present(
            connection.execute(
                f"""
            with f as (select {names} from found), e as (select {names} from expected)
            select (select count(*) from (from e except all from f))
                 + (select count(*) from (from f except all from e))
            """
            ).fetchone()
        )[0]
    return count


@dataclasses.dataclass
class Soak:
    """What a soak went through and left."""

    faults: collections.Counter[str]
    expected: pa.Table
    shown: int
    seconds: float
    drained_s: float
    memory: list[MemorySample]
    unacknowledged: int
    dead_letters: list[Any]
    lake: dict[str, bytes]
    intruders: set[str]
    settings: Settings
    fixes: list[Any]
    alarms: Alarms
    changed_by_replay: list[str]
    functions: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Soak a network for a day."""
    faults = Weathering(seed=int(os.environ.get("VELIB_SOAK_SEED", "1")))
    city = City(STATIONS, start=START - dt.timedelta(days=PAST_DAYS))
    logs = tmp_path_factory.mktemp("logs")
    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(FeedServer())
        servers = stack.enter_context(
            local_servers(delivery=faults.deliver, logs=logs, limited=True)
        )
        env = SETTINGS | feed.environment()
        base = {"GCS_BUCKET_ROOT": f"gs://{BUCKET}", "GOOGLE_CLOUD_PROJECT": PROJECT}
        settings = Settings.from_env(base | env)
        remember_the_past(city, connect(settings), Layout(settings))
        feed.show(city.state())  # functions wake before the day begins: their clock needs a time
        cloud = stack.enter_context(
            deployed(servers, env, proxy=behind_proxy(lambda *_: faults.policy))
        )
        for ago in range(PAST_DAYS, 0, -1):
            cloud.publish(DayClosed(day_after(DAY, -ago)))
        cloud.wait_until_idle()
        cloud.publish(TrainRequested())
        cloud.wait_until_idle()
        yield weather_the_day(cloud, feed, city, faults)


def weather_the_day(cloud: LocalCloud, feed: FeedServer, city: City, faults: Weathering) -> Soak:
    """Let the city live its day under faults; return what came of it."""
    stop = threading.Event()
    samples: list[MemorySample] = []

    def hour() -> Any:
        return (city.now - START) / dt.timedelta(hours=1)

    threads = [
        threading.Thread(target=faults.kill, args=(cloud, stop)),
        threading.Thread(target=watch_memory, args=(cloud, hour, samples, stop)),
    ]
    faults.on = True
    for thread in threads:
        thread.start()
    started = time.monotonic()
    tables: list[pa.Table] = []
    alarms = Alarms(cloud)
    intruders: set[str] = set()
    try:
        for n in range(BINS_PER_DAY + 1):
            due = started + n * BIN.total_seconds() / SPEED
            time.sleep(max(0.0, due - time.monotonic()))
            tables += observe(cloud, feed, city, faults, n)
            if n % 12 == 4:
                cloud.publish(ReplayRequested())
            if n % HOSTILE_EVERY_BINS == HOSTILE_EVERY_BINS // 2:
                intruders |= faults.intrude(cloud, bin_of(city.now))
            if n == SILENT_HOUR[-1]:
                cloud.wait_until_idle()  # the hourly run has ended before snapshots come again
            alarms.look(n)
            faults.killing = n < KILLING_BINS
            city.advance(city.now + BIN)
        seconds = time.monotonic() - started
        faults.killing = True
        enough = faults.counts["kill"] + KILLS_AT_CLOSE
        pubsub = cloud.servers.embedded
        wait_until(
            lambda: faults.counts["kill"] >= enough or not present(pubsub).unacknowledged(),
            "enough kills",
        )
        faults.killing = False
        cloud.wait_until_idle()
        cloud.publish(TrainRequested())
        cloud.wait_until_idle()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    drained = time.monotonic() - started - seconds
    faults.on = False
    unacknowledged = present(cloud.servers.embedded).unacknowledged()
    cloud.publish(ReplayRequested())
    cloud.wait_until_idle()
    fixes = [
        str(r)
        for r in reconcile.plan(ReadableNetwork(cloud.settings, cloud.lake), ReplayRequested())
    ]
    before = contents(cloud)
    cloud.publish(ReplayRequested(DAY, DAY, force=True))
    cloud.wait_until_idle()
    alarms.take_published()
    after = contents(cloud)
    return Soak(
        faults=faults.counts,
        expected=pa.concat_tables(tables[:-1]),
        shown=len(tables),
        seconds=seconds,
        drained_s=drained,
        memory=samples,
        unacknowledged=unacknowledged,
        dead_letters=cloud.dead_letters(),
        lake=after,
        intruders=intruders,
        settings=cloud.settings,
        fixes=fixes,
        alarms=alarms,
        changed_by_replay=[n for n in before.keys() | after if before.get(n) != after.get(n)],
        functions=per_function(cloud, samples),
    )


def observe(
    cloud: LocalCloud, feed: FeedServer, city: City, faults: Weathering, n: int
) -> list[pa.Table]:
    """Show the city and let it be fetched, as a bin of the day has it; return what was to see."""
    state = city.state()
    feed.heal()
    feed.show(with_every_station_closed(state) if n in CLOSED_HOUR else state)
    if n in SILENT_HOUR:
        return []
    faults.spoil(feed)
    cloud.trigger_ingest()
    return [seen(state)]


def contents(cloud: LocalCloud) -> dict[str, bytes]:
    return {entry.name: cloud.lake.read(entry) for entry in cloud.lake.entries("")}


def per_function(cloud: LocalCloud, samples: list[MemorySample]) -> dict[str, dict[str, Any]]:
    slopes = growth(samples)
    table = {}
    for name in cloud.functions:
        calls = [r for r in cloud.gateway.deliveries if r.function == name]
        table[name] = {
            "deliveries": len(calls),
            "killed": sum(r.status == 0 for r in calls),
            "again": sum(r.status >= 500 for r in calls),
            "median_s": round(float(np.median([r.seconds for r in calls])), 3) if calls else None,
            "peak_mib": round(max((s.mib for s in samples if s.function == name), default=0)),
            "mib_per_hour": round(slopes[name], 2) if name in slopes else None,
        }
    return table


def test_everything_fails_now_and_then(soak: Any) -> None:
    report(soak)
    assert set(map(str, STORE_FAULTS)) | set(FEED_FAULTS) <= set(soak.faults)
    assert min(soak.faults[kind] for kind in ("kill", "duplicate", "lost answer")) >= 10
    assert soak.faults["intrusion"] == BINS_PER_DAY // HOSTILE_EVERY_BINS


def report(soak: Any) -> None:
    """Leave the figures where they were asked for."""
    if "VELIB_SOAK_REPORT" in os.environ:
        figures = {
            "snapshots": soak.shown,
            "seconds": round(soak.seconds, 1),
            "times_real_time": round(BINS_PER_DAY * BIN.total_seconds() / soak.seconds, 1),
            "drained_s": round(soak.drained_s, 1),
            "faults": dict(soak.faults),
            "dead_letters": [dict(m.attributes) | {"data": str(m.data)} for m in soak.dead_letters],
            "repairs": soak.fixes,
            "alarms_shown": {n: sorted(texts) for n, texts in soak.alarms.shown.items() if texts},
            "alarms_published": soak.alarms.published,
            "changed_by_replay": soak.changed_by_replay,
            "functions": soak.functions,
        }
        Path(os.environ["VELIB_SOAK_REPORT"]).write_text(json.dumps(figures, indent=1))


def test_every_snapshot_that_was_shown_is_in_bronze_and_in_the_daily(soak: Any) -> None:
    layout = Layout(soak.settings)
    held = [name for name in soak.lake if name.startswith(layout.bronze_day(DAY))]
    held = [name for name in held if name not in soak.intruders]
    assert len(held) == BINS_PER_DAY - len(SILENT_HOUR)
    assert rows_apart(soak.lake[layout.name(Daily(DAY))], soak.expected) == 0
    assert soak.expected.num_rows > 0.97 * STATIONS * len(held)


def test_alarms_are_raised_and_cleared(soak: Any) -> None:
    """Silence is reported in the hour that it lasts; the intro shows that there is no forecast.

    That a forecast is late is another alarm of the intro: it comes and goes on a slow machine.
    """
    silent = [alert for alert in soak.alarms.published if alert["code"] == "feed_silent"]
    at = [bins_since_start(alert) for alert in silent]
    assert at, "silence was not reported"
    assert set(at) <= set(SILENT_HOUR)
    shown = {n for n, texts in soak.alarms.shown.items() if NO_NUMBER in texts}
    assert shown & set(CLOSED_HOUR)
    assert shown <= set(range(CLOSED_HOUR[0], CLOSED_HOUR[-1] + 13))
    down = [alert for alert in soak.alarms.published if alert["code"] == FORECAST_DOWN]
    raised = [a for a in down if (a["state"], a["text"]) == ("raised", NO_NUMBER)]
    assert raised
    assert any(
        alert["state"] == "cleared" and bins_since_start(alert) > bins_since_start(raised[0])
        for alert in down
    )
    assert [alert["state"] for alert in down][-1] == "cleared"


def bins_since_start(alert: Any) -> Any:
    return (dt.datetime.fromisoformat(alert["generated_at"]) - START) // BIN


def test_the_queues_are_drained_and_no_message_was_dead_lettered(soak: Any) -> None:
    assert soak.unacknowledged == 0
    assert soak.dead_letters == []


def test_memory_is_flat(soak: Any) -> None:
    growing = growth(soak.memory)
    assert {"ingest", "close_day", "build_serving_forecast"} <= set(growing)
    assert {n: mib for n, mib in growing.items() if mib > GROWTH_MIB_PER_HOUR[n]} == {}


def test_nothing_is_left_to_reconcile_and_an_undisturbed_replay_makes_the_same(soak: Any) -> None:
    assert soak.fixes == []
    assert soak.changed_by_replay == []


def test_every_artefact_is_valid(soak: Any) -> None:
    wrong, checked = [], 0
    ours = {n: data for n, data in soak.lake.items() if n not in soak.intruders}
    assert len(ours) == len(soak.lake) - len(soak.intruders), "what is not ours is left alone"
    for name, data in ours.items():
        if name.startswith("quarantine/"):
            continue
        if name.endswith(".parquet"):
            pq.read_metadata(io.BytesIO(data))
        elif name.endswith(".json") and name.startswith(("serving/", "models/", "monitoring/")):
            wrong += [p for p in problems(name, json.loads(data)) if "no such document" not in p]
            checked += 1
    assert wrong == []
    assert checked >= 5
    for horizon in soak.settings.horizons:
        forecast = json.loads(soak.lake[f"serving/forecast/latest/h{horizon}/forecast.json"])
        assert len(forecast["data"]) >= 0.97 * STATIONS
