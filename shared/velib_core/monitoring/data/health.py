"""Data health: whether what should be in the lake is there, fresh, once, and alive.

A station is *expected* in every bin of the window from when it was first seen, whatever the rest
of the network did: an outage lowers coverage. Coverage of what a station itself reported between
its first and last bin is reported as well.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.monitoring.data import feed_defects
from velib_core.monitoring.data.coverage import (
    Coverage,
    cover,
    coverage_by_hour,
    coverage_kpis,
    station_health,
)
from velib_core.monitoring.data.plateaus import Plateau, find_plateaus
from velib_core.monitoring.documents import (
    DECIMALS,
    Alert,
    Documents,
    RunMetadata,
    Status,
    StockoutBounds,
    percent,
    status_of_days,
    with_manifest,
)
from velib_core.monitoring.panels import assemble, day_panel, encode, name_of, newest_rows
from velib_core.tables.defect_counts import counts_of
from velib_core.tables.panel import bins_of
from velib_core.tables.snapshot import repeats_of
from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_DAY, Bin, Day, bin_start, day_of, iso_z

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from velib_core.tables.panel import Panel
    from velib_core.timeline.windows import LocalDays

VERSION = "1.7"

COLUMNS = (
    "tbin_utc",
    "station_id",
    "bikes",
    "capacity",
    "docks_available",
    "name",
    "ts_utc",
    "last_reported_utc",
    "is_penury",
)
"""Columns of the observations table that are read."""

_VARIABLES = ("bikes", "free_docks", "is_penury", "age_min")


@dataclasses.dataclass(frozen=True)
class HealthThresholds:
    """When data are called unhealthy.

    ``flat_steps`` (bins) and ``flat_chance`` make a plateau suspicious: a day without a change,
    and one that a station with its change rate would show less often than once in a million.
    ``lat_max_min`` caps report lags in minutes: a station may have last reported years ago.
    ``active_min_frac`` and ``weighted`` say which stations make the coverage of the active ones
    (`velib_core.monitoring.data.coverage.coverage_kpis`).
    """

    fresh_slo_min: float = 5.0
    compl_alert_pct: float = 98.0
    dup_alert_pct: float = 1.0
    flat_steps: int = BINS_PER_DAY
    flat_chance: float = 1e-6
    lat_max_min: float = 4320.0
    active_min_frac: float = 0.0
    weighted: bool = False
    topk: int = 200


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    now: dt.datetime,
    run_metadata: RunMetadata,
    thresholds: HealthThresholds | None = None,
    bounds: StockoutBounds | None = None,
) -> Documents:
    """Make the documents of ``data/health``.

    Parameters
    ----------
    tables
        Observations tables with `COLUMNS`, one per day, in time order: the window, earlier
        ones whose stations are expected too, and today so far for the freshness. Their count of
        rows that were left out because their station and bin were there already is read from
        their metadata (`velib_core.tables.snapshot.repeats_of`), and so are the feed's defects
        (`velib_core.tables.defect_counts.counts_of`).
    window
        Complete local days.
    now
        The instant at which ages are computed.

    """
    limits, bounds = thresholds or HealthThresholds(), bounds or StockoutBounds()
    parts, reports, duplicates, defects = _read(tables)
    panel = assemble(parts, window.start, window.stop, _VARIABLES)
    coverage = cover(panel, parts)
    hours = window.local().minute // 60
    plateaus = find_plateaus(panel, limits.flat_steps, limits.flat_chance)
    rows = int(coverage.seen.sum())
    kpis = {
        **_kpi_head(run_metadata, window, limits),
        **_observed(panel, rows, now),
        "files_aware_days": window.days_with(np.isfinite(panel["bikes"])),
        **_freshness(reports, now, limits),
        **coverage_kpis(coverage, min_span=limits.active_min_frac, weighted=limits.weighted),
        **_lags(panel, limits),
        "dups_pct": percent(sum(duplicates.values()), rows + sum(duplicates.values())),
        "plateaus": dict(collections.Counter(p.state for p in plateaus)),
    }
    stuck = [p for p in plateaus if p.state == "stuck"]
    alerts = [*_alerts(kpis, stuck, limits), *feed_defects.alerts(defects)]
    kpis["alerts"] = flags = _flags(kpis, stuck)
    anomalies = _anomalies(panel, coverage, duplicates, stuck, limits)
    documents: dict[str, Any] = {
        "kpis.json": kpis,
        "station_health.json": station_health(panel, coverage),
        "coverage_by_hour.json": coverage_by_hour(coverage, hours),
        # Not "alerts": readers take a key of the document's own name for the document itself.
        "alerts.json": {**flags, "raised": [dataclasses.asdict(alert) for alert in alerts]},
        feed_defects.DOCUMENT: feed_defects.rows(defects, window.utc_days()),
        **{f"anomalies/{name}.json": items for name, items in anomalies.items()},
        "anomalies/manifest.json": _anomalies_manifest(run_metadata, anomalies, limits),
    }
    return with_manifest(
        documents,
        run_metadata,
        VERSION,
        status=_status(kpis, window),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits, bounds),
        alerts=alerts,
    )


def _read(
    tables: Iterable[pa.Table],
) -> tuple[
    list[Panel], dict[str, float], collections.Counter[str], dict[Day, collections.Counter[str]]
]:
    """Return panels, each station's newest report and repeated rows, each day's defects."""
    parts: list[Panel] = []
    reports: dict[str, float] = {}
    duplicates = collections.Counter[str]()
    defects: dict[Day, collections.Counter[str]] = {}
    for table in tables:
        part = day_panel(table, _VARIABLES)
        if part is not None:
            parts.append(part)
            reports |= _last_reports(table)
            duplicates.update(count_duplicates(table))
            duplicates.update(repeats_of(table))
            defects[day_of(Bin(part.start))] = counts_of(table)
    return parts, reports, duplicates, defects


def count_duplicates(table: pa.Table) -> dict[str, int]:
    """Return how many rows repeat a station and bin of the table, by station."""
    ids, station = encode(table["station_id"])
    bins = bins_of(table["tbin_utc"])
    extra = np.maximum(np.bincount((bins - bins.min()) * len(ids) + station) - 1, 0)
    repeated = np.flatnonzero(extra)
    by_station = np.bincount(repeated % len(ids), extra[repeated], len(ids)).astype(np.int64)
    return {ids[s]: int(by_station[s]) for s in np.flatnonzero(by_station).tolist()}


def _last_reports(table: pa.Table) -> dict[str, float]:
    """Return when each station last reported by its own word (unix s), of those that say so."""
    rows = newest_rows(table)
    rows = rows.filter(rows["last_reported_utc"].is_valid())
    stamps = rows["last_reported_utc"]
    seconds = pc.cast(pc.floor_temporal(stamps, unit="second").cast(pa.timestamp("s")), pa.int64())
    return dict(zip(rows["station_id"].to_pylist(), seconds.to_pylist(), strict=True))


def _kpi_head(
    run_metadata: RunMetadata, window: LocalDays, limits: HealthThresholds
) -> dict[str, Any]:
    least_span = limits.active_min_frac or None
    return {
        **run_metadata.head(VERSION),
        "tz": run_metadata.tz,
        "bin_min": BIN_MINUTES,
        "current_days": len(window.days),
        "bins_per_day": BINS_PER_DAY,
        "thresholds": {
            "fresh_slo_min": limits.fresh_slo_min,
            "compl_alert_pct": limits.compl_alert_pct,
            "dup_alert_pct": limits.dup_alert_pct,
            "flat_steps": limits.flat_steps,
            "flat_chance": limits.flat_chance,
            "lat_max_min": limits.lat_max_min,
        },
        "completeness_options": {"active_min_frac": least_span, "weighted": limits.weighted},
        "active_frac": least_span,
        "weighted": limits.weighted,
        "anomaly_params": _anomaly_params(limits),
        "sources": {"exports_prefix": run_metadata.exports_prefix},
        "window": window.as_json(),
    }


def _anomaly_params(limits: HealthThresholds) -> dict[str, Any]:
    return {"topk": limits.topk, "sample_frac": 0.0, "round_nd": DECIMALS, "include_names": True}


def _observed(panel: Panel, rows: int, now: dt.datetime) -> dict[str, Any]:
    seen = np.isfinite(panel["bikes"])
    at = np.flatnonzero(seen.any(axis=1))
    span = [_stamp(panel, int(at[0])), _stamp(panel, int(at[-1]))] if len(at) else [None, None]
    return {
        "rows": rows,
        "stations": int(seen.any(axis=0).sum()),
        "span": span,
        "now_utc": iso_z(now),
        "ts_global_max": span[1],
    }


def _freshness(
    reports: Mapping[str, float], now: dt.datetime, limits: HealthThresholds
) -> dict[str, Any]:
    p50 = p95 = None
    if reports:
        instant = now if now.tzinfo else now.replace(tzinfo=dt.UTC)
        ages = np.maximum(instant.timestamp() - np.fromiter(reports.values(), float), 0) / 60
        p50, p95 = (float(q) for q in np.quantile(ages, [0.5, 0.95]))
    return {
        "freshness_age_p50_min": p50,
        "freshness_age_p95_min": p95,
        "freshness_slo_min": limits.fresh_slo_min,
        "freshness_p95_ok": None if p95 is None else p95 <= limits.fresh_slo_min,
        "freshness_reason": None if reports else "no station says when it last reported",
    }


def _lags(panel: Panel, limits: HealthThresholds) -> dict[str, Any]:
    """Return how old stations' reports were when observed; ingestion leaves no stamp of its own."""
    ages = panel["age_min"]
    known = np.clip(ages[np.isfinite(ages)], 0, limits.lat_max_min)
    p50, p95 = np.quantile(known, [0.5, 0.95]) if len(known) else (None, None)
    return {
        "latency_p50_min": None,
        "latency_p95_min": None,
        "report_lag_p50_min": p50,
        "report_lag_p95_min": p95,
    }


def _alerts(kpis: Mapping[str, Any], stuck: list[Plateau], limits: HealthThresholds) -> list[Alert]:
    alerts = []
    p95, coverage = kpis["freshness_age_p95_min"], kpis["coverage_global_pct"]
    if kpis["freshness_p95_ok"] is False:
        text = f"the newest report of 5% of the stations is over {p95:.0f} min old"
        alerts.append(Alert("high", "freshness", text, "kpis.json", p95, limits.fresh_slo_min))
    if coverage is not None and coverage < limits.compl_alert_pct:
        text = f"{coverage:.2f}% of the expected observations are there"
        alerts.append(
            Alert("high", "coverage", text, "kpis.json", coverage, limits.compl_alert_pct)
        )
    if (kpis["dups_pct"] or 0) >= limits.dup_alert_pct:
        text = f"{kpis['dups_pct']:.2f}% of the rows came twice"
        alerts.append(
            Alert("medium", "duplicates", text, "kpis.json", kpis["dups_pct"], limits.dup_alert_pct)
        )
    if stuck:
        runs = "run" if len(stuck) == 1 else "runs"
        text = f"{len(stuck)} {runs} without a change, too long to be chance"
        alerts.append(
            Alert("medium", "flat", text, "anomalies/flat.json", stuck[0].steps, limits.flat_steps)
        )
    return alerts


def _flags(kpis: Mapping[str, Any], stuck: list[Plateau]) -> dict[str, Any]:
    coverage, limits = kpis["coverage_global_pct"], kpis["thresholds"]
    return {
        "freshness_p95_ok": kpis["freshness_p95_ok"],
        "coverage_ok": coverage is not None and coverage >= limits["compl_alert_pct"],
        "duplication_alert": (kpis["dups_pct"] or 0) >= limits["dup_alert_pct"],
        "flat_sequences_found": bool(stuck),
    }


def _anomalies(
    panel: Panel,
    coverage: Coverage,
    duplicates: Mapping[str, int],
    stuck: list[Plateau],
    limits: HealthThresholds,
) -> dict[str, list[dict[str, Any]]]:
    found = {
        "flat": [_flat(panel, plateau) for plateau in stuck],
        "duplicates": _duplicates(panel, duplicates),
        "missing": _missing(panel, coverage),
    }
    return {kind: rows[: limits.topk] for kind, rows in found.items()}


def _flat(panel: Panel, plateau: Plateau) -> dict[str, Any]:
    return {
        "type": "flat_sequence",
        "station_id": str(panel.stations.ids[plateau.station]),
        "name": name_of(panel.stations, plateau.station),
        "start": _stamp(panel, plateau.first),
        "end": _stamp(panel, plateau.last),
        "steps": plateau.steps,
        "duration_min": (plateau.last - plateau.first + 1) * BIN_MINUTES,
        "bikes": int(panel["bikes"][plateau.first, plateau.station]),
        "chance": plateau.chance,
    }


def _duplicates(panel: Panel, duplicates: Mapping[str, int]) -> list[dict[str, Any]]:
    column = {str(station): s for s, station in enumerate(panel.stations.ids)}
    return [
        {
            "type": "duplicates",
            "station_id": station,
            "name": name_of(panel.stations, column[station]) if station in column else None,
            "dups": count,
        }
        for station, count in sorted(duplicates.items(), key=lambda item: (-item[1], item[0]))
        if count > 0
    ]


def _missing(panel: Panel, coverage: Coverage) -> list[dict[str, Any]]:
    missing = coverage.expected - coverage.seen
    return [
        {
            "type": "missing_bins",
            "station_id": str(panel.stations.ids[s]),
            "name": name_of(panel.stations, s),
            "missing": int(missing[s]),
            "expected": int(coverage.expected[s]),
        }
        for s in sorted(np.flatnonzero(missing > 0).tolist(), key=lambda s: (-missing[s], s))
    ]


def _anomalies_manifest(
    run_metadata: RunMetadata, anomalies: Mapping[str, list[Any]], limits: HealthThresholds
) -> dict[str, Any]:
    prefix = f"{run_metadata.latest_prefix}/anomalies"
    return {
        **run_metadata.head(VERSION),
        "params": _anomaly_params(limits),
        "files": [
            {"name": name, "uri": f"{prefix}/{name}.json", "count": len(items)}
            for name, items in anomalies.items()
        ],
        "counts": {name: len(items) for name, items in anomalies.items()},
    }


def _status(kpis: Mapping[str, Any], window: LocalDays) -> Status:
    return status_of_days(kpis["files_aware_days"], len(window.days))


def _stamp(panel: Panel, offset: int) -> str:
    return iso_z(bin_start(Bin(panel.start + offset)))
