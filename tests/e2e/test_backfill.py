"""A recording becomes snapshots here, and snapshots copied to a deployment become its days."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import network
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from velib_cli.main import cli
from velib_cli.run_notes import command_that_made
from velib_core.events.messages import ReplayRequested
from velib_core.tables import snapshot
from velib_core.timeline.bins import Bin, first_bin
from velib_local.emulator.cloud import local_cloud

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EVERY = 12
DAYS = 4


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a replay of two recorded days leaves."""
    folder = tmp_path_factory.mktemp("backfill")
    start = first_bin(network.FIRST_DAY)
    bins = [Bin(start + n) for n in range(0, 288 * DAYS, EVERY)]
    rows = pa.concat_tables([snapshot.validate(network.snapshot_table(b), b)[0] for b in bins])
    pq.write_table(rows, folder / "recording.parquet")
    words = ["--source", str(folder / "recording.parquet"), "--out", str(folder / "out")]
    result = CliRunner().invoke(cli, ["replay", *words, "--json"])
    assert result.exit_code == 0, result.output
    return folder / "out"


def test_a_replay_leaves_nothing_to_be_made(replayed: Path) -> None:
    shown = CliRunner().invoke(cli, ["status", "--dir", str(replayed), "--json"])
    state = json.loads(shown.stdout)
    assert [model["version"] for model in state["models"]] != [None, None]
    assert state["repairs"] == []


def test_a_replay_notes_the_command_that_makes_its_folder_again(replayed: Path) -> None:
    source, out = replayed.parent / "recording.parquet", replayed
    again = f"velib replay --source {source} --out {out}"
    assert command_that_made(replayed) == again


def test_snapshots_that_are_copied_in_any_order_become_the_days_of_the_replay(
    replayed: Path,
) -> None:
    files = sorted(path for path in (replayed / "bronze").rglob("*.parquet"))
    random.Random(1).shuffle(files)
    with local_cloud({}, only=["close_day", "compact_daily", "build_datasets", "reconcile"]) as it:
        for path in files:
            network.put(it.lake, path.relative_to(replayed).as_posix(), path.read_bytes())
        it.wait_until_idle()
        it.publish(ReplayRequested())
        it.wait_until_idle()
        made = {e.name: it.lake.read(e) for e in it.lake.entries("") if "bronze" not in e.name}
        assert it.dead_letters() == []
    days = sorted(name for name in made if name.startswith("daily/"))
    assert len(days) == DAYS - 1, "the last day is not over"
    for name in [*days, "exports/events_2025-10-30.parquet"]:
        assert made[name] == (replayed / name).read_bytes()
