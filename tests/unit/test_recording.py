import datetime as dt
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from velib_core.feeds import gbfs, open_meteo
from velib_core.timeline.bins import Day, parse_day
from velib_local.simulation import feed_documents
from velib_local.simulation.recording import Recording, RecordingError

RECORDINGS = Path(os.environ.get("VELIB_RECORDINGS", Path(__file__).parents[3] / "shared" / "data"))
FILES = sorted(RECORDINGS.glob("*.parquet"))


def naive_utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC).replace(tzinfo=None)


NOON = naive_utc(2025, 11, 3, 12, 0, 7)


def write(path, rows, schema=None):
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def row(station_id="1", *, ts=NOON, bikes=3, **fields):
    return {"ts_utc": ts, "station_id": station_id, "bikes": bikes, **fields}


def as_ingested(state):
    """Return the rows that the ingestion reads from a state shown as GBFS 2.3, and its defects."""
    documents = feed_documents.gbfs_2(state, "http://feed")
    read = {
        feed: gbfs.Document(feed, documents[f"{feed}.json"]()["data"], state.last_updated, 0)
        for feed in gbfs.FEEDS
    }
    return gbfs.snapshot_rows(
        read["station_status"],
        read["station_information"],
        gbfs.electric_types(read["vehicle_types"]),
        state.last_updated,
        state.weather or open_meteo.Weather(),
    )


def test_snapshots_come_in_order_of_time_however_the_file_is_sorted(tmp_path):
    later = NOON + dt.timedelta(minutes=10)
    path = write(
        tmp_path / "a.parquet",
        [row("a"), row("a", ts=later, bikes=4), row("b", ts=later, bikes=1), row("b", bikes=9)],
    )
    recording = Recording(path)
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


def test_days_are_utc_and_both_ends_are_played(tmp_path):
    stamps = [
        naive_utc(2025, 11, 1, 23, 59, 59),
        naive_utc(2025, 11, 2),
        naive_utc(2025, 11, 3, 23, 59, 59),
        naive_utc(2025, 11, 4),
    ]
    path = write(tmp_path / "a.parquet", [row(ts=ts) for ts in stamps])
    recording = Recording(path, parse_day("2025-11-02"), parse_day("2025-11-03"))
    played = [state.now.replace(tzinfo=None) for state in recording.snapshots()]
    assert played == stamps[1:3]
    assert len(Recording(path, from_day=parse_day("2025-11-03"))) == 2
    assert len(Recording(path, to_day=parse_day("2025-11-01"))) == 1


def test_aware_stamps_of_another_zone_are_the_same_instants(tmp_path):
    paris = pa.schema(
        [
            ("ts_utc", pa.timestamp("ms", "Europe/Paris")),
            ("station_id", "string"),
            ("bikes", "int8"),
        ]
    )
    path = write(tmp_path / "a.parquet", [row(ts=NOON.replace(tzinfo=dt.UTC))], paris)
    (state,) = Recording(path).snapshots()
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
def test_a_recorded_status_keeps_its_meaning_through_the_feed(tmp_path, recorded, status, flags):
    path = write(tmp_path / "a.parquet", [row(**recorded)])
    rows, defects = as_ingested(next(Recording(path).snapshots()))
    (reported,) = rows.to_pylist()
    assert reported["status"] == status
    assert (reported["is_installed"], reported["is_renting"], reported["is_returning"]) == flags
    assert not defects


def test_a_row_without_a_station_reaches_the_feed_and_is_refused_there(tmp_path):
    path = write(tmp_path / "a.parquet", [row(None, bikes=5), row("1")])
    state = next(Recording(path).snapshots())
    assert state.status.station_id == [None, "1"]
    assert state.stations.station_id == ["1"]
    rows, defects = as_ingested(state)
    assert rows["station_id"].to_pylist() == ["1"]
    assert [defect.field for defect in defects] == ["station_id"]


def test_what_was_not_recorded_is_not_published(tmp_path):
    path = write(
        tmp_path / "a.parquet",
        [
            row(capacity=None, lat=float("nan"), lon=2.0, name=None, ebike=None, mechanical=None),
            row("2", capacity=30.0, lat=48.0, lon=2.0, name="x", ebike=1, mechanical=2),
        ],
    )
    documents = feed_documents.gbfs_2(next(Recording(path).snapshots()), "http://feed")
    first, second = documents["station_information.json"]()["data"]["stations"]
    assert first == {"station_id": "1", "lon": 2.0}
    assert second == {"station_id": "2", "name": "x", "lat": 48.0, "lon": 2.0, "capacity": 30}
    assert isinstance(second["capacity"], int)
    status, _ = documents["station_status.json"]()["data"]["stations"]
    assert status == {"station_id": "1", "num_bikes_available": 3}


def test_the_weather_of_a_snapshot_is_what_its_rows_say(tmp_path):
    air = {"temp_C": 11.25, "precip_mm": 0.1, "wind_mps": None}
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
    recording = Recording(path)
    assert recording.has_weather
    assert next(recording.snapshots()).weather == open_meteo.Weather(**air)


def test_a_file_that_is_missing_or_no_recording_is_named_with_what_it_lacks(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere\.parquet.*exists"):
        Recording(tmp_path / "nowhere.parquet")
    junk = tmp_path / "junk.parquet"
    junk.write_bytes(b"PAR1 not really")
    with pytest.raises(RecordingError, match=r"junk\.parquet.*Parquet"):
        Recording(junk)
    thin = write(tmp_path / "thin.parquet", [{"ts_utc": NOON, "station_id": "1"}])
    with pytest.raises(RecordingError, match=r"thin\.parquet.*column bikes"):
        Recording(thin)
    texts = write(tmp_path / "texts.parquet", [row(ts="2025-11-03 12:00")])
    with pytest.raises(RecordingError, match=r"texts\.parquet: column ts_utc.*timestamp"):
        Recording(texts)


def test_days_without_an_observation_are_an_error(tmp_path):
    path = write(tmp_path / "a.parquet", [row()])
    with pytest.raises(RecordingError, match="2025-11-04"):
        Recording(path, from_day=parse_day("2025-11-04"))


needs_recordings = pytest.mark.skipif(not FILES, reason=f"no recordings in {RECORDINGS}")


def first_whole_day(path) -> Day:
    (first,) = duckdb.sql(f"select min(ts_utc) from '{path}'").fetchall()[0]
    return Day(first.date() + dt.timedelta(days=1))


@needs_recordings
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_a_recorded_day_is_played_row_by_row_as_duckdb_counts_it(path):
    day = first_whole_day(path)
    counted = duckdb.sql(
        f"""
        select epoch(ts_utc)::bigint, count(*), count(station_id), sum(bikes)
        from '{path}' where ts_utc::date = '{day}' group by all order by all
        """
    ).fetchall()
    played = [
        (
            int(state.now.timestamp()),
            len(state.status.bikes),
            sum(station_id is not None for station_id in state.status.station_id),
            sum(state.status.bikes),
        )
        for state in Recording(path, day, day).snapshots()
    ]
    assert played == counted


@needs_recordings
@pytest.mark.parametrize("path", FILES or [None], ids=lambda path: path.stem if path else "none")
def test_ingestion_reads_a_recorded_snapshot_as_it_was_recorded(path):
    day = first_whole_day(path)
    state = next(Recording(path, day, day).snapshots())
    rows, _ = as_ingested(state)
    there = duckdb.sql(f"select * from '{path}' limit 0").columns
    names = [name for name in rows.column_names if name in there and name != "status"]
    columns = ", ".join(names)
    recorded = duckdb.sql(
        f"""
        select {columns} from '{path}'
        where ts_utc = (select min(ts_utc) from '{path}' where ts_utc::date = '{day}')
          and station_id is not null
        """
    ).fetchall()
    read = duckdb.from_arrow(rows.select(names)).fetchall()
    assert sorted(map(repr, read)) == sorted(map(repr, recorded))
