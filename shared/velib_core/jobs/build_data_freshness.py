"""The newest snapshot → ``monitoring/data/freshness``: how old what it says was when it came."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.events.job import JobResult
from velib_core.jobs.family_update import Plan, update_family
from velib_core.jobs.monitoring_family import instant_of, run_metadata
from velib_core.jobs.recipes import freshness as recipe
from velib_core.lake.keys import FreshnessCopy
from velib_core.monitoring.data import freshness
from velib_core.tables.history import SnapshotReader
from velib_core.tables.snapshots_index import is_overtaken, still_newest

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import NotDue
    from velib_core.monitoring.documents import Documents
    from velib_core.tables.snapshots_index import Newest
    from velib_core.timeline.bins import Bin


def run(
    network: Network,
    arrived: Bin | None = None,
    *,
    reader: SnapshotReader | None = None,
    force: bool = False,
) -> JobResult:
    """Compute the freshness of the newest snapshot, if that is the one that arrived.

    ``arrived`` is the bin of the snapshot that the event is about; ``None`` asks for the newest,
    whichever it is. A warm instance keeps its ``reader``.
    """
    layout, reader = network.layout, reader or SnapshotReader()
    if is_overtaken(network.lake, arrived, reader):
        return JobResult(recipe.JOB, counts={"overtaken": 1})

    def plan() -> Plan | NotDue:
        newest = still_newest(network.lake, layout, arrived, reader)
        if newest is None:
            return "overtaken"
        return Plan(
            recipe.expected_fingerprint(newest),
            [newest.entry],
            lambda: _make(network, newest, reader),
        )

    copies = {freshness.DOCUMENT: layout.name(FreshnessCopy())}
    names = [freshness.DOCUMENT]
    return update_family(
        network, recipe.FOLDER, recipe.JOB, plan, force=force, names=names, copies=copies
    )


def _make(network: Network, newest: Newest, reader: SnapshotReader) -> Documents:
    (rows,) = reader.tables(network.lake, {newest.bin: newest.entry})
    now = instant_of(rows)
    return freshness.build(
        rows.select(freshness.COLUMNS),
        now=now,
        run_metadata=run_metadata(network.settings, recipe.FOLDER, now, [newest.entry]),
        weather_times=_weather_times(rows),
    )


def _weather_times(rows: pa.Table) -> list[dt.datetime]:
    stamps = pc.unique(rows["weather_utc"].drop_null().cast(pa.timestamp("s"))).to_pylist()
    return [stamp.replace(tzinfo=dt.UTC) for stamp in stamps]
