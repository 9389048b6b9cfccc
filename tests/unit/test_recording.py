from __future__ import annotations

import datetime as dt
import decimal
import gzip
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from present import present
from velib_cli.main import cli
from velib_cli.run_notes import claim_folder
from velib_core.feeds import gbfs, open_meteo, stations
from velib_core.feeds.kinds import vehicle_kinds
from velib_core.feeds.observed import AHEAD, Observed
from velib_core.lake.artefact import json_bytes
from velib_core.timeline.bins import Day, parse_day
from velib_local.simulation import feed_documents
from velib_local.simulation.observations import Observations, RecordingError
from velib_local.simulation.recording import Recording

if TYPE_CHECKING:
    from velib_local.simulation.feed_state import FeedState

RECORDINGS = Path(os.environ.get("VELIB_RECORDINGS", Path(__file__).parents[3] / "shared" / "data"))
FILES = sorted(RECORDINGS.glob("*.parquet"))


def naive_utc(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0
) -> dt.datetime:
    at = dt.datetime(year, month, day, hour, minute, second, tzinfo=dt.UTC)
    return at.replace(tzinfo=None)


NOON = naive_utc(2025, 11, 3, 12, 0, 7)


def write(path: Path, rows: Any, schema: Any = None) -> Any:
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def row(
    station_id: float | str | None = "1", *, ts: Any = NOON, bikes: Any = 3, **fields: Any
) -> Any:
    return {"ts_utc": ts, "station_id": station_id, "bikes": bikes, **fields}


def as_ingested(state: FeedState) -> Any:
    """Return the rows that the ingestion reads from a state shown as GBFS 2.3, and its defects."""
    documents = feed_documents.gbfs_2(state, "http://feed")
    read = {
        feed: gbfs.decode(feed, json_bytes(documents[f"{feed}.json"]()))
        for feed in ("station_status", "station_information", "vehicle_types")
    }
    types, _ = vehicle_kinds(read["vehicle_types"])
    at = state.last_updated
    table, defects = stations.snapshot_rows(
        stations.read_status(read["station_status"], types),
        stations.read_information(read["station_information"]),
        {},
        Observed(at, True, dt.timedelta(), at + AHEAD),
    )
    return stations.at_instant(table, at, state.weather or open_meteo.Weather()), defects


def recording_of(path: Path, from_day: Day | None = None, to_day: Day | None = None) -> Recording:
    return Recording(Observations(path), from_day, to_day)


def test_snapshots_come_in_order_of_time_however_the_file_is_sorted(tmp_path: Path) -> None:
    later = NOON + dt.timedelta(minutes=10)
    path = write(
        tmp_path / "a.parquet",
        [row("a"), row("a", ts=later, bikes=4), row("b", ts=later, bikes=1), row("b", bikes=9)],
    )
    recording = recording_of(path)
    played = [
        (state.now, dict(zip(state.status.station_id, state.status.bikes, strict=True)))
        for state in recording.snapshots()
    ]
    assert played == [
        (NOON.replace(tzinfo=dt.UTC), {"a": 3, "b": 9}),
        (later.replace(tzinfo=dt.UTC), {"a": 4, "b": 1}),
    ]
    assert len(recording) == 2
    assert recording.days() == [parse_day("2025-11-03")]
    assert not recording.has_weather


def test_days_are_utc_and_both_ends_are_played(tmp_path: Path) -> None:
    stamps = [
        naive_utc(2025, 11, 1, 23, 59, 59),
        naive_utc(2025, 11, 2),
        naive_utc(2025, 11, 3, 23, 59, 59),
        naive_utc(2025, 11, 4),
    ]
    path = write(tmp_path / "a.parquet", [row(ts=ts) for ts in stamps])
    recording = recording_of(path, parse_day("2025-11-02"), parse_day("2025-11-03"))
    played = [state.now.replace(tzinfo=None) for state in recording.snapshots()]
    assert played == stamps[1:3]
    assert len(recording_of(path, from_day=parse_day("2025-11-03"))) == 2
    assert len(recording_of(path, to_day=parse_day("2025-11-01"))) == 1


def test_aware_stamps_of_another_zone_are_the_same_instants(tmp_path: Path) -> None:
    paris = pa.schema(
        [
            ("ts_utc", pa.timestamp("ms", "Europe/Paris")),
            ("station_id", "string"),
            ("bikes", "int8"),
        ]
    )
    path = write(tmp_path / "a.parquet", [row(ts=NOON.replace(tzinfo=dt.UTC))], paris)
    (state,) = recording_of(path).snapshots()
    assert state.now == NOON.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("recorded", "status", "flags"),
    [
        ({"status": "OK"}, "OK", (1, 1, 1)),
        ({"status": "renting+returning"}, "OK", (1, 1, 1)),
        ({"status": "CLOSED"}, "CLOSED", (None, 0, 0)),
        ({"status": "closed"}, "CLOSED", (None, 0, 0)),
        (
            {"status": "CLOSED", "is_installed": 1, "is_renting": 1, "is_returning": 0},
            "CLOSED",
            (1, 1, 0),
        ),
        ({"status": None, "is_installed": 1, "is_renting": 1, "is_returning": 1}, "OK", (1, 1, 1)),
        ({"status": None}, None, (None, None, None)),
    ],
)
def test_a_recorded_status_keeps_its_meaning_through_the_feed(
    tmp_path: Path, recorded: dict[str, Any], status: str | None, flags: Any
) -> None:
    path = write(tmp_path / "a.parquet", [row(**recorded)])
    rows, defects = as_ingested(next(recording_of(path).snapshots()))
    (reported,) = rows.to_pylist()
    assert reported["status"] == status
    assert (reported["is_installed"], reported["is_renting"], reported["is_returning"]) == flags
    assert not defects


def test_a_row_without_a_station_reaches_the_feed_and_is_refused_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row(None, bikes=5), row("1")])
    state = next(recording_of(path).snapshots())
    assert state.status.station_id == [None, "1"]
    assert state.stations.station_id == ["1"]
    rows, defects = as_ingested(state)
    assert rows["station_id"].to_pylist() == ["1"]
    assert [defect.field for defect in defects] == ["station_id"]


def test_what_was_not_recorded_is_not_published(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        [
            row(capacity=None, lat=float("nan"), lon=2.0, name=None, ebike=None, mechanical=None),
            row("2", capacity=30.0, lat=48.0, lon=2.0, name="x", ebike=1, mechanical=2),
        ],
    )
    documents = feed_documents.gbfs_2(next(recording_of(path).snapshots()), "http://feed")
    first, second = documents["station_information.json"]()["data"]["stations"]
    assert first == {"station_id": "1", "lon": 2.0}
    assert second == {"station_id": "2", "name": "x", "lat": 48.0, "lon": 2.0, "capacity": 30}
    assert isinstance(second["capacity"], int)
    status, _ = documents["station_status.json"]()["data"]["stations"]
    assert status == {"station_id": "1", "num_bikes_available": 3}


def test_the_weather_of_a_snapshot_is_what_its_rows_say(tmp_path: Path) -> None:
    air: dict[str, Any] = {"temp_C": 11.25, "precip_mm": 0.1, "wind_mps": None}
    path = write(
        tmp_path / "a.parquet",
        [row("1", temp_C=None, precip_mm=None, wind_mps=None), row("2", **air)],
        pa.schema(
            [
                ("ts_utc", pa.timestamp("us")),
                ("station_id", "string"),
                ("bikes", "int64"),
                *((name, "double") for name in air),
            ]
        ),
    )
    recording = recording_of(path)
    assert recording.has_weather
    assert next(recording.snapshots()).weather == open_meteo.Weather(**air)


def test_a_file_that_is_missing_or_no_recording_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"nowhere\.parquet.*exists"):
        recording_of(tmp_path / "nowhere.parquet")
    junk = tmp_path / "junk.parquet"
    junk.write_bytes(b"PAR1 not really")
    with pytest.raises(RecordingError, match=r"junk\.parquet.*Parquet"):
        recording_of(junk)
    thin = write(tmp_path / "thin.parquet", [{"ts_utc": NOON, "station_id": "1"}])
    with pytest.raises(RecordingError, match=r"thin\.parquet.*column bikes"):
        recording_of(thin)


def rows_of(path: Path, zone: str = "") -> Any:
    return pa.concat_tables(list(Observations(path, zone).tables())).to_pylist()


CSV = """extra,timestamp,num_bikes_available,id,lng,latitude,is_renting,is_returning,last_reported
x,2025-11-03 12:00:07,3,7,4.1,45.1,true,1,1762171200
x,2025-11-03T12:00:07Z,4.0,8.0,"4,2",45.2,False,0,2025-11-03T11:59:00Z
x,2025-11-03 12:05:07,8.5,7,4.1,45.1,1,1,
x,2025-11-03 12:05:07,-2,8,4.1,45.1,1,1,
x,noon,3,9,4.1,north,perhaps,1,
x,2025-11-03 12:10:07,2,9,4.1,north,perhaps,1,
"""


def test_other_common_names_texts_and_a_csv_are_read_and_said(tmp_path: Path) -> None:
    path = tmp_path / "city.csv"
    path.write_text(CSV)
    first, second, last = rows_of(path)
    assert first == {
        "ts_utc": NOON,
        "station_id": "7",
        "bikes": 3,
        "is_renting": 1,
        "is_returning": 1,
        "lat": 45.1,
        "lon": 4.1,
        "last_reported_utc": naive_utc(2025, 11, 3, 12),
    }
    assert (second["station_id"], second["bikes"], second["lon"]) == ("8", 4, 4.2)
    assert (second["is_renting"], second["is_returning"]) == (0, 0)
    assert (last["bikes"], last["lat"], last["is_renting"]) == (2, None, None)
    source = Observations(path)
    found = source.understood()
    assert (found.rows, len(found.stations)) == (3, 3)
    assert (found.step_min, found.tz) == (10, "Europe/Paris")
    assert found.unevaluable([15, 30, 60]) == [15]
    opening, *rejections = found.lines()
    for part in (
        "3 rows of 3 stations",
        "bikes from num_bikes_available",
        "not read: extra",
    ):
        assert part in opening
    assert "missing: capacity" in opening
    assert [(r.column, r.count, r.row, r.refused) for r in found.rejections] == [
        ("timestamp", 1, 5, True),
        ("num_bikes_available", 2, 3, True),
        ("is_renting", 2, 5, False),
        ("latitude", 2, 5, False),
    ]
    assert len(rejections) == 4


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_is_read_with_its_own_separator_and_column_names_in_capitals(
    tmp_path: Path, name: str, separator: str
) -> None:
    lines = ["Timestamp,STATION_ID, Bikes ", "2025-11-03T12:00:00Z,1,3", "", "2025-11-03T12:05:00Z"]
    text = "\n".join([*lines, "2025-11-03T12:10:00Z,1,4\n"]).replace(",", separator).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert [r["bikes"] for r in rows_of(path)] == [3, 4]
    (rejection,) = Observations(path).understood().rejections
    assert str(rejection).startswith("column all: 1 rows refused; row ")
    assert str(rejection).endswith("has 1 values, expected 3")


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("bikes", [[3], [4]], r"\[3\]"),
        ("station_id", [{"a": 1}, {"a": 2}], "'a': 1"),
        ("station_id", [b"\xff", b"a"], "xff"),
        ("ts_utc", pa.array([10**12, 10**12], pa.timestamp("s")), "10{15}, expected an instant"),
        ("ts_utc", [dt.date(2025, 11, 3)] * 2, "expected an instant"),
    ],
)
def test_a_column_of_a_type_that_is_none_is_refused_by_its_first_value(
    tmp_path: Path, column: str, values: Any, said: str
) -> None:
    columns = {"ts_utc": [NOON] * 2, "station_id": ["1", "2"], "bikes": [3, 4], column: values}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(RecordingError, match=f"column {column}.*{said}"):
        Observations(path).understood()


@pytest.mark.filterwarnings("error")
def test_places_that_are_all_unknown_are_no_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row(lat=math.nan, lon=math.nan)])
    assert Observations(path).understood().tz == "UTC"


def test_a_recording_with_half_bikes_loses_that_row_and_says_it(tmp_path: Path) -> None:
    path = write(tmp_path / "mean.parquet", [row(bikes=3.0), row("2", bikes=0.5)])
    (only,) = rows_of(path)
    assert only["station_id"] == "1"
    (rejection,) = Observations(path).understood().rejections
    assert str(rejection) == (
        "column bikes: 1 rows refused; row 2 has 0.5, expected a whole number from 0 to 5000"
    )


def test_float_ids_and_decimal_places_are_read(tmp_path: Path) -> None:
    fields = {"lat": decimal.Decimal("45.10"), "lon": decimal.Decimal("4.10")}
    path = write(tmp_path / "a.parquet", [row(1001.0, **fields)])
    (only,) = rows_of(path)
    assert (only["station_id"], only["lat"], only["lon"]) == ("1001", 45.1, 4.1)


def test_local_times_are_read_with_their_zone_and_found_out_without(tmp_path: Path) -> None:
    local = [
        row(f"{n}", ts=NOON + dt.timedelta(hours=1), last_reported_utc=NOON, lat=48.9, lon=2.3)
        for n in range(20)
    ]
    path = write(tmp_path / "a.parquet", local)
    assert rows_of(path, "Europe/Paris")[0]["ts_utc"] == NOON
    with pytest.raises(RecordingError, match="local time of Europe/Paris: add --local-times"):
        Observations(path).understood()


def test_a_file_without_one_usable_row_names_the_first_value(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row(bikes=-1), row(bikes=-2)])
    with pytest.raises(RecordingError, match="row 1 has -1"):
        Observations(path).understood()


def test_days_without_an_observation_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [row()])
    with pytest.raises(RecordingError, match="2025-11-04"):
        recording_of(path, from_day=parse_day("2025-11-04"))


needs_recordings = pytest.mark.skipif(not FILES, reason=f"no recordings in {RECORDINGS}")


def first_whole_day(path: Any) -> Day:
    (first,) = present(duckdb.sql(f"select min(ts_utc) from '{path}'")).fetchall()[0]
    return Day(first.date() + dt.timedelta(days=1))


@needs_recordings
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_a_recorded_day_is_played_row_by_row_as_duckdb_counts_it(path: Any) -> None:
    day = first_whole_day(path)
    counted = present(
        duckdb.sql(
            f"""
        select epoch(ts_utc)::bigint, count(*), count(station_id), sum(bikes)
        from '{path}' where ts_utc::date = '{day}' group by all order by all
        """
        )
    ).fetchall()
    played = [
        (
            int(state.now.timestamp()),
            len(state.status.bikes),
            sum(station_id is not None for station_id in state.status.station_id),
            sum(map(present, state.status.bikes)),
        )
        for state in recording_of(path, day, day).snapshots()
    ]
    assert played == counted


@needs_recordings
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_ingestion_reads_a_recorded_snapshot_as_it_was_recorded(path: Any) -> None:
    day = first_whole_day(path)
    state = next(recording_of(path, day, day).snapshots())
    rows, _ = as_ingested(state)
    there = present(duckdb.sql(f"select * from '{path}' limit 0")).columns
    names = [name for name in rows.column_names if name in there and name != "status"]
    columns = ", ".join(names)
    # A place at 0°, 0° is none: one network keeps its laboratory there.
    columns = columns.replace(" lat,", " nullif(lat, 0),").replace(" lon,", " nullif(lon, 0),")
    recorded = present(
        duckdb.sql(
            f"""
        select {columns} from '{path}'
        where ts_utc = (select min(ts_utc) from '{path}' where ts_utc::date = '{day}')
          and station_id is not null
        """
        )
    ).fetchall()
    read = duckdb.from_arrow(rows.select(names)).fetchall()
    assert sorted(map(repr, read)) == sorted(map(repr, recorded))


def test_a_folder_that_holds_another_source_is_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    first = write(tmp_path / "first.parquet", [row(lat=48.9, lon=2.3)])
    other = write(tmp_path / "other.parquet", [row("9", lat=41.9, lon=-87.6)])
    out = tmp_path / "out"
    claim_folder(out, first, Observations(first).understood())
    claim_folder(out, first, Observations(first).understood())
    done = CliRunner().invoke(cli, ["replay", "--source", str(other), "--out", str(out)])
    assert done.exit_code == 2
    assert f"holds first.parquet; take another folder for {other}" in " ".join(done.stderr.split())
    longer = write(first, [row(lat=48.9, lon=2.3), row(ts=NOON + dt.timedelta(days=1))])
    claim_folder(out, longer, Observations(longer).understood())
