"""Events views → ``monitoring/network/stations``: how stations live through the day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_publish import Plan, publish
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.monitoring.network import stations

if TYPE_CHECKING:
    from velib_core.jobs.family_publish import Documents
    from velib_core.jobs.monitoring_family import Inputs
    from velib_core.jobs.result import JobResult
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


def run(lake: Lake, settings: Settings, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.resolve_inputs(lake, settings, family.STATIONS)
        fingerprint = family.expected_fingerprint(settings, family.STATIONS, inputs)
        return Plan(fingerprint, inputs.entries, lambda: _make(lake, settings, inputs))

    place = family.STATIONS
    return publish(lake, settings, place.folder, place.job, plan, force=force)


def _make(lake: Lake, settings: Settings, inputs: Inputs) -> Documents:
    limits = settings.monitoring
    return stations.build(
        family.read_days(lake, inputs.files, stations.COLUMNS),
        window=inputs.closed.window(limits.stations_days),
        run_metadata=run_metadata(
            settings, family.STATIONS.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=stations.StationsThresholds(**limits.of("stations")),
        bounds=stockout_bounds(settings),
    )
