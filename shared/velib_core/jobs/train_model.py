"""A request to train → a candidate for one horizon, registered only if it is good enough.

A candidate goes live if it is better than persistence on the held-out days and not worse than the
live model. A refused one leaves a report. The same request on the same days changes nothing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.errors import ModelError
from velib_core.events.job import JobResult
from velib_core.features.stack import features_hash8
from velib_core.lake.bucket import fingerprint_of
from velib_core.model import registry
from velib_core.model.evaluation import Evaluation, evaluate
from velib_core.model.legacy_regressor import to_joblib, train_legacy_export
from velib_core.model.pack import from_blobs, to_blobs
from velib_core.model.training import TrainingOptions, train
from velib_core.tables import history
from velib_core.tables.history import NoHistoryError
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    bin_start,
    day_after,
    first_bin,
    horizon_bins,
    iso_z,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from velib_core.events.messages import TrainRequested
    from velib_core.events.network import Network
    from velib_core.model.pack import ModelPack
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day, HorizonMinutes

RECIPE = "train_model 1"

LEAST_DAYS = 3
"""A day each to fill profiles, to learn from, and to validate on."""

TOLERANCE = 0.002
"""Share by which a candidate's error may exceed the live model's: less than days differ by."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a candidate goes live, and why."""

    promoted: bool
    reason: str
    candidate: Evaluation | None
    live: Evaluation | None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {
            "promoted": self.promoted,
            "reason": self.reason,
            "candidate": self.candidate.as_json() if self.candidate else None,
            "live": self.live.as_json() if self.live else None,
        }


def on_request(network: Network, request: TrainRequested) -> JobResult:
    """Train the horizon that is asked for; a request without one is the export's."""
    if request.horizon is None:
        return JobResult("train_model")
    return run(network, request.horizon, window_days=request.window_days)


def run_for_horizons(
    network: Network, horizons: Sequence[HorizonMinutes], *, last: Day | None = None
) -> JobResult:
    """Train one horizon after another; ``last`` is the newest day to learn from."""
    result = JobResult("train_model")
    for horizon in horizons:
        made = run(network, horizon, last=last)
        result.outputs |= made.outputs
        result.counts |= {f"h{horizon}_{name}": count for name, count in made.counts.items()}
    return result


def run(
    network: Network,
    horizon: HorizonMinutes,
    *,
    window_days: int | None = None,
    last: Day | None = None,
) -> JobResult:
    """Train, evaluate, and register or reject.

    Parameters
    ----------
    horizon
        In minutes.
    window_days
        Days to learn from; the settings' by default.
    last
        The newest of them; by default the newest daily.

    Raises
    ------
    velib_core.tables.history.NoHistoryError
        Where the window holds fewer than `LEAST_DAYS` days, or nothing to learn from.

    """
    lake, layout, settings = network.lake, network.layout, network.settings
    result = JobResult("train_model")
    dailies = history.dailies(lake, layout)
    newest = last or max(dailies, default=None)
    span = window_days or settings.lookback_days
    window = {d: e for d, e in dailies.items() if newest and 0 <= (newest - d).days < span}
    if newest is None or len(window) < LEAST_DAYS:
        raise NoHistoryError(f"{len(window)} dailies to train on, at least {LEAST_DAYS} are needed")
    options = f"tz={settings.tz} rows={settings.train_max_rows} rounds={settings.train_rounds}"
    fingerprint = fingerprint_of(f"{RECIPE} h{horizon} {options}", window.values())
    if registry.was_tried(lake, layout, horizon, fingerprint):
        result.counts["fresh"] = 1
        return result
    past = history.DailyHistory(lake, window)
    days = [day_after(min(window), n) for n in range((newest - min(window)).days + 1)]
    how = _options(settings)
    bins = horizon_bins(horizon)
    try:
        pack = train(
            past, past.stations, days, bins, settings.tz, how, progress=_progress_log(horizon)
        )
    except ValueError as error:
        raise NoHistoryError(str(error)) from error
    files = to_blobs(pack)
    stamp = bin_start(Bin(first_bin(newest) + BINS_PER_DAY - 1))
    folder = registry.folder_name(f"{stamp:%Y%m%d-%H%M%SZ}", files)
    verdict = verdict_of(network, horizon, pack, past, days)
    logs.log("INFO", f"candidate {folder}: {verdict.reason}", horizon=horizon)
    description = _description(pack, verdict, days)
    result.counts |= {"days": len(window), "promoted": int(verdict.promoted)}
    if verdict.promoted:
        old_pack = to_joblib(train_legacy_export(pack, past, days, how))
        model = registry.register(
            lake, layout, horizon, folder, files, description, fingerprint, old_pack
        )
        result.outputs[f"h{horizon} {model.version}"] = "written"
    else:
        name = registry.refuse(lake, layout, horizon, folder, description, fingerprint)
        result.outputs[name] = "written"
    return result


def _options(settings: Settings) -> TrainingOptions:
    return TrainingOptions(
        max_rows=settings.train_max_rows,
        rounds=settings.train_rounds,
        threads=os.cpu_count() or 1,
    )


def _progress_log(horizon: HorizonMinutes) -> Callable[[str], None]:
    return lambda what: logs.log("INFO", what, horizon=horizon)


def verdict_of(
    network: Network,
    horizon: HorizonMinutes,
    pack: ModelPack,
    past: history.DailyHistory,
    days: Sequence[Day],
) -> Verdict:
    """Compare a candidate with persistence and with the live model on the held-out days."""
    held_out = [day for day in days if str(day) >= str(pack.about["first_validation_day"])]
    candidate = evaluate(pack, past, days, held_out)
    if candidate is None:
        return Verdict(False, "nothing was observed on the held-out days", None, None)
    ours, persistence = candidate.overall.mae, candidate.overall.mae_persistence
    if ours >= persistence:
        reason = f"no better than persistence: {ours:.4f} against {persistence:.4f} bikes"
        return Verdict(False, reason, candidate, None)
    champion = _live_pack(network, horizon)
    live = evaluate(champion, past, days, held_out) if champion else None
    if live is not None and ours > live.overall.mae * (1 + TOLERANCE):
        reason = f"worse than the live model: {ours:.4f} against {live.overall.mae:.4f} bikes"
        return Verdict(False, reason, candidate, live)
    return Verdict(
        True, f"{ours:.4f} bikes against {persistence:.4f} of persistence", candidate, live
    )


def _live_pack(network: Network, horizon: HorizonMinutes) -> ModelPack | None:
    """Return the live model; one that is damaged is no rival."""
    try:
        model = registry.live(network.lake, network.layout, horizon)
        if model is None:
            return None
        files = registry.load(network.lake, network.layout, model)
        return from_blobs(files, horizon_bins(horizon))
    except ModelError as error:
        logs.log("ERROR", f"the live model cannot be compared with: {error}")
        return None


def _description(pack: ModelPack, verdict: Verdict, days: Sequence[Day]) -> dict[str, Any]:
    """Return what the registry says of a model, in the keys of the contract and more."""
    about = pack.about
    overall = verdict.candidate.overall if verdict.candidate else None
    return {
        "model_type": "xgb",
        "horizon_bins": pack.horizon_bins,
        "built_at_utc": iso_z(dt.datetime.now(dt.UTC)),
        "git_sha": os.environ.get("GIT_SHA"),
        "feature_count": len(pack.feat_cols),
        "features_hash8": features_hash8(pack.feat_cols),
        "features_stack": "spatial",
        "features": list(pack.feat_cols),
        "metrics": {
            "mae": overall.mae if overall else about["metrics"]["mae"],
            "rmse": overall.rmse if overall else about["metrics"]["rmse"],
        },
        "verdict": verdict.as_json(),
        "n_train": about["n_train"],
        "n_valid": about["n_valid"],
        "seed": about["options"]["seed"],
        "start_date": str(days[0]),
        "end_date": str(days[-1]),
        "about": dict(about),
    }
