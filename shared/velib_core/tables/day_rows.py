"""Rows of a daily or of its views as they were stored → rows whose values can be computed with.

Functions of ours alone write these files, so a value that breaks a rule is not put right: the file
is refused as a whole, by the name of the column, and its day is missing from what is made of it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.tables.parquet import ParquetError
from velib_core.tables.snapshot import MAX_COUNT, RANGES
from velib_core.timeline.bins import BINS_PER_DAY, YEARS

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER_NULL = ("tbin_utc", "target_tbin_utc", "station_id")

_RANGES: Mapping[str, tuple[float, float]] = {
    **RANGES,
    **dict.fromkeys(("y_true", "y_baseline_persist", "y_pred_int", "docks"), (0, MAX_COUNT)),
    **dict.fromkeys(("y_pred", "y_mean"), (-MAX_COUNT, MAX_COUNT)),
    **dict.fromkeys(("occ_ratio", "crps"), (0, MAX_COUNT)),
    **dict.fromkeys(("p_bike", "p_dock", "is_penury", "is_saturation"), (0, 1)),
    "horizon_bins": (1, 7 * BINS_PER_DAY),
    "h": (0, 23),
    "min": (0, 59),
}

_FIRST, _END = (dt.datetime(year, 1, 1) for year in (YEARS.start, YEARS.stop))  # noqa: DTZ001 -- naive UTC, as stored


def checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table in the types of a schema, text as dictionaries where it is so already.

    Raises `ParquetError` for the first column of which a value breaks a rule: another type, text
    that is no UTF-8, no time or station, or a number that cannot be.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise ParquetError("columns", table.column_names, "each once")
    columns = [_checked(table.column(n), schema.field(f.name)) for n, f in enumerate(table.schema)]
    return pa.table(columns, names=table.column_names, metadata=table.schema.metadata)


def _checked(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        typed = _text(column) if pa.types.is_string(field.type) else column.cast(field.type)
    except pa.ArrowException as error:
        raise ParquetError(field.name, str(column.type), f"{field.type} ({error!s:.200})") from None
    if field.name in _NEVER_NULL and typed.null_count:
        raise ParquetError(field.name, None, "a value in every row")
    if field.name == "station_id" and _has_nul(typed):
        raise ParquetError(field.name, "an id with NUL", "an id without NUL")
    low, high = (_FIRST, _END) if _is_time(field) else _RANGES.get(field.name, (None, None))
    if low is not None and typed.null_count < len(typed):
        found = pc.min_max(typed.cast(pa.timestamp("s"), safe=False) if _is_time(field) else typed)
        for value in found.as_py().values():
            if not low <= value <= high:
                raise ParquetError(field.name, value, f"{low}…{high}")
    return typed


def _is_time(field: pa.Field) -> bool:
    return field.name in ("tbin_utc", "target_tbin_utc", "ts_utc")


def _has_nul(ids: pa.ChunkedArray) -> bool:
    """Return whether an id has a NUL, at which arrays of text end: two ids would become one."""
    known = pc.unique(ids).cast(pa.string())
    return bool(pc.any(pc.match_substring(known, "\0")).as_py())


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return text that is valid; a dictionary stays one, at a fraction of the memory."""
    if not pa.types.is_dictionary(column.type) or not pa.types.is_string(column.type.value_type):
        column = column.cast(pa.string())
    for chunk in column.chunks:
        (chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk).validate(full=True)
    return column
