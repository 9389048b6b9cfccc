"""What data health is made from: days before its window too, and the snapshot after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.jobs.recipes.closed_days import ClosedDays, Family, Inputs
from velib_core.lake.keys import Events
from velib_core.tables.history import snapshot_entries
from velib_core.timeline.bins import day_after
from velib_core.timeline.windows import days_before

if TYPE_CHECKING:
    from velib_core.lake.readable import Entry, ReadableNetwork


def _read(network: ReadableNetwork, closed: ClosedDays) -> Inputs:
    limits = network.settings.monitoring
    window = closed.window(limits.health_days)
    earlier = days_before(window, limits.drift_reference_days).utc_days()[:-1]
    after = _snapshot_after(network, closed)
    additional = {"earlier": closed.of(earlier), "after": after}
    return Inputs(closed, closed.of(window.utc_days()), additional)


def _snapshot_after(network: ReadableNetwork, closed: ClosedDays) -> list[Entry]:
    """Return the first snapshot after the newest closed day: the one that closed it."""
    if not closed.files:
        return []
    entries = snapshot_entries(network.lake, network.layout, day_after(max(closed.files)))
    return [entries[min(entries)]] if entries else []


FAMILY = Family("build_data_health", "data/health", Events, "health", _read, alerting=True)
