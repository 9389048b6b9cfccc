"""A file of recorded observations, read value by value: what replay and backtest are fed with.

Parquet or CSV (with commas, semicolons or tabs), with the columns of a snapshot under their own
names or other common ones. Each value is read as ingestion reads those of a feed
(`velib_core.feeds.values`): text numbers, text flags and text times are read, a value that has no
reading becomes null, and a row whose time, station or bike count has none is refused, as is a line
of a CSV that is no row. All of it is said.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from velib_core.errors import InvalidValueError, shorten
from velib_core.tables.snapshot import MAX_COUNT
from velib_core.timeline.bins import BIN_MINUTES, iso_z

from velib_local.simulation.recorded_values import TYPES, convert, with_meaning
from velib_local.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

REQUIRED = ("ts_utc", "station_id", "bikes")

OTHER_NAMES = {
    "ts_utc": ("timestamp", "datetime", "time", "ts", "retrieved_at", "tbin_utc"),
    "station_id": ("stationId", "station_code", "stationcode", "station", "id"),
    "bikes": ("num_bikes_available", "available_bikes", "numbikesavailable", "bikes_available"),
    "capacity": ("bike_stands", "total_docks", "num_docks"),
    "mechanical": ("num_mechanical_available", "mechanical_bikes"),
    "ebike": ("num_ebikes_available", "ebikes", "electrical_bikes"),
    "docks_available": ("num_docks_available", "available_bike_stands", "numdocksavailable"),
    "bikes_disabled": ("num_bikes_disabled",),
    "docks_disabled": ("num_docks_disabled",),
    "lat": ("latitude",),
    "lon": ("lng", "longitude", "long"),
    "last_reported_utc": ("last_reported", "last_update", "lastUpdated"),
    "name": ("station_name",),
}
"""Names that other recordings use, in order of preference; in small letters or capitals."""

LACKS = {
    "capacity": "forecasts bounded by docks, else by the most bikes seen",
    "lat": "no map, no neighbours",
    "lon": "no map, no neighbours",
    "name": "no names",
    "docks_available": "free docks are capacity − bikes",
    "last_reported_utc": "no ages of reports",
}
"""What a replay or backtest goes without where a column is missing."""

EXPECTED = {
    "ts_utc": "an instant",
    "station_id": "a text or whole number",
    "bikes": f"a whole number from 0 to {MAX_COUNT}",
    "last_reported_utc": "an instant",
}
EXPECTED_OF_TYPE = {
    pa.int64(): "a whole number",
    pa.float64(): "a number",
    pa.string(): "a text",
}
_LOCAL_AGREEMENT_S = 600
_SEPARATORS = (",", ";", "\t")
_HEADER_BYTES = 1 << 16


class RecordingError(InvalidValueError):
    """A recording that cannot be used: names the file or column and what was expected."""


@dataclasses.dataclass
class RejectedRows:
    """Values of one column that have no reading: how many, and the first with its row."""

    column: str
    count: int
    row: int
    value: str
    expected: str
    refused: bool

    def __str__(self) -> str:
        """Say it in one line."""
        what = "rows refused" if self.refused else "values left out"
        first = f"row {self.row} has {self.value}, expected {self.expected}"
        return f"column {self.column}: {self.count} {what}; {first}"


@dataclasses.dataclass(frozen=True)
class Understood:
    """What was understood of a recording; ``read`` maps our columns to the file's."""

    file: str
    rows: int
    stations: frozenset[str]
    snapshots: int
    step_min: int
    first: dt.datetime
    last: dt.datetime
    tz: str
    read: dict[str, str]
    not_read: list[str]
    rejections: list[RejectedRows]

    def lines(self) -> list[str]:
        """Return the opening line, and one for each kind of value that has no reading."""
        renamed = [f"{ours} from {theirs}" for ours, theirs in self.read.items() if ours != theirs]
        missing = [f"{name} ({why})" for name, why in LACKS.items() if name not in self.read]
        notes = [
            f"{what} {', '.join(found)}"
            for what, found in (
                ("read", renamed),
                ("not read:", self.not_read),
                ("missing:", missing),
            )
            if found
        ]
        head = (
            f"{self.file}: {self.rows:,} rows of {len(self.stations):,} stations,"
            f" every {self.step_min} min, {iso_z(self.first)} … {iso_z(self.last)}, zone {self.tz}"
        )
        return ["; ".join([head, *notes]), *map(str, self.rejections)]

    def unevaluable(self, horizons: Sequence[int]) -> list[int]:
        """Return the horizons, in minutes, at whose end this step seldom observes anything."""
        apart = self.step_min > BIN_MINUTES
        return [minutes for minutes in horizons if apart and minutes % self.step_min]


class Observations:
    """A file of observations.

    Parameters
    ----------
    path
        Parquet, or CSV where the name ends in ``.csv``, ``.tsv``, or one of them and ``.gz``.
    local_zone
        The zone of times that name none; they are UTC where this is empty.

    Raises
    ------
    RecordingError
        Where the file cannot be read or lacks a required column.

    """

    def __init__(self, path: Path, local_zone: str = "") -> None:
        self.path = path
        self._zone = local_zone
        self._rejections: dict[str, RejectedRows] = {}
        names = self._names()
        spelt = {name.strip().lower(): name for name in reversed(names)}
        self.columns = {}
        for ours in TYPES:
            known = [n.lower() for n in (ours, *OTHER_NAMES.get(ours, ())) if n.lower() in spelt]
            if known:
                self.columns[ours] = spelt[known[0]]
        for ours in REQUIRED:
            if ours not in self.columns:
                others = ", ".join(OTHER_NAMES[ours])
                raise RecordingError(str(path), names, f"a column {ours} (or {others})")
        self.not_read = [name for name in names if name not in self.columns.values()]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows part by part, columns typed and named as ours; refused rows are out."""
        wanted = [name for name in self.columns if columns is None or name in columns]
        offset = 0
        for part in self._parts([self.columns[name] for name in wanted]):
            yield self._typed(part, wanted, offset)
            offset += part.num_rows

    def understood(self, tz: str = "") -> Understood:
        """Read the file once; return what was understood of it.

        Raises `RecordingError` where no row can be used, and where the times are evidently local.
        """
        self._rejections.clear()
        stamps: list[Any] = []
        ids: set[Any] = set()
        rows, leads = 0, []
        places: list[tuple[float, float]] = []
        for part in self.tables():
            rows += part.num_rows
            stamps.append(pc.unique(part["ts_utc"]).cast(pa.int64()).drop_null().to_numpy())
            ids.update(pc.unique(part["station_id"]).to_pylist())
            if {"lat", "lon"} <= self.columns.keys():
                found = part.select(["lat", "lon"]).drop_null()
                if found.num_rows:
                    lat, lon = (float(np.median(found[name])) for name in ("lat", "lon"))
                    places.append((lat, lon))
            if "last_reported_utc" in self.columns and part.num_rows:
                lead = pc.subtract(
                    part["ts_utc"].cast(pa.int64()), part["last_reported_utc"].cast(pa.int64())
                ).drop_null()
                leads.append(np.asarray(lead)[:: max(1, len(lead) // 1000)])
        instants = np.unique(np.concatenate(stamps)) if stamps else np.zeros(0)
        if not len(instants):
            first = next(iter(self._rejections.values()), None)
            raise RecordingError(str(self.path), str(first or "no row"), "at least one usable row")
        zone = tz or self._zone or zone_of(places)
        self._check_zone(zone, instants, np.concatenate(leads) if leads else np.zeros(0))
        step = np.median(np.diff(instants)) / 60 if len(instants) > 1 else BIN_MINUTES
        first_at, last_at = (dt.datetime.fromtimestamp(t, dt.UTC) for t in instants[[0, -1]])
        return Understood(
            str(self.path),
            rows,
            frozenset(ids - {None}),
            len(instants),
            round(float(step)),
            first_at,
            last_at,
            zone,
            self.columns,
            self.not_read,
            list(self._rejections.values()),
        )

    def _check_zone(self, zone: str, instants: Any, leads: Any) -> None:  # noqa: ANN401 -- arrays
        """Raise where times without a zone are as far from the reports as local time would be."""
        if self._zone or len(leads) < 10:
            return
        at = dt.datetime.fromtimestamp(float(np.median(instants)), dt.UTC)
        offset = at.astimezone(zoneinfo.ZoneInfo(zone)).utcoffset() or dt.timedelta()
        typical = float(np.quantile(leads, 0.1))
        if offset and abs(typical - offset.total_seconds()) < _LOCAL_AGREEMENT_S:
            raise RecordingError(
                f"{self.path}: column {self.columns['ts_utc']}",
                f"times {typical / 3600:+.1f} h from the stations' reports",
                f"UTC; they look like local time of {zone}: add --local-times",
            )

    def _names(self) -> list[str]:
        path = self.path
        if not path.is_file():
            raise RecordingError("source", str(path), "a file that exists")
        try:
            if _is_csv(path):
                with pyarrow.csv.open_csv(str(path), parse_options=self._csv()) as reader:
                    return list(reader.schema.names)
            return list(pq.read_schema(path).names)
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            kind = "a CSV file" if _is_csv(path) else "a Parquet file"
            reason = str(error).splitlines()[0][:200]
            raise RecordingError("source", str(path), f"{kind} ({reason})") from error

    def _csv(self) -> pyarrow.csv.ParseOptions:
        """Return how a CSV is read: with its own separator, and each row for itself."""
        with pa.input_stream(str(self.path)) as stream:
            first = stream.read(_HEADER_BYTES).partition(b"\n")[0].decode("utf-8", "replace")

        def refuse(row: pyarrow.csv.InvalidRow) -> str:
            noted = self._rejections.setdefault(
                "all",
                RejectedRows(
                    "all",
                    0,
                    (row.number or 2) - 1,
                    f"{row.actual_columns} values",
                    f"{row.expected_columns}",
                    refused=True,
                ),
            )
            noted.count += 1
            return "skip"

        return pyarrow.csv.ParseOptions(
            delimiter=max(_SEPARATORS, key=first.count),
            newlines_in_values=True,
            invalid_row_handler=refuse,
        )

    def _parts(self, names: list[str]) -> Iterator[pa.Table]:
        try:
            if _is_csv(self.path):
                options = pyarrow.csv.ConvertOptions(
                    include_columns=names,
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                )
                with pyarrow.csv.open_csv(
                    str(self.path),
                    read_options=pyarrow.csv.ReadOptions(use_threads=False),
                    parse_options=self._csv(),
                    convert_options=options,
                ) as reader:
                    for batch in reader:
                        yield pa.Table.from_batches([batch])
            else:
                file = pq.ParquetFile(self.path)
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, names)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0][:200]
            raise RecordingError("source", str(self.path), f"readable rows ({reason})") from error

    def _typed(self, part: pa.Table, wanted: Sequence[str], offset: int) -> pa.Table:
        columns: dict[str, pa.ChunkedArray] = {}
        keep = np.ones(part.num_rows, bool)
        for ours in wanted:
            raw = part[self.columns[ours]]
            typed = convert(raw, ours, self._zone)
            unread = np.asarray(pc.and_(pc.is_valid(raw), pc.is_null(typed)), bool)
            if pa.types.is_floating(raw.type):
                unread &= ~np.isnan(raw.to_numpy())
            if unread.any():
                self._note(ours, raw, unread, offset)
                if ours in REQUIRED:
                    keep &= ~unread
            columns[ours] = typed
        if "ts_utc" in columns:
            keep &= np.asarray(pc.is_valid(columns["ts_utc"]))
        table = with_meaning(pa.table(columns))
        return table if keep.all() else table.filter(pa.array(keep))

    def _note(self, ours: str, raw: pa.ChunkedArray, unread: Any, offset: int) -> None:  # noqa: ANN401
        row = int(np.argmax(unread))
        noted = self._rejections.get(ours)
        if noted is not None:
            noted.count += int(unread.sum())
            return
        expected = EXPECTED.get(ours) or EXPECTED_OF_TYPE[TYPES[ours]]
        instant = pa.types.is_timestamp(raw.type)  # what is none here, Python cannot hold
        value = shorten(raw[row].value if instant else raw[row].as_py(), 40)
        self._rejections[ours] = RejectedRows(
            self.columns[ours],
            int(unread.sum()),
            offset + row + 1,
            value,
            expected,
            ours in REQUIRED,
        )


EXPECTED_OF_TYPE = {pa.int64(): "a whole number", pa.float64(): "a number", pa.string(): "a text"}


def _is_csv(path: Path) -> bool:
    return path.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz"))
