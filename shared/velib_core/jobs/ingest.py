"""A tick → the feed's snapshot of its own bin under ``bronze/``.

The clock is the feed's: a snapshot belongs to the bin in which the feed says it was made, however
late the tick was delivered, and a feed that stands still makes no new bins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from velib_core import fetch, gbfs, quarantine, snapshot, weather
from velib_core import lake as store
from velib_core.fetch import FeedError, FeedUnavailableError
from velib_core.grid import bin_of
from velib_core.jobs.result import JobResult
from velib_core.layout import Layout, Snapshot
from velib_core.logs import log
from velib_core.quarantine import Reject
from velib_core.snapshot import SnapshotError

if TYPE_CHECKING:
    import pyarrow as pa

    from velib_core.errors import InvalidValueError
    from velib_core.gbfs import Document
    from velib_core.grid import Bin
    from velib_core.lake import Artefact, Entry, Lake
    from velib_core.settings import Settings

MAX_KEPT_BYTES = 1 << 20
"""How much of an unreadable feed is kept to be looked at."""


class Feeds:
    """A network's feeds as one function instance sees them.

    What changes rarely (addresses, station information, vehicle types) is fetched again only
    when its ``ttl`` is over by the feed's own clock. The status feed is fetched at every tick,
    whatever its ttl: that is what a tick is for, and Vélib' Métropole announces an hour for a
    feed that changes every minute.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache: dict[str, tuple[Document, dt.datetime]] = {}
        self.session = fetch.open_session()

    def read(self) -> tuple[fetch.Answer, Document, Document, set[str]]:
        """Return the status answer and its document, the information, and the electric types.

        Raises `velib_core.fetch.FeedError` or `FeedUnavailableError`.
        """
        urls = self._urls()
        answer = fetch.get(self.session, urls["station_status"])
        now = polled_at(answer)
        status = _decode(answer, "station_status")
        information = self._cached("station_information", urls["station_information"], now)
        types = None
        if "vehicle_types" in urls:
            types = self._cached("vehicle_types", urls["vehicle_types"], now)
        return answer, status, information, gbfs.electric_types(types)

    def _urls(self) -> dict[str, str]:
        if not self._settings.gbfs_url:
            return {
                "station_status": self._settings.status_url,
                "station_information": self._settings.info_url,
            }
        return gbfs.feed_urls(self._cached("gbfs", self._settings.gbfs_url, None))

    def _cached(self, feed: str, url: str, now: dt.datetime | None) -> Document:
        """Return a document, fetched again where its ttl is over; an old one beats none."""
        held = self._cache.get(feed)
        if held is not None:
            document, fetched = held
            if now is None:
                now = dt.datetime.now(dt.UTC)
            if now < fetched + dt.timedelta(seconds=document.ttl_s):
                return document
        try:
            answer = fetch.get(self.session, url)
            document = _decode(answer, feed)
        except (FeedError, FeedUnavailableError) as error:
            if held is None:
                raise
            log("WARNING", f"{feed} is past its ttl and could not be fetched again: {error}")
            return held[0]
        self._cache[feed] = (document, polled_at(answer))
        return document


class UnreadableFeedError(FeedError):
    """A feed whose bytes are no GBFS; carries them, so that they can be kept."""

    def __init__(self, error: InvalidValueError, answer: fetch.Answer) -> None:
        super().__init__(error.field, error.value, error.expected)
        self.answer = answer


def polled_at(answer: fetch.Answer) -> dt.datetime:
    """Return when a feed was asked: by its server's clock, by this machine's where it is mute."""
    return answer.date or dt.datetime.now(dt.UTC)


def run(lake: Lake, settings: Settings, feeds: Feeds) -> JobResult:
    """Ingest the feed's newest snapshot.

    Raises
    ------
    velib_core.fetch.FeedUnavailableError
        Where a feed does not answer; the tick is delivered again.
    velib_core.fetch.FeedError
        Where a feed is no GBFS, or has not one usable station; its bytes are in quarantine.

    """
    layout = Layout(settings)
    result = JobResult("ingest")
    try:
        answer, status, information, electric = feeds.read()
        observed = gbfs.observed_at(status, polled_at(answer))
        air = weather.observe(feeds.session, settings, observed)
        rows, defects = gbfs.snapshot_rows(status, information, electric, observed, air)
    except UnreadableFeedError as error:
        data = error.answer.body[:MAX_KEPT_BYTES]
        quarantine.keep(lake, layout, Reject(f"feed/{error.field}", data, str(error)))
        raise
    bin_ = bin_of(observed)
    rows, more = snapshot.tidy(rows, bin_)
    defects += more
    if defects:
        _keep_defects(lake, layout, bin_, defects)
    if not rows.num_rows:
        raise FeedError("station_status.data.stations", 0, "at least one usable station")
    name = layout.name(Snapshot(bin_))
    result.counts = {
        "stations": rows.num_rows,
        "defects": len(defects),
        "weather": int(air.temp_C is not None),
    }
    result.outputs[name] = lake.publish(
        name, lambda current: _artefact(lake, layout, current, rows, bin_)
    )
    return result


def _artefact(
    lake: Lake, layout: Layout, current: Entry | None, rows: pa.Table, bin_: Bin
) -> Artefact:
    """Unite the rows with the bin's object that exists: each station's newest stays."""
    if current is not None:
        data = lake.read(current)
        try:
            held, _ = snapshot.from_bytes(data, bin_)
        except SnapshotError as error:
            quarantine.keep(lake, layout, Reject(current.name, data, str(error)))
        else:
            rows = snapshot.merge(held, rows)
    data = snapshot.to_bytes(rows)
    return store.Artefact(data, store.PARQUET, store.crc32c(data))


def _keep_defects(lake: Lake, layout: Layout, bin_: Bin, defects: list[snapshot.Defect]) -> None:
    """Keep what was wrong with records, once a day for the same stations and fields.

    A station that is wrong at every tick would otherwise fill the quarantine.
    """
    kinds = sorted({(str(d.station_id), d.field, d.refused) for d in defects})
    digest = hashlib.sha256(repr(kinds).encode()).hexdigest()[:12]
    day = layout.name(Snapshot(bin_)).split("/date=")[1][:10]
    source = f"feed/date={day}/{digest}"
    if lake.stat(f"{layout.quarantined(source, digest)}.json") is None:
        quarantine.keep(lake, layout, Reject(source, None, "some records", defects), digest)


def _decode(answer: fetch.Answer, feed: str) -> Document:
    try:
        return gbfs.decode(feed, answer.body)
    except FeedError as error:
        raise UnreadableFeedError(error, answer) from error
