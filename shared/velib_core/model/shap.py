"""What moved a forecast: exact contributions of the features, in bikes.

TreeSHAP (Lundberg et al., From local explanations to global understanding with explainable AI for
trees, 2020) gives exactly how much each feature adds to the booster's margin of each class. People
think in bikes: the mean change is carried from the margins without features to those with all of
them along a straight line, and each feature is given what it adds on the way (Aumann and Shapley,
Values of non-atomic games, 1974). The contributions add up to the difference between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from velib_core.model.change_distribution import MAX_CHANGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from velib_core.model.pack import ModelPack

STEPS = 8
"""Points of the Gauss-Legendre quadrature along the line: exact to a thousandth of a bike."""

KINDS = ("gain", "total_gain", "weight", "cover")


def contributions(pack: ModelPack, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each feature adds to the mean change, in bikes.

    Parameters
    ----------
    pack
        The model of one horizon.
    features
        ``float32[n, F]`` in the order of ``pack.feat_cols``.

    Returns
    -------
    NDArray[np.float32]
        ``float32[n, F]``. A row adds up to the booster's mean change less the one of a station of
        which nothing is known.

    """
    import xgboost as xgb  # noqa: PLC0415 -- a second of import, only where forecasts are explained

    if not len(features):
        return np.zeros((0, len(pack.feat_cols)), np.float32)
    reported = pack.model.predict(
        xgb.DMatrix(np.ascontiguousarray(features)), pred_contribs=True, strict_shape=True
    )
    bias, moved = reported[:, :, -1].astype(np.float64), reported[:, :, :-1]
    sizes = pack.classes.shares @ np.arange(-MAX_CHANGE, MAX_CHANGE + 1)
    slope = _mean_slope(bias, moved.sum(axis=2, dtype=np.float64), sizes)
    found: NDArray[np.float32] = np.einsum("nk,nkf->nf", slope.astype(np.float32), moved)
    return found


def _mean_slope(
    start: NDArray[np.float64], way: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how fast the mean change grows with each class's margin, on average along the way.

    ``start`` and ``way`` are ``float64[n, C]``, ``sizes`` the mean change within each class.
    """
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    slope = np.zeros_like(start)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        margin = start + point * way
        odds = np.exp(margin - margin.max(axis=1, keepdims=True))
        chance = odds / odds.sum(axis=1, keepdims=True)
        mean = chance @ sizes
        slope += weight * chance * (sizes - mean[:, None])
    return slope


def importance_scores(pack: ModelPack) -> dict[str, dict[str, float]]:
    """Return the booster's own scores of the features that it splits on, by kind of score."""
    names = dict(enumerate(pack.feat_cols))
    found = {}
    for kind in KINDS:
        scores = pack.model.get_score(importance_type=kind)
        found[kind] = {
            names[int(key[1:])] if key[1:].isdecimal() and key[0] == "f" else key: float(
                np.mean(value)
            )
            for key, value in scores.items()
        }
    return found
