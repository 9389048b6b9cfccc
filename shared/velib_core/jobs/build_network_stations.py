"""Events views → ``monitoring/network/stations``: how stations live through the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.editions import edition, stockout_bounds
from velib_core.monitoring import network_stations

if TYPE_CHECKING:
    from velib_core.jobs.monitoring_family import Documents, Inputs, Plan
    from velib_core.jobs.result import JobResult
    from velib_core.lake import Lake
    from velib_core.settings import Settings


def run(lake: Lake, settings: Settings, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.look_up(lake, settings, family.STATIONS)
        mark = family.mark_of(settings, family.STATIONS, inputs)
        return family.Plan(mark, inputs.entries, lambda: _make(lake, settings, inputs))

    place = family.STATIONS
    return family.publish(lake, settings, place.folder, place.job, plan, force=force)


def _make(lake: Lake, settings: Settings, inputs: Inputs) -> Documents:
    limits = settings.monitoring
    return network_stations.build(
        family.read_days(lake, inputs.files, network_stations.COLUMNS),
        window=inputs.closed.window(limits.stations_days),
        edition=edition(settings, family.STATIONS.folder, inputs.closed.as_of, inputs.entries),
        thresholds=network_stations.StationsThresholds(**limits.of("stations")),
        bounds=stockout_bounds(settings),
    )
