"""Events views → ``monitoring/network/dynamics``: when and where bikes or docks run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_update import Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.monitoring.network import dynamics

if TYPE_CHECKING:
    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import Documents
    from velib_core.jobs.monitoring_family import Inputs


def run(network: Network, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.resolve_inputs(network, family.DYNAMICS)
        fingerprint = family.expected_fingerprint(network.settings, family.DYNAMICS, inputs)
        return Plan(fingerprint, inputs.entries, lambda: _make(network, inputs))

    place = family.DYNAMICS
    return update_family(network, place.folder, place.job, plan, force=force)


def _make(network: Network, inputs: Inputs) -> Documents:
    return dynamics.build(
        family.read_days(network.lake, inputs.files, dynamics.COLUMNS),
        window=inputs.closed.window(network.settings.monitoring.dynamics_days),
        run_metadata=run_metadata(
            network.settings, family.DYNAMICS.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=dynamics.DynamicsThresholds(reference_weeks=family.REGULARITY_WEEKS),
        bounds=stockout_bounds(network.settings),
    )
