"""Backtest: train on what precedes a day, then forecast every bin from it as serving would have.

The model stays fixed; profiles and blend weights are refreshed as each day closes, as the
deployed chain does. A row is forecast where the station was observed in service (not closed, with
docks) and its bikes exactly a horizon later are known; metrics are over those rows.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from velib_core.errors import InvalidValueError
from velib_core.features.profiles import empty_profiles, update_with_day
from velib_core.model.evaluation import errors_of
from velib_core.model.inference import blend_with_persistence, class_probabilities, free_docks
from velib_core.model.training import TrainingOptions, calibrate_day, rows_of_day, train
from velib_core.tables.panel import (
    STATION_VARIABLES,
    WEATHER_VARIABLES,
    Panel,
    bins_of,
    build_panel,
)
from velib_core.timeline.bins import (
    BIN_SECONDS,
    BINS_PER_DAY,
    Bin,
    Day,
    HorizonMinutes,
    day_after,
    day_of,
    first_bin,
    horizon_bins,
)
from velib_core.timeline.local_time import local_times as clock_of
from velib_local.simulation.observations import Observations, RecordingError, Understood

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from velib_core.model.pack import ModelPack

COLUMNS = (
    "ts_utc",
    "station_id",
    *STATION_VARIABLES,
    "status",
    "lat",
    "lon",
    "name",
    "last_reported_utc",
    *WEATHER_VARIABLES,
)

SMALLEST_TRAINING_DAYS = 3

PREDICTIONS = pa.schema(
    [
        ("station_id", pa.string()),
        ("tbin_utc", pa.timestamp("ns")),
        ("target_ts_utc", pa.timestamp("ns")),
        ("y_true", pa.int64()),
        ("y_base", pa.int64()),
        ("y_pred", pa.float32()),
        ("y_pred_int", pa.int64()),
        ("y_mean", pa.float32()),
        ("p_bike", pa.float32()),
        ("p_dock", pa.float32()),
        ("capacity", pa.int64()),
        ("docks_base", pa.int64()),
        ("docks_true", pa.int64()),
    ]
)


class BacktestError(InvalidValueError):
    """A recording that cannot be backtested: what is wrong with it and what was expected."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A recording on the grid, and the station table as its training part knew it."""

    panel: Panel
    past: Panel
    understood: Understood
    rows: int
    rows_without_station: int


@dataclasses.dataclass(frozen=True)
class BacktestResult:
    """Where the backtest's files are and its metrics, per horizon in minutes as a string."""

    out: Path
    metrics: dict[str, Any]


def run_backtest(
    source: Path,
    test_from: Day,
    horizons: Sequence[HorizonMinutes],
    out: Path,
    tz: str | None = None,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
    *,
    local_times: bool = False,
    opened: Callable[[str], None] = lambda _line: None,
) -> BacktestResult:
    """Backtest a recording and write predictions, metrics and a page of plots.

    Parameters
    ----------
    source
        A file as `velib_local.simulation.observations` reads it. Rows without a station or a bike
        count are dropped; of several snapshots in a bin the last one counts.
    test_from
        The first UTC day that is forecast; training uses the bins before its midnight.
    horizons
        Minutes ahead.
    out
        Folder for ``predictions_h{H}.parquet``, ``metrics.json`` and ``report.html``.
    tz
        IANA zone of the network; guessed from the stations' position when ``None``.
    local_times
        Whether times without a zone are those of ``tz`` and not UTC.
    opened
        Called with what was understood of the file, line by line, before training.
    progress
        Called with the current step and the share that is done.

    Raises
    ------
    BacktestError
        Where the file is no recording, or has too little before or nothing from ``test_from``.

    """
    progress("reading", 0.0)
    recorded = read_recording(source, test_from, (tz or "") if local_times else "", tz or "")
    zone = recorded.understood.tz
    for line in recorded.understood.lines():
        opened(line)
    evaluated = judgeable(recorded.panel, horizons)
    for minutes in set(horizons) - set(evaluated):
        step = recorded.understood.step_min
        opened(f"{minutes} min ahead cannot be evaluated: observations are {step} min apart")
    if not evaluated:
        raise BacktestError("horizons", list(horizons), "minutes that observations are apart")
    out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, Any] = {
        "source": source.name,
        "test_from": test_from.isoformat(),
        "tz": zone,
        "rows_read": recorded.rows,
        "rows_without_station": recorded.rows_without_station,
        "stations": len(recorded.panel.stations),
        "horizons": {},
    }
    tables = {}
    for number, minutes in enumerate(evaluated):

        def reported(what: str, share: float, done: int = number, horizon: int = minutes) -> None:
            progress(f"{horizon} min: {what}", (done + share) / len(evaluated))

        pack, table = forecast_from(recorded, test_from, minutes, zone, reported)
        if not table.num_rows:
            raise BacktestError(
                str(source), f"nothing to evaluate from {test_from}", f"bins {minutes} min apart"
            )
        pq.write_table(table, out / f"predictions_h{minutes}.parquet", compression="zstd")
        metrics["horizons"][str(minutes)] = metrics_of(table, zone) | {"model": dict(pack.about)}
        tables[minutes] = table
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    from velib_cli.backtest.report import report_page  # noqa: PLC0415 -- plotly is heavy

    (out / "report.html").write_text(report_page(metrics, tables, recorded.panel, zone))
    progress("done", 1.0)
    return BacktestResult(out, metrics)


def read_recording(source: Path, test_from: Day, local_zone: str = "", tz: str = "") -> Recorded:
    """Lay a recording on the grid; raise `BacktestError` where that is not possible."""
    try:
        observations = Observations(source, local_zone)
        understood = observations.understood(tz)
        table = pa.concat_tables(list(observations.tables(COLUMNS)))
    except RecordingError as error:
        raise BacktestError(error.field, error.value, error.expected) from error
    usable = table.filter(pc.and_(pc.is_valid(table["station_id"]), pc.is_valid(table["bikes"])))
    if not usable.num_rows:
        raise BacktestError(str(source), "no observation", "rows with a station and bikes")
    usable = usable.append_column("tbin_utc", usable["ts_utc"]).sort_by(
        [("ts_utc", "ascending"), ("station_id", "ascending"), ("bikes", "ascending")]
    )
    bins = bins_of(usable["tbin_utc"])
    start, stop = Bin(int(bins[0])), Bin(int(bins[-1]) + 1)
    split = first_bin(test_from)
    days_before = (test_from - day_of(start)).days
    if split >= stop:
        raise BacktestError(
            "test_from", test_from.isoformat(), f"a day until {day_of(Bin(stop - 1))}"
        )
    if days_before < SMALLEST_TRAINING_DAYS:
        raise BacktestError(
            "test_from",
            f"{test_from}, {max(days_before, 0)} days after the first observation",
            f"at least {SMALLEST_TRAINING_DAYS} days to train on",
        )
    before = usable.slice(0, int(np.searchsorted(bins, split)))
    return Recorded(
        build_panel([usable], start, stop),
        build_panel([before], start, split),
        understood,
        understood.rows,
        table.num_rows - usable.num_rows,
    )


def judgeable(panel: Panel, horizons: Sequence[HorizonMinutes]) -> list[HorizonMinutes]:
    """Return the horizons for which bins so far apart were observed."""
    seen: NDArray[np.bool_] = np.asarray(~np.isnan(panel["bikes"]).all(axis=1))
    return [m for m in horizons if (seen[horizon_bins(m) :] & seen[: -horizon_bins(m)]).any()]


def forecast_from(
    recorded: Recorded,
    test_from: Day,
    minutes: HorizonMinutes,
    tz: str,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
) -> tuple[ModelPack, pa.Table]:
    """Train before a day and forecast from it on.

    Returns the model and a table in `PREDICTIONS`, in order of bin, then station.
    """
    horizon = horizon_bins(minutes)
    panel, past = recorded.panel, recorded.past
    first, last = day_of(panel.start), day_of(Bin(panel.stop - 1))
    days = [day_after(first, n) for n in range((test_from - first).days)]
    pack = train(
        past.window, past.stations, days, horizon, tz, TrainingOptions(), lambda s: progress(s, 0.1)
    )
    profiles = empty_profiles(tz, (horizon,))
    for day in days:
        profiles = update_with_day(profiles, past, day)
    calibration = pack.calibration
    parts = []
    tested = (last - test_from).days + 1
    for number in range(tested):
        day = day_after(test_from, number)
        progress(f"forecasting {day}", 0.6 + 0.4 * number / tested)
        for start in range(first_bin(day), first_bin(day) + BINS_PER_DAY, BINS_PER_DAY // 4):
            at = np.arange(start, start + BINS_PER_DAY // 4)
            rows = rows_of_day(panel, at, horizon, pack.static_features, profiles)
            if len(rows.bins):
                probability = class_probabilities(pack, rows.features)
                found = blend_with_persistence(
                    pack, calibration, probability, rows.bikes, rows.capacity, rows.docks
                )
                later = np.asarray(
                    free_docks(panel.window(Bin(start + horizon), Bin(int(at[-1]) + 1 + horizon)))
                )
                columns = (
                    panel.stations.ids[rows.station].tolist(),
                    rows.bins * BIN_SECONDS * 1_000_000_000,
                    (rows.bins + horizon) * BIN_SECONDS * 1_000_000_000,
                    rows.target.astype(np.int64),
                    rows.bikes.astype(np.int64),
                    found.median,
                    found.rounded.astype(np.int64),
                    found.mean,
                    found.p_bike,
                    pa.array(found.p_dock, mask=np.isnan(found.p_dock)),
                    rows.capacity.astype(np.int64),
                    _rounded(rows.docks),
                    _rounded(later[rows.bins - start, rows.station]),
                )
                arrays = [pa.array(c, f.type) for c, f in zip(columns, PREDICTIONS, strict=True)]
                parts.append(pa.table(arrays, schema=PREDICTIONS))
        calibration = calibrate_day(pack, calibration, panel.window, day, profiles)
        profiles = update_with_day(profiles, panel, day)
    return pack, pa.concat_tables(parts) if parts else PREDICTIONS.empty_table()


def _rounded(docks: NDArray[np.float32]) -> pa.Array:
    known = ~np.isnan(docks)
    return pa.array(np.where(known, docks, 0).astype(np.int64), mask=~known)


def metrics_of(table: pa.Table, tz: str) -> dict[str, Any]:
    """Return the metrics of a table of `PREDICTIONS`.

    ``overall``, ``by_hour`` (local hour of the origin), ``by_station_size`` (thirds of capacity)
    and ``by_day`` (UTC) each with ``n``, ``mae``, ``mae_persistence``, ``mae_lift``, ``rmse``
    (of the mean), ``rmse_persistence``, ``rmse_lift``; lifts are shares, 0.05 is 5%, null where
    persistence makes no error. ``p_bike``, ``p_dock``: Brier score, that of persistence, and
    reliability by tenths, ``p_dock`` null where docks are unknown. Free docks are those
    stated, else capacity less bikes.
    """
    true, base = (table[name].to_numpy().astype(np.float64) for name in ("y_true", "y_base"))
    rounded, mean = (table[name].to_numpy().astype(np.float64) for name in ("y_pred_int", "y_mean"))

    def scores(of: NDArray[np.bool_]) -> dict[str, Any]:
        return errors_of(true[of], base[of], rounded[of], mean[of]).as_json()

    bins = table["tbin_utc"].cast(pa.int64()).to_numpy() // (BIN_SECONDS * 1_000_000_000)
    hour = clock_of(bins, tz).minute // 60
    capacity = table["capacity"].to_numpy()
    low, high = np.quantile(capacity, [1 / 3, 2 / 3])
    size = np.select([capacity <= low, capacity <= high], ["small", "medium"], "large")
    day = np.array(
        [day_of(Bin(int(b))).isoformat() for b in np.unique(bins // BINS_PER_DAY) * BINS_PER_DAY]
    )
    day_index = np.unique(bins // BINS_PER_DAY, return_inverse=True)[1]
    return {
        "overall": scores(np.ones(len(true), bool)),
        "by_hour": {str(h): scores(hour == h) for h in range(24) if (hour == h).any()},
        "by_station_size": {
            name: scores(size == name)
            for name in ("small", "medium", "large")
            if (size == name).any()
        },
        "by_day": {str(name): scores(day_index == i) for i, name in enumerate(day)},
        "p_bike": _probability(table["p_bike"].to_numpy(), base >= 1, true >= 1),
        "p_dock": _probability_of_dock(table),
    }


def _probability_of_dock(table: pa.Table) -> dict[str, Any] | None:
    known = table.select(["p_dock", "docks_base", "docks_true"]).drop_null()
    if not known.num_rows:
        return None
    base, true = (known[name].to_numpy() >= 1 for name in ("docks_base", "docks_true"))
    return _probability(known["p_dock"].to_numpy(), base, true)


def _probability(
    stated: NDArray[np.float32], now: NDArray[np.bool_], true: NDArray[np.bool_]
) -> dict[str, Any]:
    stated = stated.astype(np.float64)
    tenth = np.minimum((stated * 10).astype(np.int64), 9)
    return {
        "brier": float(((stated - true) ** 2).mean()),
        "brier_persistence": float((now != true).mean()),
        "reliability": [
            {
                "n": int((tenth == i).sum()),
                "stated": float(stated[tenth == i].mean()),
                "observed": float(true[tenth == i].mean()),
            }
            for i in range(10)
            if (tenth == i).any()
        ],
    }
