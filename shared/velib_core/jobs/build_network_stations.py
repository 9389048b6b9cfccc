"""Observations tables → ``monitoring/network/stations``: daily profiles and their clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.jobs.recipes import stations as recipe
from velib_core.monitoring.network import stations

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.monitoring.documents import Documents


def _make(network: Network, inputs: Inputs) -> Documents:
    limits = network.settings.monitoring
    return stations.build(
        family.read_days(network.lake, inputs.files, stations.COLUMNS),
        window=inputs.closed.window(limits.stations_days),
        run_metadata=run_metadata(
            network.settings, recipe.FAMILY.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=stations.StationsThresholds(**limits.of("stations")),
        bounds=stockout_bounds(network.settings),
    )


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
