"""What moved the forecasts: gain in training, and exact contributions forecast by forecast."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.timeline.bins import Bin, bin_start, iso_z

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Importance:
    """What a booster says of its features, and of some of its forecasts.

    Attributes
    ----------
    features
        Names of the F features, in the model's order.
    scores
        By importance type (``gain``, ``total_gain``, ``weight``, ``cover``) the booster's score
        of each feature that it splits on.
    shap
        ``float32[n, F]``, contributions in bikes of each feature to each explained forecast.
    stations, bins
        Station id and issue bin of each explained forecast, length n.
    model_version
        The model explained.

    """

    features: Sequence[str]
    scores: Mapping[str, Mapping[str, float]]
    shap: NDArray[np.float32]
    stations: Sequence[str]
    bins: Sequence[Bin]
    model_version: str | None = None


def importance_document(
    importance: Importance | None, top_features: int, top_per_station: int
) -> dict[str, Any]:
    """Return the body of ``feature_importance.json``; without a model empty rows and a note."""
    if importance is None:
        return {
            "method": "missing_model_uri",
            "rows": [],
            "notes": ["no model is published for this horizon"],
            "stations": [],
        }
    return {
        "method": "xgboost_native_get_score",
        "model_version": importance.model_version,
        "n_features": len(importance.features),
        "n_rows": len(importance.shap),
        "rows": _rows(importance)[:top_features],
        "notes": [
            "gain_share is a share of the total gain",
            "shap_mean_abs is the mean size of a feature's exact contribution, in bikes",
        ],
        "stations": _by_station(importance, top_per_station),
    }


def _rows(importance: Importance) -> list[dict[str, Any]]:
    scores = importance.scores
    size = np.abs(importance.shap).mean(axis=0, dtype=np.float64) if len(importance.shap) else None
    gains, covers = (_share(scores.get(kind, {})) for kind in ("total_gain", "cover"))
    rows = [
        {
            "feature": feature,
            "gain": scores.get("gain", {}).get(feature),
            "total_gain": scores.get("total_gain", {}).get(feature),
            "weight": scores.get("weight", {}).get(feature),
            "cover": scores.get("cover", {}).get(feature),
            "gain_share": gains.get(feature, 0.0),
            "cover_share": covers.get(feature, 0.0),
            "shap_mean_abs": None if size is None else float(size[f]),
            "shap_share": float(size[f] / size.sum()) if size is not None and size.any() else None,
        }
        for f, feature in enumerate(importance.features)
    ]
    return sorted(rows, key=lambda row: (-row["gain_share"], row["feature"]))


def _share(scores: Mapping[str, float]) -> dict[str, float]:
    total = sum(scores.values())
    return {feature: score / total for feature, score in scores.items()} if total else {}


def _by_station(importance: Importance, top: int) -> list[dict[str, Any]]:
    """Return what moved each station's newest explained forecast most, in bikes."""
    newest: dict[str, int] = {}
    for row, (station, at) in enumerate(zip(importance.stations, importance.bins, strict=True)):
        if station not in newest or at >= importance.bins[newest[station]]:
            newest[station] = row
    rows = []
    for station, row in sorted(newest.items()):
        values = importance.shap[row]
        order = np.argsort(-np.abs(values), kind="stable")[:top].tolist()
        rows.append(
            {
                "station_id": station,
                "tbin_utc": iso_z(bin_start(importance.bins[row])),
                "contributions": [
                    {"feature": importance.features[f], "bikes": float(values[f])} for f in order
                ],
                "others": float(values.sum() - values[order].sum()),
            }
        )
    return rows
