"""Backtest: train on what precedes a day, then forecast every bin from it as serving would have.

The model stays fixed; profiles and its calibration are refreshed as each day closes, as the
deployed chain does. It learns from and is tuned on the days before the test, and is evaluated on
the test. A row is forecast where the station was observed in service (not closed, with docks) and
its bikes exactly a horizon later are known; metrics are over those rows.
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
from velib_core.features.spatial_features import fit_static_features
from velib_core.model.evaluation import (
    Scored,
    dock_scores,
    errors_of,
    probability_scores,
    scored_rows,
)
from velib_core.model.rows import Walk
from velib_core.model.training import Split, calibrate_day, train
from velib_core.tables.panel import (
    STATION_VARIABLES,
    WEATHER_VARIABLES,
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
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from velib_core.model.inference import ForecastNumbers
    from velib_core.model.pack import ModelPack
    from velib_core.model.rows import Rows
    from velib_core.tables.panel import Panel, Stations
    from velib_core.timeline.bins import HorizonBins

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
        ("crps", pa.float32()),
        ("crps_climatology", pa.float32()),
    ]
)


SCORED_COLUMNS = (
    "y_true",
    "y_base",
    "y_pred_int",
    "y_mean",
    "p_bike",
    "p_dock",
    "docks_base",
    "docks_true",
    "crps",
    "crps_climatology",
)
"""The columns of predictions that make up a `Scored`, in its order."""


class BacktestError(InvalidValueError):
    """A recording that cannot be backtested: what is wrong with it and what was expected."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A recording on the grid; ``stations`` are as its training part knew them."""

    panel: Panel
    stations: Stations
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
    evaluated = evaluable(recorded.panel, horizons)
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
        build_panel([before], start, split, variables=()).stations,
        understood,
        understood.rows,
        table.num_rows - usable.num_rows,
    )


def evaluable(panel: Panel, horizons: Sequence[HorizonMinutes]) -> list[HorizonMinutes]:
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
    first, last = day_of(recorded.panel.start), day_of(Bin(recorded.panel.stop - 1))
    days = [day_after(first, n) for n in range((last - first).days + 1)]
    learnt, tested = ([d for d in days if (d < test_from) is before] for before in (True, False))
    walk = Walk(recorded.panel, horizon, tz)
    pack, _ = train(
        walk,
        fit_static_features(recorded.stations),
        Split.of(learnt, judged=False),
        progress=lambda what: progress(what, 0.1),
    )
    calibration = pack.calibration
    parts = []
    for number, past in enumerate(walk.over(tested)):
        progress(f"forecasting {past.day}", 0.6 + 0.4 * number / len(tested))
        at = first_bin(past.day) + np.arange(BINS_PER_DAY)
        for rows, numbers, scored in scored_rows(pack, calibration, walk, past, at):
            parts.append(predictions(past.panel.stations.ids, rows, horizon, numbers, scored))
        calibration = calibrate_day(pack, calibration, past)
    return pack, pa.concat_tables(parts) if parts else PREDICTIONS.empty_table()


def predictions(
    ids: NDArray[np.str_],
    rows: Rows,
    horizon: HorizonBins,
    numbers: ForecastNumbers,
    scored: Scored,
) -> pa.Table:
    """Return rows, their forecasts and scores in `PREDICTIONS`."""
    columns = {
        "station_id": ids[rows.station].tolist(),
        "tbin_utc": rows.bins * BIN_SECONDS * 1_000_000_000,
        "target_ts_utc": (rows.bins + horizon) * BIN_SECONDS * 1_000_000_000,
        "y_true": rows.target.astype(np.int64),
        "y_base": rows.bikes.astype(np.int64),
        "y_pred": numbers.median,
        "y_pred_int": numbers.rounded.astype(np.int64),
        "y_mean": numbers.mean,
        "p_bike": numbers.p_bike,
        "p_dock": numbers.p_dock,
        "capacity": rows.capacity.astype(np.int64),
        "docks_base": _integers(rows.docks),
        "docks_true": _integers(rows.docks_later),
        "crps": scored.crps.astype(np.float32),
        "crps_climatology": scored.crps_climatology.astype(np.float32),
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in PREDICTIONS], schema=PREDICTIONS)


def _integers(values: NDArray[np.float32]) -> pa.Array:
    unknown = np.isnan(values)
    return pa.array(np.where(unknown, 0, values).astype(np.int64), mask=unknown)


def metrics_of(table: pa.Table, tz: str) -> dict[str, Any]:
    """Return the metrics of a table of `PREDICTIONS`.

    ``overall``, ``by_hour`` (local hour of the origin), ``by_station_size`` (thirds of capacity)
    and ``by_day`` (UTC) each as `velib_core.model.evaluation.Errors.as_json`; lifts are shares,
    0.05 is 5%, null where persistence makes no error. ``worst_hour`` and ``worst_day`` are the
    least MAE lifts of those groups, ``stations`` how many there are and which share of them has a
    negative one. ``p_bike``, ``p_dock``: Brier score, that of persistence, and reliability by
    tenths, ``p_dock`` null where nothing is known of docks. Free docks are those stated, else
    capacity less bikes.
    """
    scored = Scored(*(_real(table[name]) for name in SCORED_COLUMNS))
    bins = table["tbin_utc"].cast(pa.int64()).to_numpy() // (BIN_SECONDS * 1_000_000_000)
    capacity = table["capacity"].to_numpy()
    size = np.digitize(capacity, np.quantile(capacity, [1 / 3, 2 / 3]), right=True)
    days, day = np.unique(bins // BINS_PER_DAY, return_inverse=True)
    names = [day_of(Bin(int(number) * BINS_PER_DAY)).isoformat() for number in days]
    by_hour = _groups(scored, clock_of(bins, tz).minute // 60, [str(h) for h in range(24)])
    by_day = _groups(scored, day, names)
    return {
        "overall": errors_of(scored).as_json(),
        "by_hour": by_hour,
        "by_station_size": _groups(scored, size, ["small", "medium", "large"]),
        "by_day": by_day,
        "worst_hour": _worst(by_hour),
        "worst_day": _worst(by_day),
        "stations": _by_station(table["station_id"], scored),
        "p_bike": probability_scores(scored.p_bike, scored.persistence >= 1, scored.true >= 1),
        "p_dock": dock_scores(scored),
    }


def _real(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.to_numpy(), np.float64)


def _groups(scored: Scored, label: NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """Return the errors of each group that has rows."""
    return {names[n]: errors_of(scored.of(label == n)).as_json() for n in np.unique(label).tolist()}


def _worst(groups: Mapping[str, Mapping[str, Any]]) -> float | None:
    lifts = [group["mae_lift"] for group in groups.values() if group["mae_lift"] is not None]
    return min(lifts, default=None)


def _by_station(ids: pa.ChunkedArray, scored: Scored) -> dict[str, Any]:
    station = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    errors, persistence = (
        np.bincount(station, np.abs(scored.true - forecast))
        for forecast in (scored.rounded, scored.persistence)
    )
    return {"n": len(errors), "negative_lift_share": float((errors > persistence).mean())}
