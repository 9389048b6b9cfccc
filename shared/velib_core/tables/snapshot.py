"""The snapshot: one observation of the whole network, its schema and its validation.

A snapshot is a Parquet table with one row a station. The same columns, in the same order, make up
dailies and monthlies. A value that breaks its rule is named with its field and what was expected:
without a station or a bike count the row is refused, and any other field becomes null.
"""

from __future__ import annotations

import collections
import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velib_core.errors import InvalidValueError
from velib_core.lake.readable import UnreadableObjectError
from velib_core.tables import defect_counts, parquet
from velib_core.tables.defects import Defect
from velib_core.tables.parquet import Limits
from velib_core.timeline.bins import BIN_MINUTES, Bin, bin_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from velib_core.lake.readable import Entry, ReadableLake

STAMP = pa.timestamp("ns")
"""Naive UTC, as every reader of the lake expects."""

SCHEMA = pa.schema(
    [
        ("ts_utc", STAMP),
        ("tbin_utc", STAMP),
        ("station_id", pa.string()),
        ("bikes", pa.int64()),
        ("capacity", pa.int64()),
        ("mechanical", pa.int64()),
        ("ebike", pa.int64()),
        ("status", pa.string()),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("name", pa.string()),
        ("temp_C", pa.float64()),
        ("precip_mm", pa.float64()),
        ("wind_mps", pa.float64()),
        ("last_reported_utc", STAMP),
        ("docks_available", pa.int64()),
        ("is_installed", pa.int8()),
        ("is_renting", pa.int8()),
        ("is_returning", pa.int8()),
        ("weather_utc", STAMP),
    ]
)

REQUIRED = ("ts_utc", "tbin_utc", "station_id", "bikes")
"""Columns without which a table is no snapshot; the others may be absent and become null."""

REPEATED = b"velib-repeated"
"""Parquet metadata: how many rows repeated a station and bin and were left out, by station."""

ONE_ROW = "one row a station and bin"
"""What the defect of such a row expected."""

MAX_COUNT = 5_000
"""Bikes or docks at one station; the largest stations of the world hold some hundreds."""

MAX_REPEATS = 1_000_000_000
MAX_ID_LENGTH = 128
MAX_NAME_LENGTH = 512

LIMITS = Limits(
    file_bytes=8 << 20,
    footer_bytes=1 << 18,
    rows=60_000,
    columns=200,
    row_groups=64,
    decoded_bytes=16 << 20,
)
"""Of one snapshot: ten times what one of 1,500 stations holds, or more. Of a feed of more stations
than rows so many are read, with a defect: what `ingest` writes can be read.

The smallest function that reads snapshots has 512 MiB; within these limits it uses less than half.
"""

RANGES: Mapping[str, tuple[float, float]] = {
    "bikes": (0, MAX_COUNT),
    "capacity": (0, MAX_COUNT),
    "mechanical": (0, MAX_COUNT),
    "ebike": (0, MAX_COUNT),
    "docks_available": (0, MAX_COUNT),
    "lat": (-90, 90),
    "lon": (-180, 180),
    "temp_C": (-90, 70),
    "precip_mm": (0, 500),
    "wind_mps": (0, 150),
    "is_installed": (0, 1),
    "is_renting": (0, 1),
    "is_returning": (0, 1),
}


DAY_LIMITS = Limits(
    file_bytes=256 << 20,
    footer_bytes=8 << 20,
    rows=288 * 20_000,
    columns=LIMITS.columns,
    row_groups=1 << 10,
    decoded_bytes=768 << 20,
)
"""Of a daily, which is made from 288 snapshots, here of 20,000 stations: 136 bytes a row."""


MOST_UNORDERED_ROWS = 288 * 2_500
"""Of a daily that some other program wrote: putting rows in order takes memory several times."""


ROWS_AT_ONCE = 1 << 17
"""Rows of a daily that are held to the rules at a time."""


class SnapshotError(InvalidValueError):
    """An object or table that is no snapshot."""


def validate(table: pa.Table, bin_: Bin | None = None) -> tuple[pa.Table, list[Defect]]:
    """Hold rows to the schema and its rules.

    Parameters
    ----------
    table
        Rows with at least the `REQUIRED` columns, of any castable type.
    bin_
        The bin that all rows must belong to; any bin when ``None``.

    Returns
    -------
    tuple[pa.Table, list[Defect]]
        The rows that hold, in `SCHEMA`, and every value that did not. Of rows that share a
        station and a bin the newest by ``ts_utc`` stays (the last of equal ones); the others
        are listed as defects where they differ from it in time or value.

    Raises
    ------
    SnapshotError
        Where a required column is missing or a column has a type that cannot be cast.

    """
    defects: list[Defect] = []
    return _newest_rows(_held(table, bin_, defects), defects), defects


def _held(table: pa.Table, bin_: Bin | None, defects: list[Defect]) -> pa.Table:
    """Return the rows that hold by themselves, in `SCHEMA`; list every value that does not."""
    typed = _typed(without_broken_text(table, defects))
    typed = refuse(typed, _bad_rows(typed, bin_), defects)
    for field, (low, high) in RANGES.items():
        if field != "bikes":
            typed = nullify(
                typed, field, _outside(typed[field], low, high), f"{low}…{high}", defects
            )
    too_long = pc.greater(pc.utf8_length(typed["name"]), MAX_NAME_LENGTH)
    return nullify(typed, "name", too_long, f"at most {MAX_NAME_LENGTH} characters", defects)


def without_broken_text(table: pa.Table, defects: list[Defect]) -> pa.Table:
    """Return the table with null for each text that is no UTF-8; list those texts.

    Parquet promises UTF-8 and nobody checks it. A row without a station id is refused later.
    """
    for field in SCHEMA:
        index = table.schema.get_field_index(field.name)
        if index < 0 or not pa.types.is_string(table.schema.types[index]):
            continue
        try:
            table.column(index).validate(full=True)
        except pa.ArrowInvalid:
            broken = table.column(index).cast(pa.binary()).to_pylist()
            texts = [_decoded(value) for value in broken]
            refused = field.name == "station_id"
            defects += [
                Defect(None, field.name, value, "UTF-8 text", refused)
                for value, text in zip(broken, texts, strict=True)
                if text is None and value is not None
            ]
            table = table.set_column(index, field, pa.chunked_array([pa.array(texts, pa.string())]))
    return table


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _typed(table: pa.Table) -> pa.Table:
    columns = []
    for field in SCHEMA:
        if field.name not in table.column_names:
            if field.name in REQUIRED:
                raise SnapshotError(field.name, table.column_names, f"a column of {field.type}")
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        try:
            columns.append(_cast_column(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise SnapshotError(field.name, str(column.type), f"values of {field.type}") from None
    return pa.table(columns, schema=SCHEMA)


def _cast_column(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if column.type == wanted:
        return column
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC")).cast(
            pa.timestamp(column.type.unit)
        )
    elif pa.types.is_timestamp(wanted) and not pa.types.is_timestamp(column.type):
        raise pa.ArrowTypeError("not a timestamp")
    elif pa.types.is_floating(column.type) and pa.types.is_integer(wanted):
        column = pc.if_else(pc.is_finite(column), column, None)
    return column.cast(wanted)


def _bad_rows(table: pa.Table, bin_: Bin | None) -> list[tuple[str, Any, str]]:
    """Return (field, mask, expectation) of the rules whose breach refuses the row."""
    grid = pc.floor_temporal(table["ts_utc"], BIN_MINUTES, unit="minute")
    ids = table["station_id"]
    length = pc.utf8_length(pc.utf8_trim_whitespace(ids))
    rules = [
        ("station_id", pc.fill_null(pc.equal(length, 0), fill_value=True), "a station id"),
        ("station_id", pc.greater(length, MAX_ID_LENGTH), f"at most {MAX_ID_LENGTH} characters"),
        # Arrays of text end at a NUL: two ids would become one.
        ("station_id", pc.match_substring(ids, "\0"), "an id without NUL"),
        ("bikes", pc.is_null(table["bikes"]), "a number of bikes"),
        ("bikes", _outside(table["bikes"], 0, MAX_COUNT), f"0…{MAX_COUNT}"),
        ("ts_utc", pc.is_null(table["ts_utc"]), "an instant"),
        ("tbin_utc", pc.is_null(table["tbin_utc"]), "an instant"),
        ("tbin_utc", pc.not_equal(grid, table["tbin_utc"]), "the bin of ts_utc"),
    ]
    if bin_ is not None:
        expected = pa.scalar(bin_start(bin_).replace(tzinfo=None), STAMP)
        rules.append(
            ("tbin_utc", pc.not_equal(table["tbin_utc"], expected), f"{bin_start(bin_):%FT%H:%MZ}")
        )
    return rules


def _outside(column: pa.ChunkedArray, low: float, high: float) -> pa.ChunkedArray:
    inside = pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))
    return pc.invert(inside)


def refuse(
    table: pa.Table, rules: Iterable[tuple[str, Any, str]], defects: list[Defect]
) -> pa.Table:
    """Return the rows that keep every rule (field, mask of breaches, expectation); list the others.

    A row that breaks several is listed once, for the first.
    """
    refused = pa.chunked_array([pa.repeat(pa.scalar(value=False), table.num_rows)])
    for field, mask, expected in rules:
        broken = pc.fill_null(mask, fill_value=False)
        fresh = pc.and_not(broken, refused)
        defects += _list(table, field, fresh, expected, refused=True)
        refused = pc.or_(refused, broken)
    return table.filter(pc.invert(refused)) if pc.any(refused).as_py() else table


def nullify(
    table: pa.Table, field: str, mask: pa.ChunkedArray, expected: str, defects: list[Defect]
) -> pa.Table:
    """Return the table with null for a field where the mask is true; list the values that were."""
    broken = pc.fill_null(mask, fill_value=False)
    if not pc.any(broken).as_py():
        return table
    defects += _list(table, field, broken, expected, refused=False)
    column = pc.if_else(broken, pa.scalar(None, table.schema.field(field).type), table[field])
    return table.set_column(table.schema.get_field_index(field), SCHEMA.field(field), column)


def _list(
    table: pa.Table, field: str, mask: pa.ChunkedArray, expected: str, *, refused: bool
) -> list[Defect]:
    if not pc.any(mask).as_py():
        return []
    columns = ["station_id"] if field == "station_id" else ["station_id", field]
    # As many as a snapshot can have: a daily of millions that break a rule lists no more.
    rows = table.select(columns).filter(mask).slice(0, LIMITS.rows).to_pylist()
    return [Defect(row["station_id"], field, row[field], expected, refused) for row in rows]


def _newest_rows(table: pa.Table, defects: list[Defect]) -> pa.Table:
    """Keep the last row by ``ts_utc`` of each (bin, station), sorted by bin, then station."""
    if _is_sorted(table):
        return table
    if table.num_rows > MOST_UNORDERED_ROWS:
        raise SnapshotError("rows", table.num_rows, f"{MOST_UNORDERED_ROWS}, or more in order")
    order = table.append_column("_row", pa.array(range(table.num_rows), pa.int64()))
    by = [("tbin_utc", "ascending"), ("station_id", "ascending")]
    ordered = order.sort_by([*by, ("ts_utc", "ascending"), ("_row", "ascending")]).drop("_row")
    if ordered.num_rows < 2:
        return ordered
    here, after = ordered.slice(0, ordered.num_rows - 1), ordered.slice(1)
    repeated = pc.and_(
        pc.equal(here["station_id"], after["station_id"]),
        pc.equal(here["tbin_utc"], after["tbin_utc"]),
    )
    if not pc.any(repeated).as_py():
        return ordered
    superseded = pa.array(np.append(repeated.to_numpy(), values=False))
    defects += _list(ordered, "station_id", superseded, ONE_ROW, refused=True)
    return ordered.filter(pc.invert(superseded))


def _is_sorted(table: pa.Table) -> bool:
    """Return whether rows rise by bin and station, none twice; a daily does, and sorting copies."""
    here, after = table.slice(0, max(table.num_rows - 1, 0)), table.slice(1)
    bins, ids = "tbin_utc", "station_id"
    later = pc.greater(after[bins], here[bins])
    next_station = pc.and_(pc.equal(after[bins], here[bins]), pc.greater(after[ids], here[ids]))
    return bool(pc.all(pc.or_(later, next_station), min_count=0).as_py())


def from_bytes(data: bytes, bin_: Bin) -> tuple[pa.Table, list[Defect]]:
    """Read the snapshot object of a bin; see `validate`.

    Its metadata counts the repeated rows and the feed's defects.

    Raises `SnapshotError` where the bytes are no Parquet or beyond the `LIMITS`, where they are no
    snapshot, and where no row holds: whatever they are, it is this error.
    """
    rows, defects, repeats = _read(data, LIMITS, bin_)
    if not rows.num_rows:
        raise SnapshotError("rows", 0, f"at least one row that holds (first defect: {defects[:1]})")
    counts = collections.Counter(repeats)
    counts.update(count_repeats(defects))
    return with_repeats(rows, counts), defects


def daily_from_bytes(data: bytes) -> pa.Table:
    """Read a daily: its valid rows, in order of bin and station, with the counts in its metadata.

    Raises `SnapshotError` where the bytes are no daily or beyond the `DAY_LIMITS`.
    """
    rows, _, repeats = _read(data, DAY_LIMITS, None)
    return with_repeats(rows, repeats)


def _read(
    data: bytes, limits: Limits, bin_: Bin | None
) -> tuple[pa.Table, list[Defect], dict[str, int]]:
    try:
        table = parquet.read(data, limits, SCHEMA.names)
        defects: list[Defect] = []
        # Part by part: what the rules compute on the way is as large as the columns.
        parts = [table.slice(n, ROWS_AT_ONCE) for n in range(0, table.num_rows, ROWS_AT_ONCE)]
        held = pa.concat_tables(_held(part, bin_, defects) for part in parts or [table])
        rows = _newest_rows(held, defects)
        counted = defect_counts.with_counts(rows, defect_counts.counts_of(table))
        return counted, defects, repeats_of(table)
    except SnapshotError:
        raise
    except Exception as error:  # what hostile content raises is on no list
        raise SnapshotError("content", data[:16], f"Parquet rows ({error!s:.300})") from error


def read(lake: ReadableLake, entry: Entry, bin_: Bin) -> tuple[pa.Table, list[Defect]]:
    """Read the snapshot object of a bin out of the lake; see `from_bytes`.

    An object beyond the limit of bytes is not downloaded; it is a `SnapshotError` too, as is one
    that nobody can read.
    """
    check_size(entry)
    try:
        data = lake.read(entry)
    except UnreadableObjectError as error:
        raise SnapshotError("content", entry.name, f"what can be read ({error})") from error
    return from_bytes(data, bin_)


def check_size(entry: Entry) -> None:
    """Raise `SnapshotError` for an object that is too large for a snapshot."""
    if entry.size > LIMITS.file_bytes:
        raise SnapshotError("size", entry.size, f"at most {LIMITS.file_bytes} bytes")


def count_repeats(defects: Iterable[Defect]) -> dict[str, int]:
    """Return how many rows were left out because their station and bin were there, by station."""
    repeats = [d.station_id for d in defects if d.expected == ONE_ROW and d.station_id]
    return dict(collections.Counter(repeats))


def with_repeats(table: pa.Table, repeats: Mapping[str, int]) -> pa.Table:
    """Return the table with the count of repeated rows, if any, added to its metadata."""
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != REPEATED}
    if repeats:
        metadata[REPEATED] = json.dumps(dict(sorted(repeats.items()))).encode()
    return table.replace_schema_metadata(metadata or None)


def repeats_of(table: pa.Table) -> dict[str, int]:
    """Return the count of repeated rows that a table's metadata holds, by station.

    What is not a count (the metadata is part of an object that anyone may have written) is 0.
    """
    try:
        reported = json.loads((table.schema.metadata or {}).get(REPEATED, b"{}"))
    except (ValueError, RecursionError):
        return {}
    counts = reported.items() if isinstance(reported, dict) else ()
    return {s: n for s, n in counts if isinstance(n, int) and 0 < n <= MAX_REPEATS}


def to_bytes(table: pa.Table) -> bytes:
    """Write a snapshot as Parquet; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def concatenate(parts: Iterable[tuple[str, bytes]], schema: pa.Schema = SCHEMA) -> bytes:
    """Join Parquet files of one schema, row group by row group, holding one group at a time.

    ``parts`` are names and contents. Raises `SnapshotError` with the name of a part that is no
    Parquet or lacks a column of the schema.
    """
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_page_index=True) as writer:
        for name, part in parts:
            try:
                parquet.check(part, DAY_LIMITS)
                file = pq.ParquetFile(io.BytesIO(part), page_checksum_verification=True)
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group, schema.names).cast(schema))
            except (
                parquet.ParquetError,
                pa.ArrowException,
                OSError,
                ValueError,
                KeyError,
            ) as error:
                raise SnapshotError(name, part[:16], f"Parquet rows ({error!s:.300})") from None
    return sink.getvalue()


def naive(instant: dt.datetime) -> dt.datetime:
    """Return an aware instant as the lake stores it: naive UTC."""
    return instant.astimezone(dt.UTC).replace(tzinfo=None)


def merge(older: pa.Table, newer: pa.Table) -> pa.Table:
    """Merge two validated tables; the newest row of each station and bin stays.

    Where the instants are equal too, the row of ``newer`` stays.
    """
    return _newest_rows(pa.concat_tables([older, newer]), [])
