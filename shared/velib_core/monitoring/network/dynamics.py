"""Network dynamics: when and where stations run out of bikes or docks, and how regular days are.

Rates are over the observations of stations in service; hours and weekdays are local.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.documents import (
    Documents,
    RunMetadata,
    StockoutBounds,
    status_of_days,
    with_manifest,
    with_values,
)
from velib_core.monitoring.panels import assemble, day_panel, name_of, zones
from velib_core.monitoring.stats import nan_stats, run_lengths
from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_DAY, Bin, bin_start, day_of, iso_z
from velib_core.timeline.local_time import local_times
from velib_core.timeline.windows import days_from, local_date, local_midnight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.windows import LocalDays

VERSION = "1.3"

COLUMNS = (
    "tbin_utc",
    "station_id",
    "bikes",
    "capacity",
    "occ_ratio",
    "is_penury",
    "is_saturation",
    "name",
    "lat",
    "lon",
)
"""Columns of the observations table that are read."""

_VARIABLES = ("bikes", "occ_ratio", "is_penury", "is_saturation")
_FLAGS = {"penury": "is_penury", "saturation": "is_saturation"}


@dataclasses.dataclass(frozen=True)
class DynamicsThresholds:
    """What makes an episode, and how much history makes a day typical.

    ``episode_min`` in minutes; ``most_episodes`` caps the document, the longest are kept.
    ``reference_weeks`` are looked back for days of the same weekday, of which a station needs
    ``min_reference_days``, and ``min_common_bins`` observed in both (of a network that is polled
    every n bins an n-th of that). With 100 ``zones_per_degree`` a zone is about 1 km.
    """

    episode_min: int = 60
    most_episodes: int = 5000
    reference_weeks: int = 5
    min_reference_days: int = 4
    min_common_bins: int = 96
    zones_per_degree: int = 100


class _Table(NamedTuple):
    """Sums over the window: by bin ``[T]`` or by station ``[S]``."""

    occ: NDArray[np.float64]
    occ_n: NDArray[np.int64]
    penury: NDArray[np.int64]
    saturation: NDArray[np.int64]
    rated: NDArray[np.int64]


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    run_metadata: RunMetadata,
    thresholds: DynamicsThresholds | None = None,
    bounds: StockoutBounds | None = None,
) -> Documents:
    """Make the documents of ``network/dynamics``.

    Parameters
    ----------
    tables
        Observations tables with `COLUMNS`, one per day, in time order: the window, and for
        the regularity the days that `regularity_days` names.
    window
        Complete local days.

    """
    limits, bounds = thresholds or DynamicsThresholds(), bounds or StockoutBounds()
    parts = [part for part in (day_panel(table, _VARIABLES) for table in tables) if part]
    panel = assemble(parts, window.start, window.stop, _VARIABLES)
    newest = _newest(parts) if parts else Bin(window.stop - 1)
    head = {**run_metadata.head(VERSION), "day_for_today_utc": day_of(newest).isoformat()}
    inner = {**run_metadata.head(VERSION), "last_days": len(window.days)}
    by_bin, by_station = _sums(panel, axis=1), _sums(panel, axis=0)
    found = _episodes(panel, limits)
    shown = sorted(
        sorted(found, key=lambda row: (-row["duration_min"], row["station_id"]))[
            : limits.most_episodes
        ],
        key=lambda row: (row["station_id"], row["start_utc"], row["type"]),
    )
    regularity = _regularity(parts, newest, run_metadata.tz, limits)
    documents = {
        "heatmaps_profiles.json": head | {"heatmaps_profiles": inner | _heatmaps(by_bin, window)},
        "hourly_pen_sat.json": head | {"hourly": inner | {"rows": _hourly(by_bin, window)}},
        "episodes.json": head | {"episodes": inner | {"rows": shown, "total": len(found)}},
        "by_zone.json": head
        | {"by_zone": inner | {"rows": _zones(panel, by_station, limits.zones_per_degree)}},
        "tension_by_station.json": head
        | {"tension_by_station": inner | {"rows": _tension(panel, by_station)}},
        "regularity_today.json": head | {"regularity_today": inner | regularity},
    }
    seen = np.isfinite(panel["bikes"])
    return with_manifest(
        documents,
        run_metadata,
        VERSION,
        status=status_of_days(window.days_with(seen), len(window.days)),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits, bounds),
        extra={"day_for_today_utc": head["day_for_today_utc"]},
    )


def regularity_days(newest: Bin, tz: str, weeks: int) -> list[LocalDays]:
    """Return the local days that the regularity compares: the one asked about, then its past.

    The day asked about is the local day of the newest bin once half of it is over, until then
    the day before.
    """
    date = local_date(bin_start(newest), tz)
    if newest - local_midnight(date, tz) < BINS_PER_DAY // 2:
        date -= dt.timedelta(days=1)
    return [days_from(date - dt.timedelta(weeks=week), 1, tz) for week in range(weeks + 1)]


def _newest(parts: Sequence[Panel]) -> Bin:
    return Bin(max(part.stop for part in parts) - 1)


def _sums(panel: Panel, axis: int) -> _Table:
    """Sum over stations (``axis`` 1) or bins (0); only observations in service count."""
    rated = np.isfinite(panel["is_penury"]) & np.isfinite(panel["is_saturation"])
    occ = panel["occ_ratio"]
    filled = rated & np.isfinite(occ)
    return _Table(
        np.where(filled, np.clip(occ, 0, 1), 0).sum(axis=axis, dtype=np.float64),
        filled.sum(axis=axis),
        (rated & (panel["is_penury"] == 1)).sum(axis=axis),
        (rated & (panel["is_saturation"] == 1)).sum(axis=axis),
        rated.sum(axis=axis),
    )


def _means(sums: _Table, groups: NDArray[np.int64], count: int) -> dict[str, list[float | None]]:
    """Return the mean occupancy and the rates of each group of bins."""
    occ, occ_n, penury, saturation, rated = (
        np.bincount(groups, column, count).tolist() for column in sums
    )
    return {
        "occ_mean": [a / b if b else None for a, b in zip(occ, occ_n, strict=True)],
        "penury_rate": [a / b if b else None for a, b in zip(penury, rated, strict=True)],
        "saturation_rate": [a / b if b else None for a, b in zip(saturation, rated, strict=True)],
    }


def _heatmaps(by_bin: _Table, window: LocalDays) -> dict[str, Any]:
    local = window.local()
    flat = _means(by_bin, local.dow * 24 + local.minute // 60, 7 * 24)
    heatmap = {
        name: [means[24 * dow : 24 * dow + 24] for dow in range(7)] for name, means in flat.items()
    }
    profiles = {str(dow): heatmap["occ_mean"][dow] for dow in range(7)}
    return {"heatmap": heatmap, "profiles_occ_by_dow": profiles}


def _hourly(by_bin: _Table, window: LocalDays) -> list[dict[str, Any]]:
    means = _means(by_bin, window.local().minute // 60, 24)
    return [
        {"hour": hour} | {name: means[name][hour] for name in ("penury_rate", "saturation_rate")}
        for hour in range(24)
    ]


def _episodes(panel: Panel, limits: DynamicsThresholds) -> list[dict[str, Any]]:
    """Find the stockouts that lasted; observations further apart than usual end an episode."""
    observed = np.isfinite(panel["bikes"])
    lookback = run_lengths.lookback_of(observed)
    step = (lookback + 1) // 2
    rows = []
    for kind, flag in _FLAGS.items():
        found = run_lengths.find_runs(panel[flag] == 1, observed, lookback)
        lasted = (found.last - found.first + step) * BIN_MINUTES
        keep = lasted >= limits.episode_min
        for station, first, last, steps in zip(
            *(field.tolist() for field in found.where(keep)), strict=True
        ):
            rows.append(
                {
                    "station_id": str(panel.stations.ids[station]),
                    "type": kind,
                    "start_utc": iso_z(bin_start(Bin(panel.start + first))),
                    "end_utc": iso_z(bin_start(Bin(panel.start + last))),
                    "steps": steps,
                    "duration_min": (last - first + step) * BIN_MINUTES,
                }
            )
    return rows


def _tension(panel: Panel, sums: _Table) -> list[dict[str, Any]]:
    stations, seen = panel.stations, np.isfinite(panel["bikes"]).sum(axis=0)
    rows = []
    for s in np.flatnonzero(seen).tolist():
        rates = _station_rates(sums, s)
        rows.append(
            {
                "station_id": str(stations.ids[s]),
                "name": name_of(stations, s),
                "lat": float(stations.lat[s]),
                "lon": float(stations.lon[s]),
                **rates,
                "tension_index": rates["penury_rate"] + rates["saturation_rate"]
                if sums.rated[s]
                else None,
                "n_obs": int(sums.rated[s]),
                "out_of_service_share": 1 - float(sums.rated[s] / seen[s]),
            }
        )
    return sorted(
        with_values(rows, "tension_index"),
        key=lambda row: (-row["tension_index"], row["station_id"]),
    )


def _station_rates(sums: _Table, s: int) -> dict[str, Any]:
    rated, filled = int(sums.rated[s]), int(sums.occ_n[s])
    return {
        "penury_rate": float(sums.penury[s]) / rated if rated else None,
        "saturation_rate": float(sums.saturation[s]) / rated if rated else None,
        "occ_mean": float(sums.occ[s]) / filled if filled else None,
    }


def _zones(panel: Panel, sums: _Table, per_degree: int) -> list[dict[str, Any]]:
    stations = panel.stations
    seen = np.isfinite(panel["bikes"]).any(axis=0)
    rows = []
    for cell, there in zones(stations.lat, stations.lon, per_degree):
        inside = there & seen
        if not inside.any():
            continue
        zone = _Table(*(np.array([column[inside].sum()]) for column in sums))
        rows.append(
            {
                "zone": "|".join(cell),
                **_station_rates(zone, 0),
                "cap_sum": float(np.nansum(stations.capacity[inside])),
                "n_obs": int(zone.rated[0]),
                "stations": int(inside.sum()),
            }
        )
    return with_values(rows, "penury_rate")


def _regularity(
    parts: Sequence[Panel], newest: Bin, tz: str, limits: DynamicsThresholds
) -> dict[str, Any]:
    """Correlate a day's occupancy, bin by bin of the local clock, with the median of its past."""
    days = regularity_days(newest, tz, limits.reference_weeks)
    ids, curves = np.zeros(0, np.str_), []
    for day in days:
        panel = assemble(parts, day.start, day.stop, ("bikes", "occ_ratio"))
        ids = panel.stations.ids
        curves.append(_by_clock(panel, tz))
    today, past = curves[0], [curve for curve in curves[1:] if np.isfinite(curve).any()]
    rows = []
    if len(ids):
        past_days = np.stack([np.isfinite(c).any(axis=0) for c in past]).sum(0) if past else None
        typical = nan_stats.median(np.stack(past)) if past else np.full_like(today, np.nan)
        r, common = _pearson(today, typical)
        n_days = np.zeros(len(ids), int) if past_days is None else past_days
        step = (run_lengths.lookback_of(np.isfinite(today)) + 1) // 2
        reported = (n_days >= limits.min_reference_days) & (common * step >= limits.min_common_bins)
        rows = [
            {
                "station_id": str(ids[s]),
                "regularity_corr_today_vs_typical": float(r[s]) if reported[s] else None,
                "n_days": int(n_days[s]),
                "n_bins": int(common[s]),
            }
            for s in np.flatnonzero(np.isfinite(today).any(axis=0)).tolist()
        ]
    reason = None
    if len(past) < limits.min_reference_days:
        reason = f"{len(past)} earlier days of this weekday, {limits.min_reference_days} needed"
    return {
        "day_local": days[0].days[0].isoformat(),
        "reference_days": len(past),
        "reason": reason,
        "rows": with_values(rows, "regularity_corr_today_vs_typical"),
    }


def _by_clock(panel: Panel, tz: str) -> NDArray[np.float32]:
    """Return a local day's occupancy by bin of the clock, ``float32[288, S]``.

    An hour that the clock skips stays NaN; of one that it repeats the second time counts.
    """
    clock = local_times(panel.start + np.arange(panel.bins), tz).minute // BIN_MINUTES
    curve = np.full((BINS_PER_DAY, len(panel.stations)), np.nan, np.float32)
    curve[clock] = panel["occ_ratio"]
    return curve


def _pearson(
    a: NDArray[np.floating], b: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return Pearson's r of each column over the rows that both have, and how many those are."""
    both = np.isfinite(a) & np.isfinite(b)
    n = both.sum(axis=0)
    x, y = (np.where(both, v, 0).astype(np.float64) for v in (a, b))
    divisor = np.maximum(n, 1)
    x = np.where(both, x - x.sum(axis=0) / divisor, 0)
    y = np.where(both, y - y.sum(axis=0) / divisor, 0)
    scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    r = np.divide((x * y).sum(axis=0), scale, out=np.full(len(n), np.nan), where=scale > 1e-9)
    return np.clip(r, -1, 1), n
