"""From days in the lake to forecasts: profiles, training, the gate, serving, the way back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import io
import math
from typing import TYPE_CHECKING, Any

import joblib
import network
import pyarrow.parquet as pq
import pytest
from contract.documents import problems
from present import present
from raw_feed import raw_feed
from velib_core.feeds.poll import Feeds
from velib_core.jobs import (
    build_datasets,
    build_serving_forecast,
    compact_daily,
    ingest,
    refresh_profiles,
    train_model,
)
from velib_core.jobs.build_serving_forecast import WarmState
from velib_core.jobs.compact_daily import assemble, to_bytes
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import (
    Daily,
    Forecast,
    ForecastBundle,
    ForecastLog,
    GbfsDocument,
    ModelFile,
    Perf,
    Profile,
    Snapshot,
)
from velib_core.lake.layout import Layout
from velib_core.lake.readable import Entry
from velib_core.model import registry
from velib_core.tables import views
from velib_core.tables.history import NoHistoryError
from velib_core.tables.snapshot import validate
from velib_core.timeline.bins import Bin, Day, HorizonMinutes, bin_start, day_after, first_bin
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.settings.network import Settings

H = HorizonMinutes(60)
DAYS = [day_after(network.FIRST_DAY, n) for n in range(5)]
STATIONS = 6
TODAY = day_after(DAYS[-1])


def tide(n: int, station: int) -> int:
    """Return bikes that swing through the day: persistence is wrong, the hour knows."""
    return round(12 + 9 * math.sin(2 * math.pi * (n / 96 + station / STATIONS)))


@functools.cache
def rows(bin_: Bin) -> Any:
    bikes = [tide(bin_, s) for s in range(STATIONS)]
    places = {"lat": [48.8 + s / 100 for s in range(STATIONS)], "lon": [2.3] * STATIONS}
    capacity = [25] * (STATIONS - 1) + [0]
    table = network.snapshot_table(bin_, STATIONS, bikes=bikes, capacity=capacity, **places)
    return validate(table, bin_)[0]


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings that train in a second."""
    return dataclasses.replace(settings, horizons=(H,), train_rounds=8, train_max_rows=4000)


@pytest.fixture
def history(lake: Lake, quick: Settings) -> Lake:
    """A lake of five closed days with profiles, and the first hours of the sixth."""
    layout = Layout(quick)
    for day in DAYS:
        network.put(lake, layout.name(Daily(day)), daily(day))
        refresh_profiles.run(network.of(lake, quick), day)
    observe(lake, quick, range(80))
    return lake


@functools.cache
def daily(day: Day) -> bytes:
    start = first_bin(day)
    return to_bytes(assemble([rows(Bin(start + n)) for n in range(288)]))


def observe(lake: Lake, settings: Settings, bins: list[int] | range) -> None:
    for n in bins:
        bin_ = Bin(first_bin(TODAY) + n)
        name = Layout(settings).name(Snapshot(bin_))
        network.put(lake, name, store_bytes(rows(bin_)))


def store_bytes(table: Any) -> bytes:
    from velib_core.tables.snapshot import to_bytes as snapshot_bytes

    return snapshot_bytes(table)


def forecast(lake: Lake, settings: Settings, alias: Any = False) -> Any:
    return lake.fetch_json(Layout(settings).name(Forecast(H, alias)))


def at(n: int) -> Bin:
    return Bin(first_bin(TODAY) + n)


def test_a_good_candidate_is_registered_deployed_and_evaluated_by_hindcasts(
    history: Lake, quick: Settings
) -> None:
    lake = history
    result = train_model.run(network.of(lake, quick), H)
    assert result.counts["promoted"] == 1
    model = present(registry.live(lake, Layout(quick), H))
    assert model.record["verdict"]["candidate"]["mae_lift"] > 0.2
    assert {"by_hour", "by_size"} <= set(model.record["verdict"]["candidate"])
    before = network.contents(lake)
    assert train_model.run(network.of(lake, quick), H).counts == {"fresh": 1}
    assert network.contents(lake) == before, "the same request twice changes nothing"

    _, old = lake.fetch("models/h60/latest.joblib")
    pack = joblib.load(io.BytesIO(old))
    assert pack.keys() == {"model", "feat_cols", "horizon_bins"}
    assert pack["horizon_bins"] == 12

    build_serving_forecast.run(network.of(lake, quick), WarmState(), at(79))
    document = forecast(lake, quick)
    assert document == forecast(lake, quick, alias=True)
    assert document["generated_at"].endswith("Z")
    by_station = {row["station_id"]: row for row in document["data"]}
    assert len(by_station) == STATIONS
    empty = by_station.pop("1005")
    assert (empty["reason"], empty["bikes_pred"]) == ("no_capacity", None)
    errors, persistence = 0, 0
    for station, row in by_station.items():
        truth = tide(at(79) + 12, int(station) - 1000)
        errors += abs(row["bikes_pred_int"] - truth)
        persistence += abs(row["bikes"] - truth)
        assert row["model_version"] == "2.0.0"
        assert 0 <= row["p_bike"] <= 1
    assert errors < persistence

    # The day that the model has not seen is hindcast once it is closed.
    observe(lake, quick, range(80, 288))
    compact_daily.run(network.of(lake, quick), TODAY)
    refresh_profiles.run(network.of(lake, quick), TODAY)
    build_datasets.run(network.of(lake, quick), TODAY)
    perf = _perf(lake, quick, TODAY)
    assert set(perf["model_version"].to_pylist()) == {"2.0.0", None}
    assert model.learnt_through == DAYS[-2]
    assert set(_perf(lake, quick, DAYS[-1])["model_version"].to_pylist()) == {"2.0.0", None}
    build_datasets.run(network.of(lake, quick), DAYS[-2])
    learnt = _perf(lake, quick, DAYS[-2])["y_pred_int"]
    assert learnt.null_count == len(learnt), "no day is hindcast by a model that has learnt from it"


def _perf(lake: Lake, settings: Settings, day: Day) -> Any:
    return pq.read_table(io.BytesIO(lake.fetch(Layout(settings).name(Perf(day)))[1]))


def test_a_worse_candidate_is_refused_with_a_report_and_the_live_model_stays(
    history: Lake, quick: Settings
) -> None:
    train_model.run(network.of(history, quick), H)
    live = registry.live(history, Layout(quick), H)
    blunt = dataclasses.replace(quick, train_rounds=1)
    result = train_model.run(network.of(history, blunt), H)
    assert result.counts["promoted"] == 0
    report = history.fetch_json(next(iter(result.outputs)))
    assert report["verdict"]["reason"].startswith(("worse than the live", "no better than"))
    assert registry.live(history, Layout(quick), H) == live


class KilledError(Exception):
    """The process dies."""


def mortal(lake: Lake, lives: float) -> Any:
    """Return the lake of a process that dies when it has written so many objects."""

    class Dying(Lake):
        written = 0

        def write(self, name: Any, artefact: Any, **rest: Any) -> int:
            if self.written == lives:
                raise KilledError
            self.written += 1
            return super().write(name, artefact, **rest)

    return Dying(lake.bucket)


def test_a_training_killed_on_going_live_ends_as_an_undisturbed_one(
    history: Lake, quick: Settings
) -> None:
    train_model.run(network.of(history, dataclasses.replace(quick, train_rounds=6)), H)
    old = present(registry.live(history, Layout(quick), H))
    before = set(network.contents(history))
    undisturbed = mortal(history, math.inf)
    train_model.run(network.of(undisturbed, quick), H)
    new = present(registry.live(history, Layout(quick), H))
    after = set(network.contents(history))
    assert (old.version, new.version) == ("2.0.0", "2.0.1")
    # Before the pointer, and before the fingerprint after it; nobody reads what is written earlier.
    for lives in (undisturbed.written - 2, undisturbed.written - 1):
        registry.promote(history, Layout(quick), old)
        for name in after - before:
            history.delete(present(history.stat(name)))
        with pytest.raises(KilledError):
            train_model.run(network.of(mortal(history, lives), quick), H)
        live = present(registry.live(history, Layout(quick), H))
        assert live.folder in {old.folder, new.folder}
        assert registry.load(history, Layout(quick), live)
        train_model.run(network.of(history, quick), H)
        assert present(registry.live(history, Layout(quick), H)).folder == new.folder
        assert set(network.contents(history)) == after
        assert train_model.run(network.of(history, quick), H).counts == {"fresh": 1}


def test_the_summary_of_several_trainings_has_each(history: Lake, quick: Settings) -> None:
    result = train_model.run_for_horizons(network.of(history, quick), [H])
    assert result.counts == {f"h{H}_days": len(DAYS), f"h{H}_promoted": 1}
    assert list(result.outputs) == [f"h{H} 2.0.0"]


def test_too_little_history_is_refused_in_words(lake: Lake, settings: Settings) -> None:
    with pytest.raises(NoHistoryError, match="at least 3"):
        train_model.run(network.of(lake, settings), H)


def test_without_a_model_every_station_is_null_with_the_reason(
    history: Lake, quick: Settings
) -> None:
    build_serving_forecast.run(network.of(history, quick), WarmState())
    document = forecast(history, quick)
    assert {row["reason"] for row in document["data"]} == {"no_model"}
    assert {row["bikes_pred"] for row in document["data"]} == {None}
    assert document["model_version"] is None


def test_an_overtaken_snapshot_is_answered_at_once_and_never_replaces_a_newer(
    history: Lake, quick: Settings
) -> None:
    warm = WarmState()
    build_serving_forecast.run(network.of(history, quick), warm, at(79))
    before = network.contents(history)
    result = build_serving_forecast.run(network.of(history, quick), warm, at(40))
    assert result.counts == {"overtaken": 1}
    late = build_serving_forecast.run(network.of(history, quick), warm, Bin(first_bin(DAYS[0])))
    assert late.counts == {"overtaken": 1}
    assert network.contents(history) == before
    # An instance that listed before the newest snapshot landed comes last.
    name = Layout(quick).name(Snapshot(at(79)))
    newest = present(history.stat(name))
    data = history.read(newest)
    history.delete(newest)
    build_serving_forecast.run(network.of(history, quick), WarmState(), at(78))
    network.put(history, name, data)
    assert forecast(history, quick)["data"][0]["tbin_latest"].endswith(":35:00Z")


def test_a_new_snapshot_and_a_repeated_event(history: Lake, quick: Settings) -> None:
    warm = WarmState()
    build_serving_forecast.run(network.of(history, quick), warm, at(79))
    again = build_serving_forecast.run(network.of(history, quick), warm, at(79))
    assert set(again.outputs.values()) == {"fresh"}
    observe(history, quick, [80])
    build_serving_forecast.run(network.of(history, quick), warm, at(80))
    assert forecast(history, quick)["generated_at"] == "2025-11-04T06:40:42Z"


def test_the_forecast_is_published_as_gbfs_too_and_what_lasts_is_written_once(
    history: Lake, quick: Settings
) -> None:
    layout, warm = Layout(quick), WarmState()
    train_model.run(network.of(history, quick), H)
    first = build_serving_forecast.run(network.of(history, quick), warm, at(79))
    names = {
        file: layout.name(GbfsDocument(H, file))
        for file in ("gbfs.json", "station_information.json", "station_status.json")
    }
    assert {first.outputs[name] for name in names.values()} == {"written"}
    status = history.fetch_json(names["station_status.json"])
    published = forecast(history, quick)
    assert status["last_updated"] == published["generated_at"]
    assert {s["station_id"]: s["num_vehicles_available"] for s in status["data"]["stations"]} == {
        row["station_id"]: row["bikes_pred_int"]
        for row in published["data"]
        if row["bikes_pred_int"] is not None
    }
    feeds = {f["name"]: f["url"] for f in history.fetch_json(names["gbfs.json"])["data"]["feeds"]}
    for name in ("station_status", "station_information"):
        assert (
            feeds[name] == f"https://storage.googleapis.com/{quick.bucket}/{names[f'{name}.json']}"
        )
    observe(history, quick, [80])
    second = build_serving_forecast.run(network.of(history, quick), warm, at(80))
    assert {file: second.outputs[name] for file, name in names.items()} == {
        "gbfs.json": "fresh",
        "station_information.json": "fresh",
        "station_status.json": "written",
    }


def test_a_deleted_gbfs_document_is_back_within_the_hour_and_at_once_when_forced(
    history: Lake, quick: Settings
) -> None:
    warm = WarmState()
    discovery = Layout(quick).name(GbfsDocument(H, "gbfs.json"))
    train_model.run(network.of(history, quick), H)
    build_serving_forecast.run(network.of(history, quick), warm, at(79))
    history.delete(present(history.stat(discovery)))
    observe(history, quick, [84])
    build_serving_forecast.run(network.of(history, quick), warm, at(84))
    history.delete(present(history.stat(discovery)))
    build_serving_forecast.run(network.of(history, quick), warm, at(84), force=True)
    assert history.stat(discovery) is not None


def test_the_bundle_is_of_the_live_forecasts_with_names_and_places(
    history: Lake, quick: Settings
) -> None:
    bundle = Layout(quick).name(ForecastBundle())
    build_serving_forecast.run(network.of(history, quick), WarmState(), at(79))
    empty = history.fetch_json(bundle)
    assert not problems(bundle, empty)
    assert {row["model_version"] for row in empty["data"]["60"]} == {None}
    train_model.run(network.of(history, quick), H)
    build_serving_forecast.run(network.of(history, quick), WarmState())
    reported = history.fetch_json(bundle)
    assert not problems(bundle, reported)
    for row, live in zip(reported["data"]["60"], forecast(history, quick)["data"], strict=True):
        place = {name: row.pop(name) for name in ("name", "lat", "lon", "capacity")}
        assert row == live
        number = int(row["station_id"]) - 1000
        assert place["lat"] == pytest.approx(48.8 + number / 100)
        assert place["capacity"] == row["capacity_bin"]


def test_every_forecast_is_logged_before_it_is_published(history: Lake, quick: Settings) -> None:
    """A page is written once, its day united once it is closed, stations without a number out."""
    train_model.run(network.of(history, quick), H)
    for n in (79, 80):
        observe(history, quick, [n])
        build_serving_forecast.run(network.of(history, quick), WarmState(), at(n))
    pages = [entry.name for entry in history.entries("ledger/")]
    assert len(pages) == 2
    history.delete(present(history.stat(Layout(quick).name(Forecast(H)))))
    build_serving_forecast.run(network.of(history, quick), WarmState(), at(80))
    assert [entry.name for entry in history.entries("ledger/")] == pages
    build_datasets.run(network.of(history, quick), TODAY)
    _, data = history.fetch(Layout(quick).name(ForecastLog(TODAY)))
    forecast_log = pq.read_table(io.BytesIO(data))
    assert forecast_log.schema.equals(views.FORECAST_LOG_SCHEMA)
    assert forecast_log.num_rows == 2 * (STATIONS - 1)
    newest = {row["station_id"]: row for row in forecast(history, quick)["data"]}
    for row in forecast_log.slice(STATIONS - 1).to_pylist():
        live = newest[row["station_id"]]
        assert row["y_pred_int"] == live["bikes_pred_int"]
        assert row["y_mean"] == pytest.approx(live["bikes_mean"], abs=1e-3)
        lead = row["target_tbin_utc"] - row["tbin_utc"]
        assert lead.total_seconds() == 60 * H
        assert row["model_version"] == "2.0.0"


def test_what_the_feed_says_of_a_station_decides_whether_it_is_forecast(
    history: Lake, quick: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_model.run(network.of(history, quick), H)
    now = bin_start(at(80)) + dt.timedelta(seconds=50)
    (tmp_path / "clock").write_text(now.isoformat(), "utf-8")
    monkeypatch.setenv(SIMULATED_CLOCK, str(tmp_path / "clock"))
    fresh, days_ago = int(now.timestamp()) - 60, int(now.timestamp()) - 3 * 86_400
    differences: list[dict[str, Any]] = [
        {"num_bikes_available": 0, "is_renting": 0},  # empty
        {"num_docks_available": 0, "is_returning": "false"},  # full
        {"is_renting": "0", "is_returning": "0"},
        {"is_installed": False},
        {"last_reported": str(days_ago)},
    ]
    usual = {"num_bikes_available": 5, "num_docks_available": 20, "last_reported": fresh}
    flags = dict.fromkeys(("is_installed", "is_renting", "is_returning"), 1)
    records = [
        {"station_id": f"{1000 + n}", **usual, **flags, **other}
        for n, other in enumerate(differences)
    ]
    with raw_feed(now) as feed:
        feed.publish(station_status={"data": {"stations": records}}, station_information=503)
        polled = dataclasses.replace(quick, gbfs_url=f"{feed.url}/gbfs.json", weather_disabled=True)
        ingest.run(network.of(history, polled), Feeds(polled))
    build_serving_forecast.run(network.of(history, quick), WarmState(), at(80))
    found = {row["station_id"]: row for row in forecast(history, quick)["data"]}
    reasons = {f"{1000 + n}": found[f"{1000 + n}"]["reason"] for n in range(len(records))}
    closed = {"1002": "closed", "1003": "closed", "1004": "silent"}
    assert reasons == {"1000": None, "1001": None} | closed
    for station, row in found.items():
        if reasons.get(station, "other") is None:
            assert row["capacity_bin"] == 25  # the information is down; earlier snapshots have it
            assert 0 <= row["bikes_pred_int"] <= 25


def test_a_damaged_live_model_leaves_the_last_good_one_serving_and_is_named_once(
    history: Lake, quick: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    train_model.run(network.of(history, quick), H)
    good = present(registry.live(history, Layout(quick), H))
    files = registry.load(history, Layout(quick), good)
    broken = registry.register(
        history, Layout(quick), H, "20301231-235500Z-00000000", files, good.record, "mark"
    )
    damaged = Layout(quick).name(ModelFile(H, broken.folder, "model.ubj"))
    network.put(history, damaged, b"\x80\x04junk")
    warm = WarmState()
    for n in (79, 80):
        observe(history, quick, [n])
        build_serving_forecast.run(network.of(history, quick), warm)
        document = forecast(history, quick)
        assert document["model_version"] == good.version
        assert any(row["bikes_pred"] is not None for row in document["data"])
    assert capsys.readouterr().err.count("cannot be used") == 1


def test_going_back_takes_effect_at_the_next_snapshot(history: Lake, quick: Settings) -> None:
    train_model.run(network.of(history, quick), H)
    first = present(registry.live(history, Layout(quick), H))
    files = registry.load(history, Layout(quick), first)
    registry.register(
        history, Layout(quick), H, "20301231-235500Z-11111111", files, first.record, "mark"
    )
    warm = WarmState()
    build_serving_forecast.run(network.of(history, quick), warm, at(79))
    assert forecast(history, quick)["model_version"] == "2.0.1"
    registry.promote(history, Layout(quick), first)
    observe(history, quick, [80])
    build_serving_forecast.run(network.of(history, quick), warm, at(80))
    assert forecast(history, quick)["model_version"] == "2.0.0"


def test_a_changed_day_makes_the_profiles_that_rest_on_it_again(
    history: Lake, quick: Settings
) -> None:
    layout = Layout(quick)
    before = {day: history.stat(layout.name(Profile(day))) for day in DAYS}
    start = first_bin(DAYS[2])
    thinned = to_bytes(assemble([rows(Bin(start + n)) for n in range(0, 288, 2)]))
    network.put(history, layout.name(Daily(DAYS[2])), thinned)
    refresh_profiles.run(network.of(history, quick), DAYS[2])
    after = {day: history.stat(layout.name(Profile(day))) for day in DAYS}
    assert [before[day] == after[day] for day in DAYS] == [True, True, False, False, False]
    again = refresh_profiles.run(network.of(history, quick), DAYS[0])
    assert set(again.outputs.values()) == {"fresh"}


def test_profiles_do_not_depend_on_the_order_in_which_days_arrive(
    lake: Lake, quick: Settings, history: Lake
) -> None:
    layout = Layout(quick)
    expected = {day: present(history.stat(layout.name(Profile(day)))).crc32c for day in DAYS}
    for day in DAYS:
        lake.delete(present(lake.stat(layout.name(Profile(day)))))
    for day in (DAYS[3], DAYS[0], DAYS[4], DAYS[1], DAYS[2]):
        refresh_profiles.run(network.of(lake, quick), day)
    assert {day: present(lake.stat(layout.name(Profile(day)))).crc32c for day in DAYS} == expected


def test_the_recipe_of_a_forecast_is_its_fingerprint(history: Lake, quick: Settings) -> None:
    build_serving_forecast.run(network.of(history, quick), WarmState())
    entry = history.stat(Layout(quick).name(Forecast(H)))
    assert isinstance(entry, Entry)
    assert present(entry.fingerprint).startswith("2025-11-04T06:35:00Z ")
