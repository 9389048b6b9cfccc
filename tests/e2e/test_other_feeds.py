"""Feeds that are not like Paris, from HTTP through the real functions to published documents."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from contract.documents import problems
from raw_feed import RawFeed, raw_feed
from velib_core.timeline.bins import bin_of
from velib_core.timeline.clock import SIMULATED_CLOCK
from velib_local.emulator import run
from velib_local.emulator.cloud import local_cloud

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from velib_local.emulator.cloud import LocalCloud

pytestmark = pytest.mark.e2e

START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
STATIONS = 8
QUICK = {"TRAIN_ROUNDS": "8", "TRAIN_MAX_ROWS": "4000", "METEO_DISABLE": "1"}


def bikes(at: dt.datetime, station: int) -> int:
    """Return bikes that swing thrice a day: the hour says what comes."""
    return round(10 + 8 * math.sin(2 * math.pi * (bin_of(at) / 96 + station / STATIONS)))


def document(at: dt.datetime, **data: Any) -> Any:
    return {"last_updated": int(at.timestamp()), "ttl": 0, "version": "2.3", "data": data}


def about(station: int, **fields: Any) -> Any:
    place = {"lat": 48.80 + station / 100, "lon": 2.3}
    return {"station_id": f"s{station}", "name": f"Station {station}", **place, **fields}


def status(at: dt.datetime, station: int, **fields: Any) -> Any:
    flags = dict.fromkeys(("is_installed", "is_renting", "is_returning"), True)
    reported = int(at.timestamp()) - 20
    return {"station_id": f"s{station}", "last_reported": reported, **flags, **fields}


def without_capacities(feed: RawFeed, at: dt.datetime) -> None:
    """Publish bikes and nothing about docks, as Boulder and Vienna do."""
    feed.publish(
        station_information=document(at, stations=[about(s) for s in range(STATIONS)]),
        station_status=document(
            at,
            stations=[status(at, s, num_bikes_available=bikes(at, s)) for s in range(STATIONS)],
        ),
    )


def scooters_and_bikes(feed: RawFeed, at: dt.datetime) -> None:
    """Publish scooters among the bikes, as Chicago does: ``num_bikes_available`` counts both."""

    def here(station: int) -> Any:
        count = bikes(at, station)
        by_type = {"classic": count // 2, "electric": count - count // 2, "scooter": 3}
        return status(
            at,
            station,
            num_bikes_available=count + 3,
            num_docks_available=25 - count - 3,
            vehicle_types_available=[
                {"vehicle_type_id": kind, "count": n} for kind, n in by_type.items()
            ],
        )

    def kind(name: str, form: str, propulsion: str) -> Any:
        return {"vehicle_type_id": name, "form_factor": form, "propulsion_type": propulsion}

    kinds = [
        kind("classic", "bicycle", "human"),
        kind("electric", "bicycle", "electric_assist"),
        kind("scooter", "scooter", "electric"),
    ]
    feed.publish(
        station_information=document(at, stations=[about(s, capacity=25) for s in range(STATIONS)]),
        station_status=document(at, stations=[here(s) for s in range(STATIONS)]),
        vehicle_types=document(at, vehicle_types=kinds),
    )


def live(
    publish: Callable[[RawFeed, dt.datetime], None], days: int, every: dt.timedelta, folder: Path
) -> Any:
    """Collect days, deploy the rest, follow four snapshots; return the documents.

    The newest snapshot's bikes by station, and its instant, come after them.
    """
    clock = folder / "clock"
    env = QUICK | {"MON_HORIZONS": "60", SIMULATED_CLOCK: str(clock)}

    def show(cloud: LocalCloud, at: dt.datetime) -> None:
        clock.write_text((at + dt.timedelta(seconds=10)).isoformat(), "utf-8")
        feed.now = at + dt.timedelta(seconds=10)
        publish(feed, at)
        cloud.trigger_ingest()

    with raw_feed(START) as feed:
        env |= {"GBFS_URL": f"{feed.url}/gbfs.json"}
        with local_cloud(env, first=[run.INGEST]) as cloud:
            count = days * dt.timedelta(days=1) // every
            for n in range(count):
                show(cloud, START + n * every)
            cloud.wait_until_idle()
            cloud.subscribe(name for name in cloud.functions if name != run.INGEST)
            for n in range(count, count + 4):
                show(cloud, START + n * every)
                cloud.wait_until_idle()
            assert cloud.dead_letters() == []
            found = {
                entry.name: json.loads(cloud.lake.read(entry))
                for entry in cloud.lake.entries("")
                if entry.name.endswith(".json")
            }
            newest = list(cloud.lake.entries("bronze/"))[-1]
            rows = pq.read_table(io.BytesIO(cloud.lake.read(newest))).to_pylist()
    return found, {row["station_id"]: row for row in rows}, START + (count + 3) * every


@pytest.mark.parametrize("publish", [without_capacities, scooters_and_bikes])
@pytest.mark.parametrize(
    ("days", "every"),
    [
        pytest.param(1, dt.timedelta(hours=1), id="a day"),
        pytest.param(3, dt.timedelta(minutes=15), id="with models", marks=pytest.mark.slow),
    ],
)
def test_a_network_unlike_paris_has_forecasts_and_valid_documents(
    publish: Callable[[RawFeed, dt.datetime], None],
    days: int,
    every: dt.timedelta,
    tmp_path: Path,
) -> None:
    found, snapshot, last = live(publish, days, every, tmp_path)
    monitoring = [name for name in found if name.startswith("monitoring/")]
    assert sum(name.endswith("manifest.json") for name in monitoring) == 10
    assert not [line for name in monitoring for line in problems(name, found[name])]
    rows = found["serving/forecast/latest/h60/forecast.json"]["data"]
    assert len(rows) == STATIONS
    assert {name: row["bikes"] for name, row in snapshot.items()} == {
        f"s{s}": bikes(last, s) for s in range(STATIONS)
    }
    electric = {row["ebike"] for row in snapshot.values()}
    assert (electric == {None}) == (publish is without_capacities)
    for row in rows:
        if days == 1:
            assert row["reason"] == "no_model"
            continue
        assert row["reason"] is None
        assert 0 <= row["bikes_pred"] <= 25
        assert 0 <= row["p_bike"] <= 1
        assert (row["p_dock"] is None) == (publish is without_capacities)


def broken_on_the_second_day(feed: RawFeed, at: dt.datetime) -> None:
    """Publish a feed whose program is changed at midnight: from then on flags are words."""
    changed = at >= START + dt.timedelta(days=1)
    flags = {"is_renting": "perhaps"} if changed else {}

    def here(station: int) -> Any:
        fields = {"num_bikes_available": bikes(at, station), "num_docks_available": 5, **flags}
        return status(at, station, **fields)

    feed.publish(
        station_information=document(at, stations=[about(s, capacity=25) for s in range(STATIONS)]),
        station_status=document(at, stations=[here(s) for s in range(STATIONS)]),
    )


def test_a_new_kind_of_defect_in_a_feed_becomes_an_alert(tmp_path: Path) -> None:
    found, _, _ = live(broken_on_the_second_day, 2, dt.timedelta(hours=2), tmp_path)
    health = "monitoring/data/health/latest"
    first, second = found[f"{health}/feed_defects.json"]
    kind = {"kind": "is_renting: true or false", "count": 12 * STATIONS}
    assert (first["kinds"], second["kinds"]) == ([], [kind])
    (alert,) = [a for a in found[f"{health}/manifest.json"]["alerts"] if "feed_defect" in a["code"]]
    assert (alert["code"], alert["value"]) == ("feed_defect_is_renting", 12 * STATIONS)
    assert not problems(f"{health}/feed_defects.json", found[f"{health}/feed_defects.json"])
