"""Disaster recovery as OPERATING.md has it: of a whole lake only the snapshots are left."""

import json
import math
import os
import subprocess
import sys

import network
import pytest
from velib_core import snapshot
from velib_core.events import ReplayRequested, TrainRequested
from velib_core.grid import BINS_PER_DAY, Bin, day_after, first_bin
from velib_core.layout import Layout, Snapshot
from velib_local.cloud import BUCKET, local_cloud

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STATIONS, EVERY = 8, 3
TRAINED = 4
UNSEEN = range(TRAINED * BINS_PER_DAY + EVERY, (TRAINED + 1) * BINS_PER_DAY + 1, EVERY)
AFTERWARDS = range((TRAINED + 1) * BINS_PER_DAY + EVERY, (TRAINED + 1) * BINS_PER_DAY + 30, EVERY)
QUICK = {"TRAIN_ROUNDS": "8", "TRAIN_MAX_ROWS": "4000"}


def tidal(bin_):
    """Return a snapshot of stations that swing through the day: the hour tells what comes."""
    turns = (2 * math.pi * (bin_ / 96 + station / STATIONS) for station in range(STATIONS))
    bikes = [round(12 + 9 * math.sin(turn)) for turn in turns]
    places = {"lat": [48.8 + s / 100 for s in range(STATIONS)], "lon": [2.3] * STATIONS}
    rows = network.snapshot_table(bin_, STATIONS, bikes=bikes, **places)
    return snapshot.to_bytes(snapshot.tidy(rows, bin_)[0])


def observe(cloud, bins):
    """Write the snapshots of bins, counted from the first day's first, and wait for the rest."""
    layout = Layout(cloud.settings)
    for n in bins:
        bin_ = Bin(first_bin(network.FIRST_DAY) + n)
        network.put(cloud.lake, layout.name(Snapshot(bin_)), tidal(bin_))
    cloud.settle()


def ask(cloud, message):
    cloud.publish(message)
    cloud.settle()


def run_job(job, day):
    """Run a job of a day as a person does at a terminal."""
    env = os.environ | QUICK | {"JOB": job, "DAY": str(day), "GCS_BUCKET_ROOT": f"gs://{BUCKET}"}
    command = [sys.executable, "-m", "velib_core.launcher"]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=300)


def told(lake):
    """Return every object by name: a JSON document as its value, all else by its checksum."""
    return {
        entry.name: json.loads(lake.read(entry)) if entry.name.endswith(".json") else entry.crc32c
        for entry in lake.entries("")
    }


def lose_all_but_snapshots(lake):
    for entry in lake.entries(""):
        if not entry.name.startswith("bronze/"):
            lake.delete(entry)


def recover(cloud):
    """Do what the chapter says, in its order."""
    ask(cloud, ReplayRequested())
    for job in ("export_training_base", "train_model"):
        run_job(job, day_after(network.FIRST_DAY, TRAINED - 1))
        cloud.settle()
    ask(cloud, ReplayRequested())
    # The next snapshot's forecast knows all of that; here none comes.
    ask(cloud, ReplayRequested(stage="build_serving_forecast", force=True))


def kept(name):
    """Tell whether an object can be made of snapshots: what was published, when, cannot."""
    return not name.startswith(("ledger/", "exports/served_"))


def but(document, *fields):
    return {key: value for key, value in document.items() if key not in fields}


def of_the_data(name, value):
    """Return what an object says of the data, without when it was made and what was published."""
    if name.startswith("models/"):
        return but(value, "built_at_utc") if isinstance(value, dict) else value
    if name.endswith("manifest.json") and name.startswith("monitoring/"):
        return but(value, "inputs", "checksums")
    return but(value, "served") if name.endswith("/kpis.json") else value


@pytest.fixture(scope="module")
def lakes():
    """A lake with a model and a day that it has not seen, before and after its loss."""
    with local_cloud(QUICK) as cloud:
        observe(cloud, range(0, TRAINED * BINS_PER_DAY + 1, EVERY))
        ask(cloud, TrainRequested())
        for bins in (UNSEEN, AFTERWARDS):
            observe(cloud, bins)
        before = told(cloud.lake)
        lose_all_but_snapshots(cloud.lake)
        recover(cloud)
        assert cloud.dead_letters() == []
        return before, told(cloud.lake)


def test_all_but_what_was_published_is_made_again_of_snapshots(lakes):
    before, after = lakes
    assert {name for name in before if kept(name)} == {name for name in after if kept(name)}
    changed = {
        name
        for name in filter(kept, before)
        if of_the_data(name, before[name]) != of_the_data(name, after[name])
    }
    assert not changed


def test_the_lake_that_was_lost_had_something_of_every_kind(lakes):
    folders = {name.partition("/")[0] for name in lakes[0]}
    assert folders >= {"daily", "monthly", "exports", "profiles", "models", "serving", "monitoring"}
    calibrations = [name for name in lakes[0] if "/calibration_" in name]
    assert len(calibrations) >= 2, "no model was calibrated on a day that it had not seen"
    hindcast = lakes[0]["monitoring/model/performance/latest/h15/kpis.json"]
    assert hindcast["lift_vs_baseline"] > 0
