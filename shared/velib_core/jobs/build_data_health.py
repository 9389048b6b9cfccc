"""Observations tables → ``monitoring/data/health``: coverage, duplicates, plateaus, freshness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.jobs import monitoring_family as family
from velib_core.jobs.monitoring_family import instant_of, run_metadata, stockout_bounds
from velib_core.jobs.recipes import health as recipe
from velib_core.lake.keys import Snapshot
from velib_core.monitoring.data import health
from velib_core.tables import defect_counts, snapshot, views
from velib_core.tables.history import SnapshotReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Inputs
    from velib_core.monitoring.documents import Documents


def _make(network: Network, inputs: Inputs) -> Documents:
    limits = network.settings.monitoring
    after = _events_after(network, inputs)
    now = instant_of(after) if after is not None else inputs.closed.as_of

    def tables() -> Iterator[pa.Table]:
        earlier = inputs.additional_inputs["earlier"]
        for table in family.read_days(network.lake, earlier, health.COLUMNS):
            yield snapshot.with_repeats(_last_bin(table), {})
        yield from family.read_days(network.lake, inputs.files, health.COLUMNS)
        if after is not None:
            # Of a day that has just begun: its first snapshot is no count of a day.
            yield defect_counts.with_counts(snapshot.with_repeats(after, {}), {})

    return health.build(
        tables(),
        window=inputs.closed.window(limits.health_days),
        now=now,
        run_metadata=run_metadata(network.settings, recipe.FAMILY.folder, now, inputs.entries),
        thresholds=health.HealthThresholds(**limits.of("health")),
        bounds=stockout_bounds(network.settings),
    )


def _events_after(network: Network, inputs: Inputs) -> pa.Table | None:
    """Return the events of the snapshot that closed the newest day: the age of the reports."""
    for entry in inputs.additional_inputs["after"]:
        key = network.layout.key(entry.name)
        if isinstance(key, Snapshot):
            rows = SnapshotReader().table(network.lake, key.bin, entry)
            if rows is None:
                continue
            return views.observations_table(
                rows,
                penury_bikes=network.settings.penury_bikes,
                saturation_docks=network.settings.saturation_docks,
            ).select(health.COLUMNS)
    return None


def _last_bin(table: pa.Table) -> pa.Table:
    """Return the rows of a day's last bin: that a station was there is all that is asked."""
    return table.filter(pc.equal(table["tbin_utc"], pc.max(table["tbin_utc"])))


run = family.job_of(recipe.FAMILY, _make)
"""Brings the family up to date with the closed days."""
