"""What the network page is made from: the published objects of a lake, read once.

Nothing is computed here and nothing is asked of anybody but the lake, so the page can be made of
a bucket, of a demo or of a copy years later. What is missing or unreadable is ``None``; the page
says so.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from velib_core.errors import ModelError, PermanentError
from velib_core.features.profiles import ProfileError
from velib_core.lake.keys import Daily, Events, Forecast, ForecastLog, Monitoring
from velib_core.lake.layout import Layout
from velib_core.lake.readable import ObjectMissingError
from velib_core.model import registry
from velib_core.model.readers import load_profiles, profile_before
from velib_core.tables import day_rows, history, parquet
from velib_core.tables.panel import Panel, bins_of, build_panel
from velib_core.tables.snapshots_index import observed_days
from velib_core.tables.views import COLUMN_TYPES, VIEW_LIMITS
from velib_core.timeline.bins import BINS_PER_DAY, Bin, Day, day_after, day_of, first_bin

from velib_cli.report.value import COLUMNS, LoggedDay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from velib_core.features.profiles import Profiles
    from velib_core.lake.lineage import LineageRecord
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import HorizonMinutes

    from velib_cli.lake_checks import Finding

COVERAGE_DAYS = 15
"""UTC days of the coverage heat map: one more than it shows, which are local ones."""

VALUE_DAYS = 3
"""Days of published forecasts that are scored for the page; each is half a second of reading."""

_UNREADABLE = (PermanentError, pa.ArrowException, KeyError)
"""What reading a view raises that is none."""

DAMAGED = object()
"""What stands for a document that is there and cannot be read."""

QUARANTINE_LISTED = 50
"""Reasons that are read; the page says how many more there are."""

NETWORK_DOCUMENTS = (
    ("intro", "intro.json"),
    ("network/overview", "kpis.json"),
    ("network/overview", "today_curve.json"),
    ("network/overview", "ref_median_curve.json"),
    ("data/freshness", "freshness.json"),
    ("data/health", "manifest.json"),
    ("data/health", "kpis.json"),
    ("data/health", "station_health.json"),
    ("data/drift", "manifest.json"),
    ("data/drift", "summary.json"),
    ("data/drift", "psi_by_feature.json"),
    ("data/drift", "psi_global_daily_ema.json"),
    ("data/freshness", "manifest.json"),
    ("network/overview", "manifest.json"),
    ("intro", "manifest.json"),
    ("model/performance", "manifest.json"),
)
HORIZON_DOCUMENTS = (
    "kpis.json",
    "by_hour.json",
    "daily_metrics.json",
    "hist_residuals.json",
    "station_timeseries.json",
)


@dataclasses.dataclass(frozen=True)
class Horizon:
    """What is published about one horizon: forecast, performance documents, models."""

    minutes: HorizonMinutes
    forecast: dict[str, Any] | None
    performance: Mapping[str, Any]
    live: ModelVersion | None
    models: list[ModelVersion]
    unreadable: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Sources:
    """One network as published.

    ``panel`` covers the 24 hours that end with the newest snapshot, ``None`` where there is none.
    ``documents`` maps ``family/document`` to the monitoring document or ``None``. ``coverage``
    counts observations by UTC day: ``(n_stations, counts of the 288 bins)``. ``quarantine`` holds
    the newest reasons and ``quarantined`` their number. ``dead_letters`` is ``None`` where the
    lake does not say.
    """

    network: str
    tz: str
    horizons: list[Horizon]
    panel: Panel | None
    profiles: Profiles | None
    documents: Mapping[str, Any]
    coverage: Mapping[Day, tuple[int, list[int]]]
    quarantined: int
    quarantine: list[dict[str, Any]]
    lineage_records: list[LineageRecord]
    dead_letters: int | None
    bike_shares: Mapping[Day, list[float | None]] = dataclasses.field(default_factory=dict)
    logged: list[LoggedDay] = dataclasses.field(default_factory=list)
    unreadable: list[str] = dataclasses.field(default_factory=list)
    basemap: Mapping[str, Any] | None = None
    tiles: str | None = None
    findings: Sequence[Finding] = ()


def read_sources(
    lake: ReadableLake,
    settings: Settings,
    dead_letters: int | None = None,
    basemap: Mapping[str, Any] | None = None,
    tiles: str | None = None,
    findings: Sequence[Finding] = (),
) -> Sources:
    """Read everything that the page shows; costs a listing and some hundred small objects.

    ``basemap`` is a GeoJSON document and ``tiles`` the address of a tile server, where the
    operator named them; ``findings`` are what `velib_cli.status.inspect_lake` found.
    """
    layout = Layout(settings)
    days = observed_days(lake, layout)
    panel = _last_day(lake, layout, days)
    count, reasons = _quarantine(lake, layout)
    coverage, shares = _observed(lake, layout)
    documents = {
        f"{family}/{document}": _document(lake, layout.name(Monitoring(family, document)))
        for family, document in NETWORK_DOCUMENTS
    }
    horizons = [_horizon(lake, settings, minutes) for minutes in settings.horizons]
    return Sources(
        network=settings.network,
        tz=settings.tz,
        horizons=horizons,
        panel=panel,
        profiles=_profiles(lake, settings, panel),
        documents={name: value for name, value in documents.items() if value is not DAMAGED},
        coverage=coverage,
        quarantined=count,
        quarantine=reasons,
        lineage_records=_lineage_records(lake, layout, days),
        dead_letters=dead_letters,
        bike_shares=shares,
        logged=list(_logged_days(lake, settings)),
        unreadable=[name for name, value in documents.items() if value is DAMAGED]
        + [name for horizon in horizons for name in horizon.unreadable],
        basemap=basemap,
        tiles=tiles,
        findings=findings,
    )


def _last_day(lake: ReadableLake, layout: Layout, days: list[Day]) -> Panel | None:
    """Return the 24 hours up to the newest snapshot, from dailies where there are some."""
    newest = max(history.snapshot_entries(lake, layout, days[-1]), default=None) if days else None
    if newest is None:
        return None
    start = Bin(newest - BINS_PER_DAY + 1)
    return build_panel(_tables(lake, layout, start, newest), start, Bin(newest + 1))


def _tables(lake: ReadableLake, layout: Layout, start: Bin, newest: Bin) -> Iterator[pa.Table]:
    reader = history.SnapshotReader(kept=BINS_PER_DAY)
    for day in sorted({day_of(start), day_of(newest)}):
        daily = lake.stat(layout.name(Daily(day)))
        if daily is not None:
            yield history.daily_table(lake, daily)
        else:
            entries = history.snapshot_entries(lake, layout, day)
            wanted = {bin_: entry for bin_, entry in entries.items() if start <= bin_ <= newest}
            yield from reader.tables(lake, wanted)


def _profiles(lake: ReadableLake, settings: Settings, panel: Panel | None) -> Profiles | None:
    """Return what stations usually do, by the days before the newest snapshot's."""
    if panel is None:
        return None
    entry = profile_before(lake, Layout(settings), day_of(Bin(panel.stop - 1)))
    try:
        return load_profiles(lake, settings, entry) if entry else None
    except ProfileError:
        return None


def _horizon(lake: ReadableLake, settings: Settings, minutes: HorizonMinutes) -> Horizon:
    layout = Layout(settings)
    try:
        live = registry.live(lake, layout, minutes)
        models = registry.versions(lake, layout, minutes)
    except (ModelError, PermanentError):
        live, models = None, []
    family = "model/performance"
    forecast = _document(lake, layout.name(Forecast(minutes)))
    performance = {
        document: _document(lake, layout.name(Monitoring(family, f"h{minutes}/{document}")))
        for document in HORIZON_DOCUMENTS
    }
    damaged = [f"{family}/h{minutes}/{n}" for n, value in performance.items() if value is DAMAGED]
    if not isinstance(forecast, dict) and forecast is not None:
        forecast, damaged = None, [layout.name(Forecast(minutes)), *damaged]
    complete = {name: value for name, value in performance.items() if value is not DAMAGED}
    return Horizon(minutes, forecast, complete, live, models, damaged)


def _document(lake: ReadableLake, name: str) -> Any:  # noqa: ANN401 -- JSON is any value
    """Return a document, ``None`` where there is none, `DAMAGED` where it is no JSON."""
    try:
        return lake.fetch_json(name)
    except ObjectMissingError:
        return None
    except (PermanentError, RecursionError):
        return DAMAGED


def _observed(
    lake: ReadableLake, layout: Layout
) -> tuple[dict[Day, tuple[int, list[int]]], dict[Day, list[float | None]]]:
    """Return what was observed in each bin of the newest days of observations.

    First the number of stations of the day and the rows of each bin; then the share of stations
    in service with a bike, per cent.
    """
    coverage, shares = {}, {}
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    by_day = layout.by_day(Events, entries)
    for day in sorted(by_day)[-COVERAGE_DAYS:]:
        columns = ["tbin_utc", "station_id", "bikes", "is_penury"]
        try:
            table = _view(lake, entries[by_day[day]], columns)
        except _UNREADABLE:
            continue
        at = bins_of(table["tbin_utc"]) - first_bin(day)
        inside = (at >= 0) & (at < BINS_PER_DAY)
        at, table = at[inside], table.filter(inside)
        counts = np.bincount(at, minlength=BINS_PER_DAY)
        coverage[day] = (pc.count_distinct(table["station_id"]).as_py(), counts.tolist())
        rated = np.asarray(table["is_penury"].is_valid())
        with_bike = rated & np.asarray(pc.fill_null(pc.greater(table["bikes"], 0), False))
        sums = [np.bincount(at[rows], minlength=BINS_PER_DAY) for rows in (with_bike, rated)]
        shares[day] = [
            round(100 * a / b, 2) if b else None
            for a, b in zip(*(column.tolist() for column in sums), strict=True)
        ]
    return coverage, shares


def _view(lake: ReadableLake, entry: Entry, columns: Sequence[str]) -> pa.Table:
    """Read columns of a view; raise one of `_UNREADABLE` for one with values that no view has."""
    data = lake.read_up_to(entry, VIEW_LIMITS.file_bytes)
    table = parquet.read(data, VIEW_LIMITS, columns).select(list(columns))
    return day_rows.checked(table, COLUMN_TYPES)


def _logged_days(lake: ReadableLake, settings: Settings) -> Iterator[LoggedDay]:
    """Yield the newest days whose published forecasts are united, with what came true."""
    layout = Layout(settings)
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    logs = layout.by_day(ForecastLog, entries)
    for day in sorted(logs)[-VALUE_DAYS:]:
        found = [lake.stat(layout.name(Daily(d))) for d in (day, day_after(day))]
        try:
            log = _view(lake, entries[logs[day]], COLUMNS)
            tables = [history.daily_table(lake, daily) for daily in found if daily]
            profile = profile_before(lake, layout, day)
            usual = load_profiles(lake, settings, profile) if profile else None
        except _UNREADABLE:
            continue
        start = first_bin(day)
        yield LoggedDay(day, log, build_panel(tables, start, Bin(start + 2 * BINS_PER_DAY)), usual)


def _quarantine(lake: ReadableLake, layout: Layout) -> tuple[int, list[dict[str, Any]]]:
    """Return how many objects were refused, and the reasons of the last by name."""
    names = [e.name for e in lake.entries(f"{layout.quarantine}/") if e.name.endswith(".json")]
    reasons = [_document(lake, name) for name in names[-QUARANTINE_LISTED:]]
    return len(names), [reason for reason in reasons if isinstance(reason, dict)]


def _lineage_records(lake: ReadableLake, layout: Layout, days: list[Day]) -> list[LineageRecord]:
    """Return how what was derived, and the newest day's snapshots, came about."""
    folders = [layout.daily, layout.monthly, layout.exports, layout.profiles, layout.models]
    folders += [layout.serving, layout.monitoring]
    prefixes = [f"{folder}/" for folder in folders]
    prefixes += [layout.bronze_day(day) for day in days[-1:]]
    return [
        lineage_record for prefix in prefixes for lineage_record in lake.lineage_records(prefix)
    ]
