"""Disaster recovery as OPERATING.md has it: of a whole lake only the snapshots are left."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import network
import pytest
from commands import run
from velib_core.events.messages import ReplayRequested, TrainRequested
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables import snapshot
from velib_core.timeline.bins import BINS_PER_DAY, Bin, Day, day_after, first_bin, parse_day
from velib_local.emulator.cloud import LocalCloud, local_cloud
from velib_local.emulator.servers import BUCKET

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STATIONS, EVERY = 8, 3
TRAINED = 14  # a younger network is trained by the replay itself
MODEL_OF = re.compile(r"models/h\d+/(\d{8})-")
TABLE_OF = re.compile(r"exports/velib_training_(\d{8})\.parquet")
UNSEEN = range(TRAINED * BINS_PER_DAY + EVERY, (TRAINED + 1) * BINS_PER_DAY + 1, EVERY)
AFTERWARDS = range((TRAINED + 1) * BINS_PER_DAY + EVERY, (TRAINED + 1) * BINS_PER_DAY + 30, EVERY)
QUICK = {"TRAIN_ROUNDS": "8", "TRAIN_MAX_ROWS": "4000"}


def tidal(bin_: Bin) -> bytes:
    """Return a snapshot of stations that swing through the day: the hour determines what comes."""
    turns = (2 * math.pi * (bin_ / 96 + station / STATIONS) for station in range(STATIONS))
    bikes = [round(12 + 9 * math.sin(turn)) for turn in turns]
    places = {"lat": [48.8 + s / 100 for s in range(STATIONS)], "lon": [2.3] * STATIONS}
    rows = network.snapshot_table(bin_, STATIONS, bikes=bikes, **places)
    return snapshot.to_bytes(snapshot.validate(rows, bin_)[0])


def observe(cloud: LocalCloud, bins: range) -> None:
    """Write the snapshots of bins, counted from the first day's first, and wait for the rest."""
    layout = Layout(cloud.settings)
    for n in bins:
        bin_ = Bin(first_bin(network.FIRST_DAY) + n)
        network.put(cloud.lake, layout.name(Snapshot(bin_)), tidal(bin_))
    cloud.wait_until_idle()


def ask(cloud: LocalCloud, message: ReplayRequested | TrainRequested) -> None:
    cloud.publish(message)
    cloud.wait_until_idle()


def run_job(job: str, day: Day) -> None:
    """Run a job of a day as a person does at a terminal."""
    env = os.environ | QUICK | {"JOB": job, "DAY": str(day), "GCS_BUCKET_ROOT": f"gs://{BUCKET}"}
    command = [sys.executable, "-m", "velib_core.launcher"]
    done = run(*command, env=env)
    assert done.returncode == 0, done.stderr


def reported(lake: Lake) -> Any:
    """Return every object by name: a JSON document as its value, all else by its checksum."""
    return {
        entry.name: json.loads(lake.read(entry)) if entry.name.endswith(".json") else entry.crc32c
        for entry in lake.entries("")
    }


def lose_all_but(lake: Lake, *folders: Any) -> None:
    for entry in lake.entries(""):
        if not entry.name.startswith(folders):
            lake.delete(entry)


def days_of(pattern: re.Pattern[str], names: Any) -> Any:
    return sorted({found[1] for name in names if (found := pattern.match(name))})


def recover(cloud: LocalCloud, lost: Any) -> None:
    """Do what the chapter says, in its order, with the models of the lake that is lost."""
    ask(cloud, ReplayRequested())
    for day in days_of(MODEL_OF, lost):
        for job in ("export_training_base", "train_model"):
            run_job(job, parse_day(f"{day[:4]}-{day[4:6]}-{day[6:]}"))
            cloud.wait_until_idle()
    ask(cloud, ReplayRequested())
    # The next snapshot's forecast knows all of that; here none comes.
    ask(cloud, ReplayRequested(stage="build_serving_forecast", force=True))


def but(document: Any, *fields: Any) -> Any:
    return {key: value for key, value in document.items() if key not in fields}


def of_the_data(lake: dict[str, Any]) -> Any:
    """Return what a lake says of the data, without stamps and the forecast log's partitions.

    A recovery forecasts the newest snapshot more than once, and each forecast is a page. A young
    network is trained whenever a day closes, unless the next one has closed by then: its table
    is there all the same, and is not made again.
    """
    said = {}
    trained = days_of(MODEL_OF, lake)
    for name, value in lake.items():
        if name.startswith("models/") and isinstance(value, dict):
            said[name] = but(value, "built_at_utc")
        elif name.startswith("monitoring/") and name.endswith("manifest.json"):
            said[name] = but(value, "inputs", "checksums")
        elif (table := TABLE_OF.match(name)) and table[1] not in trained:
            continue
        elif not name.startswith("ledger/"):
            said[name] = value
    return said


def of_snapshots(lake: dict[str, Any]) -> Any:
    """Return the same without what was published: no snapshot contains that."""
    return {
        name: but(value, "served") if name.endswith("/kpis.json") else value
        for name, value in of_the_data(lake).items()
        if not name.startswith("exports/served_")
    }


def differences(before: Any, after: Any) -> Any:
    return {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}


@pytest.fixture(scope="module")
def lakes() -> Any:
    """A lake with a model and a day that it has not seen; after a loss; after a worse one."""
    with local_cloud(QUICK) as cloud:
        observe(cloud, range(0, TRAINED * BINS_PER_DAY + 1, EVERY))
        ask(cloud, TrainRequested())
        for bins in (UNSEEN, AFTERWARDS):
            observe(cloud, bins)
        seen = [reported(cloud.lake)]
        for left in (("bronze/", "ledger/"), ("bronze/",)):
            lose_all_but(cloud.lake, *left)
            recover(cloud, seen[0])
            seen.append(reported(cloud.lake))
        assert cloud.dead_letters() == []
        return seen


def test_all_is_made_again_from_snapshots_and_the_forecast_log(lakes: Any) -> None:
    before, after, _ = map(of_the_data, lakes)
    assert f"exports/served_{day_after(network.FIRST_DAY, TRAINED)}.parquet" in before
    assert not differences(before, after)


def test_all_but_what_was_published_is_made_again_of_snapshots(lakes: Any) -> None:
    before, _, after = map(of_snapshots, lakes)
    assert not differences(before, after)


def test_the_lake_that_was_lost_had_something_of_every_kind(lakes: Any) -> None:
    lost = lakes[0]
    folders = {name.partition("/")[0] for name in lost}
    assert folders >= {"daily", "monthly", "exports", "profiles", "models", "serving", "monitoring"}
    calibrations = [name for name in lost if "/calibration_" in name]
    assert len(calibrations) >= 2, "no model was calibrated on a day that it had not seen"
    performance = lost["monitoring/model/performance/latest/h15/kpis.json"]
    assert performance["lift_vs_baseline"] > 0
    assert performance["served"]["n"] > 0
