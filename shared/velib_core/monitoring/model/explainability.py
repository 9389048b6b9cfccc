"""Model explainability: how the forecasts err, how sure they are, and what moved them.

Residuals are truth − published forecast, on pairs where both are known. What moved a forecast is
measured twice: by the loss that trees' splits on a feature removed in training (total gain), and
exactly, forecast by forecast, by SHAP values (Lundberg et al., From local explanations to global
understanding with explainable AI for trees, 2020).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.monitoring.documents import (
    Documents,
    RunMetadata,
    Status,
    partly,
    repeat_at_root,
    status_of_days,
    with_manifest,
)
from velib_core.monitoring.model import forecast_grid
from velib_core.monitoring.model.importance import Importance, importance_document
from velib_core.monitoring.model.reliability import (
    CalibrationLimits,
    calibration_document,
    uncertainty_document,
)
from velib_core.monitoring.model.residuals import Pairs, ResidualLimits, residual_document
from velib_core.timeline.bins import Bin, bin_start, horizon_minutes, iso_z

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from velib_core.monitoring.model.forecast_grid import Hindcasts
    from velib_core.tables.panel import Stations
    from velib_core.timeline.bins import HorizonBins
    from velib_core.timeline.windows import LocalDays

VERSION = "1.5"

COLUMNS = forecast_grid.COLUMNS
"""Columns of the evaluation table that are read."""


@dataclasses.dataclass(frozen=True)
class ExplainThresholds:
    """Sizes of the diagrams and how much data they need, by document."""

    residuals: ResidualLimits = dataclasses.field(default_factory=ResidualLimits)
    calibration: CalibrationLimits = dataclasses.field(default_factory=CalibrationLimits)
    features_topk: int = 60
    station_topk: int = 5


def build(
    tables: Iterable[pa.Table],
    *,
    window: LocalDays,
    horizons: Sequence[HorizonBins],
    run_metadata: RunMetadata,
    thresholds: ExplainThresholds | None = None,
    importance: Mapping[HorizonBins, Importance] | None = None,
    stations: Stations | None = None,
) -> Documents:
    """Make the documents of ``model/explainability``, a folder ``h{minutes}/`` a horizon.

    Those of the first horizon stand at the root of the folder too.

    Parameters
    ----------
    tables
        Evaluation tables with `COLUMNS`, one per day, in time order.
    window
        Complete local days of issue.
    horizons
        In bins; each gets its documents, whether it has forecasts or not.
    importance
        What moved the live model, where there is one.
    stations
        Gives stations their names and places.

    """
    limits = thresholds or ExplainThresholds()
    laid_out = forecast_grid.to_grid(tables, window, horizons)
    documents: dict[str, Any] = {}
    info = []
    for h in horizons:
        hindcasts = laid_out.pop(h)
        minutes = horizon_minutes(h)
        head = run_metadata.head(VERSION) | {
            "horizon_min": minutes,
            "window_days": len(window.days),
        }
        made = _documents(hindcasts, head, run_metadata.tz, limits, stations)
        made["feature_importance"] = head | importance_document(
            (importance or {}).get(h), limits.features_topk, limits.station_topk
        )
        documents |= {f"h{minutes}/{name}.json": document for name, document in made.items()}
        info.append(
            {
                "horizon_min": minutes,
                "prefix_latest": f"{run_metadata.latest_prefix}/h{minutes}",
                "artifacts": list(made),
                "reason": made["overview"]["reason"],
                "days": made["overview"]["days"],
            }
        )
    return with_manifest(
        repeat_at_root(documents, f"h{horizon_minutes(horizons[0])}"),
        run_metadata,
        VERSION,
        status=_status(info, window),
        window_days=len(window.days),
        windows={"current": window.as_json()},
        thresholds=(limits,),
        extra={"horizons": [row["horizon_min"] for row in info], "horizons_info": info},
    )


def _status(info: Sequence[Mapping[str, Any]], window: LocalDays) -> Status:
    status = status_of_days(max((row["days"] for row in info), default=0), len(window.days))
    return partly(
        status, [f"h{row['horizon_min']}: {row['reason']}" for row in info if row["reason"]]
    )


def _documents(
    hindcasts: Hindcasts,
    head: Mapping[str, Any],
    tz: str,
    limits: ExplainThresholds,
    stations: Stations | None,
) -> dict[str, dict[str, Any]]:
    pairs = Pairs.of(hindcasts)
    uncertainty = uncertainty_document(pairs, hindcasts, limits.calibration)
    overview = _overview(pairs, hindcasts, tz) | {
        "has_uncertainty": uncertainty["method"] != "none"
    }
    return {
        "overview": dict(head) | overview,
        "residuals": dict(head) | residual_document(pairs, hindcasts, limits.residuals),
        "calibration": dict(head)
        | calibration_document(pairs, hindcasts, limits.calibration, stations),
        "uncertainty": dict(head) | uncertainty,
    }


def _overview(pairs: Pairs, hindcasts: Hindcasts, tz: str) -> dict[str, Any]:
    observed = np.isfinite(hindcasts.persistence)
    at = np.flatnonzero(observed.any(axis=1))
    days = np.unique(hindcasts.window.local().day[at])
    reason = None if len(pairs) else "no forecast with a truth in the window"
    return {
        "tz": tz,
        "anchor_day_perf": bin_start(Bin(hindcasts.window.start + int(at[-1]))).date().isoformat()
        if len(at)
        else None,
        "perf_rows": int(observed.sum()),
        "perf_stations": int(observed.any(axis=0).sum()),
        "pairs": len(pairs),
        "days": len(days),
        "ts_min_perf": _stamp(hindcasts, int(at[0])) if len(at) else None,
        "ts_max_perf": _stamp(hindcasts, int(at[-1])) if len(at) else None,
        "has_y_pred": bool(np.isfinite(hindcasts.integer).any()),
        "model_versions": hindcasts.versions,
        "reason": reason,
    }


def _stamp(hindcasts: Hindcasts, offset: int) -> str:
    return iso_z(bin_start(Bin(hindcasts.window.start + offset)))
