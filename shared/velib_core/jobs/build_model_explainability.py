"""Evaluation tables and live models → ``monitoring/model/explainability``: why forecasts err."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.errors import ModelError
from velib_core.features.stack import feature_rows, lookback_bins
from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import run_metadata, stations_in
from velib_core.jobs.recipes import explainability as recipe
from velib_core.logs import log
from velib_core.model import registry, shap
from velib_core.model.pack import from_blobs
from velib_core.model.readers import load_profiles, profile_before
from velib_core.monitoring.model import explainability
from velib_core.monitoring.model.importance import Importance
from velib_core.monitoring.model.reliability import CalibrationLimits
from velib_core.monitoring.model.residuals import ResidualLimits
from velib_core.tables import history
from velib_core.timeline.bins import BINS_PER_DAY, Bin, day_after, first_bin, horizon_bins

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.model.pack import ModelPack
    from velib_core.monitoring.documents import Documents
    from velib_core.timeline.bins import Day, HorizonBins

MOMENTS = 6
"""Bins of the newest day at which forecasts are explained, spread over it; each station at one."""

MOST_EXPLAINED = 2000
"""Forecasts explained of a horizon: contributions cost a millisecond each."""


def _make(network: Network, inputs: Inputs) -> Documents:
    reported = network.settings.monitoring.of("explain")
    limits = explainability.ExplainThresholds(
        residuals=ResidualLimits(
            qq_points=reported["qq_points"],
            acf_lags=reported["acf_lags"],
            episodes_topk=reported["episodes_topk"],
        ),
        calibration=CalibrationLimits(pi_nominal=reported["pi_nominal"]),
        features_topk=reported["features_topk"],
    )
    return explainability.build(
        family.read_days(network.lake, inputs.files, explainability.COLUMNS),
        window=inputs.closed.window(network.settings.monitoring.explain_days),
        horizons=[horizon_bins(minutes) for minutes in reported["horizons"]],
        run_metadata=run_metadata(
            network.settings, recipe.FAMILY.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=limits,
        importance=_importance(network, inputs),
        stations=stations_in(network.lake, inputs.additional_inputs["names"]),
    )


def _importance(network: Network, inputs: Inputs) -> dict[HorizonBins, Importance]:
    """Explain what the live models said on the newest closed day, by horizon."""
    if not inputs.closed.files:
        return {}
    found = {}
    for minutes in network.settings.monitoring.explain_horizons:
        horizon = horizon_bins(minutes)
        try:
            model = registry.live(network.lake, network.layout, minutes)
            if model is not None:
                pack = from_blobs(registry.load(network.lake, network.layout, model), horizon)
                day = max(inputs.closed.files)
                found[horizon] = _explain(network, pack, day, model.version)
        except ModelError as error:
            log("ERROR", f"h{minutes} is not explained: {error}")
    return found


def _explain(network: Network, pack: ModelPack, day: Day, version: str) -> Importance:
    """Explain one forecast of each station, made at one of `MOMENTS` bins of a day."""
    layout = network.layout
    dailies = history.dailies(network.lake, layout)
    days = {d: dailies[d] for d in (day_after(day, -1), day) if d in dailies}
    start = first_bin(day)
    past = history.DailyHistory(network.lake, days).window(
        Bin(start - lookback_bins(pack.horizon_bins)), Bin(start + BINS_PER_DAY)
    )
    moments = start + np.arange(MOMENTS) * (BINS_PER_DAY // MOMENTS) + BINS_PER_DAY // MOMENTS // 2
    profiles = load_profiles(
        network.lake, network.settings, profile_before(network.lake, layout, day)
    )
    ids = past.stations.ids
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), MOST_EXPLAINED)).astype(int))
    turn = np.arange(len(chosen)) % MOMENTS
    rows = np.empty((len(chosen), len(pack.feat_cols)), np.float32)
    seen = np.zeros(len(chosen), bool)
    for n, moment in enumerate(moments.tolist()):
        mine = turn == n
        features = feature_rows(
            past,
            np.array([moment]),
            pack.horizon_bins,
            pack.static_features,
            profiles,
            pack.feat_cols,
        )
        rows[mine] = features[:, 0, chosen[mine]].T
        seen[mine] = np.isfinite(past["bikes"][moment - past.start, chosen[mine]])
    return Importance(
        features=pack.feat_cols,
        scores=shap.importance_scores(pack),
        shap=shap.contributions(pack, rows[seen]),
        stations=ids[chosen[seen]].tolist(),
        bins=[Bin(bin_) for bin_ in moments[turn[seen]].tolist()],
        model_version=version,
    )


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
