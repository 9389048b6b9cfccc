"""What ingestion understands of a feed: read once, by ingestion's own code, and described."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from velib_core.errors import InvalidValueError, PermanentError, TransientError
from velib_core.feeds import gbfs, http
from velib_core.feeds.open_meteo import Weather
from velib_core.feeds.poll import Feeds
from velib_core.jobs import ingest
from velib_core.settings.env import as_zone
from velib_core.settings.network import Settings
from velib_core.tables import snapshot
from velib_core.tables.defect_counts import kind_of
from velib_core.tables.service import closed
from velib_core.timeline.bins import bin_of, bin_start, iso_z
from velib_local.zones import zone_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from velib_core.feeds.observed import Observed
    from velib_core.feeds.poll import Poll
    from velib_core.tables.defects import Defect

NO_BUCKET = "gs://no-bucket"
"""Nothing is stored: the settings need a name all the same."""

_LACKS = {
    "capacity": "forecasts are bounded by free docks, else by the most bikes seen; no occupancy",
    "docks_available": "free docks are capacity − bikes; without a capacity p_dock is null",
    "mechanical": "no split into mechanical and electric bikes",
    "name": "the map and the lists show ids",
    "lat": "no map, no neighbours in the features, no local weather",
    "last_reported_utc": "stations that have been silent for days are forecast as if alive",
    "is_renting": "closed stations look like open ones, unless a status says so",
}


class UnusableFeedError(PermanentError):
    """A feed that ingestion would refuse."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """A feed as ingestion understands it: the snapshot it would write, and what was wrong.

    ``since`` says what changed since the read before, ``None`` at the first.
    """

    configured: Mapping[str, str]
    urls: Mapping[str, str]
    poll: Poll
    observed: Observed
    rows: pa.Table
    defects: list[Defect]
    tz: str
    since: str | None


class FeedCheck:
    """Reads a feed as often as asked.

    Parameters
    ----------
    url
        Of the discovery file, or of station_status where ``information_url`` is given.
    at
        The clock (aware), instead of this machine's.
    tz
        The network's zone; by default as the feed says, else that of the place nearest to it.

    """

    def __init__(
        self, url: str, information_url: str = "", at: dt.datetime | None = None, tz: str = ""
    ) -> None:
        self._configured = (
            {"VELIB_STATUS_URL": url, "VELIB_INFO_URL": information_url}
            if information_url
            else {"GBFS_URL": url}
        )
        settings = Settings.from_env({"GCS_BUCKET_ROOT": NO_BUCKET, **self._configured})
        self._feeds = Feeds(settings, lambda: at) if at else Feeds(settings)
        self._url = url
        self._tz = tz
        self._before: Checked | None = None

    def read(self) -> Checked:
        """Read the feed once; raise `UnusableFeedError` where it could not be ingested."""
        try:
            poll = self._feeds.read()
            urls = self._feeds.urls()
        except (PermanentError, TransientError) as error:
            raise UnusableFeedError(str(error)) from error
        zone = self._tz or self._zone(urls, poll)
        observed, rows, defects = ingest.observe(poll, zone, self._feeds.places)
        rows, defects = ingest.complete(observed, rows, defects, Weather())
        if not rows.num_rows:
            rejections = [defect for defect in defects if defect.refused]
            first = f"; the first: {_as_text(rejections[0])}" if rejections else ""
            raise UnusableFeedError(f"no usable station, {len(rejections)} records refused{first}")
        stamp = poll.status_file.last_updated
        since = None if self._before is None else _since(self._before, stamp, rows)
        self._before = Checked(self._configured, urls, poll, observed, rows, defects, zone, since)
        return self._before

    def _zone(self, urls: Mapping[str, str], poll: Poll) -> str:
        """Return the zone that system_information says, else that of the stations' places."""
        try:
            url = urls["system_information"]
            answer = http.get(self._feeds.session, url, origin=self._url)
            return str(as_zone("timezone", gbfs.decode("system", answer.body).data["timezone"]))
        except (KeyError, TypeError, PermanentError, TransientError):
            pass
        places = [*poll.information.places.values(), *(r.place for r in poll.status.records)]
        return zone_of((p.lat, p.lon) for p in places if p.lat is not None and p.lon is not None)


def describe(checked: Checked) -> dict[str, Any]:
    """Return what was understood of a feed, as JSON: counts, ages in minutes, instants in UTC."""
    rows, poll = checked.rows, checked.poll
    file, records = poll.status_file, poll.status_file.records
    share = {name: _known(rows, name) for name in _LACKS}
    return {
        "urls": {feed: http.redacted(url) for feed, url in checked.urls.items()},
        "version": file.version,
        "dialect": _dialect(records, poll),
        "records": len(records),
        "stations": rows.num_rows,
        "stations_closed": int(pc.sum(closed(rows)).as_py() or 0),
        "bikes": _total(rows, "bikes"),
        "mechanical": _total(rows, "mechanical"),
        "ebike": _total(rows, "ebike"),
        "docks_available": _total(rows, "docks_available"),
        "capacity": _total(rows, "capacity"),
        "known": share,
        "report_age_min": _ages(checked),
        "polled": iso_z(poll.polled.replace(microsecond=0)),
        "last_updated": iso_z(file.last_updated) if file.last_updated else None,
        "observed_at": iso_z(checked.observed.at),
        "since_last_read": checked.since,
        "observed_by": "last_updated" if checked.observed.by_stamp else "the clock",
        "bin": iso_z(bin_start(bin_of(checked.observed.at))),
        "refused": sum(defect.refused for defect in checked.defects),
        "defects": _by_kind(checked.defects),
        "lacks": {name: _LACKS[name] for name, known in share.items() if known == 0},
        "settings": _settings(checked),
    }


def _since(before: Checked, stamp: dt.datetime | None, rows: pa.Table) -> str:
    """Say what the stamp and the counts of a read are to those of the read before."""
    changed = ingest.differs(before.rows, rows)
    counts = "other counts" if changed else "the same counts"
    earlier = before.poll.status_file.last_updated
    if stamp is None or earlier is None:
        return f"{counts}, no stamp to compare"
    if stamp < earlier:
        return f"{counts}, and an older stamp: copies of the feed disagree"
    if stamp > earlier:
        return f"{counts}, a newer stamp"
    if changed:
        return f"{counts} under the same stamp: nobody maintains it, the time is that of the poll"
    return f"{counts}, the same stamp: nothing new"


def _known(rows: pa.Table, name: str) -> int:
    return int(rows.num_rows - rows[name].null_count)


def _total(rows: pa.Table, name: str) -> int | None:
    total = pc.sum(rows[name]).as_py()
    return None if total is None else int(total)


def _ages(checked: Checked) -> dict[str, float] | None:
    unit = pa.timestamp("s")
    reported = checked.rows["last_reported_utc"].cast(unit).cast(pa.int64()).drop_null()
    if not len(reported):
        return None
    ages = np.maximum(checked.observed.at.timestamp() - reported.to_numpy(), 0) / 60
    quantiles = {"least": 0.0, "median": 0.5, "p95": 0.95, "most": 1.0}
    return {name: round(float(np.quantile(ages, q)), 1) for name, q in quantiles.items()}


def _dialect(records: object, poll: Poll) -> list[str]:
    """Return the features of the feed by which dialects differ."""
    parts = records if isinstance(records, list | tuple) else []
    fields = collections.Counter(key for r in parts if isinstance(r, dict) for key in r)
    dialects = {
        "num_vehicles_available": "vehicles (3.x)",
        "vehicle_types_available": "counts by vehicle type (2.1 and later)",
        "num_bikes_available_types": "counts by kind of bike",
        "num_ebikes_available": "count of e-bikes",
        "station_status": "status in words",
        "numBikesAvailable": "camelCase counts",
    }
    found = [text for field, text in dialects.items() if fields[field]]
    return [*found, *([f"{len(poll.types)} vehicle types"] if poll.types else [])]


def _by_kind(defects: list[Defect]) -> list[dict[str, Any]]:
    """Return each kind of defect (field and expectation) with its count and an example."""
    kinds: dict[str, list[Defect]] = {}
    for defect in defects:
        kinds.setdefault(kind_of(defect), []).append(defect)
    return [
        {
            "field": found[0].field,
            "count": len(found),
            "refused": found[0].refused,
            "example": _as_text(found[0]),
        }
        for found in sorted(kinds.values(), key=len, reverse=True)
    ]


def _as_text(defect: Defect) -> str:
    where = f"station {defect.station_id}: " if defect.station_id else ""
    return where + str(InvalidValueError(defect.field, defect.value, defect.expected))


def _settings(checked: Checked) -> dict[str, str]:
    """Return the settings to deploy the network with."""
    lat, lon = (checked.rows[name].drop_null().to_numpy() for name in ("lat", "lon"))
    place = (
        {
            "OPENMETEO_LAT": f"{np.median(lat):.4f}",
            "OPENMETEO_LON": f"{np.median(lon):.4f}",
        }
        if len(lat) and len(lon)
        else {"METEO_DISABLE": "1"}
    )
    return {**checked.configured, **place, "MON_TZ": checked.tz}


def to_parquet(checked: Checked) -> bytes:
    """Return the object that ingestion would write, its weather apart."""
    return snapshot.to_bytes(checked.rows)
