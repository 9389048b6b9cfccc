"""Events views → ``monitoring/data/drift``: how far the inputs moved from what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_publish import Plan, publish
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.monitoring.data import drift

if TYPE_CHECKING:
    from velib_core.events.publisher import Publisher
    from velib_core.jobs.family_publish import Documents
    from velib_core.jobs.monitoring_family import Inputs
    from velib_core.jobs.result import JobResult
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


def run(lake: Lake, settings: Settings, publisher: Publisher, *, force: bool = False) -> JobResult:
    """Bring the family up to date with the closed days."""

    def plan() -> Plan:
        inputs = family.resolve_inputs(lake, settings, family.DRIFT)
        fingerprint = family.expected_fingerprint(settings, family.DRIFT, inputs)
        return Plan(fingerprint, inputs.entries, lambda: _make(lake, settings, inputs))

    place = family.DRIFT
    return publish(lake, settings, place.folder, place.job, plan, publisher=publisher, force=force)


def _make(lake: Lake, settings: Settings, inputs: Inputs) -> Documents:
    window, reference = family.drift_windows(inputs.closed, settings)
    limits = settings.monitoring.of("drift", but=("days", "reference_days"))
    return drift.build(
        family.read_days(lake, inputs.files, drift.COLUMNS),
        window=window,
        reference_days=len(reference.days),
        run_metadata=run_metadata(
            settings, family.DRIFT.folder, inputs.closed.as_of, inputs.entries
        ),
        thresholds=drift.DriftThresholds(**limits),
        bounds=stockout_bounds(settings),
    )
