"""Forecasts as GBFS: valid by the official schemas, and read by somebody else's client."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import published
import pytest
from gbfs_validator import validate_feed
from present import present
from velib_core.feeds import gbfs_documents as gbfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

H = published.HORIZONS[0]


def documents(stations: int = 24) -> Any:
    panel = present(published.sources(stations).panel)
    forecast = published.forecast(H, panel)
    places = [
        {"station_id": station, "name": str(name), "lat": lat, "lon": lon, "capacity": 25.0}
        for station, name, lat, lon in zip(
            panel.stations.ids.tolist(),
            panel.stations.names.tolist(),
            panel.stations.lat.tolist(),
            panel.stations.lon.tolist(),
            strict=True,
        )
    ]
    return {
        gbfs.STATUS: gbfs.station_status(forecast),
        gbfs.INFORMATION: gbfs.station_information(places, published.STAMP),
        gbfs.SYSTEM: gbfs.system_information("essai-1", published.TZ, H, published.STAMP),
    }


@pytest.fixture
def address(tmp_path: Path) -> Iterator[Any]:
    """The documents behind a web server, as a bucket serves them."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    handler = functools.partial(Handler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        made = documents()
        made[gbfs.DISCOVERY] = gbfs.discovery(
            {file: f"{base}/{file}" for file in [*made, gbfs.DISCOVERY]}, published.STAMP
        )
        for file, document in made.items():
            (tmp_path / file).write_text(json.dumps(document, allow_nan=False), "utf-8")
        yield f"{base}/{gbfs.DISCOVERY}"
        server.shutdown()


def test_a_client_from_elsewhere_reads_them_and_finds_nothing_against_the_schemas(
    address: Any,
) -> None:
    report = validate_feed(address)
    assert report["summary"]["version"]["detected"] == "3.0", report["summary"]
    read = {
        entry["file"]: entry
        for entry in report["files"]
        if entry.get("exists") or any(found["exists"] for found in entry.get("languages", []))
    }
    assert set(read) == {gbfs.DISCOVERY, gbfs.STATUS, gbfs.INFORMATION, gbfs.SYSTEM}
    (status,) = read[gbfs.STATUS]["languages"]
    assert status["body"] == documents()[gbfs.STATUS]
    assert not report["summary"]["hasErrors"], json.dumps(
        [entry for entry in report["files"] if entry.get("hasErrors") or entry.get("errors")]
    )[:2000]


def test_the_client_does_find_what_is_wrong(address: Any, tmp_path: Path) -> None:
    broken = documents()[gbfs.STATUS]
    broken["data"]["stations"][0]["num_vehicles_available"] = "many"
    (tmp_path / gbfs.STATUS).write_text(json.dumps(broken), "utf-8")
    assert validate_feed(address)["summary"]["hasErrors"]


def test_what_is_expected_stands_where_the_present_would() -> None:
    status = documents()[gbfs.STATUS]
    stations = {row["station_id"]: row for row in status["data"]["stations"]}
    assert "1002" not in stations, "without a forecast there is no number to give"
    assert len(stations) == 23
    assert stations["1007"]["num_vehicles_available"] == 7
    assert stations["1007"]["num_docks_available"] == 25 - 7
    assert status["_forecast"] == {
        "horizon_min": 15,
        "target": "2025-11-07T10:15:00Z",
        "model_version": "2.0.1",
    }


def test_a_station_without_a_place_is_in_no_information_and_an_unknown_capacity_in_no_record() -> (
    None
):
    rows = [
        {"station_id": "a", "name": None, "lat": 48.8, "lon": 2.3, "capacity": None},
        {"station_id": "b", "name": "B", "lat": None, "lon": None, "capacity": 9.0},
    ]
    (only,) = gbfs.station_information(rows, published.STAMP)["data"]["stations"]
    assert only["name"] == [{"text": "a", "language": "und"}]
    assert "capacity" not in only
    row = {"station_id": "a", "bikes_pred_int": 3, "capacity_bin": None}
    row |= {"target_ts_utc": "x", "p_bike": 1.0, "p_dock": 1.0}
    forecast = {"data": [row], "generated_at": "x", "horizon_min": 15, "model_version": "2.0.0"}
    assert "num_docks_available" not in gbfs.station_status(forecast)["data"]["stations"][0]
