"""Ingestion is deployed first, and everything else when there is a past to begin with."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from velib_local.emulator import run
from velib_local.emulator.cloud import local_cloud
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from velib_local.simulation.feed_state import FeedState

pytestmark = pytest.mark.e2e

START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
EVERY = dt.timedelta(hours=3)
COLLECTED = 16
CHAIN = ["ingest", "close_day", "compact_daily", "build_serving_forecast"]


def test_the_first_snapshot_after_collected_days_closes_them_all() -> None:
    city = City(stations=12, seed=3, start=START)

    def states() -> list[FeedState]:
        shown = []
        for n in range(COLLECTED + 1):
            city.advance(START + n * EVERY)
            shown.append(city.state())
        return shown

    with (
        FeedServer() as server,
        local_cloud(server.environment(), only=CHAIN, first=[run.INGEST]) as cloud,
    ):
        report = run.run(
            cloud,
            server,
            states(),
            lambda: None,
            ends=False,
            train_every_days=7,
            collect_first=COLLECTED,
        )
        forecast = [e.name for e in cloud.lake.entries("serving/forecast/latest/h")]
    called = [record.function for record in cloud.gateway.deliveries]
    assert called[:COLLECTED] == ["ingest"] * COLLECTED
    assert report.days == ["2025-11-03", "2025-11-04", "2025-11-05"]
    assert report.snapshots == COLLECTED + 1
    assert report.objects["bronze"] == COLLECTED + 1
    assert report.objects["daily"] == 2
    assert called.count("build_serving_forecast") == 1, "of the past there is nothing to forecast"
    assert len(forecast) == 2
    assert report.dead_letters == 0
