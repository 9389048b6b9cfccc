"""Evaluation tables and forecast log → ``monitoring/model/performance``: errors of forecasts."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import run_metadata, stations_in
from velib_core.jobs.recipes import performance as recipe
from velib_core.lake.readable import UnreadableObjectError
from velib_core.logs import log
from velib_core.monitoring.model import performance, scored_log
from velib_core.settings.env import SettingsError
from velib_core.timeline.bins import horizon_bins

MAX_CLUSTERS_BYTES = 4 << 20

CLUSTERS = "a CSV with the columns station_id and cluster"

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.lake.readable import ReadableLake
    from velib_core.monitoring.documents import Documents


def _make(network: Network, inputs: Inputs) -> Documents:
    limits = network.settings.monitoring
    return performance.build(
        family.read_days(network.lake, inputs.files, performance.COLUMNS),
        window=inputs.closed.window(limits.performance_days),
        horizons=[horizon_bins(minutes) for minutes in limits.performance_horizons],
        run_metadata=run_metadata(
            network.settings, recipe.FAMILY.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=performance.PerformanceThresholds(
            **limits.of("performance", but=("days", "horizons", "clusters"))
        ),
        forecast_log=family.read_days(
            network.lake, inputs.additional_inputs["forecast_log"], scored_log.FORECAST_LOG_COLUMNS
        ),
        stations=stations_in(network.lake, inputs.additional_inputs["names"]),
        clusters=_clusters(network.lake, inputs),
    )


def _clusters(lake: ReadableLake, inputs: Inputs) -> dict[str, str] | None:
    """Return the group of each station out of PERF_CLUSTERS_CSV; ``None`` where there is none.

    A file that cannot be read costs ``by_cluster.json`` alone.
    """
    for entry in inputs.additional_inputs["clusters"]:
        try:
            text = lake.read_up_to(entry, MAX_CLUSTERS_BYTES).decode("utf-8-sig")
            return {row["station_id"]: row["cluster"] for row in csv.DictReader(text.splitlines())}
        except (UnicodeDecodeError, KeyError, csv.Error, UnreadableObjectError):
            wrong = SettingsError("PERF_CLUSTERS_CSV", entry.name, CLUSTERS)
            log("ERROR", f"by_cluster.json is not made: {wrong}")
    return None


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
