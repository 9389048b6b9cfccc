"""What a day of one city of 1,500 stations costs, function by function, and a month in euro.

The real functions run in the local cloud on a lake that has six weeks behind it, and today's
snapshots up to 22:00. What is measured of each: events, CPU seconds of its process, operations on
objects and on topics. Two hours of snapshots, one every five minutes and each handled to the end,
stand for the 24 hours of a day; the close of a day, one run of `reconcile` (that finds nothing to
publish, as in a healthy lake) and one training on 28 days are measured once and counted as often
as they come. Prices and assumptions are in ``prices.toml``.

Billed time of an event = CPU / vCPU + operations × round trip / side by side, rounded up.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import importlib.resources
import json
import math
import os
import sys
import threading
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import bench_monitoring as views
import measure
from velib_core.events.messages import ReplayRequested, TrainRequested
from velib_core.timeline.bins import bin_start, day_after, first_bin
from velib_deploy.function_specs import load_specs
from velib_local.emulator.cloud import deployed
from velib_local.emulator.servers import BUCKET, PROJECT, local_servers
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from permission_proxy import CREATE, GET, LIST, PUBLISH, behind_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from permission_proxy import Operation, Policy
    from velib_local.emulator.cloud import LocalCloud

PRICES = tomllib.loads((Path(__file__).parent / "prices.toml").read_text("utf-8"))
SNAPSHOTS = 24
"""Measured one by one; 288 make a day."""

WARM_UP = 4
"""Snapshots before those."""

TODAY = day_after(views.MONDAY, 7 * views.WEEKS)
CLOCK_HZ = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Use:
    """What a function used: events, CPU seconds, operations by kind, mebibytes written."""

    events: float = 0.0
    cpu_s: float = 0.0
    class_a: float = 0.0
    class_b: float = 0.0
    published: float = 0.0

    def __add__(self, other: Use) -> Use:
        """Add up two uses."""
        both = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Use(*(a + b for a, b in both))

    def __mul__(self, times: float) -> Use:
        """Return the use of so many of the same."""
        return Use(*(times * value for value in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True)
class Data:
    """What a city of one day adds: GiB for good, GiB and objects until the lifecycle takes them.

    ``replaced_gib`` are replaced or deleted, and kept as soft-deleted for some days.
    """

    lasting_gib: float
    passing_gib: float
    passing_objects: float
    replaced_gib: float


class Meter:
    """Counts what functions ask for, and reads what their processes used."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._operations: collections.Counter[tuple[str, str]] = collections.Counter()

    def rule(self, specs: object, settings: object) -> Policy:
        """Return the policy that lets everything pass and counts it."""
        del specs, settings

        def count(operation: Operation) -> None:
            with self._lock:
                self._operations[operation.function, operation.permission] += 1

        return count

    def read(self, cloud: LocalCloud) -> dict[str, Use]:
        """Return what every function has used so far."""
        with self._lock:
            done = dict(self._operations)
        events = collections.Counter(record.function for record in list(cloud.gateway.deliveries))
        found = {}
        for name, function in cloud.functions.items():
            found[name] = Use(
                events=events[name],
                cpu_s=sum(map(cpu_of, function.pids)),
                class_a=done.get((name, CREATE), 0) + done.get((name, LIST), 0),
                class_b=done.get((name, GET), 0),
                published=done.get((name, PUBLISH), 0),
            )
        return found


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        pids += [int(child) for child in task.read_text("ascii").split()]
    total = 0
    for each in pids:
        fields = Path(f"/proc/{each}/stat").read_text("ascii").rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / CLOCK_HZ


def between(before: dict[str, Use], after: dict[str, Use]) -> dict[str, Use]:
    """Return what was used from one reading to the next."""
    return {name: use + before[name] * -1 for name, use in after.items()}


def measured(stations: int) -> tuple[dict[str, dict[str, Use]], Data]:
    """Run the cloud; return the use by phase and what a day adds.

    The phases are ``snapshot``, ``day``, ``hour`` and ``training``.
    """
    env = {"GCS_BUCKET_ROOT": f"gs://{BUCKET}", "GOOGLE_CLOUD_PROJECT": PROJECT}
    meter, phases = Meter(), dict[str, dict[str, Use]]()
    with local_servers() as servers, FeedServer() as feed:
        os.environ |= {
            "BENCH_ROOT": env["GCS_BUCKET_ROOT"],
            "BENCH_DAILIES": "28",
            "BENCH_SNAPSHOTS": str(288 - SNAPSHOTS - WARM_UP),
        }
        measure.in_own_process(views.__file__, "fill", str(stations))
        feeds = feed.environment()
        with deployed(servers, env | feeds, proxy=behind_proxy(meter.rule)) as cloud:
            start = bin_start(first_bin(TODAY)) + dt.timedelta(hours=22)
            city = City(stations, seed=1, start=start)

            def observe(n: int) -> None:
                city.advance(start + n * dt.timedelta(minutes=5))
                feed.show(city.state())
                cloud.trigger_ingest()
                cloud.wait_until_idle()

            @contextlib.contextmanager
            def phase(name: str) -> Iterator[None]:
                before = meter.read(cloud)
                yield
                phases[name] = between(before, meter.read(cloud))

            for n in range(-WARM_UP, 0):
                observe(n)
            replaced = 0
            with phase("snapshot"):
                for n in range(SNAPSHOTS):
                    held = generations(cloud)
                    observe(n)
                    now = generations(cloud)
                    replaced += sum(held[name][1] for name in held if now.get(name) != held[name])
            with phase("day"):
                observe(SNAPSHOTS)
            with phase("hour"):
                cloud.publish(ReplayRequested(dry_run=True))
                cloud.wait_until_idle()
            with phase("training"):
                cloud.publish(TrainRequested())
                cloud.wait_until_idle()
            if cloud.dead_letters():
                sys.exit("messages were dead-lettered: nothing was measured")
            return phases, data_of(cloud, replaced / SNAPSHOTS)


def day_of_use(phases: dict[str, dict[str, Use]]) -> dict[str, Use]:
    """Return what each function uses in a day."""
    day = {}
    for name in load_specs():
        snapshot = phases["snapshot"][name] * (1 / SNAPSHOTS)
        # The snapshot that closes the day is one of the 288.
        closing = phases["day"][name] + snapshot * -1
        hour = phases["hour"][name] if name == "reconcile" else Use()
        day[name] = snapshot * 288 + closing + hour * 24 + phases["training"][name] * (1 / 7)
    return day


def bill(name: str, use: Use) -> dict[str, float]:
    """Return a function's month: billed seconds, GiB-seconds, dollars by kind, nothing free."""
    spec = load_specs()[name]
    assumed, run, storage = PRICES["assumptions"], PRICES["run"], PRICES["storage"]
    if not use.events:
        return dict.fromkeys(("vcpu_s", "gib_s", "requests", "run", "objects"), 0.0)
    waits = (use.class_a + use.class_b + use.published) * assumed["round_trip_s"]
    seconds = (use.cpu_s / spec.cpu + waits / assumed["parallel"]) / use.events
    billed = math.ceil(seconds / run["rounding_s"]) * run["rounding_s"] * use.events
    days, memory = assumed["days_a_month"], float(spec.memory[:-2])
    gib = memory / 1024 if spec.memory.endswith("Mi") else memory
    vcpu_s, gib_s, requests = (days * v for v in (billed * spec.cpu, billed * gib, use.events))
    return {
        "vcpu_s": vcpu_s,
        "gib_s": gib_s,
        "requests": requests,
        "run": vcpu_s * run["vcpu_second"] + gib_s * run["gib_second"] + requests * run["request"],
        "objects": days * (use.class_a * storage["class_a"] + use.class_b * storage["class_b"]),
    }


def cold_start_dollars(day: dict[str, Use]) -> float:
    """Return a month of cold starts: what an instance computes before its first event."""
    assumed, run = PRICES["assumptions"], PRICES["run"]
    total = 0.0
    for name, use in day.items():
        spec = load_specs()[name]
        steady = use.events >= assumed["steady_events_a_day"]
        starts = min(use.events, assumed["recycled_a_day"]) if steady else use.events
        memory = float(spec.memory[:-2]) / (1024 if spec.memory.endswith("Mi") else 1)
        second = spec.cpu * run["vcpu_second"] + memory * run["gib_second"]
        total += starts * assumed["cold_start_cpu_s"] / spec.cpu * second
    return total * float(assumed["days_a_month"])


def stored_gib(data: Data, age_days: float) -> float:
    """Return the GiB of a city's live objects at an age, those the lifecycle took left out."""
    kept = min(age_days, float(PRICES["assumptions"]["kept_days"]))
    return data.lasting_gib * age_days + data.passing_gib * kept


def month(day: dict[str, Use], cities: int, data: Data, number: int) -> dict[str, float]:
    """Return what so many cities cost in their nth month in euro, with what is free and without."""
    assumed, free, run = PRICES["assumptions"], PRICES["run"]["free"], PRICES["run"]
    storage, pubsub, registry = PRICES["storage"], PRICES["pubsub"], PRICES["registry"]
    days = assumed["days_a_month"]
    age = (number - 0.5) * days
    bills = [bill(name, use) for name, use in day.items()]
    total = {key: cities * sum(b[key] for b in bills) for key in bills[0]}
    # Once a day `reconcile` lists every snapshot and every partition of the forecast log.
    listed = data.passing_objects * min(age, assumed["kept_days"]) / storage["listed_at_once"]
    message = max(assumed["notification_bytes"], pubsub["minimum_bytes"])
    # Published once and delivered once at least: an object that nobody follows is not notified.
    pubsub_gib = 2 * total["requests"] * message / 2**30
    logs_gib = total["requests"] * assumed["log_bytes_an_event"] / 2**30
    specs = load_specs()
    images_gib = len(specs) * cities * assumed["images_kept"] * assumed["image_mib"] / 1024
    builds = len(specs) * cities * assumed["build_minutes"] * assumed["deployments_a_month"]
    jobs = sum(spec.schedule is not None for spec in specs.values()) * cities
    parts = {
        "run": total["run"],
        "cold starts": cities * cold_start_dollars(day),
        "operations": total["objects"] + cities * days * listed * storage["class_a"],
        "storage": cities * stored_gib(data, age) * storage["gib_month"],
        "soft-deleted": cities * data.replaced_gib * assumed["soft_days"] * storage["gib_month"],
        "messages": max(pubsub_gib - pubsub["free_gib"], 0) * pubsub["tib"] / 1024,
        "logs": max(logs_gib - PRICES["logging"]["free_gib"], 0) * PRICES["logging"]["gib"],
        "schedules": max(jobs - PRICES["scheduler"]["free_jobs"], 0)
        * PRICES["scheduler"]["job_month"],
        "images": max(images_gib - registry["free_gib"], 0) * registry["gib_month"],
        "builds": max(builds - PRICES["build"]["free_minutes"], 0) * PRICES["build"]["minute"],
        "alerts": cities * alert_dollars(),
    }
    saved = (
        min(total["vcpu_s"], free["vcpu_seconds"]) * run["vcpu_second"]
        + min(total["gib_s"], free["gib_seconds"]) * run["gib_second"]
        + min(total["requests"], free["requests"]) * run["request"]
    )
    euro = assumed["eur_per_usd"]
    found = {name: euro * dollars for name, dollars in parts.items()}
    found["all"] = sum(found.values())
    found["all, free tier off"] = found["all"] - euro * saved
    return found


def alert_dollars() -> float:
    """Return what the alerts of a healthy network cost a month.

    A query that looks for failed runs returns a series for each function that failed: none. Each of
    the others returns one, of however many it is the maximum or the sum.
    """
    policies, prices = alert_policies(), PRICES["alerting"]
    series = sum("5xx" not in json.dumps(policy) for policy in policies)
    evaluations = PRICES["assumptions"]["days_a_month"] * 86_400 / prices["evaluated_every_s"]
    dollars: float = (
        len(policies) * prices["condition_month"]
        + series * evaluations / 1e6 * prices["series_million"]
    )
    return dollars


def alert_policies() -> list[object]:
    """Return the alert policies that ``deploy.sh --alerts`` makes."""
    watched = importlib.resources.files("velib_deploy").joinpath("watch/alerts.json")
    policies: list[object] = json.loads(watched.read_text("utf-8"))
    return policies


def data_of(cloud: LocalCloud, replaced: float) -> Data:
    """Return what a day adds; ``replaced`` are the bytes that a snapshot replaces."""
    found: collections.Counter[str] = collections.Counter()
    objects: collections.Counter[str] = collections.Counter()
    for entry in cloud.lake.entries(""):
        if str(TODAY) in entry.name:
            folder = entry.name.partition("/")[0]
            found[folder] += entry.size
            objects[folder] += 1
    # Only a part of the day was observed: its files are in proportion.
    share = objects["bronze"] / 288
    lasting = 2 * found["daily"] + found["exports"]  # a month holds its days once more
    passing = found["bronze"] + found["ledger"]
    return Data(
        lasting_gib=(lasting / share + found["profiles"]) / 2**30,
        passing_gib=passing / share / 2**30,
        passing_objects=(objects["bronze"] + objects["ledger"]) / share,
        replaced_gib=288 * replaced / 2**30,
    )


def generations(cloud: LocalCloud) -> dict[str, tuple[int, int]]:
    """Return generation and bytes of every object."""
    return {entry.name: (entry.generation, entry.size) for entry in cloud.lake.entries("")}


def main() -> None:
    """Measure, and print the tables."""
    stations = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    phases, data = measured(stations)
    day = day_of_use(phases)
    print(f"a day, {stations} stations       events   CPU s  GiB-s  class A  class B  EUR/month")
    for name, use in day.items():
        bills = bill(name, use)
        euro = PRICES["assumptions"]["eur_per_usd"] * (bills["run"] + bills["objects"])
        gib_s = bills["gib_s"] / PRICES["assumptions"]["days_a_month"]
        print(
            f"{name:28} {use.events:8.1f} {use.cpu_s:7.1f} {gib_s:6.0f} {use.class_a:8.0f}"
            f" {use.class_b:8.0f} {euro:9.2f}"
        )
    print(f"a day adds {data}")
    for cities in (1, 10, 100):
        for number in (1, 13):
            parts = month(day, cities, data, number)
            reported = ", ".join(f"{name} {euro:.2f}" for name, euro in parts.items())
            print(f"{cities} cities, month {number}, EUR: {reported}")


if __name__ == "__main__":
    main()
