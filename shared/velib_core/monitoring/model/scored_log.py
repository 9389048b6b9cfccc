"""Score the forecast log: forecasts as published, against later observations.

The log holds every published forecast. Its *lead* is what a user had: from the bin in which
it was published to the bin it is about, which may be less than the horizon.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.monitoring.documents import percent, ratio
from velib_core.monitoring.panels import encode
from velib_core.tables.panel import bins_of
from velib_core.timeline.bins import BIN_MINUTES, BINS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from velib_core.monitoring.model.forecast_grid import Hindcasts
    from velib_core.timeline.bins import HorizonBins

FORECAST_LOG_COLUMNS = (
    "tbin_utc",
    "target_tbin_utc",
    "station_id",
    "horizon_bins",
    "y_pred",
    "y_pred_int",
    "y_mean",
    "p_bike",
    "p_dock",
    "model_version",
)
"""Columns of the forecast log: the bin of publication, the bin forecast, the forecast."""

_FIELDS = ("abs", "sq", "err", "base_abs", "base_sq", "mean_sq", "mean_n")
_BRIER = ("bike", "dock")


@dataclasses.dataclass
class LoggedForecastScores:
    """Sums over the scored forecasts of one horizon, as a whole and by lead in bins.

    A lead's sums are ``float64[4]``: forecasts, absolute and squared error, absolute error of
    persistence.
    """

    published: int = 0
    scored: int = 0
    sums: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(_FIELDS, 0.0))
    brier: dict[str, tuple[float, int]] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(_BRIER, (0.0, 0))
    )
    by_lead: dict[int, NDArray[np.float64]] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the figures under the names of the hindcast's."""
        n, sums = self.scored, self.sums
        return {
            "n": n,
            "n_published": self.published,
            "scored_pct": percent(n, self.published),
            "mae_model": ratio(sums["abs"], n),
            "rmse_model": (sums["sq"] / n) ** 0.5 if n else None,
            "me_model": ratio(sums["err"], n),
            "mae_baseline": ratio(sums["base_abs"], n),
            "rmse_baseline": (sums["base_sq"] / n) ** 0.5 if n else None,
            "lift_vs_baseline": ratio(sums["base_abs"] - sums["abs"], sums["base_abs"]),
            "rmse_mean": (sums["mean_sq"] / sums["mean_n"]) ** 0.5 if sums["mean_n"] else None,
            **{f"brier_{name}": ratio(*self.brier[name]) for name in _BRIER},
            "by_lead": [
                {
                    "lead_min": lead * BIN_MINUTES,
                    "n": int(count),
                    "mae_model": absolute / count,
                    "mae_baseline": base / count,
                    "rmse_model": (squared / count) ** 0.5,
                    "lift_vs_baseline": ratio(base - absolute, base),
                }
                for lead, (count, absolute, squared, base) in sorted(self.by_lead.items())
            ],
            "reason": None if n else "no published forecast could be scored",
        }


def score_forecast_log(
    tables: Iterable[pa.Table], laid_out: Mapping[HorizonBins, Hindcasts]
) -> dict[HorizonBins, LoggedForecastScores]:
    """Score published forecasts against the observations in the hindcasts' window.

    A forecast counts if its station was observed at publication (that is the baseline) and at
    the target. Forecasts published outside the window are left out.
    """
    scores = {h: LoggedForecastScores() for h in laid_out}
    for table in tables:
        horizon = np.asarray(table["horizon_bins"])
        for h, hindcasts in laid_out.items():
            _add(scores[h], table.filter(pa.array(horizon == h)), hindcasts)
    return scores


def _add(score: LoggedForecastScores, rows: pa.Table, hindcasts: Hindcasts) -> None:
    issued = bins_of(rows["tbin_utc"]) - hindcasts.window.start
    target = bins_of(rows["target_tbin_utc"]) - hindcasts.window.start
    forecast = _floats(rows, "y_pred_int")
    mine = (issued >= 0) & (issued < hindcasts.window.bins) & np.isfinite(forecast)
    score.published += int(mine.sum())
    station = _columns(rows, hindcasts)
    bikes = hindcasts.persistence
    mine &= (station >= 0) & (target >= 0) & (target < hindcasts.window.bins)
    issued, target, station, forecast = issued[mine], target[mine], station[mine], forecast[mine]
    truth, base = bikes[target, station], bikes[issued, station]
    known = np.isfinite(truth) & np.isfinite(base)
    truth, base, forecast = truth[known], base[known], forecast[known]
    error, base_error = truth - forecast, truth - base
    mean_error = truth - _floats(rows, "y_mean")[mine][known]
    has_mean = np.isfinite(mean_error)
    score.scored += len(truth)
    for name, values in (
        ("abs", np.abs(error)),
        ("sq", error**2),
        ("err", error),
        ("base_abs", np.abs(base_error)),
        ("base_sq", base_error**2),
        ("mean_sq", mean_error[has_mean] ** 2),
        ("mean_n", has_mean),
    ):
        score.sums[name] += float(values.sum())
    docks = hindcasts.docks[target, station][known]
    for name, outcome in (("bike", truth), ("dock", docks)):
        chance = _floats(rows, f"p_{name}")[mine][known]
        reported = np.isfinite(chance) & np.isfinite(outcome)
        loss, count = score.brier[name]
        happened = (outcome[reported] >= 1).astype(np.float64)
        loss += float(((chance[reported] - happened) ** 2).sum())
        score.brier[name] = loss, count + int(reported.sum())
    _add_leads(score, (target - issued)[known], error, base_error)


def _add_leads(
    score: LoggedForecastScores,
    lead: NDArray[np.int64],
    error: NDArray[np.floating],
    base_error: NDArray[np.floating],
) -> None:
    # A forecast is published after the observation it starts from, so its lead is at most a day.
    inside = (lead >= 0) & (lead <= BINS_PER_DAY)
    lead = lead[inside]
    columns = (np.abs(error), error**2, np.abs(base_error))
    sums = np.stack([np.bincount(lead), *(np.bincount(lead, c[inside]) for c in columns)])
    for value in np.flatnonzero(sums[0]).tolist():
        score.by_lead[value] = score.by_lead.get(value, np.zeros(len(sums))) + sums[:, value]


def _columns(rows: pa.Table, hindcasts: Hindcasts) -> NDArray[np.int64]:
    """Return the panel column of each row's station, −1 for one that was never observed."""
    ids, station = encode(rows["station_id"])
    known = {i: n for n, i in enumerate(hindcasts.ids.tolist())}
    return np.array([known.get(i, -1) for i in ids], np.int64)[station]


def _floats(rows: pa.Table, name: str) -> NDArray[np.float64]:
    column = pc.cast(rows[name], pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
