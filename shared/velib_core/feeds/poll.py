"""One poll of a network's feeds: what is fetched, what is kept between polls, what may be missing.

Only the status file is needed. Without information a snapshot has the names and places of before,
without vehicle types no split into mechanical and electric bikes.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, TypeVar

from velib_core.feeds import gbfs, http, kinds, stations
from velib_core.feeds.http import FeedError, FeedUnavailableError
from velib_core.feeds.observed import poll_time
from velib_core.feeds.stations import Information, Place, Status
from velib_core.logs import log
from velib_core.tables.defects import Defect
from velib_core.timeline import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from velib_core.errors import InvalidValueError
    from velib_core.feeds.gbfs import Document
    from velib_core.feeds.kinds import Kind
    from velib_core.settings.network import Settings

T = TypeVar("T")

AGAIN_BUDGET_S = 3.0
"""For a second look at an unreadable document; a run must end within its 60 s all the same."""


@dataclasses.dataclass(frozen=True)
class Poll:
    """The feeds in one run.

    ``polled`` is when (aware, UTC), ``status_file`` the decoded status file and ``status`` its
    records; ``information`` is empty where it could not be had, ``unreadable`` the files that
    are no GBFS. ``types`` says what each vehicle type is.
    """

    polled: dt.datetime
    status_file: Document
    status: Status
    information: Information
    types: Mapping[str, Kind]
    unreadable: tuple[UnreadableFeedError, ...] = ()


class UnreadableFeedError(FeedError):
    """A feed whose bytes are no GBFS; carries them, so that they can be kept."""

    def __init__(self, error: InvalidValueError, body: bytes) -> None:
        super().__init__(error.field, error.value, error.expected)
        self.body = body


@dataclasses.dataclass(frozen=True)
class _Kept:
    """A document between polls, until its ttl is over: the result of reading it."""

    value: object
    until: dt.datetime


class Feeds:
    """A network's feeds as one function instance sees them.

    What changes rarely (addresses, station information, vehicle types) is fetched and read again
    only when its ``ttl`` is over. The status feed is fetched in every run, whatever its ttl:
    Vélib' Métropole announces an hour for a feed that changes every
    minute. ``now`` is the clock. ``places`` is what earlier snapshots say of the stations.
    """

    def __init__(self, settings: Settings, now: Callable[[], dt.datetime] = clock.now) -> None:
        self._settings = settings
        self._now = now
        self._kept: dict[str, _Kept] = {}
        self._missing: dict[str, Exception] = {}
        self.places: Mapping[str, Place] = {}
        self.session = http.open_session()

    def read(self) -> Poll:
        """Poll the feeds.

        Raises `velib_core.feeds.http.FeedError` or `FeedUnavailableError` where the status feed, or
        a discovery file that was never read before, is not to be had.
        """
        self._missing = {}
        try:
            urls = self.urls()
            answer, status_file = self._fetch("station_status", urls["station_status"])
        except (FeedError, FeedUnavailableError):
            self._kept.pop("gbfs", None)  # feeds move; the next run resolves their addresses
            raise
        polled = poll_time(self._now(), answer.date)
        types, odd_types = self._optional(
            urls, "vehicle_types", kinds.vehicle_kinds, kinds.NO_TYPES
        )
        information = self._optional(
            urls, "station_information", stations.read_information, Information({})
        )
        status = stations.read_status(status_file, types)
        missing = [
            Defect(None, feed, None, "a file that can be read", refused=False)
            for feed in sorted(self._missing.keys() | ({"station_information"} - urls.keys()))
        ]
        odd = [Defect(None, p.field, p.value, p.expected, refused=False) for p in odd_types]
        status = dataclasses.replace(status, defects=(*status.defects, *odd, *missing))
        unreadable = tuple(
            error for error in self._missing.values() if isinstance(error, UnreadableFeedError)
        )
        return Poll(polled, status_file, status, information, types, unreadable)

    def urls(self) -> dict[str, str]:
        """Return the addresses of the feeds, as configured or as the discovery file says."""
        discovery = self._settings.gbfs_url
        if not discovery:
            return {
                "station_status": self._settings.status_url,
                "station_information": self._settings.info_url,
            }
        return self._cached("gbfs", discovery, lambda found: gbfs.feed_urls(found, discovery))

    def _optional(
        self, urls: Mapping[str, str], feed: str, read: Callable[[Document], T], nothing: T
    ) -> T:
        """Return what a file says; what nothing says, with a warning, where it is not to be had."""
        if feed not in urls:
            return nothing
        try:
            return self._cached(feed, urls[feed], read)
        except (FeedError, FeedUnavailableError) as error:
            log("WARNING", f"no {feed}: {error}")
            self._missing[feed] = error
            return nothing

    def _cached(self, feed: str, url: str, read: Callable[[Document], T]) -> T:
        """Return what a document says, fetched again after its ttl if possible."""
        held = self._kept.get(feed)
        if held is not None and self._now() < held.until:
            return held.value  # type: ignore[return-value]
        try:
            _, document = self._fetch(feed, url)
            value = read(document)
        except (FeedError, FeedUnavailableError) as error:
            if held is None:
                raise
            log("WARNING", f"{feed} is past its ttl and could not be fetched again: {error}")
            return held.value  # type: ignore[return-value]
        self._kept[feed] = _Kept(value, _fresh_until(document, self._now()))
        return value

    def _fetch(self, feed: str, url: str) -> tuple[http.Answer, Document]:
        """Fetch a document; an unreadable one at once again, since most are only cut off."""
        origin = self._settings.gbfs_url
        answer = http.get(self.session, url, origin=origin)
        try:
            return answer, gbfs.decode(feed, answer.body)
        except FeedError as error:
            log("WARNING", f"{feed} is asked for again: {error}")
        answer = http.get(self.session, url, AGAIN_BUDGET_S, origin=origin)
        try:
            return answer, gbfs.decode(feed, answer.body)
        except FeedError as error:
            raise UnreadableFeedError(error, answer.body) from error


def _fresh_until(document: Document, fetched: dt.datetime) -> dt.datetime:
    """Return until when a document need not be fetched again: its ttl after it was made.

    A stamp from the future would keep it for ever.
    """
    made = min(document.last_updated or fetched, fetched)
    return made + dt.timedelta(seconds=document.ttl_s)
