"""Data drift: how far what the model is fed has moved away from what it was before.

The value compared is a station's mean over one local hour; of the weather, which is the same for
all stations, the city's mean over the hour. A reference hour weighs as much as its kind of hour
(day type × local hour) does in the current window, so a window with one Sunday more, or a night
less, is not a drift.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.data import distances
from velib_core.monitoring.data.hourly_means import (
    STATION_FEATURES,
    WEATHER_FEATURES,
    Hours,
    average_hours,
)
from velib_core.monitoring.documents import (
    Alert,
    Documents,
    RunMetadata,
    Status,
    StockoutBounds,
    partly,
    status_of_days,
    with_manifest,
    with_values,
)
from velib_core.monitoring.panels import zones
from velib_core.timeline.bins import bin_start, iso_z
from velib_core.timeline.windows import LocalDays, days_before

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray


VERSION = "1.4"

FEATURES = tuple(sorted((*STATION_FEATURES, *WEATHER_FEATURES)))

COLUMNS = ("tbin_utc", "station_id", "lat", "lon", *FEATURES)
"""Columns of the observations table that are read."""

ZONE_FEATURE = "occ_ratio"
ZONES_PER_DEGREE = (100, 50, 20, 10)
"""Zones are cells of 0.01°, about 1 km, or larger ones where most of those have too little to
report: a young network, or one of few stations."""


@dataclasses.dataclass(frozen=True)
class DriftThresholds:
    """What counts as drift, and below what a sample is too small to say.

    ``psi_medium`` and ``psi_high`` are the usual reading of the PSI. ``min_hours`` is in values
    (station-hours, or hours for the weather), ``zone_min_station_days`` in days of a station.
    ``ema_days`` is the span of the moving average; the newest day weighs 2 / (span + 1).
    """

    psi_medium: float = 0.10
    psi_high: float = 0.25
    max_bins: int = 10
    zone_bins: int = 5
    min_hours: int = 48
    min_day_values: int = 100
    zone_min_station_days: int = 12
    ema_days: int = 7


class _Sample(NamedTuple):
    """One feature, comparable: hours of kinds that both windows have.

    ``values`` is ``float32[H, S]`` (NaN where unobserved or not comparable), ``weight`` is
    ``float64[H]``, 1 in the current window.
    """

    values: NDArray[np.float32]
    weight: NDArray[np.float64]
    current: NDArray[np.bool_]

    def reference(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the reference's values and weights, flat."""
        values = self.values[~self.current]
        known = np.isfinite(values)
        weights = np.broadcast_to(self.weight[~self.current][:, None], values.shape)
        return values[known], weights[known]

    def now(self) -> NDArray[np.float32]:
        """Return the current values, flat."""
        values = self.values[self.current]
        return values[np.isfinite(values)]


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    reference_days: int,
    run_metadata: RunMetadata,
    thresholds: DriftThresholds | None = None,
    bounds: StockoutBounds | None = None,
) -> Documents:
    """Make the documents of ``data/drift``.

    Parameters
    ----------
    tables
        Observations tables with `COLUMNS`, one per day, in time order: reference and window.
    window
        Complete local days: the current window.
    reference_days
        How many complete local days before it are the reference.

    """
    limits = thresholds or DriftThresholds()
    reference = days_before(window, reference_days)
    hours = average_hours(tables, reference, window)
    samples = {name: _sample(hours, name) for name in FEATURES}
    rows = {name: _compare(name, sample, hours, limits) for name, sample in samples.items()}
    found = {name: row["psi"] for name, row in rows.items() if row["psi"] is not None}
    summary = _summary(found, limits)
    alerts = _global_alerts(summary["psi_global"], limits)
    spans = {"window_days": len(window.days), "reference_days": reference_days}
    documents = {
        "summary.json": run_metadata.head(VERSION)
        | summary
        | spans
        | {"last_days": len(window.days), "not_compared": _not_compared(rows)},
        "psi_by_feature.json": _columns(rows, ("psi", "bins", "n_ref", "n_cur", "reason")),
        "ks_by_feature.json": _columns(
            rows, ("ks", "p_value", "wasserstein", "n_ref", "n_cur", "reason")
        ),
        "deltas_by_feature.json": _columns(
            rows, ("delta_mean", "delta_var", "mean_ref", "mean_cur", "reason")
        ),
        "psi_global_daily_ema.json": _daily(hours, [*reference.days, *window.days], limits),
        "zones.json": _zones(hours, samples[ZONE_FEATURE], limits),
        "bounds.json": _bounds(hours, reference, window),
        "features_detected.json": sorted(n for n, row in rows.items() if row["n_cur"]),
        "alerts.json": [dataclasses.asdict(alert) for alert in alerts],
    }
    return with_manifest(
        documents,
        run_metadata,
        VERSION,
        status=_status(hours, reference, window),
        window_days=len(window.days),
        windows={"current": window.as_json(), "reference": reference.as_json()},
        thresholds=(limits, bounds or StockoutBounds()),
        alerts=[*alerts, *_feature_alerts(found, limits)],
        extra={"reference_days": reference_days},
    )


def _summary(found: Mapping[str, float], limits: DriftThresholds) -> dict[str, Any]:
    """Sum the PSI of the features up."""
    top = max(found, key=lambda name: found[name], default=None)
    drifted = sorted(name for name, value in found.items() if value >= limits.psi_high)
    return {
        "psi_global": float(np.median(list(found.values()))) if found else None,
        "psi_global_is": "median over the features",
        "top_feature": top,
        "top_feature_psi": found[top] if top else None,
        "drifted_features": drifted,
        "drifted_share": len(drifted) / len(found) if found else None,
        "thresholds": {"medium": limits.psi_medium, "high": limits.psi_high},
    }


def _sample(hours: Hours, name: str) -> _Sample:
    """Leave out hours of a kind that only one window has, and weigh the reference's."""
    values = hours.values[name]
    seen = np.isfinite(values).any(axis=1)
    weight = _weights(hours.kind, seen & ~hours.current, seen & hours.current)
    return _Sample(np.where(weight[:, None] > 0, values, np.float32(np.nan)), weight, hours.current)


def _weights(
    kind: NDArray[np.int64], reference: NDArray[np.bool_], current: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weigh reference hours so that each kind has the share it has among the current ones.

    Weights average 1 over the reference; they are 1 in the current window and 0 for hours that
    have no counterpart.
    """
    kinds = int(kind.max(initial=0)) + 1
    ref = np.bincount(kind[reference], minlength=kinds)
    cur = np.bincount(kind[current], minlength=kinds)
    both = (ref > 0) & (cur > 0)
    share = np.divide(cur, ref, out=np.zeros(kinds), where=both)
    if both.any():
        share *= ref[both].sum() / cur[both].sum()
    return np.where(reference, share[kind], np.where(current & both[kind], 1.0, 0.0))


def _compare(name: str, sample: _Sample, hours: Hours, limits: DriftThresholds) -> dict[str, Any]:
    reference, weights = sample.reference()
    current = sample.now()
    row: dict[str, Any] = dict.fromkeys(
        ("psi", "bins", "ks", "p_value", "wasserstein", "delta_mean", "delta_var", "mean_ref")
    )
    row |= {"feature": name, "n_ref": len(reference), "n_cur": len(current), "reason": None}
    row["mean_cur"] = float(current.mean(dtype=np.float64)) if len(current) else None
    if min(len(reference), len(current)) < limits.min_hours:
        return row | {"reason": f"fewer than {limits.min_hours} values in a window"}
    before, now = distances.Weighted.of(reference, weights), distances.Weighted.of(current)
    row["mean_ref"] = before.mean()
    bins = distances.fit_bins(reference, limits.max_bins)
    if bins is None:
        return row | {"reason": "constant in the reference"}
    histograms = _histograms(sample.values, bins)
    row["psi"] = distances.psi(
        (histograms * sample.weight[:, None])[~sample.current].sum(axis=0),
        histograms[sample.current].sum(axis=0),
    )
    row["bins"] = len(bins)
    row["ks"], row["p_value"] = distances.kolmogorov_smirnov(before, now, _units(sample, hours))
    row["wasserstein"] = distances.wasserstein(before, now)
    row["delta_mean"] = (now.mean() - before.mean()) / before.variance() ** 0.5
    row["delta_var"] = (now.variance() - before.variance()) / before.variance()
    return row


def _units(sample: _Sample, hours: Hours) -> tuple[float, float]:
    """Return how many station-days (days, of the weather) each window has."""
    units = []
    for window in (~sample.current, sample.current):
        days = np.unique(hours.date[window & (sample.weight > 0)])
        stations = np.isfinite(sample.values[window]).any(axis=0).sum()
        units.append(float(len(days) * stations))
    return units[0], units[1]


def _histograms(values: NDArray[np.float32], bins: distances.Bins) -> NDArray[np.int64]:
    """Return the histogram of each hour, ``int64[H, B]``."""
    hour, column = np.nonzero(np.isfinite(values))
    cells = hour * len(bins) + bins.of(values[hour, column])
    return np.bincount(cells, minlength=len(values) * len(bins)).reshape(-1, len(bins))


def _daily(hours: Hours, days: Sequence[dt.date], limits: DriftThresholds) -> list[dict[str, Any]]:
    """Compare each day with the reference hours of its own kinds, itself left out; smooth."""
    by_feature = []
    for name in STATION_FEATURES:
        reference = hours.values[name][~hours.current]
        bins = distances.fit_bins(reference[np.isfinite(reference)], limits.max_bins)
        if bins is not None:
            by_feature.append(_histograms(hours.values[name], bins))
    observed = set(hours.date[np.isfinite(hours.values["bikes"]).any(axis=1)].tolist())
    alpha, smoothed = 2 / (limits.ema_days + 1), None
    rows: list[dict[str, Any]] = []
    for date in days:
        if not rows and date.toordinal() not in observed:
            continue  # the network is younger than the reference
        today = hours.date == date.toordinal()
        psis = [_psi_of_day(histograms, hours, today, limits) for histograms in by_feature]
        found = [psi for psi in psis if psi is not None]
        value = float(np.median(found)) if found else None
        if value is not None:
            smoothed = value if smoothed is None else alpha * value + (1 - alpha) * smoothed
        rows.append({"date_local": date.isoformat(), "psi_ema": smoothed, "psi": value})
    return with_values(rows, "psi_ema")


def _psi_of_day(
    histograms: NDArray[np.int64], hours: Hours, today: NDArray[np.bool_], limits: DriftThresholds
) -> float | None:
    """Return the PSI of some hours against the other reference hours of their kinds."""
    filled, others = histograms.sum(axis=1) > 0, ~hours.current & ~today
    weight = _weights(hours.kind, filled & others, filled & today)
    counts = histograms[today & (weight > 0)].sum(axis=0)
    if counts.sum() < limits.min_day_values:
        return None
    return distances.psi((histograms * weight[:, None])[others].sum(axis=0), counts)


def _zones(hours: Hours, sample: _Sample, limits: DriftThresholds) -> dict[str, Any]:
    """Return the zones of the finest grid in which at least half have enough data."""
    grids = []
    for per_degree in ZONES_PER_DEGREE:
        cells = [
            (cell, inside, sample._replace(values=sample.values[:, inside]))
            for cell, inside in zones(hours.lat, hours.lon, per_degree)
        ]
        large = sum(_is_large(zone, hours, limits) for _, _, zone in cells)
        grids.append((per_degree, cells, large / max(len(cells), 1)))
        if 2 * large >= len(cells):
            break
    per_degree, cells, _ = max(grids, key=lambda grid: min(grid[2], 0.5))
    rows = [
        {
            "zone": ",".join(cell),
            "lat": float(np.median(hours.lat[inside])),
            "lon": float(np.median(hours.lon[inside])),
            "stations": int(inside.sum()),
            **_psi_of_zone(zone, hours, limits),
        }
        for cell, inside, zone in cells
    ]
    return {
        "degrees": 1 / per_degree,
        "rows": with_values(rows, "psi"),
        "not_compared": sum(row["psi"] is None for row in rows),
    }


def _is_large(zone: _Sample, hours: Hours, limits: DriftThresholds) -> bool:
    return min(_units(zone, hours)) >= limits.zone_min_station_days


def _psi_of_zone(zone: _Sample, hours: Hours, limits: DriftThresholds) -> dict[str, Any]:
    if not _is_large(zone, hours, limits):
        least = limits.zone_min_station_days
        return {"psi": None, "reason": f"fewer than {least} station-days in a window"}
    bins = distances.fit_bins(zone.reference()[0], limits.zone_bins)
    if bins is None:
        return {"psi": None, "reason": "constant in the reference"}
    histograms = _histograms(zone.values, bins)
    before = (histograms * zone.weight[:, None])[~zone.current].sum(axis=0)
    return {"psi": distances.psi(before, histograms[zone.current].sum(axis=0)), "reason": None}


def _bounds(hours: Hours, reference: LocalDays, window: LocalDays) -> dict[str, Any]:
    newest = None if hours.newest is None else iso_z(bin_start(hours.newest))
    return {
        "tmax_utc": newest,
        "cur_start_utc": iso_z(bin_start(window.start)),
        "cur_end_utc": iso_z(bin_start(window.stop)),
        "ref_start_utc": iso_z(bin_start(reference.start)),
        "ref_end_utc": iso_z(bin_start(reference.stop)),
        "ref_days_observed": _days_observed(hours, current=False),
        "cur_days_observed": _days_observed(hours, current=True),
    }


def _days_observed(hours: Hours, *, current: bool) -> int:
    seen = np.isfinite(hours.values["bikes"]).any(axis=1) & (hours.current == current)
    return len(np.unique(hours.date[seen]))


def _status(hours: Hours, reference: LocalDays, window: LocalDays) -> Status:
    before = _days_observed(hours, current=False)
    status = status_of_days(_days_observed(hours, current=True), len(window.days))
    reason = f"{before} of {len(reference.days)} reference days have observations"
    return partly(status, [reason] if before < len(reference.days) else [])


def _columns(rows: Mapping[str, Mapping[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the features that were compared; the others are in the summary, with a reason."""
    found = [{"feature": name} | {key: row[key] for key in names} for name, row in rows.items()]
    return with_values(found, names[0])


def _not_compared(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: row["reason"] for name, row in rows.items() if row["reason"]}


def _global_alerts(overall: float | None, limits: DriftThresholds) -> list[Alert]:
    if overall is None or overall < limits.psi_medium:
        return []
    high = overall >= limits.psi_high
    level, threshold = ("high", limits.psi_high) if high else ("medium", limits.psi_medium)
    text = f"the median PSI of the features is {overall:.3f}"
    code = f"psi_global_{level}"
    return [Alert("high" if high else "medium", code, text, "summary.json", overall, threshold)]


def _feature_alerts(found: Mapping[str, float], limits: DriftThresholds) -> list[Alert]:
    return [
        Alert(
            "medium",
            f"psi_{name}",
            f"the PSI of {name} is {value:.3f}",
            "psi_by_feature.json",
            value,
            limits.psi_high,
        )
        for name, value in found.items()
        if value >= limits.psi_high
    ]
