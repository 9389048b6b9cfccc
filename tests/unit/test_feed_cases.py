"""Feeds as networks really publish them, each through HTTP and `ingest` into the lake."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import network
import pyarrow.parquet as pq
import pytest
from raw_feed import raw_feed
from velib_core.feeds import http
from velib_core.feeds.poll import Feeds
from velib_core.jobs import ingest
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from raw_feed import RawFeed
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

POLLED = dt.datetime(2026, 2, 10, 8, 22, 40, tzinfo=dt.UTC)
MADE = int(POLLED.timestamp()) - 15
REPORTED = MADE - 45
AT = dt.datetime(2026, 2, 10, 8, 21, 40)


def status(station_id: str = "k1", **fields: Any) -> Any:
    usual = {"num_bikes_available": 6, "num_docks_available": 12, "last_reported": REPORTED}
    flags = dict.fromkeys(("is_installed", "is_renting", "is_returning"), 1)
    return {"station_id": station_id, **usual, **flags, **fields}


def about(station_id: str = "k1", **fields: Any) -> Any:
    usual = {"name": f"Square {station_id}", "lat": 52.4, "lon": 16.9, "capacity": 18}
    return {"station_id": station_id, **usual, **fields}


def file(*records: Any, stamp: Any = MADE) -> Any:
    return {"last_updated": stamp, "ttl": 60, "data": {"stations": list(records)}}


class Ingested(NamedTuple):
    """Rows of the newest snapshot by station, defects by field, and all objects of `bronze/`."""

    rows: dict[str, Any]
    defects: list[str]
    names: list[str]


class Network:
    """A feed on a server of this machine, a lake, and one instance of `ingest`."""

    def __init__(self, lake: Lake, settings: Settings, server: RawFeed, clock: Path) -> None:
        self.server = server
        self._lake, self._clock = lake, clock
        address = f"{server.url}/gbfs.json"
        self._settings = dataclasses.replace(settings, gbfs_url=address, weather_disabled=True)
        self._feeds = Feeds(self._settings)

    def poll(self, minutes: int = 0, **files: Any) -> Ingested:
        """Publish files, ingest them so many minutes after the first poll, and read the lake."""
        self.server.now = POLLED + dt.timedelta(minutes=minutes)
        self._clock.write_text(self.server.now.isoformat(), "utf-8")
        given = {"station_status": file(status()), "station_information": file(about()), **files}
        self.server.publish(**given)
        if "gbfs" in files:
            self.server.files = given
        (name,) = ingest.run(network.of(self._lake, self._settings), self._feeds).outputs
        rows = pq.read_table(io.BytesIO(self._lake.fetch(name)[1])).to_pylist()
        notes = [e.name for e in self._lake.entries("quarantine/") if e.name.endswith(".json")]
        listed = [d["field"] for note in notes for d in self._lake.fetch_json(note)["listed"]]
        names = [entry.name for entry in self._lake.entries("bronze/")]
        return Ingested({row["station_id"]: row for row in rows}, sorted(listed), names)


@pytest.fixture
def city(
    lake: Lake, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Network]:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    monkeypatch.setenv(SIMULATED_CLOCK, str(tmp_path / "clock"))
    with raw_feed(POLLED) as server:
        yield Network(lake, settings, server, tmp_path / "clock")


def counted(**counts: int) -> Any:
    return [{"vehicle_type_id": name, "count": count} for name, count in counts.items()]


def kind(name: str, form: str, propulsion: str) -> Any:
    return {"vehicle_type_id": name, "form_factor": form, "propulsion_type": propulsion}


TYPES = {
    "data": {
        "vehicle_types": [
            kind("plain", "bicycle", "human"),
            kind("motor", "bicycle", "electric_assist"),
            kind("kick", "scooter", "electric"),
        ]
    }
}
TWO_HOURS = 7200

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    # files, what k1 must be, fields of the defects
    "camelCase only": (
        {
            "station_status": file(
                {"stationId": "k1", "numBikesAvailable": 5, "numDocksAvailable": 13}
            )
        },
        {"bikes": 5, "docks_available": 13, "capacity": 18},
        [],
    ),
    "docks as a filler": (
        {"station_status": file(status(num_docks_available=9999))},
        {"bikes": 6, "docks_available": None},
        ["docks_available"],
    ),
    "a capacity out of date": (
        {"station_status": file(status(num_docks_available=20))},
        {"docks_available": 20},
        [],
    ),
    "empty, and does not rent": (
        {"station_status": file(status(num_bikes_available=0, is_renting=False))},
        {"status": "OK", "is_renting": 0},
        [],
    ),
    "full, and takes nothing back": (
        {"station_status": file(status(num_docks_available=0, is_returning="false"))},
        {"status": "OK", "is_returning": 0},
        [],
    ),
    "shut": (
        {"station_status": file(status(is_renting="0", is_returning="0"))},
        {"status": "CLOSED", "is_renting": 0, "is_returning": 0},
        [],
    ),
    "not on the street": (
        {"station_status": file(status(is_installed=False))},
        {"status": "CLOSED"},
        [],
    ),
    "a flag that is none": (
        {"station_status": file(status(is_renting="perhaps"))},
        {"status": "OK", "is_renting": None},
        ["is_renting"],
    ),
    "stamp and reports ahead": (
        {
            "station_status": file(
                status(last_reported=REPORTED + TWO_HOURS), stamp=MADE + TWO_HOURS
            )
        },
        {"last_reported_utc": AT, "tbin_utc": dt.datetime(2026, 2, 10, 8, 20)},
        ["last_updated"],
    ),
    "reports as text": (
        {"station_status": file(status(last_reported=str(REPORTED)))},
        {"last_reported_utc": AT},
        [],
    ),
    "reports in milliseconds": (
        {"station_status": file(status(last_reported=REPORTED * 1000))},
        {"last_reported_utc": AT},
        [],
    ),
    "never reported": (
        {"station_status": file(status(last_reported=0))},
        {"last_reported_utc": None},
        ["last_reported"],
    ),
    "the newer record first": (
        {"station_status": file(status(), status(num_bikes_available=9, last_reported=MADE - 900))},
        {"bikes": 6, "last_reported_utc": AT},
        ["station_id"],
    ),
    "no information": (
        {"station_information": 503},
        {"bikes": 6, "docks_available": 12, "name": None, "lat": None, "capacity": None},
        ["station_information"],
    ),
    "information in wrapped records": (
        {"station_information": file({"data": about(), "status": 200})},
        {"bikes": 6, "name": None, "capacity": None},
        ["station_information.station_id"],
    ),
    "no capacity": (
        {"station_information": file({"station_id": "k1", "lat": 52.4, "lon": 16.9})},
        {"bikes": 6, "docks_available": 12, "capacity": None},
        [],
    ),
    "not a number": (
        {
            "station_status": b'{"data": {"stations": [{"station_id": "k1",'
            b'"num_bikes_available": 6, "num_docks_available": NaN}]}}'
        },
        {"bikes": 6, "docks_available": None},
        ["num_docks_available"],
    ),
    "the place in the status file": (
        {
            "station_status": file(status(lat="52.4", lon=16.9)),
            "station_information": file({"station_id": "k1", "name": "Square k1"}),
        },
        {"lat": 52.4, "lon": 16.9, "name": "Square k1"},
        [],
    ),
    "scooters among the types": (
        {
            "station_status": file(
                status(vehicle_types_available=counted(plain=4, motor=2, kick=30))
            ),
            "vehicle_types": TYPES,
        },
        {"bikes": 6, "mechanical": 4, "ebike": 2},
        [],
    ),
    "a split in other words": (
        {"station_status": file(status(num_bikes_available_types={"classic": 1, "electric": 5}))},
        {"mechanical": 1, "ebike": 5},
        [],
    ),
    "a split that does not add up": (
        {
            "station_status": file(status(vehicle_types_available=counted(plain=1, motor=0))),
            "vehicle_types": TYPES,
        },
        {"bikes": 6, "mechanical": None, "ebike": None},
        ["vehicle_types_available"],
    ),
    "types that nothing explains": (
        {
            "station_status": file(
                status(vehicle_types_available=counted(odd=6), num_ebikes_available=1)
            ),
            "vehicle_types": 404,
        },
        {"bikes": 6, "mechanical": 5, "ebike": 1},
        ["vehicle_types"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_feed_says_of_a_station_arrives_in_the_lake(city: Network, name: str) -> None:
    files, expected, defects = CASES[name]
    found = city.poll(**files)
    assert {field: found.rows["k1"][field] for field in expected} == expected
    assert found.defects == defects
    assert len(found.rows) == len(found.names) == 1


def test_a_discovery_file_may_list_the_feeds_at_once(city: Network) -> None:
    names = ("station_status", "station_information")
    listed = [{"name": name, "url": f"{city.server.url}/{name}.json"} for name in names]
    assert city.poll(gbfs={"data": {"pl": listed}}).rows["k1"]["bikes"] == 6


def test_a_discovery_file_without_the_information_costs_names_and_no_counts(city: Network) -> None:
    listed = [{"name": "station_status", "url": "station_status.json"}]
    found = city.poll(gbfs={"data": {"en": {"feeds": listed}}})
    assert (found.rows["k1"]["bikes"], found.rows["k1"]["name"]) == (6, None)
    assert found.defects == ["station_information"]


def test_a_stamp_that_stands_still_while_stations_report_makes_a_bin_of_each_poll(
    city: Network,
) -> None:
    for n in range(3):
        record = status(num_bikes_available=6 + n, last_reported=REPORTED + 300 * n)
        found = city.poll(5 * n, station_status=file(record, stamp=MADE - 400_000))
        assert found.rows["k1"]["bikes"] == 6 + n
        assert found.rows["k1"]["last_reported_utc"] == AT + dt.timedelta(minutes=5 * n)
    assert [name[-13:-8] for name in found.names] == ["08-20", "08-25", "08-30"]
    assert set(found.defects) == {"last_updated"}


def test_a_station_that_the_information_forgets_stays_what_it_was(city: Network) -> None:
    def both(minute: int) -> Any:
        at = REPORTED + 60 * minute
        records = [status(s, last_reported=at) for s in ("k1", "k2")]
        return file(*records, stamp=MADE + 60 * minute)

    before = city.poll(station_status=both(0), station_information=file(about(), about("k2")))
    after = city.poll(5, station_status=both(5), station_information=file(about("k2")))
    for field in ("name", "lat", "lon", "capacity"):
        assert after.rows["k1"][field] == before.rows["k1"][field] is not None


def test_the_next_poll_reads_what_a_poll_of_very_many_stations_wrote(city: Network) -> None:
    ids = [f"{n}" for n in range(21_000)]
    information = file(*({"station_id": s, "name": f"Square {s}"} for s in ids))
    city.poll(station_status=file(*map(status, ids)), station_information=information)
    fewer = file(*map(status, ids[:-1]), stamp=MADE + 60)
    found = city.poll(1, station_status=fewer, station_information=information)
    assert len(found.rows) == len(ids)
    assert (len(found.names), found.defects) == (1, [])
