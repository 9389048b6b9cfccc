"""Freshness at every snapshot, and the page that says whether the system is alive."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import planted
import pyarrow as pa
import pytest
from velib_core.monitoring import intro
from velib_core.monitoring.data import freshness
from velib_core.monitoring.documents import alerts_of
from velib_core.tables import snapshot
from velib_core.timeline.bins import HorizonMinutes

if TYPE_CHECKING:
    from velib_core.monitoring.intro import IntroSources

NOW = dt.datetime(2025, 11, 3, 12, 2, 30, tzinfo=dt.UTC)
H15, H60 = HorizonMinutes(15), HorizonMinutes(60)


def minutes_ago(minutes: float) -> dt.datetime:
    return (NOW - dt.timedelta(minutes=minutes)).replace(tzinfo=None)


def fresh(ages: list[float | None] | list[float], **options: Any) -> Any:
    """Make the freshness of stations that reported so many minutes ago (``None``: never said)."""
    table = pa.table(
        {
            "ts_utc": pa.array([minutes_ago(2)] * len(ages), snapshot.STAMP),
            "tbin_utc": pa.array([dt.datetime(2025, 11, 3, 12)] * len(ages), snapshot.STAMP),
            "station_id": pa.array([f"s{n}" for n in range(len(ages))], pa.string()),
            "last_reported_utc": pa.array(
                [None if age is None else minutes_ago(age) for age in ages], snapshot.STAMP
            ),
        }
    )
    documents = freshness.build(table, now=NOW, run_metadata=planted.run_metadata("x"), **options)
    return documents["freshness.json"]


def test_ages_are_counted_from_the_stations_own_reports() -> None:
    ages = [3.0, 8.5, 61.0, 1.0, 400.0]
    stations = fresh(ages)["stations"]
    assert stations["freshness"] == {
        "p50_min": pytest.approx(np.quantile(ages, 0.5)),
        "p95_min": pytest.approx(np.quantile(ages, 0.95)),
        "max_min": 400.0,
    }
    assert [row["station_id"] for row in stations["top_oldest"]] == ["s4", "s2", "s1", "s0", "s3"]
    assert stations["count"] == 5


def test_fifty_oldest_are_listed() -> None:
    oldest = fresh([float(n) for n in range(80)])["stations"]["top_oldest"]
    assert [row["freshness_min"] for row in oldest] == [float(n) for n in range(79, 29, -1)]


def test_a_clock_ahead_of_ours_is_as_fresh_as_can_be() -> None:
    assert fresh([-5.0])["stations"]["freshness"]["max_min"] == 0


def test_stations_that_do_not_say_are_counted_apart() -> None:
    stations = fresh([None, 4.0])["stations"]
    assert (stations["count"], stations["without_report"]) == (2, 1)
    assert stations["freshness"]["max_min"] == 4


def test_the_weather_is_never_younger_than_now() -> None:
    hours = [NOW.replace(minute=0, second=0) + dt.timedelta(hours=n) for n in range(-2, 4)]
    assert fresh([1.0], weather_times=hours)["weather"]["freshness_min"] == 2.5
    assert fresh([1.0], weather_times=hours[3:])["weather"]["freshness_min"] is None
    silent = fresh([1.0])["weather"]
    assert silent == {"freshness_min": None, "reason": "the snapshot has no weather"}


def test_the_feed_has_an_age_of_its_own() -> None:
    document = fresh([30.0])
    assert document["feed"]["freshness_min"] == 2
    assert document["meta"] == {"bin_t_utc": "2025-11-03T12:00:00Z", "schema": "v1"}


def stamp(minutes: int) -> str:
    return f"{minutes_ago(minutes).isoformat(timespec='seconds')}Z"


def sources(**changed: Any) -> IntroSources:
    """Return the sources of a system that is well, but for what is changed."""
    forecast = {"generated_at": stamp(3), "data": [{"bikes_pred_int": 4}, {"bikes_pred_int": None}]}
    values: dict[str, Any] = {
        "overview": {
            "stations_active": 1400,
            "snapshot_ts_utc": stamp(4),
            "generated_at": stamp(3),
        },
        "health": {"coverage_global_pct": 99.5, "current_days": 14, "generated_at": stamp(600)},
        "freshness": {
            "now_utc": stamp(2),
            "weather": {"freshness_min": 10.0},
            "stations": {"freshness": {"p95_min": 41.0}},
        },
        "drift": {
            "psi_global": 0.02,
            "top_feature": "temp_C",
            "top_feature_psi": 0.3,
            "generated_at": stamp(600),
        },
        "models": {H15: {"version": "2.1.0"}, H60: {"version": "2.0.3"}},
        "forecasts": {H15: forecast, H60: forecast},
    }
    return intro.IntroSources(**(values | changed))


def page(**changed: Any) -> Any:
    return intro.build(
        sources(**changed), horizons=[H15, H60], now=NOW, run_metadata=planted.run_metadata("intro")
    )


def led(name: str, **changed: Any) -> Any:
    return page(**changed)["intro.json"]["statuses"][name]["led"]


def test_a_system_that_is_well_shows_green() -> None:
    document = page()["intro.json"]
    assert {name: status["led"] for name, status in document["statuses"].items()} == {
        "api_stations": "ok",
        "batch_forecast": "ok",
        "batch_forecast_h15": "ok",
        "batch_forecast_h60": "ok",
        "weather_provider": "ok",
        "data_drift": "ok",
    }
    assert document["kpis"] == {
        "stations_active": 1400,
        "freshness_p95_min": 41.0,
        "coverage_7d_pct": 99.5,
        "coverage_days": 14,
        "psi_global": 0.02,
        "model_versions": "2.1.0 / 2.0.3",
    }
    assert alerts_of(page()) == []


@pytest.mark.parametrize(
    ("minutes", "colour"), [(7, "ok"), (8, "warn"), (20, "warn"), (21, "down")]
)
def test_forecasts_age(minutes: int, colour: str) -> None:
    forecast = {"generated_at": stamp(minutes), "data": [{"bikes_pred_int": 1}]}
    assert led("batch_forecast_h15", forecasts={H15: forecast}) == colour


def test_the_worst_horizon_speaks_for_the_forecast() -> None:
    old = {"generated_at": stamp(500), "data": [{"bikes_pred_int": 1}]}
    new = {"generated_at": stamp(1), "data": [{"bikes_pred_int": 1}]}
    document = page(forecasts={H15: new, H60: old})
    assert document["intro.json"]["statuses"]["batch_forecast"]["led"] == "down"
    (alert,) = alerts_of(document)
    assert (alert["code"], alert["artefact"]) == ("batch_forecast_down", "intro.json")
    assert (alert["value"], alert["threshold"]) == (500, 20)


def test_a_horizon_that_never_had_a_model_says_so_itself() -> None:
    silent = {"generated_at": stamp(1), "data": [{"bikes_pred_int": None}]}
    new = {"generated_at": stamp(1), "data": [{"bikes_pred_int": 1}]}
    changed: dict[str, Any] = {"forecasts": {H15: silent, H60: new}}
    changed["models"] = {H15: None, H60: {"version": "2.0.3"}}
    document = page(**changed)
    found = {name: status["led"] for name, status in document["intro.json"]["statuses"].items()}
    assert (found["batch_forecast"], found["batch_forecast_h15"]) == ("ok", "down")
    assert alerts_of(document) == []
    # A model that was live and gives no number is a failure, and so is a network without any.
    assert led("batch_forecast", forecasts=changed["forecasts"]) == "down"
    assert led("batch_forecast", **changed | {"models": {}}) == "down"


def test_a_document_without_a_single_number_is_no_forecast() -> None:
    silent = {"generated_at": stamp(1), "data": [{"bikes_pred_int": None}]}
    assert led("batch_forecast_h15", forecasts={H15: silent}) == "down"
    (alert,) = alerts_of(page(forecasts={H15: silent, H60: silent}))
    assert (alert["code"], alert["value"], alert["threshold"]) == ("batch_forecast_down", 0, 1)
    assert "no station has a number" in alert["text"]
    assert alert["level"] == "high"
    for days, level in ((0, "medium"), (3, "medium"), (4, "high")):  # the first model is due
        health = {"current_days": days}
        found = page(forecasts={H15: silent, H60: silent}, models={}, health=health)
        assert [alert["level"] for alert in alerts_of(found)] == [level], days


def test_old_sources_are_not_shown_green() -> None:
    overview = {"stations_active": 1400, "snapshot_ts_utc": stamp(61), "generated_at": stamp(0)}
    assert led("api_stations", overview=overview) == "down"
    drift = {"psi_global": 0.01, "generated_at": stamp(60 * 51)}
    assert led("data_drift", drift=drift) == "down"
    assert led("data_drift", drift=drift | {"generated_at": stamp(60 * 30)}) == "warn"


@pytest.mark.parametrize(("psi", "colour"), [(0.05, "ok"), (0.15, "warn"), (0.3, "down")])
def test_drift_is_coloured_by_the_thresholds_of_its_alerts(psi: float, colour: str) -> None:
    assert led("data_drift", drift={"psi_global": psi, "generated_at": stamp(60)}) == colour


def test_the_weather_has_aged_since_the_snapshot() -> None:
    status = page()["intro.json"]["statuses"]["weather_provider"]
    assert status["freshness_p95_min"] == pytest.approx(12)
    assert status["valid_until"] == stamp(2 - 90)


def test_a_status_says_until_when_it_is_valid() -> None:
    status = page()["intro.json"]["statuses"]["batch_forecast_h15"]
    assert status["valid_until"] == stamp(3 - 20)


def test_a_horizon_without_a_model_is_not_passed_off_as_one() -> None:
    assert (
        page(models={H15: {"version": "2.1.0"}, H60: None})["intro.json"]["kpis"]["model_versions"]
        == "2.1.0 / –"
    )
    assert page(models={})["intro.json"]["kpis"]["model_versions"] is None
