"""Observations tables → ``monitoring/network/dynamics``: when and where bikes or docks run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.jobs.recipes import dynamics as recipe
from velib_core.monitoring.network import dynamics

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.monitoring.documents import Documents


def _make(network: Network, inputs: Inputs) -> Documents:
    return dynamics.build(
        family.read_days(network.lake, inputs.files, dynamics.COLUMNS),
        window=inputs.closed.window(network.settings.monitoring.dynamics_days),
        run_metadata=run_metadata(
            network.settings, recipe.FAMILY.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=dynamics.DynamicsThresholds(reference_weeks=recipe.REGULARITY_WEEKS),
        bounds=stockout_bounds(network.settings),
    )


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
