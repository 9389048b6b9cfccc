"""What a forecast is worth: stockouts warned of, honest probabilities, error against two others.

Scored are the forecasts as they were published, against what happened. The two others are
persistence (nothing changes) and the usual profile (the mean of earlier days of the same type at
that half hour). Pure functions: tables and panels in, plain values for JSON out.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from velib_core.monitoring.panels import encode
from velib_core.tables.panel import bins_of
from velib_core.timeline.bins import horizon_bins
from velib_core.timeline.local_time import local_times, slot_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from velib_core.features.profiles import Profiles
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day, HorizonMinutes

    Floats = NDArray[np.float64]

WARNING_LEVEL = 0.3
"""Risk from which a stockout counts as warned of: about one warning in three should come true."""

RELIABILITY_BINS = 10

SIZES = (15, 25, 40)
"""Docks up to which a station is of the first, second and third size; the rest are of the last."""

LEAST_PAIRS = 50
"""Pairs below which a group or a station says nothing."""

WORST = 8
"""Stations listed where the forecast was worse than persistence."""

WORSE_BY = 0.05
"""Bikes of mean error from which a forecast counts as worse there: less is chance."""

COLUMNS = (
    *("tbin_utc", "target_tbin_utc", "station_id", "horizon_bins"),
    *("y_pred_int", "p_bike", "p_dock"),
)
"""Columns of the forecast log that are read."""


@dataclasses.dataclass(frozen=True)
class LoggedDay:
    """The forecasts published on a day, what happened on it and the next, and what is usual."""

    day: Day
    log: pa.Table
    truth: Panel
    usual: Profiles | None


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """Forecasts with a truth, of one horizon; all arrays have one value a pair.

    ``now`` is what persistence says and ``usual`` what the profile does, NaN where unknown;
    ``risk`` is the forecast probability of no bike, of no dock.
    """

    station: NDArray[np.str_]
    name: NDArray[np.str_]
    hour: NDArray[np.int64]
    size: NDArray[np.int64]
    truth: NDArray[np.float64]
    forecast: NDArray[np.float64]
    now: NDArray[np.float64]
    usual: NDArray[np.float64]
    docks: NDArray[np.float64]
    docks_now: NDArray[np.float64]
    risk: dict[str, NDArray[np.float64]]


def value_block(
    days: Sequence[LoggedDay], horizons: Sequence[HorizonMinutes], tz: str
) -> list[dict[str, Any] | None]:
    """Return what the forecasts of each horizon were worth, ``None`` where none was published."""
    return [_of_horizon(days, horizon, tz) for horizon in horizons]


def _of_horizon(
    days: Sequence[LoggedDay], horizon: HorizonMinutes, tz: str
) -> dict[str, Any] | None:
    parts = [pairs for day in days if (pairs := _pairs(day, horizon, tz)) is not None]
    if not parts:
        return None
    pairs = _joined(parts)
    if len(pairs.truth) < LEAST_PAIRS:
        return None
    outcomes = {"bike": (pairs.now, pairs.truth), "dock": (pairs.docks_now, pairs.docks)}
    return {
        "n": len(pairs.truth),
        "days": [str(day.day) for day in days],
        "level": WARNING_LEVEL,
        "warnings": {k: _warnings(pairs.risk[k], *v) for k, v in outcomes.items()},
        "reliability": {k: _reliability(pairs.risk[k], v[1]) for k, v in outcomes.items()},
        "by_hour": _errors(pairs, pairs.hour, 24),
        "by_size": _errors(pairs, pairs.size, len(SIZES) + 1),
        "sizes": list(SIZES),
        "worst": _worst(pairs),
    }


def _pairs(day: LoggedDay, horizon: HorizonMinutes, tz: str) -> _Pairs | None:
    log, panel = day.log, day.truth
    log = log.filter(pa.array(np.asarray(log["horizon_bins"]) == horizon_bins(horizon)))
    if not log.num_rows or not panel.bins:
        return None
    ids, encoded = encode(log["station_id"])
    column = {station: n for n, station in enumerate(panel.stations.ids.tolist())}
    station = np.array([column.get(i, -1) for i in ids], np.int64)[encoded]
    issued, target = (bins_of(log[name]) - panel.start for name in ("tbin_utc", "target_tbin_utc"))
    inside = (station >= 0) & (issued >= 0) & (target < panel.bins) & (issued < panel.bins)
    station, issued, target = station[inside], issued[inside], target[inside]
    bikes, docks = panel["bikes"], panel["docks_available"]
    forecast = _floats(log, "y_pred_int")[inside]
    known = np.isfinite(bikes[target, station]) & np.isfinite(bikes[issued, station])
    known &= np.isfinite(forecast)
    s, i, t = station[known], issued[known], target[known]
    risk = {kind: 1 - _floats(log, f"p_{kind}")[inside][known] for kind in ("bike", "dock")}
    usual = _usual(day.usual, panel)
    return _Pairs(
        station=panel.stations.ids[s],
        name=panel.stations.names[s].astype(np.str_),
        hour=local_times(i + panel.start, tz).minute // 60,
        size=np.searchsorted(SIZES, panel.stations.capacity[s]),
        truth=bikes[t, s].astype(np.float64),
        forecast=forecast[known],
        now=bikes[i, s].astype(np.float64),
        usual=usual[t, s],
        docks=docks[t, s].astype(np.float64),
        docks_now=docks[i, s].astype(np.float64),
        risk=risk,
    )


def _joined(parts: Sequence[_Pairs]) -> _Pairs:
    fields = [field.name for field in dataclasses.fields(_Pairs) if field.name != "risk"]
    complete = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    kinds = ("bike", "dock")
    risk = {kind: np.concatenate([part.risk[kind] for part in parts]) for kind in kinds}
    return _Pairs(**complete, risk=risk)


def _usual(profiles: Profiles | None, panel: Panel) -> NDArray[np.float64]:
    """Return the usual number of bikes at every bin of the panel, NaN where unknown."""
    usual = np.full((panel.bins, len(panel.stations)), np.nan)
    if profiles is None:
        return usual
    local = local_times(np.arange(panel.start, panel.start + panel.bins), profiles.tz)
    seen, bikes = profiles.level[:, local.day_type, slot_of(local)]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(seen > 0, bikes / seen, np.nan)
    column = {station: n for n, station in enumerate(profiles.stations.tolist())}
    for n, station in enumerate(panel.stations.ids.tolist()):
        if station in column:
            usual[:, n] = means[:, column[station]]
    return usual


def _warnings(risk: Floats, before: Floats, after: Floats) -> dict[str, int]:
    """Count stockouts to come, those warned of, and the warnings, where there was one left."""
    eligible = np.isfinite(risk) & (before >= 1) & np.isfinite(after)
    came, warned = after[eligible] < 1, risk[eligible] >= WARNING_LEVEL
    return {
        "stockouts": int(came.sum()),
        "warned": int((came & warned).sum()),
        "warnings": int(warned.sum()),
    }


def _reliability(risk: Floats, after: Floats) -> list[list[float]]:
    """Return forecast risk, how often it came true, and the number of pairs, by tenths of risk."""
    known = np.isfinite(risk) & np.isfinite(after)
    p, came = risk[known], after[known] < 1
    group = np.minimum((p * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    n = np.bincount(group, minlength=RELIABILITY_BINS)
    sums = [np.bincount(group, values, RELIABILITY_BINS) for values in (p, came.astype(float))]
    return [
        [round(sums[0][g] / n[g], 4), round(sums[1][g] / n[g], 4), int(n[g])]
        for g in np.flatnonzero(n >= LEAST_PAIRS).tolist()
    ]


def _errors(pairs: _Pairs, group: NDArray[np.int64], count: int) -> dict[str, list[Any]]:
    """Return the mean absolute errors of each group: forecast, persistence, usual profile."""
    n = np.bincount(group, minlength=count)
    enough = n >= LEAST_PAIRS
    columns: dict[str, list[Any]] = {"group": np.flatnonzero(enough).tolist()}
    columns["n"] = n[enough].tolist()
    for name in ("forecast", "now", "usual"):
        error = np.abs(pairs.truth - getattr(pairs, name))
        known = np.isfinite(error)
        total = np.bincount(group[known], error[known], count)
        seen = np.bincount(group[known], minlength=count)
        columns[name] = [
            round(float(total[g] / seen[g]), 4) if seen[g] >= LEAST_PAIRS else None
            for g in columns["group"]
        ]
    return columns


def _worst(pairs: _Pairs) -> list[list[Any]]:
    """Return the stations whose forecast is worst against persistence, worst first."""
    ids, first, station = np.unique(pairs.station, return_index=True, return_inverse=True)
    n = np.bincount(station)
    mine, base = (
        np.bincount(station, np.abs(pairs.truth - other)) / n
        for other in (pairs.forecast, pairs.now)
    )
    worse = np.flatnonzero((n >= LEAST_PAIRS) & (mine - base >= WORSE_BY))
    ranked = worse[np.argsort(base[worse] - mine[worse], kind="stable")][:WORST]
    return [
        [str(ids[s]), str(pairs.name[first[s]]), *(round(float(a[s]), 3) for a in (mine, base))]
        for s in ranked.tolist()
    ]


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    column = table[name].cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
