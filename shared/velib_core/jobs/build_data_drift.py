"""Observations tables → ``monitoring/data/drift``: how far the inputs moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.jobs.recipes import drift as recipe
from velib_core.monitoring.data import drift

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.monitoring.documents import Documents


def _make(network: Network, inputs: Inputs) -> Documents:
    window, reference = recipe.windows(inputs.closed, network.settings)
    limits = network.settings.monitoring.of("drift", but=("days", "reference_days"))
    return drift.build(
        family.read_days(network.lake, inputs.files, drift.COLUMNS),
        window=window,
        reference_days=len(reference.days),
        run_metadata=run_metadata(
            network.settings, recipe.FAMILY.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=drift.DriftThresholds(**limits),
        bounds=stockout_bounds(network.settings),
    )


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
