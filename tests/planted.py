"""A small network with planted facts: its observations, evaluations and forecast log.

Between 5 and 15 bikes of 20 docks come and go at every ordinary station, so that nothing happens
there that monitoring should flag.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from velib_core.monitoring.documents import RunMetadata
from velib_core.tables import snapshot, views
from velib_core.tables.panel import build_panel
from velib_core.timeline.bins import BINS_PER_DAY, Bin, HorizonBins, bin_start, first_bin, parse_day

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

TZ = "Europe/Paris"
HORIZONS = [HorizonBins(3), HorizonBins(12)]
GENERATED = dt.datetime(2025, 11, 20, 3, 4, 5, tzinfo=dt.UTC)


def run_metadata(family: str) -> RunMetadata:
    """Return run metadata as a job would make it."""
    root = "gs://bucket/velib"
    return RunMetadata(
        GENERATED, TZ, f"{root}/monitoring/{family}/latest", f"{root}/exports", {"exports/x": 7}
    )


@dataclasses.dataclass
class Network:
    """Observations of whole UTC days: ``frame`` in the columns of a daily, in any order."""

    first: dt.date
    days: int
    frame: pd.DataFrame

    @property
    def start(self) -> Bin:
        return first_bin(parse_day(self.first.isoformat()))

    def at(self, day: int, hour: float) -> pd.Timestamp:
        """Return a UTC time of the n-th day."""
        return pd.Timestamp(self.first) + pd.Timedelta(days=day, hours=hour)

    def rows(self, station: str, start: pd.Timestamp, stop: pd.Timestamp) -> pd.Series:
        """Select a station's observations in ``[start, stop)``."""
        times = self.frame["tbin_utc"]
        return (self.frame["station_id"] == station) & (times >= start) & (times < stop)

    def daily(self, day: int) -> pa.Table:
        start = self.at(day, 0)
        inside = (self.frame["tbin_utc"] >= start) & (
            self.frame["tbin_utc"] < start + pd.Timedelta(days=1)
        )
        frame = self.frame[inside].sort_values(["tbin_utc", "station_id"])
        columns = {}
        for field in snapshot.SCHEMA:
            values = frame[field.name] if field.name in frame else [None] * len(frame)
            columns[field.name] = pa.array(values, from_pandas=True).cast(field.type)
        return pa.table(columns, schema=snapshot.SCHEMA)

    def events(self, day: int) -> pa.Table:
        return views.observations_table(self.daily(day), penury_bikes=2, saturation_docks=2)

    def all_events(self, columns: Iterable[str] | None = None) -> list[pa.Table]:
        """Return every day's events, of the columns that a family reads."""
        tables = [self.events(day) for day in range(self.days)]
        return [t.select(list(columns)) if columns else t for t in tables]

    def events_frame(self) -> pd.DataFrame:
        """Return all events for an independent computation, with local times."""
        frame: pd.DataFrame = pa.concat_tables(self.all_events()).to_pandas()
        local = frame["tbin_utc"].dt.tz_localize("UTC").dt.tz_convert(TZ)
        return frame.assign(
            local=local, date=local.dt.date, hour=local.dt.hour, dow=local.dt.day_of_week
        )

    def perf(self, day: int, forecast: Any = None) -> pa.Table:
        """Return a day's evaluations; ``forecast(horizon, truth, bikes)`` makes the hindcast."""
        tables = [self.daily(d) for d in (day, day + 1) if d < self.days]
        start = Bin(self.start + day * BINS_PER_DAY)
        stop = Bin(start + BINS_PER_DAY + max(HORIZONS))
        panel = build_panel(tables, start, stop, variables=("bikes", "capacity"))
        forecast_tables = {}
        for h in HORIZONS if forecast else []:
            truth, bikes = panel["bikes"][h : h + BINS_PER_DAY], panel["bikes"][:BINS_PER_DAY]
            median = np.asarray(forecast(h, truth, bikes), np.float32)
            forecast_tables[h] = views.Hindcast(
                "2.1.0", median, np.rint(median), median + 0.1, np.abs(truth - median)
            )
        return views.evaluation_table(
            panel, parse_day(self.at(day, 0).date().isoformat()), HORIZONS, forecast_tables
        )

    def all_perf(self, forecast: Any = None) -> list[pa.Table]:
        return [self.perf(day, forecast) for day in range(self.days)]


def network(first: str = "2025-10-20", days: int = 9, stations: int = 8, seed: int = 1) -> Network:
    """Return an ordinary network; its stations are ``s0``, ``s1``, ….

    Bikes follow the local hour and move by chance; every station changes about every other bin.
    """
    rng = np.random.default_rng(seed)
    times = pd.date_range(first, periods=days * BINS_PER_DAY, freq="5min")
    hour = times.tz_localize("UTC").tz_convert(TZ).hour.to_numpy()
    frames = []
    for s in range(stations):
        wave = 2.5 * np.sin((hour - 3 * (s % 3)) * 2 * np.pi / 24)
        bikes = np.clip(np.rint(10 + wave + rng.normal(0, 1.2, len(times))), 5, 15)
        frames.append(
            pd.DataFrame(
                {
                    "tbin_utc": times,
                    "ts_utc": times + pd.Timedelta(seconds=30),
                    "station_id": f"s{s}",
                    "bikes": bikes.astype("int64"),
                    "capacity": 20,
                    "mechanical": (bikes // 2).astype("int64"),
                    "ebike": (bikes - bikes // 2).astype("int64"),
                    "status": "OK",
                    "lat": 48.85 + 0.004 * s,
                    "lon": 2.35,
                    "name": f"Station {s}",
                    "temp_C": 10
                    + 4 * np.sin((hour - 9) * 2 * np.pi / 24)
                    + rng.normal(0, 0.5, 1)[0],
                    "precip_mm": np.where(hour == 5, 0.4, 0.0),
                    "wind_mps": 3.0 + 0.1 * (hour % 5),
                    "last_reported_utc": times - pd.Timedelta(minutes=1),
                    "docks_available": (20 - bikes).astype("int64"),
                    "is_installed": 1,
                    "is_renting": 1,
                    "is_returning": 1,
                }
            )
        )
    return Network(dt.date.fromisoformat(first), days, pd.concat(frames, ignore_index=True))


def forecast(horizon: int, truth: NDArray[Any], bikes: NDArray[Any]) -> NDArray[Any]:
    """Return forecasts half way between persistence and the truth; persistence where unknown."""
    del horizon
    return np.where(np.isfinite(truth), 0.5 * (truth + bikes) + 0.05, bikes)


def forecast_log(perf: pa.Table, lead_loss: int = 1) -> pa.Table:
    """Return the published forecasts: those of the evaluations, ``lead_loss`` bins late."""
    frame = perf.to_pandas()
    frame = frame[frame["y_pred_int"].notna()]
    issued = frame["tbin_utc"] + pd.to_timedelta(5 * lead_loss, unit="min")
    target = frame["tbin_utc"] + pd.to_timedelta(5 * frame["horizon_bins"], unit="min")
    columns = {
        "tbin_utc": issued,
        "target_tbin_utc": target,
        "station_id": frame["station_id"],
        "horizon_bins": frame["horizon_bins"],
        "y_pred": frame["y_pred"],
        "y_pred_int": frame["y_pred_int"],
        "y_mean": frame["y_mean"],
        "p_bike": 0.9,
        "p_dock": 0.8,
        "model_version": "2.1.0",
    }
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def after(net: Network, minutes: float = 10) -> dt.datetime:
    """Return an instant shortly after the last day."""
    end = bin_start(Bin(net.start + net.days * BINS_PER_DAY))
    return end + dt.timedelta(minutes=minutes)
