"""The monitoring routes of the existing API, and the object that each reads below the root."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAIN = {
    "intro": ("intro", []),
    "data/freshness": ("freshness", []),
    "data/health": ("kpis", ["kpis", "station_health", "coverage_by_hour", "alerts"]),
    "data/drift": (
        "summary",
        [
            "summary",
            "psi_by_feature",
            "ks_by_feature",
            "deltas_by_feature",
            "psi_global_daily_ema",
            "alerts",
            "bounds",
            "zones",
            "features_detected",
        ],
    ),
    "network/overview": (
        "kpis",
        [
            "kpis",
            "snapshot_distribution",
            "today_curve",
            "ref_median_curve",
            "kpis_today_vs_lags",
            "snapshot_map",
            "stations_tension",
        ],
    ),
    "network/stations": ("kpis", ["kpis", "centroids", "pca_scatter", "pca_circle", "stats7"]),
    "network/dynamics": (
        "heatmaps_profiles",
        [
            "heatmaps_profiles",
            "hourly_pen_sat",
            "episodes",
            "by_zone",
            "tension_by_station",
            "regularity_today",
        ],
    ),
}
"""By family: what its root route serves, and the names it has routes for."""

BY_HORIZON = {
    "model/performance": (
        "kpis",
        [
            "kpis",
            "daily_metrics",
            "by_hour",
            "by_dow",
            "by_station",
            "lift_curve",
            "hist_residuals",
            "station_timeseries",
        ],
    ),
    "model/explainability": (
        "overview",
        ["overview", "residuals", "calibration", "uncertainty", "feature_importance"],
    ),
}
"""The same of the families that are asked with or without a horizon ``h``."""

ANOMALIES = ("manifest", "flat", "duplicates", "missing")


def routes(horizons: Iterable[int]) -> dict[str, str]:
    """Return the object of every route; of ``/anomalies`` those of its parts."""
    found = {}
    for family, (root, names) in (PLAIN | BY_HORIZON).items():
        base = f"monitoring/{family}/latest"
        asked = [f"?h={h}" for h in horizons] if family in BY_HORIZON else []
        for query in ["", *asked]:
            folder = f"{base}/{query[1:].replace('=', '')}" if query else base
            found[f"/monitoring/{family}{query}"] = f"{folder}/{root}.json"
            found |= {f"/monitoring/{family}/{n}{query}": f"{folder}/{n}.json" for n in names}
        found[f"/monitoring/{family}/manifest"] = f"{base}/manifest.json"
    anomalies = "monitoring/data/health/latest/anomalies"
    found |= {f"/monitoring/data/health/anomalies_{n}": f"{anomalies}/{n}.json" for n in ANOMALIES}
    return found
