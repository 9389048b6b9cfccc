"""Inputs of model performance: evaluation tables, logged forecasts, clusters of stations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs, found, newest_events
from velib_core.lake.keys import ForecastLog, Perf
from velib_core.settings.network import bucket_and_folder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_core.lake.readable import Entry, ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    days = closed.window(network.settings.monitoring.performance_days).utc_days()
    additional = {
        "names": newest_events(network),
        "forecast_log": _forecast_logs(network, days),
        "clusters": found(network.lake, [_clusters_name(network.settings)]),
    }
    return Inputs(closed, closed.of(days), additional)


def _forecast_logs(network: ReadableNetwork, days: Iterable[Day]) -> list[Entry]:
    layout = network.layout
    entries = {entry.name: entry for entry in network.lake.entries(f"{layout.exports}/served_")}
    by_day = layout.by_day(ForecastLog, entries)
    return [entries[by_day[day]] for day in days if day in by_day]


def _clusters_name(settings: Settings) -> str:
    """Return the object name that PERF_CLUSTERS_CSV gives, ``""`` where it names none."""
    return bucket_and_folder(settings.monitoring.performance_clusters)[1]


FAMILY = Family(
    "build_model_performance", "model/performance", Perf, "performance", _read, alerting=True
)
