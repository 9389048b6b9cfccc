"""Feeding the chain: snapshots shown one after another, events doing the rest, and what came out.

Nothing here calls a job. The feed server shows a snapshot, the scheduled trigger is
published, and everything else follows from events, as it would in the cloud.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import statistics
import time
from typing import TYPE_CHECKING

from velib_core.events.messages import DayClosed, ReplayRequested, TrainRequested
from velib_core.lake.layout import Layout
from velib_core.timeline import bins

from velib_local.records import RECORDS, record_entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from velib_core.timeline.bins import Day

    from velib_local.emulator.cloud import LocalCloud
    from velib_local.simulation.feed_server import FeedServer, FeedState


@dataclasses.dataclass(frozen=True)
class StageTiming:
    """How one function fared: deliveries, failures among them, and seconds in the function.

    A lost race is no failure: the event comes again, as it has to. ``failures`` are the other
    deliveries that were not acknowledged.
    """

    function: str
    deliveries: int
    failures: int
    lost_races: int
    median_s: float
    slowest_s: float
    total_s: float


@dataclasses.dataclass(frozen=True)
class ChainReport:
    """What a run of the chain made and how long it took.

    ``objects`` counts the objects by folder and ``sizes`` their bytes; ``seconds`` is the wall
    clock from the first snapshot until everything came to rest.
    """

    snapshots: int
    days: list[str]
    seconds: float
    objects: dict[str, int]
    sizes: dict[str, int]
    stages: list[StageTiming]
    dead_letters: int

    def as_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return dataclasses.asdict(self)


INGEST = "ingest"


def collect(
    cloud: LocalCloud,
    server: FeedServer,
    states: Iterable[FeedState],
    advanced: Callable[[], None],
) -> list[Day]:
    """Show each state to ingestion alone; return the UTC days they cover, in order.

    Whoever deploys the rest later does the same: the feed has no past, so it is collected first.
    All other functions get their triggers at the end, and begin with what is there.
    """
    days: dict[Day, None] = {}
    for state in states:
        days[bins.day_of(bins.bin_of(state.last_updated))] = None
        server.show(state)
        cloud.trigger_ingest()
        advanced()
    cloud.wait_until_idle()
    cloud.subscribe(name for name in cloud.functions if name != INGEST)
    return sorted(days)


def feed(
    cloud: LocalCloud,
    server: FeedServer,
    states: Iterable[FeedState],
    advanced: Callable[[], None],
    train_every_days: int,
    collected: Iterable[Day] = (),
) -> list[Day]:
    """Show each state and trigger ingestion; return the UTC days of the lake, in order.

    The feed's time is faster than the machine's, so the feed waits for what would long be done
    when the next snapshot comes: the forecast of each snapshot, and what follows the end of a day.
    So the forecasts do not depend on the machine. Each time so many more days are over, training
    is asked for, as the weekly schedule does; a young network asks for it itself. The first
    snapshot after days that were ``collected`` closes them all.
    """
    days: dict[Day, None] = dict.fromkeys(collected)
    for state in states:
        bin_ = bins.bin_of(state.last_updated)
        day = bins.day_of(bin_)
        over = len(days) if day not in days else 0
        days[day] = None
        server.show(state)
        cloud.trigger_ingest()
        cloud.wait_for_forecast(bin_)
        if over:
            cloud.wait_until_idle()
        if over and over % train_every_days == 0:
            cloud.publish(TrainRequested())
            cloud.wait_until_idle()
        advanced()
    return sorted(days)


def run(
    cloud: LocalCloud,
    server: FeedServer,
    states: Iterable[FeedState],
    advanced: Callable[[], None],
    *,
    ends: bool,
    train_every_days: int,
    collect_first: int = 0,
) -> ChainReport:
    """Feed the states and wait until every event is handled.

    A feed that ``ends`` shows no snapshot of the next day, so its last day is closed by message. A
    model that is trained then forecasts that very day again: its forecast log is asked for once
    more, as the hourly check would. So many states as are to be collected first find ingestion
    alone deployed.
    """
    started = time.monotonic()
    shown = 0
    coming = iter(states)

    def count() -> None:
        nonlocal shown
        shown += 1
        advanced()

    days: list[Day] = []
    if collect_first:
        days = collect(cloud, server, itertools.islice(coming, collect_first), count)
    days = feed(cloud, server, coming, count, train_every_days, days)
    if days and ends:
        cloud.publish(DayClosed(days[-1]))
        cloud.wait_until_idle()
        cloud.publish(ReplayRequested(stage="build_datasets"))
    cloud.wait_until_idle()
    return _report(cloud, shown, days, time.monotonic() - started)


def follow(
    cloud: LocalCloud, moments: Iterable[None], train_every_days: int
) -> Iterator[ChainReport]:
    """Trigger ingestion at each moment; yield the report once all events are handled.

    Each time so many more days have their daily, training is asked for.
    """
    started = time.monotonic()
    days: dict[str, None] = {}
    for shown, _ in enumerate(moments, 1):
        before = _dailies(cloud)
        days[str(bins.today())] = None
        cloud.trigger_ingest()
        cloud.wait_until_idle()
        after = _dailies(cloud)
        if after // train_every_days > before // train_every_days:
            cloud.publish(TrainRequested())
            cloud.wait_until_idle()
        yield _report(cloud, shown, days, time.monotonic() - started)


def _dailies(cloud: LocalCloud) -> int:
    return sum(1 for _ in cloud.lake.entries(f"{Layout(cloud.settings).daily}/"))


def keep(cloud: LocalCloud, report: ChainReport, folder: Path) -> None:
    """Write every object below a folder, with records of how they were made."""
    cloud.mirror(folder)
    record_entries(cloud.lake.entries(""), folder)
    records = folder / RECORDS
    lineage_records = [
        dataclasses.asdict(lineage_record) for lineage_record in cloud.lake.lineage_records("")
    ]
    (records / "makings.json").write_text(json.dumps(lineage_records, indent=1), "utf-8")
    (records / "report.json").write_text(json.dumps(report.as_json(), indent=1), "utf-8")
    with (records / "deliveries.jsonl").open("w", encoding="utf-8") as sink:
        for delivery in cloud.gateway.deliveries:
            sink.write(json.dumps(dataclasses.asdict(delivery)) + "\n")


def _report(cloud: LocalCloud, shown: int, days: Iterable[object], seconds: float) -> ChainReport:
    objects: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for entry in cloud.lake.entries(""):
        folder = entry.name.partition("/")[0]
        objects[folder] += 1
        sizes[folder] += entry.size
    return ChainReport(
        snapshots=shown,
        days=[str(day) for day in days],
        seconds=round(seconds, 1),
        objects=dict(objects),
        sizes=dict(sizes),
        stages=stage_timings(cloud),
        dead_letters=len(cloud.dead_letters()),
    )


def stage_timings(cloud: LocalCloud) -> list[StageTiming]:
    """Return how each function fared, in the order in which they were first called."""
    by_function: dict[str, list[tuple[float, int]]] = {}
    for delivery in list(cloud.gateway.deliveries):
        by_function.setdefault(delivery.function, []).append((delivery.seconds, delivery.status))
    lost_races = {name: cloud.functions[name].lost_races() for name in by_function}
    return [
        StageTiming(
            function=function,
            deliveries=len(calls),
            failures=sum(not 200 <= status < 300 for _, status in calls) - lost_races[function],
            lost_races=lost_races[function],
            median_s=round(statistics.median(seconds for seconds, _ in calls), 4),
            slowest_s=round(max(seconds for seconds, _ in calls), 3),
            total_s=round(sum(seconds for seconds, _ in calls), 2),
        )
        for function, calls in by_function.items()
    ]
