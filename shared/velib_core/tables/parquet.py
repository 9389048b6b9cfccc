"""Bytes of unknown origin → rows of Parquet, within limits that the footer must keep.

A small object can unpack to gigabytes. So its size, its footer and what the footer declares are
compared with the limits first; only then is anything decoded. Text stays dictionary-encoded until
its decoded size is known, since one long value in a dictionary can stand in every row.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velib_core.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TAIL_BYTES = 8
"""A file ends with the length of its footer (4 bytes, little-endian) and the word PAR1."""

_MAX_LIST = 1 << 12
"""Longest list in a footer: of columns, row groups or metadata. It bounds their nesting too."""


_WIDTHS = {
    "BOOLEAN": 1,
    "INT32": 4,
    "FLOAT": 4,
    "INT64": 8,
    "DOUBLE": 8,
    "INT96": 8,
    "BYTE_ARRAY": 4,
}
"""Bytes that a value of a physical type takes when decoded; of text it is its place in the
dictionary."""


class ParquetError(InvalidValueError):
    """Bytes that are no Parquet file, or one beyond the limits."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a file may hold; ``decoded_bytes`` bounds all columns, and text on its own."""

    file_bytes: int
    footer_bytes: int
    rows: int
    columns: int
    row_groups: int
    decoded_bytes: int


def read(data: bytes, limits: Limits, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a file: all columns, or those of ``columns`` that it has.

    Raises `ParquetError` for whatever is no Parquet, or not within the limits.
    """
    with _one_error(data):
        return _decode(data, _footer(data, limits, columns), limits, columns)


def check(data: bytes, limits: Limits, columns: Sequence[str] | None = None) -> None:
    """Raise `ParquetError` unless a file and what its footer declares are within the limits.

    Nothing is decoded; for whoever reads these columns in another way.
    """
    with _one_error(data):
        _footer(data, limits, columns)


@contextlib.contextmanager
def _one_error(data: bytes) -> Iterator[None]:
    try:
        yield
    except ParquetError:
        raise
    except Exception as error:  # what a decoder raises on hostile bytes is on no list
        raise ParquetError("content", data[:16], f"a Parquet file ({error!r:.200})") from error


def _footer(data: bytes, limits: Limits, wanted: Sequence[str] | None) -> pq.FileMetaData:
    _hold("bytes", len(data), limits.file_bytes)
    footer = int.from_bytes(data[-_TAIL_BYTES:-4], "little")
    _hold("bytes of the footer", footer, limits.footer_bytes)
    source = pa.BufferReader(data)
    metadata = pq.ParquetFile(source, thrift_container_size_limit=_MAX_LIST).metadata
    _hold("rows", metadata.num_rows, limits.rows)
    _hold("columns", metadata.num_columns, limits.columns)
    _hold("row groups", metadata.num_row_groups, limits.row_groups)
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    _hold("rows", sum(group.num_rows for group in groups), limits.rows)
    _hold("decoded bytes", sum(group.total_byte_size for group in groups), limits.decoded_bytes)
    # Those are encoded: of a value that stands in every row they count one.
    columns = [metadata.schema.column(n) for n in range(metadata.num_columns)]
    width = sum(
        _WIDTHS.get(column.physical_type, column.length)
        for column in columns
        if wanted is None or column.path.partition(".")[0] in wanted
    )
    _hold("decoded bytes", width * metadata.num_rows, limits.decoded_bytes)
    return metadata


def _decode(
    data: bytes, metadata: pq.FileMetaData, limits: Limits, columns: Sequence[str] | None
) -> pa.Table:
    leaves = [metadata.schema.column(n) for n in range(metadata.num_columns)]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    file = pq.ParquetFile(
        pa.BufferReader(data),
        metadata=metadata,
        read_dictionary=texts,
        page_checksum_verification=True,  # of files that have them; ours have the store's
    )
    wanted = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
    table = file.read(columns=wanted)
    for name, type_ in zip(table.schema.names, table.schema.types, strict=True):
        if pa.types.is_dictionary(type_):
            _hold("decoded bytes", _text_bytes(table[name]), limits.decoded_bytes)
            index = table.schema.get_field_index(name)
            table = table.set_column(index, name, table[name].cast(type_.value_type))
    return table


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes the values of a dictionary-encoded column take when decoded."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary.cast(pa.binary()))
        total += pc.sum(pc.take(lengths, chunk.indices).cast(pa.int64())).as_py() or 0
    return total


def _hold(what: str, found: int, most: int) -> None:
    if not 0 <= found <= most:
        raise ParquetError(what, found, f"at most {most}")
