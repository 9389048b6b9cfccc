"""``velib replay``: every observation of a recording is in the dailies exactly once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import velib

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.e2e

FILES = {
    "velib_2026-03-02_1min.parquet": (None, None),
    "velib_2024-11.parquet": ("2024-11-04", "2024-11-04"),
    "velib_2025-09_15min.parquet": ("2025-09-09", "2025-09-09"),
    "baywheels_2022-12.parquet": ("2022-12-24", "2022-12-24"),
    "divvy_2014-03.parquet": ("2014-03-08", "2014-03-09"),
    "taipei_2025-01-26_2025-02-03.parquet": ("2025-01-28", "2025-01-28"),
}
FAST = "velib_2025-09_15min.parquet"


def replay(
    source: Path, out: Path, first: str | None = None, last: str | None = None
) -> dict[str, Any]:
    days = [*(("--from", first) if first else ()), *(("--to", last) if last else ())]
    done = velib("replay", "--source", source, "--out", out, "--json", *days)
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def differences(source: Path, out: Path, first: str | None, last: str | None) -> tuple[int, int]:
    """Return how many expected rows there are, and how many the dailies lack, add or change.

    The expectation is DuckDB's own reading of the recording: of each station and 5-minute bin
    the last observation, records without a station id left out. A name or capacity that is
    missing is the one known before (docs/DECISIONS.md, "Information is carried on").
    """
    names = pq.ParquetFile(source).schema_arrow.names
    optional = [c for c in ("capacity", "mechanical", "ebike", "name") if c in names]
    span = f"ts_utc >= '{first or '1900-01-01'}' and ts_utc < date '{last or '2900-01-01'}' + 1"
    columns = ", ".join(["bikes", *optional])
    carried_on = ", ".join(
        f"last_value({c} ignore nulls) over (partition by station_id order by ts) as {c}"
        for c in ("capacity", "name")
        if c in names
    )
    (counts,) = query(
        f"""
        with newest as (
          select station_id::varchar as station_id, ts_utc::timestamp as ts, {columns}
          from '{source}' where station_id is not null and {span}
          qualify row_number() over (
            partition by station_id, time_bucket(interval 5 minute, ts_utc) order by ts_utc desc
          ) = 1),
        expected as (select * replace ({carried_on}) from newest),
        found as (
          select station_id, ts_utc::timestamp as ts, {columns} from '{out}/daily/*.parquet')
        select (select count(*) from expected),
          (select count(*) from (from expected except all from found))
          + (select count(*) from (from found except all from expected))
        """
    )
    return counts


def query(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def dailies(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "daily").glob("*.parquet"))}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two days of a small network, with a hole, minute data, and records without an id."""
    rng = np.random.default_rng(3)
    start = np.datetime64("2025-11-01T00:00:10", "s")
    minutes = np.r_[0:1440:40, 1500:2880:40, 2000:2010]
    stamps = np.repeat(start + minutes.astype("timedelta64[m]"), 5)
    count = len(stamps)
    ids = np.tile(np.array(["7", "12", "a-b", "x y", None], object), len(minutes))
    mechanical, ebike = rng.integers(0, 10, (2, count))
    table = pa.table(
        {
            "ts_utc": pa.array(stamps),
            "station_id": pa.array(ids, pa.string()),
            "bikes": pa.array(mechanical + ebike, pa.int16()),
            "capacity": pa.array(np.tile([20, 25, None, 0, 5], len(minutes)), pa.int16()),
            "mechanical": pa.array(mechanical, pa.int16()),
            "ebike": pa.array(ebike, pa.int16()),
            "status": pa.array(np.tile(["OK", "CLOSED", None, "OK", "OK"], len(minutes))),
            "lat": np.full(count, 48.85),
            "lon": np.full(count, 2.35),
            "name": ["Place d’Été"] * count,
            "temp_C": np.full(count, 11.3),
            "precip_mm": np.full(count, 0.1),
            "wind_mps": np.full(count, 3.7),
        }
    )
    path = tmp_path / "recording.parquet"
    pq.write_table(table, path)
    return path


def test_a_replayed_recording_is_in_the_dailies_exactly_once(
    recording: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = replay(recording, out)
    expected, different = differences(recording, out, None, None)
    assert different == 0
    assert expected > 250
    assert report["days"] == ["2025-11-01", "2025-11-02"]
    assert report["dead_letters"] == 0
    weather = query(f"select distinct temp_C, precip_mm, wind_mps from '{out}/daily/*.parquet'")
    assert weather == [(11.3, 0.1, 3.7)]
    for folder in ("bronze", "exports", "quarantine"):
        assert any((out / folder).rglob("*")), folder
    state = json.loads(velib("status", "--dir", out, "--json").stdout)
    assert state["repairs"] == []
    assert state["dailies"] == 2
    # A part alone, in a run of its own, is byte for byte what it is in the whole.
    part = tmp_path / "part"
    assert replay(recording, part, "2025-11-02", "2025-11-02")["days"] == ["2025-11-02"]
    (second,) = dailies(part).items()
    assert second in dailies(out).items()


@pytest.mark.parametrize("name", [FAST])
def test_a_real_recording_is_in_the_dailies_exactly_once(
    recordings: Path, tmp_path: Path, name: Any
) -> None:
    _check_recording(recordings / name, tmp_path, *FILES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FILES if name != FAST])
def test_each_real_recording_is_in_the_dailies_exactly_once(
    recordings: Path, tmp_path: Path, name: Any
) -> None:
    _check_recording(recordings / name, tmp_path, *FILES[name])


def _check_recording(source: Path, tmp_path: Path, first: str | None, last: str | None) -> None:
    replay(source, tmp_path / "one", first, last)
    expected, different = differences(source, tmp_path / "one", first, last)
    assert different == 0
    assert expected > 0
    replay(source, tmp_path / "two", first, last)
    assert dailies(tmp_path / "one") == dailies(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "named", "code"),
    [
        (lambda path: path.write_bytes(b"no parquet"), "recording.parquet", 1),
        (lambda path: path.unlink(), "recording.parquet", 2),
        (lambda path: pq.write_table(pq.read_table(path).drop(["bikes"]), path), "bikes", 1),
    ],
)
def test_a_recording_that_cannot_be_played_is_refused_in_one_line(
    recording: Path, tmp_path: Path, change: Callable[..., Any], named: str, code: int
) -> None:
    change(recording)
    done = velib("replay", "--source", recording, "--out", tmp_path / "out")
    assert done.returncode == code
    assert named in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
