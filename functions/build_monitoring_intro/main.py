"""A family or a forecast is complete → the intro. See `velib_core.jobs.build_monitoring_intro`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import functions_framework
from velib_core.events import runtime
from velib_core.events.messages import ObjectFinalized, Trigger, UnexpectedTriggerError
from velib_core.jobs import build_monitoring_intro as job
from velib_core.lake.keys import Forecast, FreshnessCopy, Monitoring, OverviewDay, ServingManifest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloudevents.http import CloudEvent


@functions_framework.cloud_event
def build_monitoring_intro(event: CloudEvent) -> None:
    """React to a manifest: it is the last of its family to be written."""
    runtime.answer(event, _handle)


def _handle(trigger: Trigger) -> Mapping[str, object]:
    match trigger:
        case ObjectFinalized(Monitoring("intro")):
            return {}  # our own
        case ObjectFinalized(ServingManifest() | Monitoring(_, "manifest.json"), force=force):
            lake, settings, publisher = runtime.lake(), runtime.settings(), runtime.publisher()
            return job.run(lake, settings, publisher, force=force).summary()
        case ObjectFinalized(Monitoring() | FreshnessCopy() | OverviewDay() | Forecast()):
            return {}  # the manifest is written after it
        case _:
            raise UnexpectedTriggerError(trigger)
