"""The registered models, for a person: what there is, which is live, and the way back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from velib_core.errors import InvalidValueError, ModelError
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.timeline.bins import HorizonMinutes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import ReadableLake
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings


class UnknownModelError(InvalidValueError):
    """A model that is not registered."""


@dataclasses.dataclass(frozen=True)
class ListedModel:
    """One registered model; ``mae`` in bikes on its evaluation days, ``mae_lift`` a share."""

    horizon_min: int
    version: str
    live: bool
    folder: str
    first_day: str | None
    last_day: str | None
    mae: float | None
    mae_lift: float | None


def list_models(lake: ReadableLake, settings: Settings) -> list[ListedModel]:
    """Return the models of every horizon of the settings, oldest version first."""
    listed, layout = [], Layout(settings)
    for horizon in settings.horizons:
        current = _live(lake, layout, horizon)
        for model in registry.versions(lake, layout, horizon):
            record = model.record
            candidate = (record.get("verdict") or {}).get("candidate") or {}
            listed.append(
                ListedModel(
                    horizon_min=horizon,
                    version=model.version,
                    live=current is not None and current.folder == model.folder,
                    folder=model.folder,
                    first_day=record.get("start_date"),
                    last_day=record.get("end_date"),
                    mae=_mae(record),
                    mae_lift=candidate.get("mae_lift"),
                )
            )
    return listed


def _mae(record: Mapping[str, Any]) -> float | None:
    metrics = record.get("metrics")
    mae = metrics.get("mae") if isinstance(metrics, dict) else None
    return float(mae) if isinstance(mae, int | float) else None


def roll_back(lake: Lake, settings: Settings, minutes: int, version: str | None) -> tuple[str, str]:
    """Make an earlier version live; return the versions before (or ``none``) and after.

    Where the pointer is damaged the version has to be named. Raises `UnknownModelError` where
    there is no such version, or none before the live one.
    """
    horizon, layout = HorizonMinutes(minutes), Layout(settings)
    current = _live(lake, layout, horizon)
    known = registry.versions(lake, layout, horizon)
    names = [model.version for model in known]
    if version is None and current is None:
        raise UnknownModelError("horizon", minutes, "one with a live model, or a version to go to")
    if version is None and current is not None:
        place = names.index(current.version) if current.version in names else 0
        if place == 0:
            raise UnknownModelError("to", None, f"a version; none is before {current.version}")
        version = names[place - 1]
    if version not in names:
        raise UnknownModelError("to", version, f"one of {', '.join(names)}")
    registry.promote(lake, layout, known[names.index(version)])
    return current.version if current else "none", version


def _live(lake: ReadableLake, layout: Layout, horizon: HorizonMinutes) -> ModelVersion | None:
    """Return the live model; ``None`` too where the pointer is damaged."""
    try:
        return registry.live(lake, layout, horizon)
    except ModelError:
        return None
