"""Inputs of model explainability: evaluation tables and the live models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs, found, newest_events
from velib_core.lake.keys import ModelFile, Perf
from velib_core.model.registry import POINTER

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableNetwork


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    limits, layout = network.settings.monitoring, network.layout
    pointers = [layout.name(ModelFile(h, None, POINTER)) for h in limits.explain_horizons]
    additional = {"names": newest_events(network), "models": found(network.lake, pointers)}
    return Inputs(closed, closed.of(closed.window(limits.explain_days).utc_days()), additional)


FAMILY = Family("build_model_explainability", "model/explainability", Perf, "explain", _read)
