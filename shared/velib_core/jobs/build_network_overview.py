"""The newest snapshot → ``monitoring/network/overview``: the network now, today, and as usual.

What it needs of the past are small sums of each closed day, made once when the day's events are
exported; of today it reads the snapshots, each once an instance.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from velib_core.events.job import JobResult
from velib_core.jobs import monitoring_family as family
from velib_core.jobs.family_update import Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata, stockout_bounds
from velib_core.jobs.recipes import overview as recipe
from velib_core.lake.artefact import Artefact
from velib_core.lake.keys import Events, OverviewDay
from velib_core.lake.readable import UnreadableObjectError
from velib_core.logs import log
from velib_core.monitoring.network import overview
from velib_core.monitoring.network.day_sums import HISTORY_COLUMNS, SLOT_BINS, DaySums, summarise
from velib_core.tables import history, npz
from velib_core.tables import views as datasets
from velib_core.tables.npz import ArraysError
from velib_core.tables.snapshots_index import is_overtaken
from velib_core.timeline.bins import YEARS, Bin, Day, bin_start

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import NotDue
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.monitoring.documents import Documents
    from velib_core.settings.network import Settings

KEPT_SNAPSHOTS = 320
"""Parsed snapshots that a warm instance keeps: more than the longest local day has."""

_NO_SUMS = (
    ArraysError,
    UnreadableObjectError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    OSError,
)
"""What reading an archive raises that holds no sums."""

MAX_SUMS_BYTES = 32 << 20
"""The sums of a day of 1,500 stations take less than 2 MiB."""

_BINARY = "application/octet-stream"


@dataclasses.dataclass
class WarmState:
    """What an instance keeps between events: today's snapshots, and the sums of past days."""

    snapshots: history.SnapshotReader = dataclasses.field(
        default_factory=lambda: history.SnapshotReader(KEPT_SNAPSHOTS)
    )
    days: dict[tuple[str, int], DaySums | None] = dataclasses.field(default_factory=dict)


def run(
    network: Network,
    warm: WarmState,
    arrived: Bin | None = None,
    *,
    force: bool = False,
) -> JobResult:
    """Build the overview of the newest snapshot, if that is the one that arrived.

    ``arrived`` is the bin of the snapshot that the event is about; ``None`` asks for the newest,
    whichever it is.
    """
    if is_overtaken(network.lake, arrived, warm.snapshots):
        return JobResult(recipe.JOB, counts={"overtaken": 1})

    def plan() -> Plan | NotDue:
        inputs = recipe.resolve_inputs(network, arrived, warm.snapshots if arrived else None)
        if inputs is None and arrived is not None:
            return "overtaken"
        return Plan(
            recipe.expected_fingerprint(network.settings, inputs),
            inputs.entries if inputs else [],
            lambda: _make(network, warm, inputs),
        )

    return update_family(network, recipe.FOLDER, recipe.JOB, plan, force=force)


def run_for_days(network: Network, warm: WarmState, *, force: bool = False) -> JobResult:
    """Sum up the closed days whose sums are missing or stale, then build the overview."""
    summed = [sum_day(network, day) for day in recipe.days_to_sum(network)]
    result = run(network, warm, force=force)
    for day in summed:
        result.outputs |= day.outputs
    return result


def sum_day(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Sum a closed day up; one whose view cannot be read has no sums until it is made again."""
    layout = network.layout
    name = layout.name(OverviewDay(day))

    def make(current: Entry | None) -> Artefact | None:
        events = network.lake.stat(layout.name(Events(day)))
        if events is None:
            return None
        fingerprint = recipe.sums_fingerprint(events)
        if current and current.fingerprint == fingerprint and not force:
            return None
        table = next(family.read_days(network.lake, [events], HISTORY_COLUMNS), None)
        sums = summarise(table) if table is not None else None
        return Artefact(sums_to_bytes(sums), _BINARY, fingerprint)

    return JobResult(recipe.JOB, {name: network.lake.update(name, make, force=force)})


def sums_to_bytes(sums: DaySums | None) -> bytes:
    """Write the sums of a day as named arrays; of an empty day none."""
    sink = io.BytesIO()
    arrays = {} if sums is None else {**vars(sums), "start": np.array(sums.start)}
    np.savez_compressed(sink, **arrays)
    return sink.getvalue()


def sums_from_bytes(data: bytes) -> DaySums | None:
    """Read the sums of a day; nothing is unpickled."""
    arrays: dict[str, Any] = npz.read(data, MAX_SUMS_BYTES)
    if "start" not in arrays:
        return None
    sums = DaySums(Bin(int(arrays["start"])), arrays["ids"], arrays["network"], arrays["stations"])
    bins, ids = len(sums.network), sums.ids
    shapes = sums.network.shape, sums.stations.shape
    types = [array.dtype.kind for array in (sums.network, sums.stations, ids)]
    expected = (bins, 5), (bins // SLOT_BINS, 4, len(ids))
    if shapes != expected or bins % SLOT_BINS or types != ["i", "u", "U"]:
        raise ArraysError("sums", (shapes, types), f"counts of shapes {expected}")
    day = bin_start(sums.start)  # of a bin that is none: ValueError or OverflowError
    if day.year not in YEARS or (ids[1:] <= ids[:-1]).any():
        raise ArraysError("sums", (sums.start, ids[:3].tolist()), "a bin, and ids in order")
    return sums


def _make(network: Network, warm: WarmState, inputs: recipe.Inputs | None) -> Documents:
    limits = network.settings.monitoring
    tables = list(warm.snapshots.tables(network.lake, inputs.today)) if inputs else []
    now = bin_start(inputs.newest) if inputs else dt.datetime.now(dt.UTC)
    entries = inputs.entries if inputs else []
    return overview.build(
        [_events(pa.concat_tables(tables), network.settings)] if tables else [],
        [_sums(network.lake, warm, entry) for entry in (inputs.days if inputs else [])],
        now=now,
        run_metadata=run_metadata(network.settings, recipe.FOLDER, now, entries),
        thresholds=overview.OverviewThresholds(**limits.of("overview")),
        bounds=stockout_bounds(network.settings),
    )


def _events(rows: pa.Table, settings: Settings) -> pa.Table:
    return datasets.observations_table(
        rows,
        penury_bikes=settings.penury_bikes,
        saturation_docks=settings.saturation_docks,
    ).select(overview.COLUMNS)


def _sums(lake: ReadableLake, warm: WarmState, entry: Entry) -> DaySums | None:
    key = (entry.name, entry.generation)
    if key not in warm.days:
        for old in [known for known in warm.days if known[0] == entry.name]:
            del warm.days[old]
        try:
            warm.days[key] = sums_from_bytes(lake.read_up_to(entry, MAX_SUMS_BYTES))
        except _NO_SUMS as error:
            log("ERROR", f"{entry.name} is left out: {error}")
            warm.days[key] = None
    return warm.days[key]
