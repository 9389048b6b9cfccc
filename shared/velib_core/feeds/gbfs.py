"""GBFS documents (https://github.com/MobilityData/gbfs, 1.x, 2.x and 3.x): decoding, discovery.

Here a file becomes a list of records and an instant; `velib_core.feeds.stations` reads records.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

from velib_core.feeds import json_text, values
from velib_core.feeds.http import FeedError
from velib_core.tables.defects import Defect
from velib_core.tables.snapshot import LIMITS

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

FEEDS = ("station_status", "station_information", "vehicle_types", "system_information")

STAMPS = ("last_updated", "lastUpdatedOther", "lastUpdated", "last_updated_at")
"""Where the dialects say when a file was made."""

MAX_TTL_S = 24 * 3600

MAX_RECORDS = LIMITS.rows
"""As many as a snapshot may hold, ten times the largest network there is; more are not read."""

MAX_VALUES, MAX_CONTAINERS = 4_000_000, 600_000
"""Values, and lists and objects among them, of one file: three times those of 50,000 stations.
Decoded, a file takes many times its bytes, most of all where it is nothing but brackets."""

_LISTS = {
    "station_status": "stations",
    "station_information": "stations",
    "vehicle_types": "vehicle_types",
}
_NO_ADDRESS = re.compile(r"[\s\x00-\x1f]")


@dataclasses.dataclass(frozen=True)
class Document:
    """One decoded GBFS file.

    ``records`` is its list (empty for a file that holds none), ``data`` the object round it;
    ``last_updated`` its stamp as read (aware UTC or unknown), ``ttl_s`` whole seconds. ``defects``
    says what was wrong with the file as a whole.
    """

    feed: str
    data: Mapping[str, Any]
    records: Sequence[object] = ()
    last_updated: dt.datetime | None = None
    ttl_s: int = 0
    version: str | None = None
    defects: tuple[Defect, ...] = ()


def decode(feed: str, body: bytes) -> Document:
    """Decode one GBFS file; raise `FeedError` naming the feed and the field that is wrong.

    What is wrong with one value costs no more than that value; see `velib_core.feeds.json_text`.
    """
    brackets = body.count(b"[") + body.count(b"{")
    if body.count(b",") > MAX_VALUES or brackets > MAX_CONTAINERS:
        raise FeedError(
            feed, "more", f"at most {MAX_VALUES} values, {MAX_CONTAINERS} of them nested"
        )
    try:
        document, wrong = json_text.parse(body)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:100]
        raise FeedError(feed, body[:60], f"JSON ({reason})") from error
    if not isinstance(document, dict):
        raise FeedError(feed, document, "a JSON object")
    data = _data(document)
    records: Sequence[object] = ()
    if feed in _LISTS:
        records = _records(feed, document if data is None else data)
        data = data if isinstance(data, dict) else {}
    elif not isinstance(data, dict):
        data = document
    defects = [Defect(None, feed, wrong, "JSON", refused=False)] if wrong else []
    if len(records) > MAX_RECORDS:
        field, least = f"{feed}.{_LISTS[feed]}", f"at most {MAX_RECORDS} records"
        defects.append(Defect(None, field, len(records), least, refused=False))
        records = records[:MAX_RECORDS]
    said = next((stamp for part in (document, data) for stamp in _stamps_of(part)), None)
    stamp = values.instant(said)
    if feed == "station_status" and said is not None and _odd_stamp(said, stamp):
        expected = "POSIX seconds or RFC 3339"
        defects.append(Defect(None, "last_updated", said, expected, refused=False))
    ttl = values.count(document.get("ttl")) or 0
    version = document.get("version")
    return Document(
        feed,
        data,
        records,
        stamp,
        min(max(ttl, 0), MAX_TTL_S),
        version if isinstance(version, str) else None,
        tuple(defects),
    )


def _data(document: Mapping[str, Any]) -> object:
    """Return what a file holds in ``data``, which some feeds wrap in another ``data``."""
    data: object = document.get("data")
    while isinstance(data, dict) and isinstance(data.get("data"), dict | list):
        data = data["data"]
    return data


def _stamps_of(part: Mapping[str, Any]) -> list[object]:
    """Return what an object says of when it was made, under the names of `STAMPS`."""
    return [part[name] for name in STAMPS if part.get(name) is not None]


def _records(feed: str, data: object) -> Sequence[object]:
    """Return a file's list: under its name in ``data``, as ``data`` itself, or without it."""
    name = _LISTS[feed]
    listed = data.get(name) if isinstance(data, dict) else data
    if isinstance(listed, dict) and listed and all(isinstance(r, dict) for r in listed.values()):
        return [{"station_id": key, **record} for key, record in listed.items()]
    if isinstance(listed, list):
        return listed
    if feed == "vehicle_types":
        return ()
    if not isinstance(data, dict):
        raise FeedError(f"{feed}.data", data, "a JSON object")
    raise FeedError(f"{feed}.data.{name}", listed, "a list")


def _odd_stamp(said: object, stamp: dt.datetime | None) -> bool:
    """Return whether a stamp is neither what 2.x nor what 3.x prescribes, read or not."""
    if stamp is None:
        return True
    if isinstance(said, str):
        return not re.match(r"\d{4}-\d\d-\d\d[Tt ]", said)
    return isinstance(said, int | float) and said >= 1e11


def feed_urls(discovery: Document, base: str = "") -> dict[str, str]:
    """Return the addresses of `FEEDS` that a discovery file names.

    1.x and 2.x list them below a language, as ``feeds`` or at once; 3.x lists them in ``feeds``.
    The first list that has both station feeds counts, else the first with station_status. An
    address may be relative to ``base``, that of the discovery file. Raises `FeedError` where
    no list has station_status.
    """
    lists = [_addresses(listing, base) for listing in _listings(discovery.data)]
    wanted = ("station_status", "station_information")
    for needed in (wanted, wanted[:1]):
        for urls in lists:
            if set(needed) <= urls.keys():
                return urls
    named = sorted({name for urls in lists for name in urls})
    raise FeedError("gbfs.data.feeds", named, "an http(s) address of station_status")


def _addresses(listing: Sequence[object], base: str) -> dict[str, str]:
    """Return the addresses of `FEEDS` in a list; a name may end as the file does."""
    urls = {}
    for item in listing:
        name, url = (item.get("name"), item.get("url")) if isinstance(item, dict) else (None, None)
        if isinstance(name, str) and isinstance(url, str):
            feed = name.strip().removesuffix(".json")
            with contextlib.suppress(ValueError):  # an address that cannot be parsed
                address = urllib.parse.urljoin(base, url.strip())
                if feed in FEEDS and _is_address(address):
                    urls[feed] = address
    return urls


def _listings(data: Mapping[str, Any]) -> list[list[object]]:
    """Return every list of feeds there is: that of 3.x, then those of the languages in order."""
    found = []
    for part in (data, *data.values()):
        listing = part.get("feeds") if isinstance(part, dict) else part
        if isinstance(listing, list) and listing not in found:
            found.append(listing)
    return found


def _is_address(url: str) -> bool:
    return url.lower().startswith(("https://", "http://")) and not _NO_ADDRESS.search(url)
