"""GBFS documents → the rows of a snapshot (https://github.com/MobilityData/gbfs, 2.x and 3.x).

The dialects that are read besides the standard: Vélib' Métropole (``lastUpdatedOther``,
``num_bikes_available_types``) and Lyft (``num_ebikes_available``, ``station_status``). Here
values get their type; ranges and duplicates are judged by `velib_core.tables.snapshot.tidy`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from velib_core.feeds.http import FeedError
from velib_core.tables.snapshot import SCHEMA, Defect, naive
from velib_core.timeline.bins import bin_of, bin_start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_core.feeds.open_meteo import Weather

T = TypeVar("T")

FEEDS = ("station_status", "station_information", "vehicle_types")

MAX_AHEAD = dt.timedelta(minutes=5)
"""A feed's stamp may run ahead of its server's clock by no more than a bin."""

MAX_BEHIND = dt.timedelta(days=7)
"""An older stamp is a field nobody maintains rather than a feed that stands still."""

EARLIEST_REPORT = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
"""Stations report 0 or the like when they never have; years-old reports are real."""

MAX_TTL_S = 24 * 3600

_LISTS = {"station_status": "stations", "station_information": "stations"}
"""The list without which a feed's data is of no use."""

_OPEN = {"ok", "active", "open", "operative", "in_service"}
_ELECTRIC = {"electric": True, "electric_assist": True, "human": False}
_DIGITS = re.compile(r"-?[0-9]{1,18}")
_MAX_DIGITS = 1000
"""Longer integers are no counts and no ids, and cost time that grows with their square."""


@dataclasses.dataclass(frozen=True)
class Document:
    """One decoded GBFS file: its data, its stamp (aware UTC or unknown) and ttl in seconds."""

    feed: str
    data: Mapping[str, Any]
    last_updated: dt.datetime | None
    ttl_s: int


def decode(feed: str, body: bytes) -> Document:
    """Decode one GBFS file; raise `FeedError` naming the feed and the field that is wrong."""
    try:
        text = body.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_refuse_constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise FeedError(feed, body[:60], f"JSON in UTF-8 ({reason})") from error
    if not isinstance(document, dict):
        raise FeedError(feed, document, "a JSON object")
    data = document.get("data")
    if not isinstance(data, dict):
        raise FeedError(f"{feed}.data", data, "a JSON object")
    if feed in _LISTS and not isinstance(data.get(_LISTS[feed]), list):
        raise FeedError(f"{feed}.data.{_LISTS[feed]}", data.get(_LISTS[feed]), "a list")
    stamp = _instant(document.get("last_updated")) or _instant(document.get("lastUpdatedOther"))
    ttl = document.get("ttl")
    whole_ttl = ttl if isinstance(ttl, int) and not isinstance(ttl, bool) else 0
    return Document(feed, data, stamp, min(max(whole_ttl, 0), MAX_TTL_S))


def feed_urls(discovery: Document) -> dict[str, str]:
    """Return the addresses of `FEEDS` that a discovery file names, 2.x (by language) or 3.x.

    Raises `FeedError` where station_status or station_information is not among them.
    """
    data = discovery.data
    listings = [data.get("feeds")] if "feeds" in data else []
    listings += [part.get("feeds") for part in data.values() if isinstance(part, dict)]
    listing = next((feeds for feeds in listings if isinstance(feeds, list)), [])
    urls = {
        item["name"]: item["url"]
        for item in listing
        if isinstance(item, dict)
        and item.get("name") in FEEDS
        and isinstance(item.get("url"), str)
        and item["url"].startswith(("https://", "http://"))
    }
    for feed in FEEDS[:2]:
        if feed not in urls:
            raise FeedError("gbfs.data.feeds", sorted(urls), f"an http(s) address of {feed}")
    return urls


def observed_at(status: Document, polled: dt.datetime) -> dt.datetime:
    """Return when a status feed was made (aware UTC), to the second.

    That is what the feed says, unless it says nothing or something absurd: more than `MAX_AHEAD`
    after it was polled, or more than `MAX_BEHIND` before. Then it is the time of the poll.
    """
    said = status.last_updated
    if said is None or said > polled + MAX_AHEAD or said < polled - MAX_BEHIND:
        return polled.replace(microsecond=0)
    return said.replace(microsecond=0)


def electric_types(vehicle_types: Document | None) -> dict[str, bool]:
    """Tell of each vehicle type, by its id, whether a motor helps it; others are left out."""
    listed = vehicle_types.data.get("vehicle_types") if vehicle_types else None
    return {
        str(item.get("vehicle_type_id")): _ELECTRIC[item["propulsion_type"]]
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict) and str(item.get("propulsion_type")) in _ELECTRIC
    }


def snapshot_rows(
    status: Document,
    information: Document,
    electric: Mapping[str, bool],
    observed: dt.datetime,
    weather: Weather,
) -> tuple[pa.Table, list[Defect]]:
    """Join the two station feeds into rows of the snapshot schema.

    A station without information keeps its row, with null capacity, place and name; one without
    a status has none. Every value that has no type that fits is a `Defect`; a record without a
    usable id or count is left out.
    """
    described = {
        station_id: record
        for record in information.data["stations"]
        if isinstance(record, dict) and (station_id := _identifier(record)) is not None
    }
    reader = _Reader(observed)
    rows = []
    for record in status.data["stations"]:
        row = reader.row(record, described, electric)
        if row is not None:
            rows.append(row)
    constant = {
        "ts_utc": naive(observed),
        "tbin_utc": naive(bin_start(bin_of(observed))),
        **dataclasses.asdict(weather),
    }
    columns = [
        pa.array([constant.get(f.name, row.get(f.name)) for row in rows], f.type) for f in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA), reader.defects


class _Reader:
    """Reads status records one by one and collects what was wrong with them."""

    def __init__(self, observed: dt.datetime) -> None:
        self.defects: list[Defect] = []
        self._observed = observed

    def row(
        self, record: object, described: Mapping[str, Any], electric: Mapping[str, bool]
    ) -> dict[str, object] | None:
        """Return a row's own columns, or ``None`` where the record is refused."""
        if not isinstance(record, dict):
            self._refuse(None, "stations", record, "a JSON object")
            return None
        station_id = _identifier(record)
        if station_id is None:
            value = record.get("station_id")
            self._refuse(None, "station_id", value, "a string or whole number")
            return None
        counted = record.get("num_bikes_available")
        counted = record.get("num_vehicles_available") if counted is None else counted
        bikes = _rounded(counted)
        if bikes is None:
            self._refuse(station_id, "num_bikes_available", counted, "a whole number")
            return None
        about = described.get(station_id, {})
        mechanical, ebike = self._split(station_id, record, bikes, electric)
        flags = {
            flag: self._typed(station_id, flag, record.get(flag), _flag, "true or false")
            for flag in ("is_installed", "is_renting", "is_returning")
        }
        docks = record.get("num_docks_available")
        return {
            "station_id": station_id,
            "bikes": bikes,
            "capacity": self._count(station_id, "capacity", about.get("capacity")),
            "mechanical": mechanical,
            "ebike": ebike,
            "status": _status(record.get("station_status"), flags),
            "lat": self._typed(station_id, "lat", about.get("lat"), _real, "degrees"),
            "lon": self._typed(station_id, "lon", about.get("lon"), _real, "degrees"),
            "name": self._typed(station_id, "name", about.get("name"), _text, "a text"),
            "last_reported_utc": self._reported(station_id, record.get("last_reported")),
            "docks_available": self._count(station_id, "num_docks_available", docks),
            **flags,
        }

    def _split(
        self, station_id: str, record: Mapping[str, Any], bikes: int, electric: Mapping[str, bool]
    ) -> tuple[int | None, int | None]:
        """Return the mechanical and the electric bikes of a station, null where nothing says it."""
        field = "num_bikes_available_types"
        kinds = record.get(field)
        if isinstance(kinds, list):
            kinds = {key: n for part in kinds if isinstance(part, dict) for key, n in part.items()}
        if isinstance(kinds, dict) and not kinds.keys().isdisjoint({"mechanical", "ebike"}):
            mechanical = self._count(station_id, f"{field}.mechanical", kinds.get("mechanical", 0))
            return mechanical, self._count(station_id, f"{field}.ebike", kinds.get("ebike", 0))
        types = record.get("vehicle_types_available")
        if isinstance(types, list) and (types or not bikes):
            return self._split_by_type(station_id, types, electric)
        ebikes = self._count(station_id, "num_ebikes_available", record.get("num_ebikes_available"))
        if ebikes is not None and not 0 <= ebikes <= bikes:
            self._nullify(station_id, "num_ebikes_available", ebikes, f"0…{bikes}, of all bikes")
            ebikes = None
        return (None, None) if ebikes is None else (bikes - ebikes, ebikes)

    def _split_by_type(
        self, station_id: str, types: Sequence[object], electric: Mapping[str, bool]
    ) -> tuple[int | None, int | None]:
        counts = {False: 0, True: 0}
        for part in types:
            field = "vehicle_types_available"
            if not isinstance(part, dict) or _rounded(part.get("count")) is None:
                self._nullify(station_id, field, part, "a vehicle type and its count")
                return None, None
            count, assisted = (
                _rounded(part["count"]),
                electric.get(str(part.get("vehicle_type_id"))),
            )
            if count and assisted is None:
                return None, None
            counts[bool(assisted)] += count or 0
        return counts[False], counts[True]

    def _count(self, station_id: str, field: str, value: object) -> int | None:
        return self._typed(station_id, field, value, _rounded, "a whole number")

    def _typed(
        self,
        station_id: str,
        field: str,
        value: object,
        read: Callable[[object], T | None],
        expected: str,
    ) -> T | None:
        typed = None if value is None else read(value)
        if typed is None and value is not None:
            self._nullify(station_id, field, value, expected)
        return typed

    def _reported(self, station_id: str, value: object) -> dt.datetime | None:
        if value is None:
            return None
        stamp = _instant(value)
        if stamp is None or not EARLIEST_REPORT <= stamp <= self._observed + dt.timedelta(days=1):
            expected = "an instant between 2000 and a day after the snapshot"
            self._nullify(station_id, "last_reported", value, expected)
            return None
        return naive(stamp.replace(microsecond=0))

    def _nullify(self, station_id: str, field: str, value: object, expected: str) -> None:
        self.defects.append(Defect(station_id, field, value, expected, refused=False))

    def _refuse(self, station_id: str | None, field: str, value: object, expected: str) -> None:
        self.defects.append(Defect(station_id, field, value, expected, refused=True))


def _identifier(record: Mapping[str, Any]) -> str | None:
    value = record.get("station_id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or value != _unicode(value):
        return None
    return value.strip()


def _status(said: object, flags: Mapping[str, int | None]) -> str | None:
    """Return OK, CLOSED, or nothing where the feed does not tell."""
    if isinstance(said, str) and said:
        return "OK" if said.strip().lower() in _OPEN else "CLOSED"
    renting, returning = flags["is_renting"], flags["is_returning"]
    if renting is None and returning is None:
        return None
    return "OK" if renting != 0 and returning != 0 else "CLOSED"


def _rounded(value: object) -> int | None:
    """Read a count; numbers that no count can be are kept in 64 bits, for the range check."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value)):
        return None
    if isinstance(value, int | float):
        return max(-(1 << 62), min(1 << 62, int(value)))
    return None


def _real(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(value: object) -> str | None:
    """Read a name: a string, or the first of 3.x's ``[{"text": …, "language": …}]``."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0].get("text")
    if not isinstance(value, str):
        return None
    return _unicode(value)


def _unicode(text: str) -> str:
    """Replace what JSON can escape but no Unicode text holds: halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()


def _flag(value: object) -> int | None:
    if value in (0, 1):  # True and False are among them
        return int(bool(value))
    return None


def _instant(value: object) -> dt.datetime | None:
    """Read POSIX seconds (2.x) or RFC 3339 (3.x); ``None`` for anything else."""
    try:
        if isinstance(value, str):
            stamp = dt.datetime.fromisoformat(value)
            return stamp.astimezone(dt.UTC) if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return dt.datetime.fromtimestamp(value, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
