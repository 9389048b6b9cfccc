"""The model as older programs read it: a regressor of bikes on the contract's 53 features.

They load ``latest.joblib`` and call ``pack["model"].predict(X[pack["feat_cols"]])``. The model that
is published from gives a distribution of changes from more features; this one is trained for them
on the same rows, with squared error on the level as theirs was, and needs nothing of this package.
It is a pickle: whoever loads it must control the bucket; nothing here reads it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from velib_core.features.stack import CONTRACT_FEATURES

if TYPE_CHECKING:
    from velib_core.model.training import Training, TrainingOptions

DEPTH = 8
"""The level has to be rebuilt from occupancy and capacity before any change of it can be seen."""


def train_legacy_export(training: Training, options: TrainingOptions) -> dict[str, Any]:
    """Return ``{"model", "feat_cols", "horizon_bins"}``; ``model`` is an ``xgboost.XGBRegressor``.

    Parameters
    ----------
    training
        The model of the same window: the rows that it learnt from are used.
    options
        Threads, rounds and seed are taken from here.

    """
    from xgboost import XGBRegressor  # noqa: PLC0415 -- only training has it

    features = training.learnt.features[:, : len(CONTRACT_FEATURES)]
    model = XGBRegressor(
        n_estimators=options.rounds,
        max_depth=DEPTH,
        learning_rate=options.eta,
        tree_method="hist",
        n_jobs=options.threads,
        random_state=options.seed,
    )
    model.fit(features, training.learnt.target)
    return {
        "model": model,
        "feat_cols": list(CONTRACT_FEATURES),
        "horizon_bins": int(training.pack.horizon_bins),
    }


def to_joblib(legacy_export: dict[str, Any]) -> bytes:
    """Return the pack as a joblib pickle."""
    import joblib  # noqa: PLC0415 -- only training has it

    sink = io.BytesIO()
    joblib.dump(legacy_export, sink, compress=3)
    return sink.getvalue()
