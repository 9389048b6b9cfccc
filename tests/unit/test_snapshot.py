from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import network
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from velib_core.tables import snapshot
from velib_core.timeline.bins import Bin, bin_start

if TYPE_CHECKING:
    import random

BIN = Bin(5874721)
START = bin_start(BIN).replace(tzinfo=None)

COUNTS = st.none() | st.integers(-3, 30) | st.sampled_from([5_001, 1 << 40])
ROWS = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b", "c", "", "  "]),
        COUNTS,
        COUNTS,
        st.integers(-300, 600),
    ),
    max_size=12,
)


def table_of(rows: Any) -> pa.Table:
    ids, bikes, capacity, seconds = zip(*rows, strict=True) if rows else ((), (), (), ())
    stamps = [START + dt.timedelta(seconds=s) for s in seconds]
    return pa.table(
        {
            "ts_utc": pa.array(stamps, snapshot.STAMP),
            "tbin_utc": pa.array([START] * len(rows), snapshot.STAMP),
            "station_id": pa.array(ids, pa.string()),
            "bikes": pa.array(bikes, pa.int64()),
            "capacity": pa.array(capacity, pa.int64()),
        }
    )


@given(ROWS)
@settings(deadline=None)
def test_every_row_is_kept_or_refused_with_a_reason(rows: Any) -> None:
    validate, defects = snapshot.validate(table_of(rows), BIN)
    refused = [defect for defect in defects if defect.refused]
    assert validate.num_rows + len(refused) == len(rows)
    assert validate.schema == snapshot.SCHEMA
    assert all(defect.expected and defect.field for defect in defects)


@given(ROWS)
@settings(deadline=None)
def test_what_is_kept_holds_the_rules(rows: Any) -> None:
    validate, _ = snapshot.validate(table_of(rows), BIN)
    ids = validate["station_id"].to_pylist()
    assert ids == sorted(set(ids))
    assert all(name.strip() for name in ids)
    assert all(0 <= bikes <= 5000 for bikes in validate["bikes"].to_pylist())
    assert all(c is None or 0 <= c <= 5000 for c in validate["capacity"].to_pylist())
    inside = [
        START <= ts < START + dt.timedelta(minutes=5) for ts in validate["ts_utc"].to_pylist()
    ]
    assert all(inside)


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_newest_row_of_a_station_stays_whatever_the_order(
    rows: Any, shuffler: random.Random
) -> None:
    rows = [(i, b, c, n) for n, (i, b, c, _) in enumerate(rows)]  # distinct instants
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    assert (
        snapshot.validate(table_of(rows), BIN)[0] == snapshot.validate(table_of(shuffled), BIN)[0]
    )


@given(ROWS, ROWS)
@settings(deadline=None)
def test_merging_two_observations_does_not_depend_on_which_came_first(one: Any, other: Any) -> None:
    one = [(i, b, c, 2 * n) for n, (i, b, c, _) in enumerate(one)]
    other = [(i, b, c, 2 * n + 1) for n, (i, b, c, _) in enumerate(other)]
    first, second = (snapshot.validate(table_of(rows), BIN)[0] for rows in (one, other))
    assert snapshot.merge(first, second) == snapshot.merge(second, first)
    assert snapshot.merge(first, first) == first


def test_a_snapshot_is_read_back_as_written_and_equal_tables_give_equal_bytes() -> None:
    data = network.snapshot_object(BIN)
    table, defects = snapshot.from_bytes(data, BIN)
    assert not defects
    assert snapshot.to_bytes(table) == data


def test_unknown_columns_are_dropped_and_optional_ones_become_null() -> None:
    table, defects = snapshot.validate(network.snapshot_table(BIN, 2, surprise=[1, 2]), BIN)
    assert not defects
    assert "surprise" not in table.column_names
    assert table["temp_C"].to_pylist() == [None, None]


def test_numeric_ids_and_float_counts_are_cast() -> None:
    table, _ = snapshot.validate(
        network.snapshot_table(BIN, 2, station_id=[7, 12], bikes=[1.0, 2.0])
    )
    assert table["station_id"].to_pylist() == ["12", "7"]
    assert table["bikes"].type == pa.int64()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bikes": ["many", "few"]}, "bikes"),
        ({"bikes": [1.5, 2.0]}, "bikes"),
        ({"ts_utc": [1, 2]}, "ts_utc"),
        ({"lat": ["north", "south"]}, "lat"),
        ({"station_id": [["x"], ["y"]]}, "station_id"),
    ],
)
def test_a_column_of_another_kind_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(snapshot.SnapshotError) as caught:
        snapshot.validate(network.snapshot_table(BIN, 2, **change))
    assert caught.value.field == field


@pytest.mark.parametrize("missing", snapshot.REQUIRED)
def test_a_required_column_is_missed_by_name(missing: Any) -> None:
    with pytest.raises(snapshot.SnapshotError) as caught:
        snapshot.validate(network.snapshot_table(BIN).drop([missing]))
    assert caught.value.field == missing


def test_files_are_joined_without_changing_a_row() -> None:
    parts = [network.snapshot_object(Bin(BIN + n)) for n in range(3)]
    joined, _ = snapshot.validate(
        pa.parquet.read_table(
            pa.BufferReader(snapshot.concatenate(("a part", part) for part in parts))
        )
    )
    tables = [snapshot.from_bytes(part, Bin(BIN + n))[0] for n, part in enumerate(parts)]
    assert joined == pa.concat_tables(tables)
    with pytest.raises(snapshot.SnapshotError, match="a/b"):
        snapshot.concatenate([("a/b", b"no parquet")])


def test_a_daily_of_as_many_rows_as_may_be_may_be_decoded() -> None:
    width = sum(8 if pa.types.is_timestamp(f.type) else _bytes(f.type) for f in snapshot.SCHEMA)
    limits = snapshot.DAY_LIMITS
    assert limits.rows == 288 * 20_000
    assert 0.9 * limits.decoded_bytes < width * limits.rows <= limits.decoded_bytes


def _bytes(type_: pa.DataType) -> int:
    return 4 if pa.types.is_string(type_) else max(type_.bit_width // 8, 4)
