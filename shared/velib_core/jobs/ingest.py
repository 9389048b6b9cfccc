"""Scheduled trigger → the feed's snapshot of its own bin under ``bronze/``.

A snapshot belongs to the bin in which the feed was made, by the best evidence there is
(`velib_core.feeds.observed`), however late the trigger came. A frozen feed makes no new bins.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.events.job import JobResult
from velib_core.feeds import open_meteo, stations
from velib_core.feeds.http import FeedError
from velib_core.feeds.observed import observed_at
from velib_core.feeds.poll import Feeds, UnreadableFeedError
from velib_core.lake.artefact import PARQUET, Artefact, crc32c
from velib_core.lake.keys import Snapshot
from velib_core.logs import log
from velib_core.tables import defect_counts, quarantine, snapshot
from velib_core.tables.defects import Defect
from velib_core.tables.history import snapshots_between
from velib_core.tables.quarantine import Reject
from velib_core.tables.snapshot import SnapshotError
from velib_core.tables.snapshots_index import newest_snapshot
from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_HOUR, Bin, bin_of, day_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.events.network import Network
    from velib_core.feeds.observed import Observed
    from velib_core.feeds.open_meteo import Weather
    from velib_core.feeds.poll import Poll
    from velib_core.feeds.stations import Place
    from velib_core.lake.bucket import Lake
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry

_MINUTE = dt.timedelta(minutes=1)

MAX_KEPT_BYTES = 1 << 20
"""How much of an unreadable feed is kept to be looked at."""

FROZEN_LOOKBACK = BINS_PER_HOUR
"""Bins in which a feed without a usable stamp is looked for as it was before."""

_COUNTS = ("bikes", "docks_available")


def run(network: Network, feeds: Feeds, published: dt.datetime | None = None) -> JobResult:
    """Ingest the feed's newest snapshot, unless the trigger was published more than a bin ago.

    Such a trigger failed for so long that the next one looks at the feed already: it is
    acknowledged. Without that an outage of the feed would end in dead letters.

    Raises
    ------
    velib_core.feeds.http.FeedUnavailableError
        Where a feed does not answer; the trigger is delivered again.
    velib_core.feeds.http.FeedError
        Where a feed is no GBFS, or has not one usable station; its bytes are in quarantine.

    """
    # By this machine's clock, as Pub/Sub's is: a simulated one is of the city and not of messages.
    late = dt.datetime.now(dt.UTC) - published if published else dt.timedelta(0)
    if late > BIN_MINUTES * _MINUTE:
        return JobResult("ingest", counts={"late_s": int(late.total_seconds())})
    lake, layout = network.lake, network.layout
    try:
        poll = feeds.read()
    except UnreadableFeedError as error:
        _keep_unreadable(lake, layout, error)
        raise
    for unreadable in poll.unreadable:
        _keep_unreadable(lake, layout, unreadable)
    observed, rows, defects = observe(
        poll, network.settings.tz, _known_places(lake, layout, poll, feeds)
    )
    observed = _unless_seen(lake, layout, poll, observed, rows)
    air = open_meteo.observe(feeds.session, network.settings, observed.at)
    bin_ = bin_of(observed.at)
    rows, defects = complete(observed, rows, defects, air)
    if defects:
        _keep_defects(lake, layout, bin_, defects)
    if not rows.num_rows:
        first = next((d.as_json() for d in defects if d.refused), None)
        expected = f"at least one usable station (the first refused: {first})"
        raise FeedError("station_status.data.stations", 0, expected)
    feeds.places = {**feeds.places, **stations.places_of(rows)}
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
        age = snapshot.naive(poll.polled) - newest
        counts["newest_report_age_min"] = max(age // _MINUTE, 0)
    return JobResult("ingest", {name: outcome}, counts)


def observe(
    poll: Poll, tz: str, known: Mapping[str, Place]
) -> tuple[Observed, pa.Table, list[Defect]]:
    """Return when a poll's status file was made, its rows (weather null), and their defects."""
    reports = poll.status.reports()
    observed = observed_at(poll.status_file.last_updated, reports, poll.polled, tz)
    return observed, *stations.snapshot_rows(poll.status, poll.information, known, observed)


def complete(
    observed: Observed, rows: pa.Table, defects: list[Defect], weather: Weather
) -> tuple[pa.Table, list[Defect]]:
    """Return the snapshot of rows: stamped, with the weather, held to the schema; all defects."""
    stamped = stations.at_instant(rows, observed.at, weather)
    valid, more = snapshot.validate(stamped, bin_of(observed.at))
    found = [*observed.defects, *defects, *more]
    reported = snapshot.with_repeats(valid, snapshot.count_repeats(found))
    return defect_counts.with_counts(reported, defect_counts.count(found)), found


def _known_places(lake: Lake, layout: Layout, poll: Poll, feeds: Feeds) -> Mapping[str, Place]:
    """Return what earlier snapshots say of the stations; read from the lake at a cold start."""
    described = poll.information.places
    if not feeds.places and any(
        None in described.get(record.station_id, stations.Place()) for record in poll.status.records
    ):
        newest = newest_snapshot(lake, layout, Bin(bin_of(poll.polled) - FROZEN_LOOKBACK))
        held = _read(lake, newest.entry, newest.bin) if newest else None
        feeds.places = {} if held is None else stations.places_of(held)
    return feeds.places


def _unless_seen(
    lake: Lake, layout: Layout, poll: Poll, observed: Observed, rows: pa.Table
) -> Observed:
    """Return when the rows were made, with the lake as evidence.

    A stamp under which other content was seen before is one that nobody maintains. A feed without
    a usable stamp that shows, reports and all, what the newest snapshot holds is frozen.
    """
    now = bin_of(poll.polled)
    if observed.by_stamp:
        bin_ = bin_of(observed.at)
        if bin_ >= now:
            return observed
        entry = lake.stat(layout.name(Snapshot(bin_)))
        held = _read(lake, entry, bin_) if entry else None
        if held is None or not differs(_at(held, observed.at), rows):
            return observed
        said, expected = observed.at.isoformat(), "another than that of other counts"
        defect = Defect(None, "last_updated", said, expected, refused=False)
        return observed._replace(at=poll.polled.replace(microsecond=0), defects=(defect,))
    if not rows["last_reported_utc"].null_count < rows.num_rows:
        return observed
    recent = snapshots_between(lake, layout, Bin(now - FROZEN_LOOKBACK), now)
    for bin_, entry in sorted(recent.items())[-1:]:
        held = _read(lake, entry, bin_)
        if held is not None and _with_reports(held) == _with_reports(rows):
            at = pc.max(held["ts_utc"].cast(pa.timestamp("s"))).as_py().replace(tzinfo=dt.UTC)
            return observed._replace(at=at)
    return observed


def differs(held: pa.Table, rows: pa.Table) -> bool:
    """Return whether a station has other counts in two tables."""
    before, now = (_by_station(table, _COUNTS) for table in (held, rows))
    return any(before[station] != now[station] for station in before.keys() & now.keys())


def _with_reports(rows: pa.Table) -> dict[str, list[object]]:
    return _by_station(rows, (*_COUNTS, "last_reported_utc"))


def _by_station(rows: pa.Table, names: tuple[str, ...]) -> dict[str, list[object]]:
    complete = [rows[name].cast(pa.int64()).to_pylist() for name in names]
    return {
        station: rest
        for station, *rest in zip(rows["station_id"].to_pylist(), *complete, strict=True)
    }


def _at(held: pa.Table, at: dt.datetime) -> pa.Table:
    return held.filter(pc.equal(held["ts_utc"], pa.scalar(snapshot.naive(at), snapshot.STAMP)))


def _read(lake: Lake, entry: Entry, bin_: Bin) -> pa.Table | None:
    """Return the rows of a snapshot object, ``None`` where it is none."""
    try:
        return snapshot.read(lake, entry, bin_)[0]
    except SnapshotError as error:
        log("WARNING", f"{entry.name} is no snapshot: {error}")
        return None


def _keep_unreadable(lake: Lake, layout: Layout, error: UnreadableFeedError) -> None:
    data = error.body[:MAX_KEPT_BYTES]
    quarantine.keep(lake, layout, Reject(f"feed/{error.field}", data, str(error)))


def _artefact(
    lake: Lake, layout: Layout, current: Entry | None, rows: pa.Table, bin_: Bin
) -> Artefact:
    """Unite the rows with the bin's object that exists: each station's newest stays."""
    if current is not None:
        try:
            held, defects = snapshot.read(lake, current, bin_)
        except SnapshotError as error:
            quarantine.keep_object(lake, layout, current, str(error))
        else:
            if defects:
                quarantine.keep_object(lake, layout, current, "some rows", defects)
            repeats = _most(snapshot.repeats_of(held), snapshot.repeats_of(rows))
            merged = snapshot.merge(held, _with_weather_of(held, rows))
            counts = defect_counts.counts_of(held)
            if not merged.equals(held):  # a frozen feed is not written again for its counts
                counts |= defect_counts.counts_of(rows)
            rows = defect_counts.with_counts(snapshot.with_repeats(merged, repeats), counts)
    data = snapshot.to_bytes(rows)
    return Artefact(data, PARQUET, crc32c(data))


def _most(held: Mapping[str, int], rows: Mapping[str, int]) -> dict[str, int]:
    """Return the larger count of each station: a bin polled twice repeats no station by that."""
    return {s: max(held.get(s, 0), rows.get(s, 0)) for s in held.keys() | rows.keys()}


def _with_weather_of(held: pa.Table, rows: pa.Table) -> pa.Table:
    """Give rows the weather that the object holds already for their very observation.

    A frozen feed is observed again in every run; its weather stays that of its time.
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


def _keep_defects(lake: Lake, layout: Layout, bin_: Bin, defects: list[Defect]) -> None:
    """Keep what was wrong with records, once a day for the same stations and fields.

    A station that is wrong in every run would otherwise fill the quarantine.
    """
    kinds = sorted({(str(d.station_id), d.field, d.refused) for d in defects})
    digest = hashlib.sha256(repr(kinds).encode()).hexdigest()[:12]
    reject = Reject(f"feed/date={day_of(bin_)}/records", None, "some records", defects)
    quarantine.keep(lake, layout, reject, digest)
