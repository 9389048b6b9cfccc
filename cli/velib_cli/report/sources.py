"""What the network page is made from: the published objects of a lake, read once.

Nothing is computed here and nothing is asked of anybody but the lake, so the page can be made of
a bucket, of a demo or of a copy years later. What is missing or unreadable is ``None``; the page
says so.
"""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from velib_core.errors import ModelError, PermanentError
from velib_core.features.profiles import ProfileError
from velib_core.lake.keys import Daily, Events, Forecast, Monitoring
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.readers import load_profiles, profile_before
from velib_core.tables import history
from velib_core.tables.panel import Panel, bins_of, build_panel
from velib_core.tables.snapshots_index import observed_days
from velib_core.timeline.bins import BINS_PER_DAY, Bin, Day, day_of, first_bin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa
    from velib_core.features.profiles import Profiles
    from velib_core.lake.lineage import LineageRecord
    from velib_core.lake.readable import ReadableLake
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import HorizonMinutes

COVERAGE_DAYS = 14
"""Days of the coverage heat map: the window of the health documents."""

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


def read_sources(
    lake: ReadableLake, settings: Settings, dead_letters: int | None = None
) -> Sources:
    """Read everything that the page shows; costs a listing and some hundred small objects."""
    layout = Layout(settings)
    days = observed_days(lake, layout)
    panel = _last_day(lake, layout, days)
    count, reasons = _quarantine(lake, layout)
    return Sources(
        network=settings.network,
        tz=settings.tz,
        horizons=[_horizon(lake, settings, minutes) for minutes in settings.horizons],
        panel=panel,
        profiles=_profiles(lake, settings, panel),
        documents={
            f"{family}/{document}": _document(lake, layout.name(Monitoring(family, document)))
            for family, document in NETWORK_DOCUMENTS
        },
        coverage=dict(_coverage(lake, layout)),
        quarantined=count,
        quarantine=reasons,
        lineage_records=_lineage_records(lake, layout, days),
        dead_letters=dead_letters,
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
    return Horizon(
        minutes,
        _document(lake, layout.name(Forecast(minutes))),
        {
            document: _document(lake, layout.name(Monitoring(family, f"h{minutes}/{document}")))
            for document in HORIZON_DOCUMENTS
        },
        live,
        models,
    )


def _document(lake: ReadableLake, name: str) -> Any:  # noqa: ANN401 -- JSON is any value
    try:
        return lake.fetch_json(name)
    except PermanentError:  # absent, or no JSON
        return None


def _coverage(lake: ReadableLake, layout: Layout) -> Iterator[tuple[Day, tuple[int, list[int]]]]:
    """Yield the stations and the rows of each bin of the newest days of observations."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    by_day = layout.by_day(Events, entries)
    for day in sorted(by_day)[-COVERAGE_DAYS:]:
        data = lake.read(entries[by_day[day]])
        table = pq.read_table(io.BytesIO(data), columns=["tbin_utc", "station_id"])
        counts = np.bincount(bins_of(table["tbin_utc"]) - first_bin(day), minlength=BINS_PER_DAY)
        yield day, (pc.count_distinct(table["station_id"]).as_py(), counts.tolist())


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
