"""How often the chain starts a function, and what a start asks of the store: counts, not times.

``replay STATIONS DAYS`` plays a simulated city, one snapshot every five minutes, through the real
functions on the local cloud, and counts starts and operations per snapshot, function by function.

``backfill DAYS...`` copies so many days of a small network into the bucket of a running one, whose
live snapshots go on meanwhile, and counts messages, starts, reads and writes per day of history.

A day of a replay ends with the first snapshot of the next, which closes it.
"""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

import as_ingested
from bench_cost import Meter, Use, between
from velib_core.lake.artefact import PARQUET, Artefact
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables import snapshot
from velib_core.timeline.bins import bin_of
from velib_deploy.function_specs import load_specs
from velib_local.emulator.cloud import deployed
from velib_local.emulator.servers import BUCKET, PROJECT, local_servers
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_local.emulator.cloud import LocalCloud

from permission_proxy import behind_proxy  # the path is set by bench_cost

MONDAY = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
EVERY = dt.timedelta(minutes=5)
SNAPSHOTS_A_DAY = 288

SMALL = 20
"""Stations of the network whose history is copied: counts do not depend on them."""

HISTORY_EVERY = dt.timedelta(hours=2)
"""Between snapshots of the history; figures per snapshot are given next to those per day."""

LIVE_PAUSE_S = 1.0

LIGHT_TRAINING = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30"}


@contextlib.contextmanager
def metered() -> Iterator[tuple[LocalCloud, FeedServer, Meter]]:
    """Deploy all functions, each behind a proxy that counts what it asks for."""
    env = {"GCS_BUCKET_ROOT": f"gs://{BUCKET}", "GOOGLE_CLOUD_PROJECT": PROJECT} | LIGHT_TRAINING
    meter = Meter()
    with (
        local_servers() as servers,
        FeedServer() as feed,
        deployed(servers, env | feed.environment(), proxy=behind_proxy(meter.rule)) as cloud,
    ):
        yield cloud, feed, meter


def show(cloud: LocalCloud, feed: FeedServer, city: City, at: dt.datetime) -> None:
    """Poll the city as it is at an instant, and wait for its forecast."""
    city.advance(at)
    feed.show(city.state())
    cloud.trigger_ingest()
    cloud.wait_for_forecast(bin_of(at))


def replay(stations: int, days: int) -> None:
    """Play the days; print starts and operations per snapshot of each, its close included."""
    city = City(stations, seed=1, start=MONDAY)
    with metered() as (cloud, feed, meter):
        show(cloud, feed, city, MONDAY)
        for day in range(days):
            cloud.wait_until_idle()
            before = meter.read(cloud)
            for n in range(1, SNAPSHOTS_A_DAY + 1):
                show(cloud, feed, city, MONDAY + (day * SNAPSHOTS_A_DAY + n) * EVERY)
                cloud.wait_until_idle()
            used = between(before, meter.read(cloud))
            print(
                f"day {day + 1} of {days}, {stations} stations, through the snapshot that closes it"
            )
            print_uses(used, SNAPSHOTS_A_DAY)
            print(f"compactions: {used['compact_daily'].events:.0f}", flush=True)
        statuses = collections.Counter(record.status for record in cloud.gateway.deliveries)
        print(f"deliveries by status: {dict(statuses)}, dead letters: {len(cloud.dead_letters())}")


def print_uses(used: dict[str, Use], snapshots: int) -> None:
    """Print what each function used per snapshot."""
    print(f"{'per snapshot':28}  starts  class A  class B   sent   CPU s")
    for name, use in [*used.items(), ("all", sum(used.values(), Use()))]:
        each = use * (1 / snapshots)
        print(
            f"{name:28} {each.events:7.3f} {each.class_a:8.2f} {each.class_b:8.2f}"
            f" {each.published:6.3f} {each.cpu_s:7.3f}"
        )


def backfill(days: int) -> None:
    """Copy days of history into a running network; print what a day of it caused."""
    city = City(SMALL, seed=2, start=MONDAY)
    per_day = dt.timedelta(days=1) // HISTORY_EVERY
    first_live = MONDAY + dt.timedelta(days=days)
    history = []
    for n in range(days * per_day):
        at = MONDAY + n * HISTORY_EVERY
        city.advance(at)
        history.append((at, as_ingested.rows_of_state(city.state())))
    with metered() as (cloud, feed, meter):
        show(cloud, feed, city, first_live)
        cloud.wait_until_idle()
        before = meter.read(cloud)
        started = time.monotonic()
        copying = threading.Thread(target=copy, args=(cloud, history))
        copying.start()
        waits: list[float] = []
        while copying.is_alive() or dailies(cloud) < days:
            since = time.monotonic()
            show(cloud, feed, city, first_live + (len(waits) + 1) * EVERY)
            waits.append(time.monotonic() - since)
            time.sleep(LIVE_PAUSE_S)
        cloud.wait_until_idle()
        seconds = time.monotonic() - started
        used = between(before, meter.read(cloud))
        print_backfill(used, days, len(waits))
        print(
            f"{days} days of {per_day} snapshots: {dailies(cloud)} dailies, {seconds:.0f} s;"
            f" {len(waits)} live forecasts meanwhile, median {statistics.median(waits):.2f} s,"
            f" longest {max(waits):.2f} s; dead letters: {len(cloud.dead_letters())}"
        )
        print(f"longest call against its limit: {longest(cloud)}")


def dailies(cloud: LocalCloud) -> int:
    """Return how many days have been compacted."""
    return sum(1 for _ in cloud.lake.entries("daily/"))


def copy(cloud: LocalCloud, history: list[tuple[dt.datetime, object]]) -> None:
    """Write the snapshots of the history, oldest first."""
    layout = Layout(cloud.settings)
    for at, rows in history:
        table, _ = snapshot.validate(rows, bin_of(at))
        data = Artefact(snapshot.to_bytes(table), PARQUET, "copied")
        cloud.lake.write(layout.name(Snapshot(bin_of(at))), data, expected_generation=0)


def longest(cloud: LocalCloud) -> str:
    """Return the call that took the largest part of its function's time limit."""
    specs = load_specs()
    share, record = max(
        (record.seconds / specs[record.function].timeout_s, record.seconds, record.function)
        for record in cloud.gateway.deliveries
    )[::2]
    return f"{record} {share:.0%}"


def print_backfill(used: dict[str, Use], days: int, live: int) -> None:
    """Print what each function used per day of history, live snapshots included."""
    print(f"{'per day of history':28}  starts  class A  class B   sent")
    for name, use in [*used.items(), ("all", sum(used.values(), Use()))]:
        each = use * (1 / days)
        if use.events:
            print(
                f"{name:28} {each.events:7.2f} {each.class_a:8.1f} {each.class_b:8.1f}"
                f" {each.published:6.2f}"
            )
    print(f"{live} live snapshots are among them")


def main() -> None:
    """Run what the command line asks for."""
    what, *numbers = sys.argv[1:] or ["replay", "1500", "3"]
    if what == "replay":
        stations, days = [*map(int, numbers), 1500, 3][:2] if numbers else (1500, 3)
        replay(stations, days)
    else:
        for days in map(int, numbers or ["10", "30"]):
            backfill(days)


if __name__ == "__main__":
    main()
