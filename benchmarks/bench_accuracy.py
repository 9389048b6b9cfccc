"""The accuracy of the forecasts on any recording, next to what a user would try first.

``python benchmarks/bench_accuracy.py RECORDING --test-from DAY`` trains on what precedes the day,
forecasts every bin from it on as serving would have, and prints one line a forecaster in the
columns of the model card. All are evaluated on the same rows:

- *persistence*: what is there now;
- *usual profile*: persistence plus what the station usually does over the horizon at this time;
- *LightGBM*: absolute error on the change, its defaults, on our features and learning rows (the
  histogram boosting of scikit-learn where LightGBM is not installed);
- *this model*, with blend weights and calibration refreshed as each day closes.

A learning curve (``--curve``) trains on the last 3, 7, 14 and 21 days before the test.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from velib_cli.backtest.backtest import (
    Recorded,
    metrics_of,
    predictions,
    read_recording,
)
from velib_core.features.spatial_features import fit_static_features
from velib_core.features.stack import FEATURES
from velib_core.model.evaluation import scored_rows
from velib_core.model.rows import Walk
from velib_core.model.training import Split, TrainingOptions, calibrate_day, train
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    Day,
    HorizonMinutes,
    day_after,
    day_of,
    first_bin,
    horizon_bins,
    parse_day,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray
    from velib_core.model.rows import Rows
    from velib_core.model.training import Training

CURVE_DAYS = (3, 7, 14, 21)
USUAL = FEATURES.index("profile_change")


class Outcome(NamedTuple):
    """Forecasts of one horizon: the table of the model, and the baselines' medians on its rows."""

    training: Training
    table: pa.Table
    baselines: dict[str, NDArray[np.float64]]
    seconds: float


def regressor(rows: Rows, threads: int) -> tuple[str, Callable[[NDArray[np.float32]], Any]]:
    """Return a booster that a user would try first, and its name."""
    change = rows.target - rows.bikes
    if importlib.util.find_spec("lightgbm"):
        import lightgbm  # noqa: PLC0415 -- not installed with the project

        model = lightgbm.LGBMRegressor(objective="l1", n_jobs=threads, verbose=-1)
        model.fit(rows.features, change)
        return "LightGBM", model.booster_.predict
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    plain = HistGradientBoostingRegressor(loss="absolute_error")
    plain.fit(rows.features, change)
    return "scikit-learn", plain.predict


def forecast(
    recorded: Recorded,
    learnt: Sequence[Day],
    tested: Sequence[Day],
    minutes: HorizonMinutes,
    tz: str,
) -> Outcome:
    """Train on some days and forecast every bin of others, with the baselines on the same rows."""
    walk = Walk(recorded.panel, horizon_bins(minutes), tz)
    started = time.process_time()
    static_features = fit_static_features(recorded.stations)
    training = train(walk, static_features, Split.of(learnt, judged=False))
    seconds = time.process_time() - started
    name, change_of = regressor(training.learnt, TrainingOptions().threads)
    pack, calibration = training.pack, training.pack.calibration
    tables: list[pa.Table] = []
    medians: dict[str, list[NDArray[np.float64]]] = {"usual profile": [], name: []}
    for past in walk.over(tested):
        at = first_bin(past.day) + np.arange(BINS_PER_DAY)
        for rows, numbers, scored in scored_rows(pack, calibration, walk, past, at):
            tables.append(predictions(past.panel.stations.ids, rows, walk.horizon, numbers, scored))
            usual = np.nan_to_num(rows.features[:, USUAL])
            for baseline, change in (("usual profile", usual), (name, change_of(rows.features))):
                medians[baseline].append(np.clip(rows.bikes + change, 0, rows.capacity))
        calibration = calibrate_day(pack, calibration, past)
    import pyarrow as pa  # noqa: PLC0415

    joined = {baseline: np.concatenate(parts) for baseline, parts in medians.items()}
    return Outcome(training, pa.concat_tables(tables), joined, seconds)


def lift(errors: NDArray[np.float64], persistence: NDArray[np.float64]) -> float:
    """Return the share of persistence's mean error that is saved."""
    return float(1 - errors.mean() / persistence.mean())


def show(outcome: Outcome, minutes: int, tz: str) -> dict[str, Any]:
    """Print one line a forecaster; return the figures."""
    found = metrics_of(outcome.table, tz)
    overall, worst = found["overall"], found["worst_hour"]
    true, base = (outcome.table[name].to_numpy().astype(float) for name in ("y_true", "y_base"))
    print(f"{minutes} min, {overall['n']:,} rows, {found['stations']['n']} stations")
    print(f"  {'':16} {'MAE':>8} {'lift':>8} {'RMSE':>8} {'lift':>8} {'CRPS':>8}")
    rmse = overall["rmse_persistence"]
    print(
        f"  {'persistence':16} {overall['mae_persistence']:8.4f} {'':8} {rmse:8.4f}"
        f" {'':8} {overall['mae_persistence']:8.4f}"
    )
    print(f"  {'climatology':16} {'':35} {overall['crps_climatology'] or float('nan'):8.4f}")
    baselines = {}
    for name, median in outcome.baselines.items():
        mae = np.abs(true - np.rint(median))
        square = float(np.sqrt(((true - median) ** 2).mean()))
        baselines[name] = {"mae": float(mae.mean()), "rmse": square}
        print(
            f"  {name:16} {mae.mean():8.4f} {lift(mae, np.abs(true - base)):+8.2%}"
            f" {square:8.4f} {1 - square / rmse:+8.2%}"
        )
    print(
        f"  {'this model':16} {overall['mae']:8.4f} {overall['mae_lift']:+8.2%}"
        f" {overall['rmse']:8.4f} {overall['rmse_lift']:+8.2%} {overall['crps']:8.4f}"
    )
    off = {
        name: max(
            (abs(b["stated"] - b["observed"]) for b in found[name]["reliability"] if b["n"] >= 300),
            default=0.0,
        )
        for name in ("p_bike", "p_dock")
    }
    print(
        f"  worst hour {worst:+.2%}, worst day {found['worst_day']:+.2%}, stations below 0 "
        f"{found['stations']['negative_lift_share']:.1%}"
    )
    for name, label in (("p_bike", "a bike"), ("p_dock", "a dock")):
        scores = found[name]
        if scores["brier"] is not None:
            print(
                f"  {label}: Brier {scores['brier']:.5f} (persistence "
                f"{scores['brier_persistence']:.5f}), stated off by {off[name]:.1%} at most"
            )
    about = outcome.training.pack.about
    print(
        f"  trained on {about['n_train']:,} rows, one bin in {about['stride_bins']}, "
        f"{about['rounds']} rounds, {outcome.seconds:.0f} s of CPU"
    )
    return found | {"baselines": baselines, "train_cpu_s": outcome.seconds, "off": off}


def main() -> None:
    """Read a recording, forecast its last days, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--test-from", type=parse_day, required=True, metavar="DAY")
    parser.add_argument("--horizons", default="15,60", metavar="MINUTES")
    parser.add_argument("--tz", default="")
    parser.add_argument("--curve", action="store_true", help="a learning curve too")
    parser.add_argument("--json", type=Path, default=None, help="where to write all figures")
    given = parser.parse_args()
    recorded = read_recording(given.recording, given.test_from, tz=given.tz)
    tz = recorded.understood.tz
    first, last = day_of(recorded.panel.start), day_of(Bin(recorded.panel.stop - 1))
    days = [day_after(first, n) for n in range((last - first).days + 1)]
    learnt = [day for day in days if day < given.test_from]
    tested = [day for day in days if day >= given.test_from]
    figures: dict[str, Any] = {}
    print(f"{given.recording.name} from {given.test_from}, {len(learnt)} days before, {tz}")
    for minutes in (HorizonMinutes(int(part)) for part in given.horizons.split(",")):
        figures[str(minutes)] = show(forecast(recorded, learnt, tested, minutes, tz), minutes, tz)
        for count in CURVE_DAYS if given.curve else ():
            if count < len(learnt):
                part = forecast(recorded, learnt[-count:], tested, minutes, tz)
                overall = metrics_of(part.table, tz)["overall"]
                figures[f"{minutes} after {count} days"] = overall
                print(
                    f"  after {count} days {overall['mae_lift']:+.2%} / {overall['rmse_lift']:+.2%}"
                )
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
