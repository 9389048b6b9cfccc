"""Feeds of many kinds over HTTP into what ingestion would write, by ``velib feed``."""

from __future__ import annotations

import datetime as dt
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from raw_feed import raw_feed
from velib_cli.feed_check import FeedCheck, describe
from velib_cli.main import cli
from velib_core.feeds import http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = dt.datetime(2025, 11, 3, 12, 7, 50, tzinfo=dt.UTC)
STAMP = int(NOW.timestamp()) - 20
REPORT = STAMP - 60
BIN = dt.datetime(2025, 11, 3, 12, 5)
PARIS = {"lat": 48.86, "lon": 2.35}


def status(station_id: str = "a", **fields: Any) -> Any:
    usual = {"num_bikes_available": 3, "num_docks_available": 10, "last_reported": REPORT}
    flags = dict.fromkeys(("is_installed", "is_renting", "is_returning"), True)
    return {"station_id": station_id, **usual, **flags, **fields}


def about(station_id: str = "a", **fields: Any) -> Any:
    usual = {"name": f"Station {station_id}", "lat": 45.1, "lon": 4.1, "capacity": 13}
    return {"station_id": station_id, **usual, **fields}


def stations(*records: Any, stamp: Any = STAMP, **top: Any) -> Any:
    return {"last_updated": stamp, "ttl": 60, "data": {"stations": list(records)}} | top


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    with raw_feed(NOW) as feed:
        yield feed


@pytest.fixture
def check(server: Any, tmp_path: Path) -> Any:
    """Return what `velib feed` says of the published files, and the rows it would ingest."""

    def run(at: datetime = NOW, code: int = 0) -> Any:
        out = tmp_path / "snapshot.parquet"
        arguments = ["feed", f"{server.url}/gbfs.json", "--at", at.isoformat(), "--json"]
        done = CliRunner().invoke(cli, [*arguments, "--out", str(out)])
        assert done.exit_code == code, done.output
        found = json.loads(done.stdout)
        rows = pq.read_table(out).to_pylist() if found["usable"] else []
        return found, {row["station_id"]: row for row in rows}

    return run


def test_a_feed_in_order_is_described_with_the_settings_to_deploy_it(
    server: Any, check: Any
) -> None:
    server.publish(
        station_status=stations(status(num_ebikes_available=1), version="2.3"),
        station_information=stations(about()),
        system_information={"data": {"timezone": "Europe/Berlin"}},
    )
    found, rows = check()
    assert (found["version"], found["stations"], found["bikes"]) == ("2.3", 1, 3)
    assert (found["mechanical"], found["ebike"], found["docks_available"]) == (2, 1, 10)
    assert (found["defects"], found["lacks"], found["observed_by"]) == ([], {}, "last_updated")
    assert found["settings"] == {
        "GBFS_URL": f"{server.url}/gbfs.json",
        "OPENMETEO_LAT": "45.1000",
        "OPENMETEO_LON": "4.1000",
        "MON_TZ": "Europe/Berlin",
    }
    assert rows["a"]["tbin_utc"] == BIN


def test_what_a_feed_lacks_and_its_defects_are_said(server: Any, check: Any) -> None:
    bare = {"station_id": "b", "num_bikes_available": 2}
    server.publish(
        station_status=stations(bare, status("c", is_returning="perhaps"), {"station_id": "d"}),
        station_information=stations(
            about("b", capacity=None, **PARIS), about("c", capacity=None, **PARIS)
        ),
    )
    found, rows = check()
    assert set(rows) == {"b", "c"}
    assert set(found["lacks"]) == {"capacity", "mechanical"}
    kinds = {kind["field"]: (kind["count"], kind["refused"]) for kind in found["defects"]}
    assert kinds == {"is_returning": (1, False), "num_bikes_available": (1, True)}
    assert found["settings"]["MON_TZ"] == "Europe/Paris"


def test_a_feed_that_cannot_be_ingested_is_said_in_one_line(server: Any, check: Any) -> None:
    server.publish(station_status=500, station_information=stations())
    found, _ = check(code=1)
    assert "station_status.json answered 500" in found["error"]
    server.publish(station_status=stations(status(num_bikes_available=None)))
    done = CliRunner().invoke(cli, ["feed", f"{server.url}/gbfs.json"])
    assert done.exit_code == 1
    assert "station a: num_bikes_available: got None" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("stamp", "report", "reported"),
    [
        (STAMP, REPORT, REPORT),
        (STAMP - 3 * 86_400, REPORT, REPORT),  # nobody maintains it
        (STAMP - 3600, REPORT, REPORT),
        (STAMP + 7200, REPORT + 7200, REPORT),  # local time as UTC
        (STAMP + 7200, REPORT, REPORT),
        (STAMP, REPORT + 3600, REPORT),
        (STAMP + 9 * 3600 + 1800, REPORT + 9 * 3600 + 1800, REPORT),
        (STAMP * 1000, REPORT * 1000, REPORT),
        (str(STAMP), str(REPORT), REPORT),
        (None, REPORT, REPORT),
        (4_102_444_800, REPORT, REPORT),  # 2100
        (0, REPORT, REPORT),
        (STAMP, REPORT + 86_400, None),
        (STAMP, -1, None),
        (STAMP, 0, None),
    ],
)
def test_the_time_of_a_snapshot_is_that_of_the_evidence(
    server: Any, check: Any, stamp: Any, report: Any, reported: Any
) -> None:
    server.publish(
        station_status=stations(status(last_reported=report), stamp=stamp),
        station_information=stations(about()),
    )
    _, rows = check()
    assert rows["a"]["tbin_utc"] == BIN
    known = reported and dt.datetime.fromtimestamp(reported, dt.UTC).replace(tzinfo=None)
    assert rows["a"]["last_reported_utc"] == known


def test_a_network_west_of_utc_that_writes_local_time_is_put_right(server: Any, check: Any) -> None:
    behind = -6 * 3600
    server.publish(
        station_status=stations(status(last_reported=REPORT + behind), stamp=STAMP + behind),
        station_information=stations(about(lat=41.88, lon=-87.63)),
    )
    found, rows = check()
    assert found["settings"]["MON_TZ"] == "America/Chicago"
    assert (rows["a"]["tbin_utc"], found["report_age_min"]["most"]) == (BIN, 1.0)
    assert [kind["field"] for kind in found["defects"]] == ["last_updated"]


def test_a_frozen_feed_is_of_its_own_time_and_one_clock_ahead_changes_nothing(
    server: Any, check: Any
) -> None:
    frozen = STAMP - 3 * 3600
    usual = [status(f"{n}", last_reported=frozen - 60) for n in range(99)]
    ahead = status("ahead", last_reported=frozen + 3000)
    server.publish(
        station_status=stations(*usual, ahead, stamp=frozen), station_information=stations()
    )
    found, _ = check()
    assert found["observed_at"] == "2025-11-03T09:07:30Z"


@pytest.mark.parametrize("date", [NOW.replace(year=2000), NOW.replace(year=2099)])
def test_the_date_header_moves_nothing(server: Any, check: Any, date: Any) -> None:
    server.now = date
    server.publish(
        station_status=stations(status(), stamp=None), station_information=stations(about())
    )
    assert check()[1]["a"]["tbin_utc"] == BIN


@pytest.mark.parametrize("information", [404, 500, b"<html>", b"{}", stations(7, "x", {"data": 1})])
def test_without_information_a_snapshot_has_its_counts(
    server: Any, check: Any, information: Any
) -> None:
    server.publish(station_status=stations(status()), station_information=information)
    found, rows = check()
    assert (rows["a"]["bikes"], rows["a"]["name"]) == (3, None)
    assert all(kind["field"].startswith("station_information") for kind in found["defects"])
    assert found["defects"]


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_stations_records_the_newest_report_counts(
    server: Any, check: Any, turned: bool
) -> None:
    old, new = status(num_bikes_available=9, last_reported=REPORT - 300), status()
    future = status(num_bikes_available=7, last_reported=REPORT + 86_400)
    records = [new, old, future]
    server.publish(
        station_status=stations(*(records[::-1] if turned else records)),
        station_information=stations(about()),
    )
    found, rows = check()
    assert (rows["a"]["bikes"], found["refused"]) == (3, 2)


def test_two_ids_that_differ_by_a_control_character_do_not_become_one(
    server: Any, check: Any
) -> None:
    server.publish(
        station_status=stations(status("7"), status("7\0", num_bikes_available=9)),
        station_information=stations(),
    )
    found, rows = check()
    assert {key: row["bikes"] for key, row in rows.items()} == {"7": 3}
    assert found["refused"] == 1


def test_the_query_of_an_address_is_never_shown(server: Any, check: Any) -> None:
    server.publish(station_status=500, station_information=stations())
    listed = server.files["gbfs"]["data"]["en"]["feeds"]
    for feed in listed:
        feed["url"] += "?token=SECRET"
    done = CliRunner().invoke(cli, ["feed", f"{server.url}/gbfs.json?key=SECRET"])
    assert done.exit_code == 1
    assert "SECRET" not in done.output


def test_two_reads_of_a_feed_are_compared(server: Any) -> None:
    def publish(bikes: int, stamp: int | None) -> str | None:
        station = status(num_bikes_available=bikes)
        server.publish(
            station_status=stations(station, stamp=stamp), station_information=stations(about())
        )
        since: str | None = describe(reader.read())["since_last_read"]
        return since

    reader = FeedCheck(f"{server.url}/gbfs.json", at=NOW)
    assert publish(3, STAMP) is None
    assert publish(3, STAMP) == "the same counts, the same stamp: nothing new"
    changed = publish(4, STAMP)
    assert changed is not None
    assert changed.startswith("other counts under the same stamp: nobody maintains it")
    assert publish(4, STAMP + 10) == "the same counts, a newer stamp"
    assert publish(5, STAMP) == "other counts, and an older stamp: copies of the feed disagree"
    assert publish(5, None) == "the same counts, no stamp to compare"
