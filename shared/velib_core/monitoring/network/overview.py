"""Network overview: the network now, today so far, and how that compares.

Follows the newest snapshot. What it needs of the past are small sums of each day
(`summarise`), so that a run at every snapshot reads only today. All hours are local; today is
compared with the same hours of other days.
"""

from __future__ import annotations

import dataclasses
import zoneinfo
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.documents import (
    OK,
    Documents,
    RunMetadata,
    Status,
    StockoutBounds,
    clock,
    percent,
    with_manifest,
    with_values,
)
from velib_core.monitoring.network.day_sums import (
    HISTORY_VARIABLES,
    DaySums,
    PastDays,
    StationCounts,
    network_sums,
)
from velib_core.monitoring.panels import assemble, day_panel, name_of
from velib_core.monitoring.stats import run_lengths
from velib_core.tables.service import observed_in_service
from velib_core.timeline.bins import Bin, bin_start, day_of, iso_z
from velib_core.timeline.windows import complete_days, today_so_far

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel, Stations
    from velib_core.timeline.windows import LocalDays

VERSION = "1.3"

COLUMNS = (
    "tbin_utc",
    "station_id",
    "bikes",
    "capacity",
    "docks_available",
    "status",
    "is_installed",
    "is_renting",
    "is_returning",
    "is_penury",
    "is_saturation",
    "name",
    "lat",
    "lon",
    "ts_utc",
    "last_reported_utc",
)
"""Columns of the observations table that are read."""

_VARIABLES = (*HISTORY_VARIABLES, "capacity", "ok", "age_min")


_MEASURES = ("bike_avail", "dock_avail", "penury", "saturation")


@dataclasses.dataclass(frozen=True)
class OverviewThresholds:
    """How far back is looked, and from when on a report is stale.

    ``window_days`` are for coverage and tension, ``reference_days`` for the curve of the same
    weekday. ``stale_min``: quiet stations report only now and then, so it is a day.
    """

    window_days: int = 7
    reference_days: int = 28
    stale_min: float = 1440.0


class _Now(NamedTuple):
    """Stations of the newest bin, by what can be said of them; all ``bool[S]``."""

    seen: NDArray[np.bool_]
    in_service: NDArray[np.bool_]
    stale: NDArray[np.bool_]

    @property
    def active(self) -> NDArray[np.bool_]:
        return self.in_service & ~self.stale


def build(
    recent: Iterable[pa.Table],
    days: Iterable[DaySums | None],
    *,
    now: dt.datetime,
    run_metadata: RunMetadata,
    thresholds: OverviewThresholds | None = None,
    bounds: StockoutBounds | None = None,
) -> Documents:
    """Make the documents of ``network/overview``.

    Parameters
    ----------
    recent
        Observations tables with `COLUMNS` of the local day of the newest observation so far, in
        time order: one a day, or one a snapshot.
    days
        Sums of the days before, in any order (``None`` for an empty one); where they cover the
        time of ``recent``, that counts.
    now
        The windows are those of this instant where nothing was observed at all; else of the
        newest observation.

    """
    limits, bounds = thresholds or OverviewThresholds(), bounds or StockoutBounds()
    parts = [part for part in (day_panel(table, _VARIABLES) for table in recent) if part]
    newest = Bin(max(part.stop for part in parts) - 1) if parts else None
    as_of = bin_start(newest) if newest is not None else now
    today = today_so_far(as_of, run_metadata.tz)
    panel = assemble(parts, today.start, today.stop, _VARIABLES)
    past = PastDays([d for d in days if d and d.start < today.stop], panel)
    window = complete_days(as_of, limits.window_days, run_metadata.tz)
    tension = past.station_counts(window, panel.stations.ids)
    state = _now(panel, limits)
    head = run_metadata.head(VERSION)
    # What closed days say changes once a day, and is stamped with their end.
    closed = dataclasses.replace(run_metadata, generated_at=bin_start(today.start)).head(VERSION)
    day = {"day_for_today_utc": day_of(Bin(today.stop - 1)).isoformat()}
    kpis = _kpis(panel, state, tension, as_of, limits, run_metadata) | day
    documents = {
        "kpis.json": kpis,
        "snapshot_distribution.json": _distribution(panel, state),
        "today_curve.json": head | day | {"clock": "local", "points": _today_curve(panel, today)},
        "ref_median_curve.json": closed | day | past.typical_curve(today, limits.reference_days),
        "kpis_today_vs_lags.json": head | day | past.today_and_lags(panel, today),
        "snapshot_map.json": head | {"rows": _map(panel, state)},
        "stations_tension.json": closed | {"rows": _tension(tension, panel.stations)},
    }
    return with_manifest(
        documents,
        run_metadata,
        VERSION,
        status=_status(newest, past, window),
        window_days=limits.window_days,
        windows={"current": window.as_json(), "today": today.as_json()},
        thresholds=(limits, bounds),
        extra=day,
    )


def _now(panel: Panel, limits: OverviewThresholds) -> _Now:
    """Classify the stations of the newest bin."""
    if not panel.bins:
        return _Now(*(np.zeros(len(panel.stations), bool) for _ in range(3)))
    seen = np.isfinite(panel["bikes"][-1])
    stale = seen & (panel["age_min"][-1] > limits.stale_min)
    return _Now(seen, observed_in_service(panel)[-1], stale)


def _kpis(
    panel: Panel,
    state: _Now,
    past: StationCounts,
    as_of: dt.datetime,
    limits: OverviewThresholds,
    run_metadata: RunMetadata,
) -> dict[str, Any]:
    measures = _counts(panel, state)
    active = int(state.active.sum())
    docks = panel["free_docks"][-1:]
    docks_known = int((state.active & np.isfinite(docks)).sum())
    known = past.counts[0] > 0
    covered = past.counts[0][known] / past.expected if past.expected else np.zeros(0)
    universe = np.union1d(past.ids[known], panel.stations.ids[np.isfinite(panel["bikes"]).any(0)])
    local = as_of.astimezone(zoneinfo.ZoneInfo(run_metadata.tz))
    return {
        **run_metadata.head(VERSION),
        "snapshot_ts_utc": iso_z(as_of),
        "snapshot_ts_local": local.isoformat(sep=" ", timespec="seconds"),
        "stations_universe": len(universe),
        "stations_active": active,
        "stations_offline": len(universe) - active,
        "stations_out_of_service": int((state.seen & ~state.in_service).sum()),
        "stations_stale": int((state.in_service & state.stale).sum()),
        "stations_absent": len(universe) - int(state.seen.sum()),
        "availability_bike_pct": percent(measures["bike_avail"], active),
        "availability_dock_pct": percent(measures["dock_avail"], docks_known),
        "penury_pct": percent(measures["penury"], active),
        "saturation_pct": percent(measures["saturation"], docks_known),
        "coverage_pct": 100 * float(np.minimum(covered, 1).mean()) if len(covered) else None,
        "volatility_today": _volatility(panel),
        "last_days": limits.window_days,
        "ref_days": limits.reference_days,
    }


def _counts(panel: Panel, state: _Now) -> dict[str, int]:
    if not panel.bins:
        return dict.fromkeys(_MEASURES, 0)
    active = state.active
    holds = (
        panel["bikes"][-1] > 0,
        panel["free_docks"][-1] > 0,
        panel["is_penury"][-1] == 1,
        panel["is_saturation"][-1] == 1,
    )
    return {name: int((active & h).sum()) for name, h in zip(_MEASURES, holds, strict=True)}


def _volatility(panel: Panel) -> float | None:
    """Return the median over stations of the spread of bikes' changes between polls today."""
    bikes = panel["bikes"]
    change, _ = run_lengths.changes(bikes, run_lengths.lookback_of(np.isfinite(bikes)))
    known = np.isfinite(change)
    count = known.sum(axis=0)
    enough = count > 1
    if not enough.any():
        return None
    values = np.where(known, change, 0)[:, enough].astype(np.float64)
    mean = values.sum(axis=0) / count[enough]
    variance = (values**2).sum(axis=0) / count[enough] - mean**2
    return float(np.median(np.sqrt(np.maximum(variance, 0))))


def _distribution(panel: Panel, state: _Now) -> list[dict[str, Any]]:
    total = int(state.active.sum())
    return [
        {"metric": name, "count": count, "total_active": total, "pct": percent(count, total)}
        for name, count in _counts(panel, state).items()
    ]


def _today_curve(panel: Panel, today: LocalDays) -> list[dict[str, Any]]:
    """Return the share of stations with a bike at each observed bin of the local clock."""
    sums = network_sums(panel)
    minutes = today.local().minute.tolist()
    by_clock = {
        minute: float(100 * row[1] / row[0])
        for minute, row in zip(minutes, sums.tolist(), strict=True)
        if row[0]
    }
    return [{"hhmm": clock(minute), "pct": pct} for minute, pct in sorted(by_clock.items())]


def _map(panel: Panel, state: _Now) -> list[dict[str, Any]]:
    stations = panel.stations
    rows = []
    for s in np.flatnonzero(state.seen).tolist():
        docks = float(panel["free_docks"][-1, s])
        rows.append(
            {
                "station_id": str(stations.ids[s]),
                "name": name_of(stations, s) or str(stations.ids[s]),
                "lat": float(stations.lat[s]),
                "lon": float(stations.lon[s]),
                "bikes": int(panel["bikes"][-1, s]),
                "docks_avail": int(docks) if np.isfinite(docks) else None,
                "is_penury": int(panel["is_penury"][-1, s] == 1),
                "is_saturation": int(panel["is_saturation"][-1, s] == 1),
                "in_service": bool(state.in_service[s]),
                "stale": bool(state.stale[s]),
            }
        )
    return rows


def _tension(past: StationCounts, stations: Stations) -> list[dict[str, Any]]:
    column = {str(station): s for s, station in enumerate(stations.ids)}
    rows = []
    for i in np.flatnonzero(past.counts[0]).tolist():
        seen, rated, penury, saturation = past.counts[:, i].tolist()
        station = str(past.ids[i])
        rows.append(
            {
                "station_id": station,
                "name": name_of(stations, column[station]) if station in column else None,
                "penury_rate": penury / rated if rated else None,
                "saturation_rate": saturation / rated if rated else None,
                "n_obs": rated,
                "out_of_service_share": 1 - rated / seen,
            }
        )
    return sorted(
        with_values(rows, "penury_rate"),
        key=lambda r: (-r["penury_rate"] - r["saturation_rate"], r["station_id"]),
    )


def _status(newest: Bin | None, past: PastDays, window: LocalDays) -> Status:
    if newest is None:
        return Status("no_data", "no recent observation")
    first = min((day.start for day in past.days), default=None)
    if first is None or first > window.start:
        return Status("partial", "history is shorter than the window")
    return OK
