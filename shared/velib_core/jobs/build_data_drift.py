"""Events views → ``monitoring/data/drift``: how far the inputs moved from what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_update import Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.monitoring.data import drift

if TYPE_CHECKING:
    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import Documents
    from velib_core.jobs.monitoring_family import Inputs


def run(network: Network, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.resolve_inputs(network, family.DRIFT)
        fingerprint = family.expected_fingerprint(network.settings, family.DRIFT, inputs)
        return Plan(fingerprint, inputs.entries, lambda: _make(network, inputs))

    place = family.DRIFT
    return update_family(network, place.folder, place.job, plan, alerting=True, force=force)


def _make(network: Network, inputs: Inputs) -> Documents:
    window, reference = family.drift_windows(inputs.closed, network.settings)
    limits = network.settings.monitoring.of("drift", but=("days", "reference_days"))
    return drift.build(
        family.read_days(network.lake, inputs.files, drift.COLUMNS),
        window=window,
        reference_days=len(reference.days),
        run_metadata=run_metadata(
            network.settings, family.DRIFT.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=drift.DriftThresholds(**limits),
        bounds=stockout_bounds(network.settings),
    )
