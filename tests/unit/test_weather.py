from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from velib_core.feeds import http, open_meteo
from velib_core.feeds.open_meteo import Weather
from velib_core.settings.network import Settings
from velib_local.simulation.feed_server import FeedServer

NOON = dt.datetime(2025, 11, 3, 12, 7, 30, tzinfo=dt.UTC)
REPORTED_AT = dt.datetime(2025, 11, 3, 12)
CURRENT = {
    "time": "2025-11-03T12:00",
    "interval": 900,
    "temperature_2m": 11.3,
    "precipitation": 0.2,
    "wind_speed_10m": 4.1,
}


def body(**changes: Any) -> bytes:
    return json.dumps({"current": CURRENT | changes}).encode()


SCALED: Any = pytest.approx(0.8)


def test_precipitation_is_scaled_from_its_interval_to_an_hour() -> None:
    assert open_meteo.read(body(), NOON) == Weather(11.3, SCALED, 4.1, REPORTED_AT)
    assert open_meteo.read(body(interval=3600), NOON).precip_mm == pytest.approx(0.2)


@pytest.mark.parametrize("value", [None, "11", True, [], float("inf"), float("nan"), 10**400])
def test_a_value_that_is_no_number_is_null_and_the_others_stay(value: Any) -> None:
    assert open_meteo.read(body(temperature_2m=value), NOON) == Weather(
        None, SCALED, 4.1, REPORTED_AT
    )


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"<html>", "an Open-Meteo response"),
        (b"", "an Open-Meteo response"),
        (b"\xff\xfe{\x00", "an Open-Meteo response"),
        (b"[" * 100_000, "an Open-Meteo response"),
        (b"[]", "an Open-Meteo response"),
        (b'{"current": 3}', "an Open-Meteo response"),
        (b'{"current": {}}', "an Open-Meteo response"),
        (body(time="noon"), "an Open-Meteo response"),
        (body(interval=10**400), "an Open-Meteo response"),
        (body(interval=0), "current.interval"),
        (body(interval=float("nan")), "current.interval"),
        (body(time="2025-11-03T10:07"), "current.time"),
        (body(time="2025-11-03T14:08"), "current.time"),
    ],
)
def test_a_response_without_the_hour_is_refused_by_name(response: Any, message: str) -> None:
    with pytest.raises(http.FeedError, match=message):
        open_meteo.read(response, NOON)


def settings_for(server: FeedServer, **more: Any) -> Settings:
    return Settings.from_env(
        {"GCS_BUCKET_ROOT": "gs://bucket", "OPENMETEO_URL": f"{server.base_url}/v1/forecast"} | more
    )


@pytest.mark.parametrize("fault", ["junk", "refusal", "outage"])
def test_a_weather_failure_is_nulls_and_one_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    with FeedServer() as server, http.open_session() as session:
        if fault == "junk":
            server.reply("/v1/forecast", b"<html>")
        else:
            server.fail("/v1/forecast", 404 if fault == "refusal" else 503)
        assert open_meteo.observe(session, settings_for(server), NOON) == Weather()
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["severity"] == "WARNING"
    assert "no weather" in line["message"]


def test_disabled_weather_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    with FeedServer() as server, http.open_session() as session:
        server.fail("/v1/forecast", 503)
        off = settings_for(server, METEO_DISABLE="1")
        assert open_meteo.observe(session, off, NOON) == Weather()
    assert not capsys.readouterr().err
