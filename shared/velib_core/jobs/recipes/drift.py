"""What data drift is made from: a window of closed days and the reference before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs
from velib_core.lake.keys import Events
from velib_core.timeline.windows import days_before

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.timeline.windows import LocalDays


def windows(closed: ClosedDays, settings: Settings) -> tuple[LocalDays, LocalDays]:
    """Return the current window of the drift and the reference before it."""
    limits = settings.monitoring
    days, before = closed.share(limits.drift_days, limits.drift_reference_days)
    window = closed.window(days)
    return window, days_before(window, before)


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    window, reference = windows(closed, network.settings)
    return Inputs(closed, closed.of([*reference.utc_days(), *window.utc_days()]))


FAMILY = Family("build_data_drift", "data/drift", Events, "drift", _read, alerting=True)
