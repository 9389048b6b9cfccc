from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import requests
from velib_core.feeds import gbfs, kinds, open_meteo, stations
from velib_core.feeds.observed import observed_at
from velib_core.settings.network import Settings
from velib_local.simulation.feed_server import FeedServer
from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = dt.datetime(2025, 11, 3, 12, 7, 30, tzinfo=dt.UTC)
REPORTED = int(dt.datetime(2025, 11, 3, 11, 50, 1, tzinfo=dt.UTC).timestamp())
AIR = ["temp_C", "precip_mm", "wind_mps"]
DIALECTS = ["/gbfs/2", "/gbfs/3", "/velib"]


def small_state(**changes: Any) -> FeedState:
    """Two stations with everything, one that is closed, one record without an id."""
    information = StationInformation(
        station_id=["36255", "007", "31024_relais"],
        name=["Toudouze - Clauzel", "Hôpital \u201cMondor\u201d", None],
        lat=[48.87929591733507, 48.1, None],
        lon=[2.3373600840568547, 2.2, 2.3],
        capacity=[21, 0, None],
    )
    status = StationStatus(
        station_id=["36255", "007", "31024_relais", None],
        bikes=[8, 3, 0, 5],
        mechanical=[1, 0, None, 2],
        ebike=[7, 3, None, 3],
        docks_available=[13, None, 4, 1],
        is_installed=[1, 1, 0, 1],
        is_renting=[1, 0, 0, 1],
        is_returning=[1, 0, 0, 1],
        last_reported=[REPORTED, REPORTED - 240_000_000, None, REPORTED],
    )
    air = open_meteo.Weather(temp_C=11.3, precip_mm=0.7, wind_mps=4.1)
    return dataclasses.replace(FeedState(NOON, NOON, information, status, air), **changes)


@pytest.fixture
def server() -> Iterator[Any]:
    with FeedServer() as feed:
        feed.show(small_state())
        yield feed


@pytest.fixture
def session() -> Iterator[Any]:
    with requests.Session() as client:
        yield client


def fetch(server: Any, session: Any, path: str) -> Any:
    answer = session.get(server.base_url + path, timeout=10)
    answer.raise_for_status()
    return answer


def read_by_ingestion(server: Any, session: Any, dialect: Any) -> Any:
    """Return the rows and defects that the ingestion makes of a dialect, found by discovery."""
    discovery = gbfs.decode("gbfs", fetch(server, session, f"{dialect}/gbfs.json").content)
    documents = {
        feed: gbfs.decode(feed, session.get(url, timeout=10).content)
        for feed, url in gbfs.feed_urls(discovery).items()
    }
    listed = documents.get("vehicle_types")
    types, _ = kinds.vehicle_kinds(listed) if listed else kinds.NO_TYPES
    status = stations.read_status(documents["station_status"], types)
    information = stations.read_information(documents["station_information"])
    stamp = documents["station_status"].last_updated
    found = observed_at(stamp, status.reports(), NOON, "Europe/Paris")
    return stations.snapshot_rows(status, information, {}, found)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ingestion_reads_the_same_numbers_from_every_dialect(
    server: Any, session: Any, dialect: Any
) -> None:
    rows, defects = read_by_ingestion(server, session, dialect)
    answered = rows.drop_columns([*AIR, "weather_utc", "tbin_utc"]).to_pylist()
    naive = NOON.replace(tzinfo=None)
    reported = dt.datetime.fromtimestamp(REPORTED, dt.UTC).replace(tzinfo=None)
    assert answered == [
        {
            "ts_utc": naive,
            "station_id": "36255",
            "bikes": 8,
            "capacity": 21,
            "mechanical": 1,
            "ebike": 7,
            "status": "OK",
            "lat": 48.87929591733507,
            "lon": 2.3373600840568547,
            "name": "Toudouze - Clauzel",
            "last_reported_utc": reported,
            "docks_available": 13,
            "is_installed": 1,
            "is_renting": 1,
            "is_returning": 1,
        },
        {
            "ts_utc": naive,
            "station_id": "007",
            "bikes": 3,
            "capacity": 0,
            "mechanical": 0,
            "ebike": 3,
            "status": "CLOSED",
            "lat": 48.1,
            "lon": 2.2,
            "name": "Hôpital “Mondor”",
            "last_reported_utc": reported - dt.timedelta(seconds=240_000_000),
            "docks_available": None,
            "is_installed": 1,
            "is_renting": 0,
            "is_returning": 0,
        },
        {
            "ts_utc": naive,
            "station_id": "31024_relais",
            "bikes": 0,
            "capacity": None,
            "mechanical": None,
            "ebike": None,
            "status": "CLOSED",
            "lat": None,
            "lon": 2.3,
            "name": None,
            "last_reported_utc": None,
            "docks_available": 4,
            "is_installed": 0,
            "is_renting": 0,
            "is_returning": 0,
        },
    ]
    assert [(defect.field, defect.refused) for defect in defects] == [("station_id", True)]


def test_the_standard_dialects_differ_as_their_versions_say(server: Any, session: Any) -> None:
    two = fetch(server, session, "/gbfs/2/station_status.json").json()
    three = fetch(server, session, "/gbfs/3/station_status.json").json()
    stamp = int(NOON.timestamp())
    assert (two["version"], two["last_updated"]) == ("2.3", stamp)
    assert (three["version"], three["last_updated"]) == ("3.0", "2025-11-03T12:07:30Z")
    assert two["data"]["stations"][0] == {
        "station_id": "36255",
        "num_bikes_available": 8,
        "vehicle_types_available": [
            {"vehicle_type_id": "mechanical", "count": 1},
            {"vehicle_type_id": "ebike", "count": 7},
        ],
        "num_docks_available": 13,
        "is_installed": True,
        "is_renting": True,
        "is_returning": True,
        "last_reported": REPORTED,
    }
    assert two["data"]["stations"][1]["is_renting"] is False
    assert three["data"]["stations"][0]["is_renting"] is True
    assert three["data"]["stations"][0]["num_vehicles_available"] == 8
    assert three["data"]["stations"][0]["last_reported"] == "2025-11-03T11:50:01Z"
    information = fetch(server, session, "/gbfs/3/station_information.json").json()
    names = information["data"]["stations"][0]["name"]
    assert names == [{"text": "Toudouze - Clauzel", "language": "fr"}]
    assert "name" not in information["data"]["stations"][2]


def test_the_velib_dialect_has_its_own_stamp_ids_and_twin_keys(server: Any, session: Any) -> None:
    document = fetch(server, session, "/velib/station_status.json").json()
    assert set(document) == {"lastUpdatedOther", "ttl", "data"}
    assert document["ttl"] == 3600
    first, zeros, relay, nameless = document["data"]["stations"]
    assert first == {
        "station_id": 36255,
        "stationCode": "36255",
        "num_bikes_available": 8,
        "numBikesAvailable": 8,
        "num_bikes_available_types": [{"mechanical": 1}, {"ebike": 7}],
        "num_docks_available": 13,
        "numDocksAvailable": 13,
        "is_installed": 1,
        "is_renting": 1,
        "is_returning": 1,
        "last_reported": REPORTED,
    }
    assert first["is_renting"] is not True, "flags are 0 and 1 here"
    assert zeros["station_id"] == "007", "a leading zero must survive"
    assert relay["station_id"] == "31024_relais"
    assert {"station_id", "stationCode"}.isdisjoint(nameless)


def test_the_date_header_is_the_feeds_clock(server: Any, session: Any) -> None:
    late = small_state(now=NOON + dt.timedelta(minutes=3))
    server.show(late)
    answer = fetch(server, session, "/gbfs/2/station_status.json")
    assert email.utils.parsedate_to_datetime(answer.headers["Date"]) == late.now
    assert answer.json()["last_updated"] == int(NOON.timestamp())


def test_a_new_state_replaces_every_document(server: Any, session: Any) -> None:
    before = fetch(server, session, "/gbfs/2/station_status.json").json()
    bikes = [7, 3, 0, 5]
    status = dataclasses.replace(small_state().status, bikes=bikes)
    server.show(small_state(status=status, last_updated=NOON + dt.timedelta(minutes=5)))
    after = fetch(server, session, "/gbfs/2/station_status.json").json()
    assert [s["num_bikes_available"] for s in before["data"]["stations"]] == [8, 3, 0, 5]
    assert [s["num_bikes_available"] for s in after["data"]["stations"]] == bikes
    assert after["last_updated"] - before["last_updated"] == 300


def test_ingestion_reads_the_weather_back_bit_for_bit(server: Any, session: Any) -> None:
    settings = Settings.from_env(
        {
            "GCS_BUCKET_ROOT": "gs://bucket/velib",
            "OPENMETEO_URL": f"{server.base_url}/v1/forecast",
            "METEO_DISABLE": "0",
        }
    )
    rng = np.random.default_rng(3)
    for temp, rain, wind in zip(*rng.gamma(2, 3, (3, 20)), strict=True):
        air = open_meteo.Weather(float(temp), float(rain), float(wind))
        server.show(small_state(weather=air))
        answered = open_meteo.observe(session, settings, NOON)
        assert [getattr(answered, name) for name in AIR] == [getattr(air, name) for name in AIR]
        assert answered.weather_utc == NOON.replace(minute=0, second=0, tzinfo=None)


def test_hourly_weather_starts_at_midnight_and_knows_nothing_of_the_past(
    server: Any, session: Any
) -> None:
    query = "latitude=48.85&longitude=2.35&hourly=precipitation,windspeed_10m&windspeed_unit=kmh"
    path = f"/v1/forecast?{query}&past_days=1&forecast_days=1&timezone=UTC"
    document = fetch(server, session, path).json()
    hourly = document["hourly"]
    assert len(hourly["time"]) == 48
    assert hourly["time"][0] == "2025-11-02T00:00"
    present = hourly["time"].index("2025-11-03T12:00")
    assert hourly["precipitation"] == [None] * present + [0.7] * (48 - present)
    assert hourly["windspeed_10m"][present] == pytest.approx(4.1 * 3.6)
    assert document["hourly_units"]["windspeed_10m"] == "km/h"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("longitude=2", "latitude None"),
        ("latitude=x&longitude=2", "latitude 'x'"),
        ("latitude=48&longitude=2&current=snow", "'snow'"),
        ("latitude=48&longitude=2&timezone=auto", "'auto'"),
        ("latitude=48&longitude=2&wind_speed_unit=bft", "'bft'"),
        ("latitude=48&longitude=2&hourly=precipitation&past_days=93", "'93'"),
    ],
)
def test_a_weather_query_that_makes_no_sense_is_refused_with_its_reason(
    server: Any, session: Any, query: str, reason: str
) -> None:
    answer = session.get(f"{server.base_url}/v1/forecast?{query}", timeout=10)
    assert answer.status_code == 400
    assert reason in answer.json()["reason"]


def test_a_stalled_feed_outlasts_the_patience_of_its_reader(server: Any, session: Any) -> None:
    server.stall("/gbfs/2/station_status", 0.5, times=1)
    url = f"{server.base_url}/gbfs/2/station_status.json"
    with pytest.raises(requests.ReadTimeout):
        session.get(url, timeout=0.1)
    assert session.get(url, timeout=5).status_code == 200


def test_a_fault_lasts_as_often_as_it_was_asked_for(server: Any, session: Any) -> None:
    url = f"{server.base_url}/gbfs/2/station_status.json"
    server.fail("/gbfs/2/station_status", status=429, times=2)
    statuses = [session.get(url, timeout=10).status_code for _ in range(3)]
    assert statuses == [429, 429, 200]
    other = f"{server.base_url}/gbfs/2/station_information.json"
    server.fail("/gbfs/2/station_status")
    assert session.get(other, timeout=10).status_code == 200
    assert session.get(url, timeout=10).status_code == 503
    server.heal()
    assert session.get(url, timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>maintenance</html>", "text/html"),
        (json.dumps({"data": {}}).encode()[:-3], "application/json"),
        (bytes(10_000_000), "application/octet-stream"),
    ],
)
def test_junk_is_sent_as_it_was_given(
    server: Any, session: Any, body: Any, content_type: str
) -> None:
    server.reply("/velib", body, content_type, times=1)
    junk = fetch(server, session, "/velib/station_status.json")
    assert (junk.content, junk.headers["Content-Type"]) == (body, content_type)
    assert fetch(server, session, "/velib/station_status.json").json()["ttl"] == 3600


def test_without_a_state_or_a_document_the_server_says_so(session: Any) -> None:
    with FeedServer() as feed:
        url = f"{feed.base_url}/gbfs/2/gbfs.json"
        assert session.get(url, timeout=10).status_code == 503
        feed.show(small_state())
        assert session.get(url, timeout=10).status_code == 200
        unknown = session.get(f"{feed.base_url}/gbfs/4/gbfs.json", timeout=10)
        assert unknown.status_code == 404
