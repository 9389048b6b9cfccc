"""Events views → ``monitoring/network/dynamics``: when and where bikes or docks run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_publish import Plan, publish
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.monitoring.network import dynamics

if TYPE_CHECKING:
    from velib_core.jobs.family_publish import Documents
    from velib_core.jobs.monitoring_family import Inputs
    from velib_core.jobs.result import JobResult
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


def run(lake: Lake, settings: Settings, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.resolve_inputs(lake, settings, family.DYNAMICS)
        fingerprint = family.expected_fingerprint(settings, family.DYNAMICS, inputs)
        return Plan(fingerprint, inputs.entries, lambda: _make(lake, settings, inputs))

    place = family.DYNAMICS
    return publish(lake, settings, place.folder, place.job, plan, force=force)


def _make(lake: Lake, settings: Settings, inputs: Inputs) -> Documents:
    return dynamics.build(
        family.read_days(lake, inputs.files, dynamics.COLUMNS),
        window=inputs.closed.window(settings.monitoring.dynamics_days),
        run_metadata=run_metadata(
            settings, family.DYNAMICS.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=dynamics.DynamicsThresholds(reference_weeks=family.REGULARITY_WEEKS),
        bounds=stockout_bounds(settings),
    )
