"""Network stations: how each station lives through the day, and which ones live alike.

A station's profile is its mean occupancy at each local hour. Stations are grouped by the *shape*
of their profiles (each profile less its own mean): a station that fills in the morning differs
from one that empties, however full either is.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from velib_core.monitoring.documents import (
    Documents,
    RunMetadata,
    Status,
    StockoutBounds,
    clock,
    partly,
    status_of_days,
    with_manifest,
)
from velib_core.monitoring.panels import name_of, to_grid
from velib_core.monitoring.stats import nan_stats

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa
    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.windows import LocalDays

    Floats = NDArray[np.float64]

VERSION = "1.2"

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

_VARIABLES = ("bikes", "capacity", "occ_ratio", "is_penury", "is_saturation")

HOURS = 24
LABELS = [clock(60 * hour) for hour in range(HOURS)]
SEED = 42
RESTARTS = 10
SCORED_STATIONS = 5000
"""Of a larger network so many stations stand for all where numbers of groups are compared: a
silhouette looks at every pair."""

CHANGE_BINS = 3
"""Changes of occupancy are taken over 15 minutes."""


@dataclasses.dataclass(frozen=True)
class StationsThresholds:
    """Which stations are grouped, and into how many groups.

    ``min_bins`` observations with a known occupancy make a profile. ``k`` forces the number of
    groups; else the best silhouette within ``k_min … k_max`` decides (from 4 on: two groups
    always win by the silhouette and only separate morning from evening).
    """

    min_bins: int = 50
    k: int | None = None
    k_min: int = 4
    k_max: int = 8


class _Profiles(NamedTuple):
    """Stations with enough observations: their columns in the panel and what they look like.

    ``profile`` is ``float64[n, 24]``, NaN for an hour never observed; ``shape`` the same less
    each station's mean, 0 there.
    """

    columns: NDArray[np.int64]
    profile: Floats
    shape: Floats


class _Groups(NamedTuple):
    """The group of each profile (−1 where there are none) and how well they are apart."""

    label: NDArray[np.int64]
    k: int | None
    silhouette: float | None
    davies_bouldin: float | None
    reason: str | None


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    run_metadata: RunMetadata,
    thresholds: StationsThresholds | None = None,
    bounds: StockoutBounds | None = None,
) -> Documents:
    """Make the documents of ``network/stations``.

    Parameters
    ----------
    tables
        Observations tables with `COLUMNS`, one per day, in time order.
    window
        Complete local days.

    """
    limits, bounds = thresholds or StationsThresholds(), bounds or StockoutBounds()
    panel = to_grid(tables, window.start, window.stop, _VARIABLES)
    profiles = _profiles(panel, window, limits)
    groups = _group(profiles.shape, limits)
    head = run_metadata.head(VERSION)
    axes, shares, scores = _components(profiles.shape)
    bodies: dict[str, dict[str, Any]] = {
        "kpis": {
            "n_stations": len(profiles.columns),
            "k_effective": groups.k,
            "silhouette": groups.silhouette,
            "davies_bouldin": groups.davies_bouldin,
            "window_days": len(window.days),
            "reason": groups.reason,
        },
        "centroids": {"x_labels": LABELS, "centroids": _centroids(profiles.profile, groups)},
        "pca_scatter": {
            "var_ratio": shares,
            "points": _points(panel, profiles, groups, scores),
        },
        "pca_circle": {"feature_names": LABELS, "components": axes, "var_ratio": shares},
        "stats7": {"rows": _stats(panel, profiles, groups)},
    }
    documents = {f"{name}.json": head | body for name, body in bodies.items()}
    return with_manifest(
        documents,
        run_metadata,
        VERSION,
        status=_status(panel, window, groups),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits, bounds),
    )


def _status(panel: Panel, window: LocalDays, groups: _Groups) -> Status:
    seen = np.isfinite(panel["bikes"])
    status = status_of_days(window.days_with(seen), len(window.days))
    return partly(status, [groups.reason] if groups.reason else [])


def _profiles(panel: Panel, window: LocalDays, limits: StationsThresholds) -> _Profiles:
    occ = panel["occ_ratio"]
    filled = np.isfinite(occ)
    columns = np.flatnonzero(filled.sum(axis=0) >= limits.min_bins)
    hours = window.local().minute // 60
    profile = np.full((len(columns), HOURS), np.nan)
    for hour in range(HOURS):
        at = hours == hour
        here = filled[at][:, columns]
        total = np.where(here, np.clip(occ[at][:, columns], 0, 1), 0).sum(axis=0, dtype=np.float64)
        count = here.sum(axis=0)
        np.divide(total, count, out=profile[:, hour], where=count > 0)
    there = np.isfinite(profile)
    level = np.where(there, profile, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    shape = np.where(there, profile - level[:, None], 0)
    return _Profiles(columns, profile, shape)


def _group(shape: Floats, limits: StationsThresholds) -> _Groups:
    """Cluster the shapes; groups are numbered by how much fuller they are by day than by night."""
    distinct = len(np.unique(shape.round(9), axis=0))
    wanted = [limits.k] if limits.k else list(range(limits.k_min, limits.k_max + 1))
    feasible = [k for k in wanted if 2 <= k <= min(distinct, len(shape) - 1)]
    if not feasible:
        label = np.zeros(len(shape), np.int64)
        reason = f"{distinct} distinct profiles, too few for {wanted[0]} groups"
        if limits.k == 1:
            reason = "one group was asked for"
        return _Groups(label, 1 if len(shape) else None, None, None, reason)
    from sklearn.cluster import KMeans  # noqa: PLC0415 -- a second to import
    from sklearn.metrics import davies_bouldin_score, silhouette_score  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 -- comes with scikit-learn

    # So little data is clustered faster by one thread than by several that wait for each other.
    with threadpool_limits(1):
        labels = [
            KMeans(k, n_init=RESTARTS, random_state=SEED).fit_predict(shape) for k in feasible
        ]
        sample = SCORED_STATIONS if len(shape) > SCORED_STATIONS else None
        scores = [
            float(silhouette_score(shape, label, sample_size=sample, random_state=SEED))
            for label in labels
        ]
    score = max(scores)
    label = labels[scores.index(score)]
    count = int(label.max()) + 1
    by_day = np.array([_day_less_night(shape[label == group]) for group in range(count)])
    rank = np.argsort(np.argsort(by_day, kind="stable"), kind="stable")
    apart = float(davies_bouldin_score(shape, label))
    return _Groups(rank[label], count, score, apart, None)


def _day_less_night(shape: Floats) -> float:
    return float(shape[:, 10:17].mean() - shape[:, 0:6].mean())


def _centroids(profile: Floats, groups: _Groups) -> list[dict[str, Any]]:
    """Return the mean profile of each group; one of nulls where there is no station."""
    if not len(profile):
        return [{"cluster": 0, "y": [None] * HOURS, "n": 0}]
    rows = []
    for group in range(groups.k or 1):
        members = profile[groups.label == group]
        there = np.isfinite(members)
        count = there.sum(axis=0)
        mean = np.divide(
            np.where(there, members, 0).sum(axis=0),
            count,
            out=np.full(HOURS, np.nan),
            where=count > 0,
        )
        rows.append({"cluster": group, "y": mean, "n": len(members)})
    return rows


def _components(shape: Floats) -> tuple[Floats | None, Floats | None, Floats | None]:
    """Return the first two principal axes, their shares of variance, and each station's scores.

    An axis points to where its largest loading is positive. All ``None`` for fewer than three
    stations or no variance.
    """
    centred = shape - shape.mean(axis=0) if len(shape) else shape
    if len(shape) < 3 or not centred.any():
        return None, None, None
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    return axes, singular[:2] ** 2 / (singular**2).sum(), centred @ axes.T


def _points(
    panel: Panel, profiles: _Profiles, groups: _Groups, scores: Floats | None
) -> list[dict[str, Any]]:
    if scores is None:
        return []
    return [
        {
            "station_id": str(panel.stations.ids[column]),
            "name": name_of(panel.stations, column),
            "cluster": int(group),
            "PC1": float(score[0]),
            "PC2": float(score[1]),
        }
        for column, group, score in zip(
            profiles.columns.tolist(), groups.label, scores, strict=True
        )
    ]


def _stats(panel: Panel, profiles: _Profiles, groups: _Groups) -> list[dict[str, Any]]:
    seen = np.isfinite(panel["bikes"])
    stations, observed = panel.stations, seen.sum(axis=0)
    group = dict(zip(profiles.columns.tolist(), groups.label.tolist(), strict=True))
    at = np.flatnonzero(seen.any(axis=1))
    # A network that is younger than the window is not blamed for the days before it.
    expected = panel.bins - int(at[0]) if len(at) else 0
    occ = np.clip(panel["occ_ratio"], 0, 1)
    spread, moves = nan_stats.std(occ), nan_stats.std(occ[CHANGE_BINS:] - occ[:-CHANGE_BINS])
    rated = np.isfinite(panel["is_penury"]).sum(axis=0)
    short = (panel["is_penury"] == 1).sum(axis=0)
    full = (panel["is_saturation"] == 1).sum(axis=0)
    capacity = nan_stats.median(panel["capacity"])
    rows = [
        {
            "station_id": str(stations.ids[s]),
            "name": name_of(stations, s),
            "lat": float(stations.lat[s]),
            "lon": float(stations.lon[s]),
            "capacity_est": float(capacity[s]),
            "volatility": float(spread[s]),
            "change_std_15min": float(moves[s]),
            "penury_rate": float(short[s] / rated[s]) if rated[s] else None,
            "saturation_rate": float(full[s] / rated[s]) if rated[s] else None,
            "coverage_pct": float(observed[s] / expected),
            "out_of_service_share": 1 - float(rated[s] / observed[s]),
            "bins": int(observed[s]),
            "cluster": group.get(s),
        }
        for s in np.flatnonzero(observed).tolist()
    ]
    return sorted(rows, key=lambda row: (-row["bins"], row["station_id"]))
