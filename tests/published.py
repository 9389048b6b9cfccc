"""A published network with known values, as the network page reads it; of any size."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from velib_cli.report.sources import Horizon, Sources
from velib_cli.report.value import LoggedDay
from velib_core.features.profiles import Profiles, empty_profiles, update_with_day
from velib_core.lake.lineage import LineageRecord
from velib_core.model.registry import ModelVersion
from velib_core.tables.panel import Panel, Stations
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    HorizonMinutes,
    bin_start,
    first_bin,
    horizon_bins,
    iso_z,
    parse_day,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

TZ = "Europe/Paris"
NEWEST = Bin(first_bin(parse_day("2025-11-07")) + 120)
"""10:00 UTC, 11:00 in Paris, of a Friday."""

STAMP = iso_z(bin_start(NEWEST))
YESTERDAY = parse_day("2025-11-06")
CAPACITY = 25
HORIZONS = (HorizonMinutes(15), HorizonMinutes(60))
TRICKY = "L’Été <b>&amp;</b> </script>"
"""A name that markup must not swallow."""


def sources(stations: int = 24, **changes: Any) -> Sources:
    """Return a network in which everything is published; ``changes`` replace fields."""
    panel = day_before(NEWEST, stations)
    made = Sources(
        network="essai",
        tz=TZ,
        horizons=[horizon(minutes, panel) for minutes in HORIZONS],
        panel=panel,
        profiles=profiles(panel),
        documents=network_documents(),
        coverage={YESTERDAY: (stations, [stations] * (BINS_PER_DAY - 12) + [0] * 12)},
        quarantined=1,
        quarantine=[{"source": "bronze/x.parquet", "reason": "not Parquet", "defects": 0}],
        lineage_records=lineage_records(),
        dead_letters=0,
        bike_shares={YESTERDAY: [80.0] * BINS_PER_DAY},
        logged=[logged_day(panel)],
    )
    return dataclasses.replace(made, **changes)


def nothing() -> Sources:
    """Return a network of which nothing is published."""
    horizons = [Horizon(minutes, None, {}, None, []) for minutes in HORIZONS]
    return Sources("neuf", TZ, horizons, None, None, {}, {}, 0, [], [], None)


def day_before(newest: Bin, stations: int) -> Panel:
    """Return 24 hours: station n has n % 20 bikes now, one more two to four hours ago, and so on.

    Station 1 misses six bins.
    """
    ids = np.array(sorted(str(1000 + n) for n in range(stations)), np.str_)
    names = np.array([f"Rue {n}" for n in range(stations)], object)
    names[0] = TRICKY
    turn = np.arange(stations) * 2.4
    away = 0.05 * np.sqrt(np.arange(stations) / stations)
    known = Stations(
        ids,
        names.astype(np.str_),
        48.86 + away * np.sin(turn),
        2.35 + away * np.cos(turn) * 1.5,
        np.full(stations, CAPACITY, np.float32),
    )
    bins = np.arange(newest - BINS_PER_DAY + 1, newest + 1)
    bikes = ((np.arange(stations) % 20)[None] + ((newest - bins) // 24 % 2)[:, None]).astype(
        np.float32
    )
    bikes[40:46, 1] = np.nan
    values = {"bikes": bikes, "docks_available": CAPACITY - bikes, "ok": np.ones_like(bikes)}
    return Panel(Bin(int(bins[0])), known, values, {})


def logged_day(panel: Panel) -> LoggedDay:
    """Return forecasts at every bin of half the day, one bike above what came; risks as below.

    Where a station ran empty within the horizon its risk was 0.6, else 0.1 or, of every tenth
    station, 0.4.
    """
    frames = []
    for minutes in HORIZONS:
        steps = horizon_bins(minutes)
        issued = np.arange(0, 144)
        truth = panel["bikes"][issued + steps]
        quiet = np.where(np.arange(len(panel.stations)) % 10 == 0, 0.6, 0.9)
        p_bike = np.where(truth < 1, 0.4, quiet[None])
        rows = truth.size
        stamps = np.repeat((panel.start + issued) * 300, truth.shape[1])
        frames.append(
            pa.table(
                {
                    "tbin_utc": pa.array(stamps, pa.timestamp("s")),
                    "target_tbin_utc": pa.array(stamps + steps * 300, pa.timestamp("s")),
                    "station_id": pa.array(np.tile(panel.stations.ids, len(issued))),
                    "horizon_bins": pa.array([steps] * rows, pa.int64()),
                    "y_pred_int": pa.array((truth + 1).ravel(), pa.float64(), from_pandas=True),
                    "p_bike": pa.array(p_bike.ravel()),
                    "p_dock": pa.array([0.95] * rows),
                }
            )
        )
    return LoggedDay(YESTERDAY, pa.concat_tables(frames), panel, None)


def profiles(panel: Panel) -> Profiles:
    """Return the profile of the day before, when the stations were as they are now."""
    before = dataclasses.replace(panel, start=Bin(panel.start - BINS_PER_DAY))
    empty = empty_profiles(TZ, [horizon_bins(minutes) for minutes in HORIZONS])
    return update_with_day(empty, before, parse_day("2025-11-05"))


def horizon(minutes: HorizonMinutes, panel: Panel) -> Horizon:
    """Return a horizon whose forecast for station n is its bikes and a half, sure of a bike."""
    record: dict[str, Any] = {
        "model_type": "xgb",
        "start_date": "2025-10-01",
        "end_date": "2025-10-31",
    }
    record |= {"feature_count": 98, "n_train": 5000, "built_at_utc": "2025-11-01T03:00:00Z"}
    record |= {"verdict": {"candidate": {"mae": 0.8, "mae_persistence": 0.9}}}
    live = ModelVersion(minutes, "20251031-235500Z-00000000", "2.0.1", record)
    older = ModelVersion(minutes, "20251024-235500Z-00000000", "2.0.0", record)
    return Horizon(minutes, forecast(minutes, panel), performance(minutes), live, [older, live])


def forecast(minutes: HorizonMinutes, panel: Panel) -> dict[str, Any]:
    target = iso_z(bin_start(NEWEST) + dt.timedelta(minutes=minutes))
    rows = []
    for n, station in enumerate(panel.stations.ids.tolist()):
        known = n != 2  # one station is closed and has no forecast
        bikes = float(panel["bikes"][-1, n])
        rows.append(
            {
                "station_id": station,
                "tbin_latest": STAMP,
                "target_ts_utc": target,
                "horizon_min": minutes,
                "bikes": int(bikes),
                "capacity_bin": CAPACITY,
                "bikes_pred": bikes + 0.5 if known else None,
                "bikes_pred_int": int(bikes) if known else None,
                "bikes_mean": bikes + 0.5 if known else None,
                "p_bike": 0.75 if known else None,
                "p_dock": 0.9 if known else None,
                "reason": None if known else "closed",
                "age_min": 0.0,
                "pred_ts_utc": STAMP,
                "model_version": "2.0.1",
            }
        )
    return {
        "schema_version": "1.0",
        "generated_at": STAMP,
        "horizon_min": minutes,
        "model_version": "2.0.1",
        "data": rows,
    }


def performance(minutes: HorizonMinutes) -> dict[str, Any]:
    """Return the performance documents of one horizon: the model wins by a tenth."""
    errors = {"mae_model": 0.9, "mae_baseline": 1.0, "coverage_pred_pct": 100.0, "n": 100}
    head = {"schema_version": "1.2", "generated_at": STAMP, "horizon_min": minutes}
    base = {"rmse_model": 1.4, "rmse_baseline": 1.5, "me_model": 0.0, "me_baseline": 0.0}
    base |= {"lift_vs_baseline": 0.1, "n_rows": 100, "n_stations": 24, "window_days": 14}
    span = {"ts_min_utc": "2025-11-05T23:00:00Z", "ts_max_utc": "2025-11-06T22:00:00Z"}
    logged_forecasts = errors | {"lift_vs_baseline": 0.1, "brier_bike": 0.02, "brier_dock": 0.01}
    del logged_forecasts["coverage_pred_pct"]
    daily = errors | {"rmse_model": 1.4, "rmse_baseline": 1.5, "lift_vs_baseline": 0.1}
    stamps = [iso_z(bin_start(Bin(first_bin(YESTERDAY) + n))) for n in range(BINS_PER_DAY)]
    known = [n % 9 for n in range(BINS_PER_DAY)]
    return {
        "kpis.json": head | errors | base | span | {"served": logged_forecasts},
        "by_hour.json": head | {"rows": [{"hour": h} | errors for h in range(24)]},
        "daily_metrics.json": head
        | {"rows": [{"date": f"2025-11-0{day}"} | daily for day in (4, 5, 6)]},
        "hist_residuals.json": head
        | {"bins": [-1.5, -0.5, 0.5, 1.5], "counts": [1, 8, 1], "n": 10},
        "station_timeseries.json": {
            "schema_version": "1.2",
            "generated_at": STAMP,
            "h": minutes,
            "station_id": "1003",
            "name": "Rue 3",
            "tz": TZ,
            "ts": stamps,
            "y_true": known,
            "y_pred": known[::-1],
            "y_base": known,
        },
    }


def network_documents() -> dict[str, object]:
    """Return the monitoring documents of the network, by family and name."""
    led = {"led": "ok", "age_min": 0.0, "source_generated_at": STAMP, "valid_until": STAMP}
    clocks = [f"{hour:02}:00" for hour in range(24)]
    alert = {"level": "high", "code": "coverage", "text": "95.83% of …", "artefact": "kpis.json"}
    health = {"status": "ok", "reason": None, "alerts": [alert | {"value": 95.83, "threshold": 98}]}
    return {
        "intro/intro.json": {"statuses": {"api_stations": led, "batch_forecast_h15": led}},
        "network/overview/kpis.json": {
            "stations_universe": 24,
            "stations_active": 23,
            "penury_pct": 12.5,
            "saturation_pct": 4.0,
        },
        "network/overview/today_curve.json": {
            "points": [{"hhmm": time, "pct": 90.0} for time in clocks[:11]]
        },
        "network/overview/ref_median_curve.json": {
            "median": [{"hhmm": time, "pct_median": 85.0} for time in clocks]
        },
        "data/freshness/freshness.json": {"now_utc": STAMP},
        "data/health/manifest.json": health,
        "data/health/kpis.json": {
            "coverage_global_pct": 95.83,
            "freshness_age_p95_min": 12.0,
            "report_lag_p95_min": 14.0,
            "dups_pct": 0.0,
            "missing_stations": 1,
            "stations": 24,
        },
        "data/health/station_health.json": [
            {"station_id": "1001", "name": "Rue 1", "coverage_pct": 97.9, "missing": 6},
            {"station_id": "1002", "name": "Rue 2", "coverage_pct": 100.0, "missing": 0},
        ],
        "data/drift/manifest.json": {"status": "ok", "reason": None, "alerts": []},
        "data/drift/summary.json": {
            "psi_global": 0.05,
            "thresholds": {"medium": 0.1, "high": 0.25},
        },
        "data/drift/psi_by_feature.json": [
            {"feature": "temp_C", "psi": None, "reason": "too few values"},
            {"feature": "bikes", "psi": 0.05, "reason": None},
            {"feature": "ebike", "psi": 0.2, "reason": None},
        ],
        "data/drift/psi_global_daily_ema.json": [
            {"date_local": "2025-11-05", "psi": 0.04, "psi_ema": 0.04},
            {"date_local": "2025-11-06", "psi": 0.06, "psi_ema": 0.05},
        ],
        "model/performance/manifest.json": {"status": "ok", "reason": None, "alerts": []},
        "intro/manifest.json": {
            "generated_at": STAMP,
            "alerts": [
                {"level": "medium", "code": "flat", "text": "2 plateaus", "artefact": "x.json"}
            ],
        },
    }


def lineage_records() -> list[LineageRecord]:
    """Return what three events made, and one object that nobody noted."""
    cause = "bronze/date=2025-11-07/hour=10/2025-11-07T10-00.parquet"
    return [
        LineageRecord(
            "daily/compact_2025-11-06.parquet",
            "2025-11-07T00:01:00Z",
            9,
            "compact_daily",
            "DayClosed",
            "1",
            2.0,
        ),
        LineageRecord(
            "exports/events_2025-11-06.parquet",
            "2025-11-07T00:02:00Z",
            9,
            "build_datasets",
            "daily/compact_2025-11-06.parquet",
            "2",
            1.5,
        ),
        LineageRecord(
            "serving/forecast/latest/h15/forecast.json",
            "2025-11-07T10:00:03Z",
            9,
            "build_serving_forecast",
            cause,
            "3",
            0.6,
        ),
        LineageRecord(
            "serving/forecast/latest/manifest.json",
            "2025-11-07T10:00:04Z",
            9,
            None,
            None,
            None,
            None,
        ),
    ]


def documents_by_path(of: Sources) -> Mapping[str, object]:
    """Return the documents that claim to be whole, by the path that the contract gives them."""
    found = {}
    for part in of.horizons:
        found[f"serving/forecast/latest/h{part.minutes}/forecast.json"] = part.forecast
        for name, document in part.performance.items():
            found[f"monitoring/model/performance/latest/h{part.minutes}/{name}"] = document
    return found
