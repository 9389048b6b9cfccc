"""Windows and thresholds of the monitoring, from the environment.

The fields of each family start with its name, and are called after that as the thresholds of the
family's module are (`MonitoringSettings.of`). They are named here and not there, so that a job that
only asks whether an artefact is up to date does not import what computes it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from velib_core.settings.env import (
    as_flag,
    as_horizons,
    as_text,
    count_between,
    number_between,
    read,
    setting,
)

if TYPE_CHECKING:
    from velib_core.timeline.bins import HorizonMinutes

_DAYS = count_between(1, 366)
_MINUTES = number_between(0, 1e6)
_PERCENT = number_between(0, 100)
_SIZE = count_between(1, 1_000_000)


def _groups(name: str, raw: str) -> int | None:
    return count_between(1, 24)(name, raw) if raw else None


@dataclasses.dataclass(frozen=True)
class MonitoringSettings:
    """How far back each family looks, and when it calls something bad."""

    health_days: int = setting("MON_LAST_DAYS", "14", _DAYS, "Data health: complete local days")
    health_fresh_slo_min: float = setting(
        "DATA_HEALTH_FRESH_SLO_MIN", "5", _MINUTES, "Oldest report of 95% of the stations, minutes"
    )
    health_compl_alert_pct: float = setting(
        "DATA_HEALTH_COMPL_ALERT_PCT", "98", _PERCENT, "Coverage below which there is an alert, %"
    )
    health_dup_alert_pct: float = setting(
        "DATA_HEALTH_DUP_ALERT_PCT", "1", _PERCENT, "Repeated rows from which there is an alert, %"
    )
    health_flat_steps: int = setting(
        "DATA_HEALTH_FLAT_STEPS", "288", _SIZE, "Bins without a change that make a plateau"
    )
    health_lat_max_min: float = setting(
        "DATA_HEALTH_LAT_MAX_MIN", "4320", _MINUTES, "Report lags are capped here, minutes"
    )
    health_active_min_frac: float = setting(
        "DATA_HEALTH_ACTIVE_MIN_FRAC",
        "0",
        number_between(0, 1),
        "Coverage of active stations: least share of the window between first and last bin",
    )
    health_weighted: bool = setting(
        "DATA_HEALTH_WEIGHTED",
        "0",
        as_flag,
        "1 weighs a station's coverage between its first and last bin by how long that is",
    )
    health_topk: int = setting("DATA_HEALTH_ANOM_TOPK", "200", _SIZE, "Anomalies listed of a kind")
    drift_days: int = setting("MON_LAST_DAYS", "14", _DAYS, "Data drift: complete local days")
    drift_reference_days: int = setting(
        "MON_REF_DAYS", "28", _DAYS, "Data drift: days before those, to compare with"
    )
    drift_psi_medium: float = setting(
        "DRIFT_PSI_MEDIUM", "0.10", number_between(0, 100), "PSI from which drift is an alert"
    )
    drift_psi_high: float = setting(
        "DRIFT_PSI_HIGH", "0.25", number_between(0, 100), "PSI from which drift is a high alert"
    )
    performance_days: int = setting(
        "MON_LAST_DAYS PERF_LAST_DAYS", "14", _DAYS, "Model performance: complete local days"
    )
    performance_horizons: tuple[HorizonMinutes, ...] = setting(
        "MON_HORIZONS PERF_HORIZONS FORECAST_HORIZONS",
        "15,60",
        as_horizons,
        "Model performance: horizons, minutes",
    )
    performance_min_lift: float = setting(
        "PERF_MIN_LIFT", "0", number_between(-1e6, 1), "Lift below which there is an alert"
    )
    performance_min_coverage_pct: float = setting(
        "PERF_MIN_COVERAGE_PCT", "95", _PERCENT, "Share of forecasts below which there is an alert"
    )
    performance_min_points: int = setting(
        "PERF_TS_MIN_POINTS", "24", _SIZE, "Points of a day that make a station's series drawable"
    )
    performance_clusters: str = setting(
        "PERF_CLUSTERS_CSV",
        "",
        as_text,
        "CSV of station_id,cluster below the exports: by_cluster.json is made with it",
    )
    explain_days: int = setting(
        "MON_LAST_DAYS EXPLAIN_WINDOW_DAYS", "10", _DAYS, "Explainability: complete local days"
    )
    explain_horizons: tuple[HorizonMinutes, ...] = setting(
        "MON_HORIZONS EXPLAIN_HORIZONS PERF_HORIZONS FORECAST_HORIZONS",
        "15,60",
        as_horizons,
        "Explainability: horizons, minutes",
    )
    explain_qq_points: int = setting(
        "EXPLAIN_QQ_POINTS", "512", _SIZE, "Points of the quantile plot"
    )
    explain_acf_lags: int = setting(
        "EXPLAIN_ACF_NLAGS", "144", _SIZE, "Longest lag of the residuals' autocorrelation, bins"
    )
    explain_episodes_topk: int = setting(
        "EXPLAIN_EPISODES_TOPK", "64", _SIZE, "Runs of misses that are listed"
    )
    explain_pi_nominal: float = setting(
        "EXPLAIN_PI_NOMINAL", "0.90", number_between(0.01, 0.999), "Coverage of the interval"
    )
    explain_features_topk: int = setting(
        "EXPLAIN_FI_TOPK_TO_PUBLISH", "60", _SIZE, "Features that are listed"
    )
    overview_window_days: int = setting(
        "MON_LAST_DAYS OVERVIEW_LAST_DAYS", "7", _DAYS, "Network overview: complete local days"
    )
    overview_reference_days: int = setting(
        "MON_REF_DAYS OVERVIEW_REF_DAYS", "28", _DAYS, "Network overview: days of the usual curve"
    )
    stations_days: int = setting(
        "MON_LAST_DAYS NETWORK_WINDOW_DAYS", "14", _DAYS, "Network stations: complete local days"
    )
    stations_min_bins: int = setting(
        "MIN_BINS_KEEP", "50", _SIZE, "Observations that make a station's profile"
    )
    stations_k: int | None = setting("NETWORK_K", "", _groups, "Groups of stations; empty: chosen")
    stations_k_min: int = setting("NETWORK_K_MIN", "4", count_between(2, 24), "Fewest groups")
    stations_k_max: int = setting("NETWORK_K_MAX", "8", count_between(2, 24), "Most groups")
    dynamics_days: int = setting("MON_LAST_DAYS", "7", _DAYS, "Dynamics: complete local days")
    intro_forecast_ok_min: float = setting(
        "INTRO_LED_FC_OK_MIN", "7", _MINUTES, "A forecast is fresh up to so many minutes"
    )
    intro_forecast_warn_min: float = setting(
        "INTRO_LED_FC_WARN_MIN", "20", _MINUTES, "A forecast is no longer shown as good after"
    )
    intro_weather_ok_min: float = setting(
        "INTRO_LED_FRESH_OK_MIN", "30", _MINUTES, "The weather is fresh up to so many minutes"
    )
    intro_weather_warn_min: float = setting(
        "INTRO_LED_FRESH_WARN_MIN", "90", _MINUTES, "The weather is too old after"
    )

    silence_max_min: float = setting(
        "FEED_SILENCE_MIN", "30", _MINUTES, "Minutes without a snapshot that are an alert"
    )

    @classmethod
    def defaults(cls) -> MonitoringSettings:
        """Return what an empty environment means."""
        return cls(**read(cls, {}))

    def of(self, family: str, *, but: tuple[str, ...] = ("days",)) -> dict[str, Any]:
        """Return a family's settings under the names of its thresholds."""
        start = f"{family}_"
        found = {
            field.name.removeprefix(start): getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name.startswith(start)
        }
        return {name: value for name, value in found.items() if name not in but}
