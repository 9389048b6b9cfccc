"""``velib demo --live``: a feed as time goes by, interrupted and gone on with."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import time
from subprocess import Popen
from typing import TYPE_CHECKING, Any

import pytest
from commands import VELIB
from velib_local.emulator import processes
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e

STATIONS = 4


def live(out: Path, url: str, **options: Any) -> Popen[bytes]:
    command = [*VELIB, "demo", "--live", "--out", str(out), "--json"]
    env = os.environ | {"GBFS_URL": url, "METEO_DISABLE": "1"}
    return processes.start(command, env=env, stdout=subprocess.PIPE, **options)


PAGE, FIRST_LOG = "report.html", "_local/velib-ingest.log"
"""Files that a run leaves when a snapshot is handled to its end, and when the first one comes."""


def observe_once(out: Path, feed: FeedServer, until: str) -> dict[str, Any]:
    """Follow the feed until a file is there, then interrupt: the snapshot is handled to its end."""
    (out / until).unlink(missing_ok=True)
    process = live(out, f"{feed.base_url}/gbfs/2/gbfs.json")
    try:
        while not (out / until).exists() and process.poll() is None:
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate()
    finally:
        processes.stop(process)
    assert process.returncode == 0
    summary: dict[str, Any] = json.loads(said)
    return summary


def test_a_live_run_keeps_what_it_saw_and_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "live"
    now = dt.datetime.now(dt.UTC)
    with FeedServer() as feed:
        city = City(STATIONS, start=now - dt.timedelta(minutes=20))
        feed.show(city.state())
        report = observe_once(out, feed, PAGE)
        assert (report["snapshots"], report["dead_letters"]) == (1, 0)
        (first,) = out.glob("bronze/*/*/*.parquet")
        held = first.read_bytes()
        forecast = out / "serving" / "forecast" / "latest" / "h60" / "forecast.json"
        older = json.loads(forecast.read_text("utf-8"))["data"]
        assert len(older) == len(city.state().status.station_id) > 1

        city.advance(now)
        feed.show(city.state())
        observe_once(out, feed, FIRST_LOG)
        both = sorted(out.glob("bronze/*/*/*.parquet"))
        assert len(both) == 2
        assert both[0] == first
        assert first.read_bytes() == held
        newer = json.loads(forecast.read_text("utf-8"))["data"]
        assert newer[0]["tbin_latest"] > older[0]["tbin_latest"]

        other = live(out, "http://127.0.0.1:9/gbfs.json", stderr=subprocess.PIPE)
        _, reported = other.communicate()
        processes.stop(other)
        assert other.returncode == 2
        assert b"follows" in reported
