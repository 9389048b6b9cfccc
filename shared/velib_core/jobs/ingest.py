"""A tick → the feed's snapshot of its own bin under ``bronze/``.

The clock is the feed's: a snapshot belongs to the bin in which the feed says it was made, however
late the tick was delivered, and a feed that stands still makes no new bins.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.events.job import JobResult
from velib_core.feeds import gbfs, http, open_meteo
from velib_core.feeds.http import FeedError, FeedUnavailableError
from velib_core.lake.bucket import PARQUET, Artefact, crc32c
from velib_core.lake.keys import Snapshot
from velib_core.logs import log
from velib_core.tables import quarantine, snapshot
from velib_core.tables.quarantine import Reject
from velib_core.tables.snapshot import SnapshotError
from velib_core.timeline.bins import bin_of, day_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.errors import InvalidValueError
    from velib_core.events.network import Network
    from velib_core.feeds.gbfs import Document
    from velib_core.lake.bucket import Lake
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Bin

_MINUTE = dt.timedelta(minutes=1)

AGAIN_BUDGET_S = 3.0
"""For a second look at an unreadable document; a tick must end within its 60 s all the same."""

MAX_KEPT_BYTES = 1 << 20
"""How much of an unreadable feed is kept to be looked at."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The feeds at one tick.

    ``polled`` is the status server's clock (aware, UTC); ``electric`` tells of each vehicle type
    whether a motor helps it.
    """

    polled: dt.datetime
    status: Document
    information: Document
    electric: Mapping[str, bool]


class Feeds:
    """A network's feeds as one function instance sees them.

    What changes rarely (addresses, station information, vehicle types) is fetched again only
    when its ``ttl`` after ``last_updated`` is over by the status feed's clock. The status feed is
    fetched at every tick, whatever its ttl: that is what a tick is for, and Vélib' Métropole
    announces an hour for a feed that changes every minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache: dict[str, tuple[Document, dt.datetime]] = {}
        self._clock = dt.datetime.min.replace(tzinfo=dt.UTC)
        self.session = http.open_session()

    def read(self) -> Reading:
        """Read the feeds.

        Raises `velib_core.feeds.http.FeedError` or `FeedUnavailableError` where the status feed, or
        one that was never read before, is not to be had. Without vehicle types the split into
        mechanical and electric bikes is unknown, and that is all.
        """
        try:
            urls = self._urls()
            answer, status = self._fetch("station_status", urls["station_status"])
        except (FeedError, FeedUnavailableError):
            self._cache.pop("gbfs", None)  # feeds move; the next tick looks their addresses up
            raise
        self._clock = polled_at(answer)
        information = self._cached("station_information", urls["station_information"])
        types = None
        if "vehicle_types" in urls:
            try:
                types = self._cached("vehicle_types", urls["vehicle_types"])
            except (FeedError, FeedUnavailableError) as error:
                log("WARNING", f"no vehicle types: {error}")
        return Reading(self._clock, status, information, gbfs.electric_types(types))

    def _urls(self) -> dict[str, str]:
        if not self._settings.gbfs_url:
            return {
                "station_status": self._settings.status_url,
                "station_information": self._settings.info_url,
            }
        return gbfs.feed_urls(self._cached("gbfs", self._settings.gbfs_url))

    def _cached(self, feed: str, url: str) -> Document:
        """Return a document, fetched again where its ttl is over; an old one beats none."""
        held = self._cache.get(feed)
        if held is not None and self._clock < held[1]:
            return held[0]
        try:
            answer, document = self._fetch(feed, url)
        except (FeedError, FeedUnavailableError) as error:
            if held is None:
                raise
            log("WARNING", f"{feed} is past its ttl and could not be fetched again: {error}")
            return held[0]
        made = gbfs.observed_at(document, polled_at(answer))
        self._cache[feed] = (document, made + dt.timedelta(seconds=document.ttl_s))
        return document

    def _fetch(self, feed: str, url: str) -> tuple[http.Answer, Document]:
        """Fetch a document; an unreadable one at once again, since most are only cut off."""
        answer = http.get(self.session, url)
        try:
            return answer, gbfs.decode(feed, answer.body)
        except FeedError as error:
            log("WARNING", f"{feed} is asked for again: {error}")
        answer = http.get(self.session, url, AGAIN_BUDGET_S)
        try:
            return answer, gbfs.decode(feed, answer.body)
        except FeedError as error:
            raise UnreadableFeedError(error, answer) from error


class UnreadableFeedError(FeedError):
    """A feed whose bytes are no GBFS; carries them, so that they can be kept."""

    def __init__(self, error: InvalidValueError, answer: http.Answer) -> None:
        super().__init__(error.field, error.value, error.expected)
        self.answer = answer


def polled_at(answer: http.Answer) -> dt.datetime:
    """Return when a feed was asked: by its server's clock, by this machine's where it is mute."""
    return answer.date or dt.datetime.now(dt.UTC)


def run(network: Network, feeds: Feeds) -> JobResult:
    """Ingest the feed's newest snapshot.

    Raises
    ------
    velib_core.feeds.http.FeedUnavailableError
        Where a feed does not answer; the tick is delivered again.
    velib_core.feeds.http.FeedError
        Where a feed is no GBFS, or has not one usable station; its bytes are in quarantine.

    """
    lake, layout = network.lake, network.layout
    try:
        reading = feeds.read()
    except UnreadableFeedError as error:
        data = error.answer.body[:MAX_KEPT_BYTES]
        quarantine.keep(lake, layout, Reject(f"feed/{error.field}", data, str(error)))
        raise
    observed = gbfs.observed_at(reading.status, reading.polled)
    air = open_meteo.observe(feeds.session, network.settings, observed)
    rows, defects = gbfs.snapshot_rows(
        reading.status, reading.information, reading.electric, observed, air
    )
    bin_ = bin_of(observed)
    rows, more = snapshot.validate(rows, bin_)
    defects += more
    if defects:
        _keep_defects(lake, layout, bin_, defects)
    if not rows.num_rows:
        raise FeedError("station_status.data.stations", 0, "at least one usable station")
    rows = snapshot.with_repeats(rows, snapshot.count_repeats(defects))
    name = layout.name(Snapshot(bin_))
    outcome = lake.update(name, lambda current: _artefact(lake, layout, current, rows, bin_))
    counts = {
        "stations": rows.num_rows,
        "defects": len(defects),
        "refused": sum(defect.refused for defect in defects),
        "weather": int(air.temp_C is not None),
    }
    newest = pc.max(rows["last_reported_utc"].cast(pa.timestamp("s"))).as_py()
    if newest is not None:
        counts["newest_report_age_min"] = (snapshot.naive(reading.polled) - newest) // _MINUTE
    return JobResult("ingest", {name: outcome}, counts)


def _artefact(
    lake: Lake, layout: Layout, current: Entry | None, rows: pa.Table, bin_: Bin
) -> Artefact:
    """Unite the rows with the bin's object that exists: each station's newest stays."""
    if current is not None:
        data = lake.read(current)
        try:
            held, defects = snapshot.from_bytes(data, bin_)
        except SnapshotError as error:
            quarantine.keep(lake, layout, Reject(current.name, data, str(error)))
        else:
            if defects:
                quarantine.keep(lake, layout, Reject(current.name, data, "some rows", defects))
            repeats = _most(snapshot.repeats_of(held), snapshot.repeats_of(rows))
            merged = snapshot.merge(held, _with_weather_of(held, rows))
            rows = snapshot.with_repeats(merged, repeats)
    data = snapshot.to_bytes(rows)
    return Artefact(data, PARQUET, crc32c(data))


def _most(held: Mapping[str, int], rows: Mapping[str, int]) -> dict[str, int]:
    """Return the larger count of each station: a bin polled twice repeats no station by that."""
    return {s: max(held.get(s, 0), rows.get(s, 0)) for s in held.keys() | rows.keys()}


def _with_weather_of(held: pa.Table, rows: pa.Table) -> pa.Table:
    """Give rows the weather that the object holds already for their very observation.

    A feed that stands still is observed again at every tick; its weather stays that of its time.
    """
    known = held.filter(
        pc.and_(pc.equal(held["ts_utc"], rows["ts_utc"][0]), pc.is_valid(held["temp_C"]))
    )
    if not known.num_rows:
        return rows
    for column in ("temp_C", "precip_mm", "wind_mps", "weather_utc"):
        value = pa.repeat(known[column][0], rows.num_rows)
        rows = rows.set_column(rows.schema.get_field_index(column), column, value)
    return rows


def _keep_defects(lake: Lake, layout: Layout, bin_: Bin, defects: list[snapshot.Defect]) -> None:
    """Keep what was wrong with records, once a day for the same stations and fields.

    A station that is wrong at every tick would otherwise fill the quarantine.
    """
    kinds = sorted({(str(d.station_id), d.field, d.refused) for d in defects})
    digest = hashlib.sha256(repr(kinds).encode()).hexdigest()[:12]
    reject = Reject(f"feed/date={day_of(bin_)}/records", None, "some records", defects)
    quarantine.keep(lake, layout, reject, digest)
