"""Objects that nothing of ours writes, by the kind of object whose name they bear."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from velib_core.tables import snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from velib_core.timeline.bins import Bin

N = network.STATIONS
NO_UTF8 = b"caf\xe9 \xff"


def parquet_bytes(table: pa.Table, **options: object) -> bytes:
    """Return a table as a Parquet file, as some other program may write it."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def raw_text(*values: bytes | None) -> pa.Array:
    """Return a column that claims to be UTF-8, whatever its bytes are."""
    binary = pa.array(values, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(values), binary.buffers(), binary.null_count)


def _changed(**columns: Any) -> Callable[[Bin], bytes]:
    return lambda bin_: parquet_bytes(network.snapshot_table(bin_, **columns))


def _stations(count: int, **columns: Any) -> Callable[[Bin], bytes]:
    return lambda bin_: parquet_bytes(network.snapshot_table(bin_, count, **columns))


def _nested(bin_: Bin, depth: int = 300) -> bytes:
    column = pa.array([1] * N)
    for _ in range(depth):
        column = pa.StructArray.from_arrays([column], ["a"])
    return parquet_bytes(network.snapshot_table(bin_, extra=column))


def _deep_metadata(bin_: Bin) -> bytes:
    deep = b"[" * 100_000 + b"]" * 100_000
    table = network.snapshot_table(bin_).replace_schema_metadata({snapshot.REPEATED: deep})
    return parquet_bytes(table)


def _twice(bin_: Bin) -> bytes:
    table = network.snapshot_table(bin_)
    return parquet_bytes(table.append_column("bikes", table["bikes"]))


def _text_bomb(bin_: Bin) -> bytes:
    """One name of a megabyte that stands in every row: small until it is decoded."""
    indices = pa.array(np.zeros(3000, np.int32))
    names = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * (1 << 20)]))
    return parquet_bytes(network.snapshot_table(bin_, 3000, name=names), compression="zstd")


def _constant_bomb(bin_: Bin) -> bytes:
    """One value millions of times: a few hundred bytes a column."""
    rows = 500_000
    start = network.snapshot_table(bin_, 1)
    columns = {name: pa.repeat(start[name][0], rows) for name in start.column_names}
    return parquet_bytes(pa.table(columns), compression="zstd")


def _wide_bomb(bin_: Bin) -> bytes:
    """Zeros in columns that no snapshot has."""
    return _changed(**{f"c{n}": np.zeros(N) for n in range(1000)})(bin_)


UNREADABLE: Mapping[str, Callable[[Bin], bytes]] = {
    "nothing": lambda _: b"",
    "text": lambda _: b"<!doctype html>",
    "a footer that is longer than its file": lambda _: b"PAR1\xff\xff\xff\x7fPAR1",
    "a footer of zeros": lambda _: b"PAR1" + bytes(64) + (64).to_bytes(4, "little") + b"PAR1",
    "nothing but the end": lambda bin_: network.snapshot_object(bin_)[-400:],
    "no rows": lambda bin_: parquet_bytes(network.snapshot_table(bin_).slice(0, 0)),
    "no row that holds": _changed(bikes=[-1] * N),
    "ids that are no UTF-8": _changed(station_id=raw_text(*[NO_UTF8] * N)),
    "a nested column of the name of ours": _changed(bikes=[[1]] * N),
    "a column twice": _twice,
    "metadata nested 100,000 deep": _deep_metadata,
    "1,000 columns": _wide_bomb,
    "61,000 rows": _stations(61_000),
    "500,000 equal rows": _constant_bomb,
    "a name that unpacks to gigabytes": _text_bomb,
    "instants beyond nanoseconds": _changed(
        ts_utc=pa.array([1 << 60] * N, pa.timestamp("ms")),
    ),
    "9 MiB": lambda bin_: network.snapshot_object(bin_) + bytes(9 << 20),
}
"""Snapshots of which nothing can be used, by what they are."""

PARTLY_READABLE: Mapping[str, tuple[Callable[[Bin], bytes], str, int]] = {
    "an id that is no UTF-8": (
        _changed(station_id=raw_text(NO_UTF8, *[b"%d" % n for n in range(N - 1)])),
        "station_id",
        N - 1,
    ),
    "a name that is no UTF-8": (_changed(name=raw_text(NO_UTF8, *[b"x"] * (N - 1))), "name", N),
    "a status that is no UTF-8": (
        _changed(status=raw_text(NO_UTF8, *[None] * (N - 1))),
        "status",
        N,
    ),
    "a name of two mebibytes": (_changed(name=["x" * (2 << 20), *["y"] * (N - 1)]), "name", N),
    "infinite places": (_changed(lat=[float("inf")] * N, lon=[float("nan")] * N), "lat", N),
}
"""Snapshots of which some is used: how they are made, the field at fault, the rows that stay."""

JSON_JUNK: Mapping[str, bytes] = {
    "nothing": b"",
    "a list": b"[1]",
    "null": b"null",
    "a number": b"1" + b"0" * 5000,
    "no UTF-8": NO_UTF8,
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "an empty object": b"{}",
    "truncated": b'{"folder": "2025',
}
"""What may stand where a JSON document is expected."""
