"""Objects that nothing of ours writes, by the kind of object whose name they bear."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption
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
    "an id with NUL": (
        _changed(station_id=["1001\0", *[f"{1000 + n}" for n in range(N - 1)]]),
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
    "a number that is none": b'{"value": NaN}',
    "a number beyond any": b'{"value": [1e999]}',
    "truncated": b'{"folder": "2025',
}
"""What may stand where a JSON document is expected."""


def _column(name: str, value: object, type_: pa.DataType | None = None) -> Callable[[bytes], bytes]:
    """Give every row of a table the same value in a column."""

    def changed(held: bytes) -> bytes:
        table = pq.read_table(io.BytesIO(held))
        values = pa.array([value] * table.num_rows, type_)
        return parquet_bytes(table.set_column(table.column_names.index(name), name, values))

    return changed


def _arrays(**changed: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    """Change some arrays of an archive."""

    def made(held: bytes) -> bytes:
        arrays = dict(np.load(io.BytesIO(held)))
        sink = io.BytesIO()
        np.savez(sink, **arrays | {name: change(arrays[name]) for name, change in changed.items()})
        return sink.getvalue()

    return made


def _numbers(value: object) -> Callable[[bytes], bytes]:
    """Put a value in the place of every number of a document."""

    def of(held: Any) -> Any:
        if isinstance(held, dict):
            return {key: of(item) for key, item in held.items()}
        if isinstance(held, list):
            return [of(item) for item in held]
        is_number = isinstance(held, int | float) and not isinstance(held, bool)
        return value if is_number else held

    return lambda held: json.dumps(of(json.loads(held))).encode()


def _said(**values: object) -> Callable[[bytes], bytes]:
    return lambda held: json.dumps(json.loads(held) | values).encode()


def _alert(code: str) -> dict[str, str]:
    return {"code": code, "artefact": "kpis.json", "text": "all is lost"}


def _table(held: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(held))


def _written(**options: Any) -> Callable[[bytes], bytes]:
    """Write a table as some other program may."""
    return lambda held: parquet_bytes(_table(held), **options)


def _renamed(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    def made(held: bytes) -> bytes:
        table = _table(held)
        return parquet_bytes(table.rename_columns(change(table.column_names)))

    return made


def _encrypted(*, plain_footer: bool) -> Callable[[bytes], bytes]:
    """Encrypt the footer, or one column of it: whoever reads has no key."""

    class Keys(encryption.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key_bytes: bytes, _master: str) -> bytes:
            return base64.b64encode(key_bytes)

    def made(held: bytes) -> bytes:
        table, sink = _table(held), io.BytesIO()
        keys = encryption.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["station_id"]}, plaintext_footer=plain_footer
        )
        factory = encryption.CryptoFactory(lambda _: Keys())
        how = factory.file_encryption_properties(encryption.KmsConnectionConfig(), keys)
        with pq.ParquetWriter(sink, table.schema, encryption_properties=how) as writer:
            writer.write_table(table)
        return sink.getvalue()

    return made


def _other_pages(held: bytes) -> bytes:
    """Change a value of a page, which then is not what its checksum says."""
    data = parquet_bytes(
        _table(held), write_page_checksum=True, compression="none", use_dictionary=False
    )
    station = _table(held)["station_id"][0].as_py().encode()
    value = len(station).to_bytes(4, "little") + station
    return data.replace(value, value[:-1] + b"?", 1)


def _another_codec(held: bytes) -> bytes:
    """Name a codec that there is not: it follows a column's path in the footer."""
    data = parquet_bytes(_table(held), compression="gzip")
    path = b"\x19\x18\x0astation_id\x15"
    return data.replace(path + b"\x04", path + b"\x7e")


FILES: Mapping[str, Callable[[bytes], bytes]] = {
    "an encrypted footer": _encrypted(plain_footer=False),
    "an encrypted column": _encrypted(plain_footer=True),
    "a codec that there is not": _another_codec,
    "pages that are not what their checksums say": _other_pages,
    "a column twice": lambda held: parquet_bytes(
        (table := _table(held)).append_column("station_id", table["station_id"])
    ),
    "names of columns with NUL": _renamed(lambda names: [f"{name}\0" for name in names]),
    "no columns": lambda held: parquet_bytes(_table(held).select([])),
    "stations with NUL": _column("station_id", "1000\0"),
    "stations of bytes": _column("station_id", b"\xff", pa.binary()),
    "stations that are UUIDs": _column("station_id", bytes(16), pa.uuid()),
    "times of another zone and unit": lambda held: parquet_bytes(
        (table := _table(held)).set_column(
            table.column_names.index("tbin_utc"),
            "tbin_utc",
            table["tbin_utc"].cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "Asia/Kathmandu")),
        )
    ),
    "pages of another version": _written(data_page_version="2.0", compression="brotli"),
}
"""Parquet files as other programs and damage make them, of good ones."""

NO_TIME = _column("tbin_utc", None, pa.timestamp("ns"))
FAR_TIME = _column("tbin_utc", (1 << 63) - 1, pa.timestamp("ns"))
NO_STATION = _column("station_id", None, pa.string())

VALUES: Mapping[str, Mapping[str, Callable[[bytes], bytes]]] = {
    "daily": {
        "no time": NO_TIME,
        "no station": NO_STATION,
        "a time that cannot be": FAR_TIME,
        "2^62 bikes": _column("bikes", 1 << 62),
        "bikes of text": _column("bikes", "many"),
    },
    "events": {
        "no time": NO_TIME,
        "no station": NO_STATION,
        "a time that cannot be": FAR_TIME,
        "a time of text": _column("tbin_utc", "then"),
        "an instant that no second is": _column("ts_utc", (1 << 63) - 1, pa.timestamp("ns")),
        "bikes of text": _column("bikes", "many"),
        "bikes of lists": _column("bikes", [1]),
        "2^62 bikes": _column("bikes", 1 << 62),
        "a name that is no UTF-8": _column("name", NO_UTF8),
        "an infinite share": _column("occ_ratio", float("inf")),
    },
    "evaluations": {
        "no time": NO_TIME,
        "no station": NO_STATION,
        "a horizon of 2^62 bins": _column("horizon_bins", 1 << 62),
        "2^62 bikes": _column("y_true", 1 << 62),
        "a score of text": _column("crps", "good"),
    },
    "forecast log": {
        "no target": _column("target_tbin_utc", None, pa.timestamp("ns")),
        "no station": NO_STATION,
        "stations of lists": _column("station_id", ["1"]),
        "a forecast of text": _column("y_pred_int", "many"),
        "a chance of 5": _column("p_dock", 5.0),
    },
    "profiles": {
        "a zone that is none": _arrays(tz=lambda _: "Mars/Olympus"),
        "a zone that is a path": _arrays(tz=lambda _: "../../etc/passwd"),
        "days that are to come": _arrays(through=lambda _: "2099-01-01"),
        "sums of text": _arrays(level=lambda held: np.full(held.shape, "x")),
        "sums that are no numbers": _arrays(change=lambda held: np.full(held.shape, np.nan)),
        "stations that are one": _arrays(stations=lambda held: np.full(held.shape, "1000")),
        "seen in the year 10^9": _arrays(last_seen=lambda held: np.full(held.shape, 1 << 62)),
    },
    "calibrations": {
        "days without end": _said(days=float("inf")),
        "days of 400 digits": _said(days=10**400),
        "sums that are no numbers": _said(gain=[[1], [2, 3]]),
    },
    "forecasts": {
        "numbers of 400 digits": _numbers(10**400),
        "the year 9999": _said(generated_at="9999-12-31T23:59:59Z"),
        "no rows": _said(data=None),
    },
    "documents": {
        "numbers of 400 digits": _numbers(10**400),
        "numbers that are none": _numbers(float("nan")),
        "the year 9999": _said(generated_at="9999-12-31T23:59:59Z", snapshot_ts_utc="9999-12-31"),
    },
    "manifests": {
        "10,000 alerts": _said(alerts=[_alert(str(n)) for n in range(10_000)]),
        "an alert of 11 MiB": _said(alerts=[_alert("a") | {"text": "x" * (11 << 20)}]),
    },
    "sums": {
        "a start in the year 10^9": _arrays(start=lambda _: np.array(1 << 50)),
        "a start long ago": _arrays(start=lambda _: np.array(-(1 << 30))),
        "counts of other shapes": _arrays(stations=lambda _: np.zeros((1, 1), np.uint8)),
        "counts of text": _arrays(network=lambda held: np.full(held.shape, "x")),
    },
    "pointers": {
        "a version that nothing follows": _said(version="999999999.999999999.999999999"),
        "files elsewhere": _said(files={"../../../daily/x": "0" * 64, "": "1"}),
    },
}
"""Files of the right form with values that nothing of ours writes: how they are made of good ones,
by the folder and what they are."""
