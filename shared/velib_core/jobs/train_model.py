"""A request to train → a candidate for one horizon, registered only if it is good enough.

The last days of the window judge: they neither teach a candidate nor tune it. It goes live if it
is better than persistence on them and not worse than the live model. A refused one leaves a report.
The same request on the same days changes nothing.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.errors import ModelError
from velib_core.events.job import JobResult
from velib_core.features.cal_features import school_holidays_end
from velib_core.features.spatial_features import fit_static_features
from velib_core.features.stack import features_hash8
from velib_core.jobs.recipes.training import LEAST_DAYS
from velib_core.lake.fingerprints import fingerprint_of
from velib_core.model import registry
from velib_core.model.evaluation import Contender, Evaluation, evaluate
from velib_core.model.legacy_regressor import to_joblib, train_legacy_export
from velib_core.model.pack import from_blobs, to_blobs
from velib_core.model.readers import calibration_before, load_calibration
from velib_core.model.rows import Walk
from velib_core.model.training import Split, Training, TrainingOptions, train
from velib_core.tables import history
from velib_core.tables.history import NoHistoryError
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    bin_start,
    day_after,
    first_bin,
    horizon_bins,
    horizon_minutes,
    iso_z,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_core.events.messages import TrainRequested
    from velib_core.events.network import Network
    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day, HorizonMinutes

RECIPE = "train_model 2"

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
        Where the window holds fewer than `velib_core.jobs.recipes.training.LEAST_DAYS` days, or
        nothing to learn from.

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
    days = [day_after(min(window), n) for n in range((newest - min(window)).days + 1)]
    end = school_holidays_end(newest, settings.tz)
    if end is not None:
        logs.log("WARNING", f"school holidays are known until {end}: add the years after it")
    try:
        candidate = train_candidate(network, horizon, window, days)
    except ValueError as error:
        raise NoHistoryError(str(error)) from error
    files = to_blobs(candidate.training.pack)
    stamp = bin_start(Bin(first_bin(newest) + BINS_PER_DAY - 1))
    folder = registry.folder_name(f"{stamp:%Y%m%d-%H%M%SZ}", files)
    verdict = verdict_of(network, candidate)
    logs.log("INFO", f"candidate {folder}: {verdict.reason}", horizon=horizon)
    description = _description(candidate, verdict)
    result.counts |= {"days": len(window), "promoted": int(verdict.promoted)}
    if verdict.promoted:
        legacy_export = to_joblib(train_legacy_export(candidate.training, _options(settings)))
        model = registry.register(
            lake, layout, horizon, folder, files, description, fingerprint, legacy_export
        )
        result.outputs[f"h{horizon} {model.version}"] = "written"
    else:
        name = registry.refuse(lake, layout, horizon, folder, description, fingerprint)
        result.outputs[name] = "written"
    return result


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model that was trained, and the walk that stands before the days that judge it."""

    training: Training
    walk: Walk
    split: Split


def train_candidate(
    network: Network,
    horizon: HorizonMinutes,
    window: Mapping[Day, Entry],
    days: Sequence[Day],
) -> Candidate:
    """Train on the days of a window but for those that judge; ``days`` are all, gaps included."""
    split = Split.of(days, judged=True)
    past = history.DailyHistory(network.lake, window)
    walk = Walk(past, horizon_bins(horizon), network.settings.tz)
    static_features = fit_static_features(past.stations)
    training = train(
        walk, static_features, split, _options(network.settings), _progress_log(horizon)
    )
    return Candidate(training, walk, split)


def _options(settings: Settings) -> TrainingOptions:
    return TrainingOptions(
        max_rows=settings.train_max_rows,
        rounds=settings.train_rounds,
        threads=os.cpu_count() or 1,
    )


def _progress_log(horizon: HorizonMinutes) -> Callable[[str], None]:
    return lambda what: logs.log("INFO", what, horizon=horizon)


def verdict_of(network: Network, candidate: Candidate) -> Verdict:
    """Compare a candidate with persistence and with the live model on the days that judge."""
    pack = candidate.training.pack
    rivals = [Contender(pack, pack.calibration)]
    live = _live_contender(network, candidate)
    if live is not None:
        rivals.append(live)
    found = evaluate(rivals, candidate.walk, candidate.split.judge)
    return judged(found[0], found[1] if live is not None else None)


def judged(ours: Evaluation | None, theirs: Evaluation | None) -> Verdict:
    """Decide on a candidate by its evaluation and the live model's, ``None`` where there is none.

    It goes live where its mean absolute error is below that of persistence and at most
    `TOLERANCE` above the live model's, on the same rows.
    """
    if ours is None:
        return Verdict(False, "nothing was observed on the days that judge", None, None)
    mae, persistence = ours.overall.mae, ours.overall.mae_persistence
    if mae >= persistence:
        reason = f"no better than persistence: {mae:.4f} against {persistence:.4f} bikes"
        return Verdict(False, reason, ours, theirs)
    if theirs is not None and mae > theirs.overall.mae * (1 + TOLERANCE):
        reason = f"worse than the live model: {mae:.4f} against {theirs.overall.mae:.4f} bikes"
        return Verdict(False, reason, ours, theirs)
    return Verdict(True, f"{mae:.4f} bikes against {persistence:.4f} of persistence", ours, theirs)


def _live_contender(network: Network, candidate: Candidate) -> Contender | None:
    """Return the live model with the calibration it had before the days that judge.

    One that is damaged is no rival.
    """
    lake, horizon = network.lake, horizon_minutes(candidate.walk.horizon)
    try:
        model = registry.live(lake, network.layout, horizon)
        if model is None:
            return None
        pack = from_blobs(registry.load(lake, network.layout, model), candidate.walk.horizon)
        held = calibration_before(lake, network.layout, model, candidate.split.judge[0])
        return Contender(pack, load_calibration(lake, pack, held))
    except ModelError as error:
        logs.log("ERROR", f"the live model cannot be compared with: {error}")
        return None


def _description(candidate: Candidate, verdict: Verdict) -> dict[str, Any]:
    """Return what the registry says of a model, in the keys of the contract and more."""
    pack, split = candidate.training.pack, candidate.split
    about = pack.about
    judged = verdict.candidate.overall.as_json() if verdict.candidate else {}
    first = (*split.warm_up, *split.learn)[0]
    return {
        "model_type": "xgb",
        "horizon_bins": pack.horizon_bins,
        "built_at_utc": iso_z(dt.datetime.now(dt.UTC)),
        "git_sha": os.environ.get("GIT_SHA"),
        "feature_count": len(pack.feat_cols),
        "features_hash8": features_hash8(pack.feat_cols),
        "features_stack": "spatial",
        "features": list(pack.feat_cols),
        "metrics": {"mae": None, "rmse": None} | judged,
        "verdict": verdict.as_json(),
        "n_train": about["n_train"],
        "n_valid": judged.get("n", 0),
        "seed": about["options"]["seed"],
        "start_date": str(first),
        "tuned_through": str(split.tune[-1]),
        "end_date": str(split.judge[-1]),
        "about": dict(about),
    }
