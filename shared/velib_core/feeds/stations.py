"""Station records → the rows of a snapshot: each record, and each field of it, for itself.

A value that has no reading is a `Defect` and becomes null; a record without a usable id or bike
count is refused. Ranges are checked by `velib_core.tables.snapshot.validate`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.feeds import kinds, values
from velib_core.feeds.open_meteo import Weather
from velib_core.tables import service
from velib_core.tables.defects import Defect
from velib_core.tables.fillers import without_fillers
from velib_core.tables.snapshot import ONE_ROW, SCHEMA, naive
from velib_core.timeline.bins import bin_of, bin_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from velib_core.feeds.gbfs import Document
    from velib_core.feeds.kinds import Kind
    from velib_core.feeds.observed import Observed

T = TypeVar("T")

EARLIEST_REPORT = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Stations report 0 or the like when they never have; years-old reports are real."""

MAX_DEFECTS = 100_000
"""Refused records are noted whatever their number; of other values no more."""

FLAGS = ("is_installed", "is_renting", "is_returning")


class Place(NamedTuple):
    """What a station is: its name, position in degrees WGS 84, and docks; null where unknown."""

    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    capacity: int | None = None

    def filled(self, other: Place) -> Place:
        """Return this with what it lacks from another; a position is one thing."""
        own = None not in (self.lat, self.lon) or None in (other.lat, other.lon)
        lat, lon = (self.lat, self.lon) if own else (other.lat, other.lon)
        name = other.name if self.name is None else self.name
        return Place(name, lat, lon, other.capacity if self.capacity is None else self.capacity)


@dataclasses.dataclass(frozen=True)
class Information:
    """The stations that an information file describes, by id, and what was wrong with it."""

    places: Mapping[str, Place]
    defects: tuple[Defect, ...] = ()


class Record(NamedTuple):
    """One usable record of a status file; ``reported`` is POSIX seconds as the feed says."""

    station_id: str
    bikes: int
    mechanical: int | None
    ebike: int | None
    docks_available: int | None
    flags: tuple[int | None, ...]
    status: str | None
    reported: float
    raw_report: object
    place: Place


@dataclasses.dataclass(frozen=True)
class Status:
    """The usable records of a status file, and what was wrong with the others."""

    records: tuple[Record, ...]
    defects: tuple[Defect, ...]

    def reports(self) -> NDArray[np.float64]:
        """Return when each station reported, POSIX seconds, NaN where unknown."""
        return np.array([record.reported for record in self.records], np.float64)


def read_information(document: Document) -> Information:
    """Read a station_information file; of records that share an id the fullest counts."""
    reader = _Reader()
    places: dict[str, Place] = {}
    for record in document.records:
        station_id = _station_id(record)
        if station_id is None or not isinstance(record, dict):
            said = record.get("station_id") if isinstance(record, dict) else record
            reader.nullify(None, "station_information.station_id", said, "a text or whole number")
            continue
        place = reader.place(station_id, record)
        held = places.get(station_id)
        if held is not None and held != place:
            reader.nullify(station_id, "station_information.station_id", station_id, "one record")
            place = max(held, place, key=lambda p: (sum(v is not None for v in p), repr(p)))
        places[station_id] = place
    return Information(places, (*document.defects, *reader.defects))


def read_status(document: Document, types: Mapping[str, Kind]) -> Status:
    """Read a station_status file: each record that has an id and a bike count."""
    reader = _Reader()
    read = (reader.record(record, types) for record in document.records)
    records = tuple(record for record in read if record is not None)
    return Status(records, (*document.defects, *reader.defects))


def snapshot_rows(
    status: Status,
    information: Information,
    known: Mapping[str, Place],
    observed: Observed,
) -> tuple[pa.Table, list[Defect]]:
    """Join the two station files into rows of the snapshot schema, one a station, without weather.

    What the information file does not say of a station is taken from its status record, and then
    from what is ``known`` of earlier. Of records that share an id the one with the newest report
    counts. The defects are those of both files.
    """
    reader = _Reader()
    chosen: dict[str, Record] = {}
    for raw in status.records:
        record = raw._replace(reported=reader.reported(raw, observed))
        held = chosen.get(record.station_id)
        if held is not None:
            reader.refuse(record.station_id, "station_id", record.station_id, ONE_ROW)
            record = max(held, record, key=_newness)
        chosen[record.station_id] = record
    nowhere = Place()
    places = [
        information.places.get(record.station_id, nowhere).filled(record.place)
        for record in chosen.values()
    ]
    if not any(place.capacity for place in places) and any(p.capacity == 0 for p in places):
        reader.nullify(None, "capacity", 0, "docks; no station of the network has any")
        places = [place._replace(capacity=None) for place in places]
    rows = [
        (record, place.filled(known.get(record.station_id, nowhere)))
        for record, place in zip(chosen.values(), places, strict=True)
    ]
    table, fillers = without_fillers(_table(rows, observed))
    defects = (*status.defects, *information.defects, *reader.defects, *fillers)
    return _with_status(table), list(defects)


def _newness(record: Record) -> tuple[float, str]:
    """Return what orders a station's records: the report, and the content where it is equal."""
    return -math.inf if math.isnan(record.reported) else record.reported, repr(record)


def places_of(rows: pa.Table) -> dict[str, Place]:
    """Return what a snapshot's rows say of their stations."""
    columns = (rows[name].to_pylist() for name in ("station_id", *Place._fields))
    return {station_id: Place(*place) for station_id, *place in zip(*columns, strict=True)}


def at_instant(rows: pa.Table, at: dt.datetime, weather: Weather) -> pa.Table:
    """Return rows as observed at an instant (aware), with the weather of then."""
    constant: dict[str, Any] = {
        "ts_utc": naive(at),
        "tbin_utc": naive(bin_start(bin_of(at))),
        **dataclasses.asdict(weather),
    }
    columns = [
        pa.repeat(pa.scalar(constant[field.name], field.type), rows.num_rows)
        if field.name in constant
        else rows[field.name]
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def _table(rows: list[tuple[Record, Place]], observed: Observed) -> pa.Table:
    def stamps(seconds: list[float]) -> pa.Array:
        known = np.array(seconds, np.float64)
        integer = np.floor(np.nan_to_num(known)).astype(np.int64)
        return pa.array(integer, pa.int64(), mask=np.isnan(known)).cast(pa.timestamp("s"))

    own: dict[str, Any] = {
        field: [getattr(record, field) for record, _ in rows]
        for field in ("station_id", "bikes", "mechanical", "ebike", "docks_available", "status")
    }
    own |= {flag: [record.flags[n] for record, _ in rows] for n, flag in enumerate(FLAGS)}
    own |= {field: [place[n] for _, place in rows] for n, field in enumerate(Place._fields)}
    own["last_reported_utc"] = stamps([record.reported for record, _ in rows])
    columns = [
        own[field.name].cast(field.type)
        if isinstance(own.get(field.name), pa.Array)
        else pa.array(own.get(field.name, [None] * len(rows)), field.type)
        for field in SCHEMA
    ]
    return at_instant(pa.table(columns, schema=SCHEMA), observed.at, Weather())


def _with_status(table: pa.Table) -> pa.Table:
    """Say OK or CLOSED of each row, nothing where the feed says nothing of it."""
    said = [pc.is_valid(table[name]) for name in ("status", "is_renting", "is_returning")]
    some = pc.or_(pc.or_(said[0], said[1]), said[2])
    in_order = pc.if_else(some, service.OK, pa.scalar(None, pa.string()))
    status = pc.if_else(service.closed(table), service.CLOSED, in_order)
    return table.set_column(table.schema.get_field_index("status"), "status", status)


class _Reader:
    """Reads records one by one and collects what was wrong with them."""

    def __init__(self) -> None:
        self.defects: list[Defect] = []

    def record(self, record: object, types: Mapping[str, Kind]) -> Record | None:
        """Return a status record's own values, or ``None`` where it is refused."""
        if not isinstance(record, dict):
            self.refuse(None, "stations", record, "a JSON object")
            return None
        station_id = _station_id(record)
        if station_id is None:
            said = values.field(record, "station_id")
            self.refuse(None, "station_id", said, "a text or whole number, without controls")
            return None
        bikes = self._bikes(station_id, record, types)
        if bikes is None:
            return None
        said = values.field(record, "station_status")
        word = said.strip() if isinstance(said, str) else ""
        report = values.field(record, "last_reported")
        reported = values.posix(report)
        return Record(
            station_id,
            bikes.total or 0,
            bikes.mechanical,
            bikes.ebike,
            self._count(station_id, "num_docks_available", record),
            tuple(self._typed(station_id, f, record, values.flag, "true or false") for f in FLAGS),
            service.status_of(word) if word else None,
            math.nan if reported is None else reported,
            report,
            self.place(station_id, record),
        )

    def _bikes(
        self, station_id: str, record: Mapping[str, Any], types: Mapping[str, Kind]
    ) -> kinds.Bikes | None:
        """Return the bikes by kind; 3.x counts all vehicles, earlier versions bikes."""
        field = "num_bikes_available"
        said = values.field(record, field)
        of_all = said is None
        if of_all:
            vehicles = values.field(record, "num_vehicles_available")
            field = field if vehicles is None else "num_vehicles_available"
            said = vehicles
        total = values.count(said)
        if total is None:
            self.refuse(station_id, field, said, "a whole number")
            return None
        if total < 0:
            return kinds.Bikes(total, None, None, [])  # the range check refuses it
        bikes = kinds.bikes_of(record, total, types, of_all=of_all)
        refused = bikes.total is None
        for problem in bikes.problems:
            note = self.refuse if refused else self.nullify
            note(station_id, *problem)
        return None if refused else bikes

    def place(self, station_id: str, record: Mapping[str, Any]) -> Place:
        """Return what a record of either file says of where its station is."""
        name = self._typed(station_id, "name", record, values.text, "a text")
        lat = self._typed(station_id, "lat", record, values.real, "degrees")
        lon = self._typed(station_id, "lon", record, values.real, "degrees")
        return Place(
            name if name and name.strip() else None,
            lat,
            lon,
            self._count(station_id, "capacity", record),
        )

    def reported(self, record: Record, observed: Observed) -> float:
        """Return when a station reported, POSIX seconds, NaN where that cannot be."""
        seconds = record.reported - observed.shift.total_seconds()
        if EARLIEST_REPORT.timestamp() <= seconds <= observed.latest.timestamp():
            return seconds
        if record.raw_report is not None:
            expected = f"an instant from 2000 to {observed.latest:%FT%TZ}"
            self.nullify(record.station_id, "last_reported", record.raw_report, expected)
        return math.nan

    def _count(self, station_id: str, field: str, record: Mapping[str, Any]) -> int | None:
        return self._typed(station_id, field, record, values.count, "a whole number")

    def _typed(
        self,
        station_id: str,
        field: str,
        record: Mapping[str, Any],
        read: Callable[[object], T | None],
        expected: str,
    ) -> T | None:
        value = values.field(record, field)
        typed = None if value is None else read(value)
        if typed is None and value is not None:
            self.nullify(station_id, field, value, expected)
        return typed

    def nullify(self, station_id: str | None, field: str, value: object, expected: str) -> None:
        """Note a value that became null, of a file that has nothing else only so many."""
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(Defect(station_id, field, value, expected, refused=False))

    def refuse(self, station_id: str | None, field: str, value: object, expected: str) -> None:
        """Note a record that is left out."""
        self.defects.append(Defect(station_id, field, value, expected, refused=True))


def _station_id(record: object) -> str | None:
    return values.identifier(values.field(record, "station_id"))
