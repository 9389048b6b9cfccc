"""Objects of the right form with values that nothing of ours writes are refused, by name."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import hostile
import network
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from job_table import DAYS, HORIZONS, JOBS, NEWEST, a_snapshot_comes
from present import present
from velib_core.errors import ModelError, TransientError
from velib_core.jobs import (
    build_datasets,
    build_network_overview,
    build_serving_forecast,
    close_day,
    compact_daily,
    monitoring_family,
)
from velib_core.lake.artefact import PARQUET, Artefact, StoreError
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Daily, Events, Forecast, ModelFile, Perf
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.lake.readable import UnreadableObjectError
from velib_core.model import registry
from velib_core.model.blending import calibration_from_json, fresh_calibration
from velib_core.model.readers import load_profiles
from velib_core.monitoring import intro
from velib_core.monitoring.network import day_sums
from velib_core.tables import day_rows, parquet, snapshot, views
from velib_core.tables.npz import ArraysError
from velib_core.tables.views import COLUMN_TYPES
from velib_core.timeline.bins import HorizonMinutes, first_bin

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY


def observations() -> pa.Table:
    rows, _ = snapshot.validate(network.snapshot_table(first_bin(DAY)), first_bin(DAY))
    return views.observations_table(rows, penury_bikes=2, saturation_docks=2)


def evaluations() -> pa.Table:
    rows = observations()
    columns = {
        field.name: rows[field.name] if field.name in rows.column_names else [1] * len(rows)
        for field in views.PERF_SCHEMA
    }
    return pa.table(columns).cast(views.PERF_SCHEMA)


def forecast_log() -> pa.Table:
    columns = {f.name: [1] * network.STATIONS for f in views.FORECAST_LOG_SCHEMA}
    times = observations()["tbin_utc"]
    given = {"tbin_utc": times, "target_tbin_utc": times, "station_id": ["1"] * len(times)}
    return pa.table(columns | given | {"model_version": ["2.0.0"] * len(times)}).cast(
        views.FORECAST_LOG_SCHEMA
    )


def daily() -> pa.Table:
    rows, _ = snapshot.validate(network.snapshot_table(first_bin(DAY)), first_bin(DAY))
    return rows


TABLES: dict[str, Callable[[], pa.Table]] = {
    "daily": daily,
    "events": observations,
    "evaluations": evaluations,
    "forecast log": forecast_log,
}


@pytest.mark.parametrize(
    ("kind", "damage"), [(kind, damage) for kind in TABLES for damage in hostile.VALUES[kind]]
)
def test_a_table_of_a_day_with_a_value_that_cannot_be_is_refused_as_a_whole(
    kind: str, damage: str
) -> None:
    held = hostile.parquet_bytes(TABLES[kind]())
    schema = snapshot.SCHEMA if kind == "daily" else COLUMN_TYPES
    assert day_rows.checked(pq.read_table(io.BytesIO(held)), schema).num_rows
    changed = pq.read_table(
        io.BytesIO(hostile.VALUES[kind][damage](held)),
        read_dictionary=["station_id", "name", "model_version"],
    )
    with pytest.raises(parquet.ParquetError):
        day_rows.checked(changed, schema)


def test_a_column_that_is_there_twice_is_refused() -> None:
    table = observations()
    with pytest.raises(parquet.ParquetError, match="each once"):
        day_rows.checked(table.append_column("bikes", table["bikes"]), COLUMN_TYPES)


def test_one_value_in_millions_of_rows_is_counted_as_often_as_it_stands() -> None:
    rows = 10_000_000
    columns = {
        name: pa.repeat(observations()[name][0], rows) for name in ("tbin_utc", "bikes", "lat")
    }
    bomb = hostile.parquet_bytes(pa.table(columns), compression="zstd")
    assert len(bomb) < 1 << 17
    limits = dataclasses.replace(views.VIEW_LIMITS, decoded_bytes=rows * 24)
    parquet.check(bomb, limits)
    with pytest.raises(parquet.ParquetError, match="decoded bytes"):
        parquet.check(bomb, dataclasses.replace(limits, decoded_bytes=rows * 24 - 1))
    parquet.check(bomb, dataclasses.replace(limits, decoded_bytes=rows * 8), ["bikes"])


def test_a_view_of_such_values_is_left_out_and_named(
    complete: Lake, quick: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [Layout(quick).name(Events(day)) for day in DAYS[:3]]
    network.put(
        complete, names[1], hostile.VALUES["events"]["no time"](complete.fetch(names[1])[1])
    )
    entries = [present(complete.stat(name)) for name in names]
    tables = list(monitoring_family.read_days(complete, entries, ("tbin_utc", "station_id")))
    assert len(tables) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert names[1] in line
    assert "tbin_utc" in line


@pytest.mark.parametrize("damage", [*hostile.VALUES["profiles"]])
def test_a_profile_of_such_values_is_refused_and_the_one_before_it_is_used(
    complete: Lake, quick: Settings, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = list(complete.entries("profiles/profiles_"))
    held = complete.read(entries[-1])
    network.put(complete, entries[-1].name, hostile.VALUES["profiles"][damage](held))
    found = load_profiles(complete, quick, complete.stat(entries[-1].name))
    assert found.through == DAYS[-2]
    assert entries[-1].name in capsys.readouterr().err


def test_only_so_many_unreadable_profiles_are_tried(complete: Lake, quick: Settings) -> None:
    for entry in list(complete.entries("profiles/profiles_")):
        network.put(complete, entry.name, b"none")
    newest = list(complete.entries("profiles/profiles_"))[-1]
    assert load_profiles(complete, quick, newest).through is None


def test_a_horizon_that_is_new_in_the_settings_has_no_past_and_stops_nothing(
    complete: Lake, quick: Settings
) -> None:
    more = dataclasses.replace(quick, horizons=(*HORIZONS, HorizonMinutes(30)))
    newest = list(complete.entries("profiles/profiles_"))[-1]
    found = load_profiles(complete, more, newest)
    assert found.horizons == (3, 12, 6)
    before = load_profiles(complete, quick, newest)
    assert (found.change[:2] == before.change).all()
    assert before.change.any()
    assert not found.change[2].any()
    assert np.isnan(found.relative_activity[2])


@pytest.mark.parametrize("damage", [*hostile.VALUES["calibrations"]])
def test_a_calibration_of_such_values_is_refused(damage: str) -> None:
    held = json.dumps(fresh_calibration().as_json()).encode()
    with pytest.raises(ModelError):
        calibration_from_json(json.loads(hostile.VALUES["calibrations"][damage](held)))


@pytest.mark.parametrize("damage", [*hostile.VALUES["sums"]])
def test_sums_of_a_day_of_such_values_are_refused(damage: str) -> None:
    sums = present(day_sums.summarise(observations()))
    held = build_network_overview.sums_to_bytes(sums)
    assert present(build_network_overview.sums_from_bytes(held)).start == sums.start
    with pytest.raises((ArraysError, ValueError, OverflowError, OSError)):
        build_network_overview.sums_from_bytes(hostile.VALUES["sums"][damage](held))


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", 10**300])
def test_an_instant_that_cannot_be_is_none(stamp: object) -> None:
    assert intro.instant_of(stamp) is None


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan"), "1", [1], True])
def test_a_number_that_cannot_be_is_missing(value: object) -> None:
    document = {"weather": {"freshness_min": value}, "now_utc": "2025-11-01T00:00:00Z"}
    now = present(intro.instant_of("2025-11-01T00:00:00Z"))
    status = intro._weather(intro.IntroSources(freshness=document), now, intro.IntroThresholds())
    assert status["freshness_p95_min"] is None


@pytest.mark.parametrize("day", ["0001-01-01", "1999-12-31", "2200-01-01", "9999-12-31"])
def test_a_day_at_the_end_of_the_calendar_is_no_day(
    settings: Settings, lake: Lake, day: str
) -> None:
    layout = Layout(settings)
    for name in (
        f"bronze/date={day}/hour=00/{day}T00-00.parquet",
        f"daily/compact_{day}.parquet",
        f"monthly/compact_{day[:7]}.parquet",
        f"exports/events_{day}.parquet",
        f"profiles/profiles_{day}.npz",
        f"ledger/date={day}/hour=00/{day}T00-00_h60_00000000.parquet",
    ):
        with pytest.raises(ForeignNameError):
            layout.key(name)
        network.put(lake, name, b"x")
    publisher = network.PublisherLog()
    network.upload(lake, settings, [first_bin(DAY)])
    net = network.of(lake, settings, publisher)
    close_day.run(net, close_day.WarmState(), first_bin(DAY))
    assert publisher.messages == []


@pytest.mark.parametrize("said", ["zzz", "2099-01-01T00:00:00Z x", "9999-12-31T23:59:59-23:59 x"])
def test_a_forecast_that_says_it_is_of_the_future_is_published_again(
    complete: Lake, quick: Settings, said: str
) -> None:
    name = Layout(quick).name(Forecast(HORIZONS[0]))
    forged = Artefact(b'{"a": 1}', PARQUET, said)
    complete.write(name, forged, expected_generation=present(complete.stat(name)).generation)
    a_snapshot_comes(complete, quick)
    JOBS["build_serving_forecast"].work(network.of(complete, quick))
    assert complete.fetch_json(name)["data"]


def test_a_forecast_that_is_none_under_the_right_fingerprint_is_named(
    complete: Lake, quick: Settings
) -> None:
    name = Layout(quick).name(Forecast(HORIZONS[0]))
    for of in (Forecast(HORIZONS[0]), Forecast(HORIZONS[0], alias=True)):
        held = present(complete.stat(Layout(quick).name(of)))
        forged = Artefact(b'{"a": 1}', PARQUET, present(held.fingerprint))
        complete.write(held.name, forged, expected_generation=held.generation)
    bundle = present(complete.stat("serving/forecast/latest_forecast.json"))
    complete.delete(bundle)
    warm = build_serving_forecast.WarmState()
    with pytest.raises(Exception, match=name) as caught:
        build_serving_forecast.run(network.of(complete, quick), warm, NEWEST)
    assert "a forecast" in str(caught.value)


@pytest.mark.parametrize("damage", [*hostile.VALUES["manifests"]])
def test_alerts_of_a_manifest_that_nobody_published_are_few_and_short(
    complete: Lake, quick: Settings, damage: str
) -> None:
    name = "monitoring/data/health/latest/manifest.json"
    job = JOBS["build_data_health"]
    job.work(network.of(complete, quick))
    network.put(complete, name, hostile.VALUES["manifests"][damage](complete.fetch(name)[1]))
    publisher = network.PublisherLog()
    job.work(network.of(complete, quick, publisher))
    assert len(publisher.messages) <= 110
    assert all(len(str(message)) < 2000 for message in publisher.messages)


def test_what_claims_to_be_compressed_is_read_as_it_is_stored(lake: Lake) -> None:
    """A store unpacks it on the way otherwise, to any size."""
    data = gzip.compress(bytes(8 << 20))
    blob = lake.bucket.blob("bronze/x")
    blob.content_encoding = "gzip"
    blob.upload_from_string(data)
    assert lake.read(present(lake.stat("bronze/x"))) == data


def test_what_is_too_large_for_what_it_is_taken_for_is_not_downloaded(lake: Lake) -> None:
    class Closed(Lake):
        def read(self, entry: Any) -> bytes:
            raise AssertionError(entry.name)

    network.put(lake, "a.json", b" " * 100)
    closed = Closed(lake.bucket)
    with pytest.raises(UnreadableObjectError, match=r"a\.json: 100 bytes, at most 99"):
        closed.fetch_json("a.json", 99)


def test_after_a_version_that_no_training_counts_up_to_the_last_real_one_counts(
    complete: Lake, quick: Settings
) -> None:
    layout, horizon = Layout(quick), HORIZONS[0]
    record = complete.fetch_json(layout.name(ModelFile(horizon, None, registry.POINTER)))
    top = record | {"version": "999999999.999999999.999999999"}
    folder = "20250101-000000Z-00000000"
    name = layout.name(ModelFile(horizon, folder, registry.RECORD))
    network.put(complete, name, json.dumps(top).encode())
    files = {"a": b"b"}
    made = registry.register(
        complete, layout, horizon, "20251104-235500Z-00000001", files, record, "print"
    )
    assert made.version == "2.0.1"
    assert present(registry.live(complete, layout, horizon)).version == "2.0.1"


def test_a_damaged_pointer_leaves_the_hindcasts_to_the_models_that_are_registered(
    complete: Lake, quick: Settings
) -> None:
    layout, horizon = Layout(quick), HORIZONS[1]
    network.put(complete, layout.name(ModelFile(horizon, None, registry.POINTER)), b"none")
    evaluated = layout.name(Perf(DAYS[-1]))
    complete.delete(present(complete.stat(evaluated)))
    result = build_datasets.run_for_model(network.of(complete, quick), horizon)
    assert result.outputs[evaluated] == "written"
    versions = pq.read_table(io.BytesIO(complete.fetch(evaluated)[1]))["model_version"]
    assert "2.0.0" in versions.to_pylist()


def test_a_damaged_daily_costs_its_observations_and_no_other_view(
    complete: Lake, quick: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(quick)
    name = layout.name(Daily(DAYS[-1]))
    network.put(complete, name, hostile.VALUES["daily"]["bikes of text"](complete.fetch(name)[1]))
    manifest = present(complete.stat("exports/manifest.json"))
    complete.delete(manifest)
    result = build_datasets.run(network.of(complete, quick), DAYS[-1])
    assert result.outputs["exports/manifest.json"] == "written"
    assert name in capsys.readouterr().err


def test_a_snapshot_that_is_held_keeps_no_other_from_being_deleted(
    complete: Lake, quick: Settings
) -> None:
    settings = dataclasses.replace(quick, delete_after_compact=True)
    held, *others = [entry.name for entry in complete.entries(Layout(quick).bronze_day(DAYS[1]))]

    class Holding(Lake):
        def delete(self, entry: Any) -> None:
            if entry.name == held:
                raise StoreError("403: the object is under active event-based hold")
            super().delete(entry)

    assert others
    with pytest.raises(TransientError, match="hold"):
        compact_daily.run(network.of(Holding(complete.bucket), settings), DAYS[1])
    assert [entry.name for entry in complete.entries(Layout(quick).bronze_day(DAYS[1]))] == [held]


def test_only_the_generation_that_was_listed_is_deleted(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request says so; the local object server does not look at it."""
    network.put(lake, "bronze/x", b"old")
    listed = present(lake.stat("bronze/x"))
    session = lake.bucket.client._http
    asked: list[str] = []
    send = session.request

    def request(method: str, url: str, *args: Any, **options: Any) -> Any:
        asked.append(f"{method} {url}")
        return send(method, url, *args, **options)

    monkeypatch.setattr(session, "request", request)
    lake.delete(listed)
    (line,) = asked
    assert line.startswith("DELETE ")
    assert f"ifGenerationMatch={listed.generation}" in line


def test_a_daily_out_of_order_may_have_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = daily()
    monkeypatch.setattr(snapshot, "MOST_UNORDERED_ROWS", rows.num_rows)
    assert snapshot.daily_from_bytes(hostile.parquet_bytes(rows.take(list(range(11, -1, -1)))))
    twice = pa.concat_tables([rows, rows])
    with pytest.raises(snapshot.SnapshotError, match="more in order"):
        snapshot.daily_from_bytes(hostile.parquet_bytes(twice))
