"""What the jobs of monitoring families share: one run, reading day files, facts of a run.

Every instant is the data's own, not the clock's on the wall: a replay writes the same documents.
"""

from __future__ import annotations

import datetime as dt
import io
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from velib_core import logs
from velib_core.jobs.family_update import Plan, update_family
from velib_core.lake.readable import UnreadableObjectError
from velib_core.monitoring.documents import RunMetadata, StockoutBounds
from velib_core.monitoring.panels import day_panel
from velib_core.tables import day_rows, parquet
from velib_core.tables.views import COLUMN_TYPES, VIEW_LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Family, Inputs
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.monitoring.documents import Documents
    from velib_core.settings.network import Settings
    from velib_core.tables.panel import Stations


class FamilyJob(Protocol):
    """The job of a family of closed days."""

    def __call__(self, network: Network, *, force: bool = False) -> JobResult:
        """Bring the family up to date with the closed days."""


def job_of(family: Family, make: Callable[[Network, Inputs], Documents]) -> FamilyJob:
    """Return the job of a family; ``make`` reads the inputs and returns the documents."""

    def run(network: Network, *, force: bool = False) -> JobResult:
        def plan() -> Plan:
            inputs = family.inputs(network)
            fingerprint = family.fingerprint(network.settings, inputs)
            return Plan(fingerprint, inputs.entries, partial(make, network, inputs))

        alerting = family.alerting
        return update_family(
            network, family.folder, family.job, plan, alerting=alerting, force=force
        )

    return run


_UNREADABLE = (
    parquet.ParquetError,
    UnreadableObjectError,
    pa.ArrowException,
    OSError,
    ValueError,
    KeyError,
)


def _read_day(lake: ReadableLake, entry: Entry, columns: Sequence[str]) -> pa.Table:
    """Read columns of a day file; strings stay dictionaries, at a fraction of the memory.

    Raises `velib_core.tables.parquet.ParquetError` for what unpacks to more than a day can hold,
    and for values that no view has.
    """
    data = lake.read_up_to(entry, VIEW_LIMITS.file_bytes)
    parquet.check(data, VIEW_LIMITS, columns)
    table = pq.read_table(
        io.BytesIO(data),
        columns=list(columns),
        read_dictionary=["station_id", "name", "model_version"],
        page_checksum_verification=True,
    )
    return day_rows.checked(table.select(list(columns)), COLUMN_TYPES)


def read_days(
    lake: ReadableLake, entries: Iterable[Entry], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Read day files one after another, in the order given.

    One that is no Parquet, or lacks a column, is named in the log and left out: its day is
    missing from the figures, which say so, and the others are used.
    """
    for entry in entries:
        try:
            table = _read_day(lake, entry, columns)
        except _UNREADABLE as error:
            logs.log("ERROR", f"{entry.name} is left out: {error}")
            continue
        yield table


_DESCRIBED = ("tbin_utc", "station_id", "bikes", "name", "lat", "lon", "capacity")


def run_metadata(
    settings: Settings, folder: str, generated_at: dt.datetime, inputs: Iterable[Entry]
) -> RunMetadata:
    """Return the run metadata of a family's folder, made from these objects."""
    return RunMetadata(
        generated_at=generated_at,
        tz=settings.tz,
        latest_prefix=f"{settings.monitoring_prefix}/{folder}/latest",
        exports_prefix=settings.exports_prefix,
        inputs={entry.name: entry.crc32c for entry in inputs},
    )


def instant_of(table: pa.Table) -> dt.datetime:
    """Return when the newest row of a table was observed, by the feed's clock (aware, UTC)."""
    newest: dt.datetime = pc.max(table["ts_utc"].cast(pa.timestamp("s"))).as_py()
    return newest.replace(tzinfo=dt.UTC)


def stations_in(lake: ReadableLake, views: Iterable[Entry]) -> Stations | None:
    """Return the stations of the last readable one of these observations tables, if any."""
    found = None
    for table in read_days(lake, views, _DESCRIBED):
        panel = day_panel(table, ("bikes",))
        found = panel.stations if panel is not None else found
    return found


def stockout_bounds(settings: Settings) -> StockoutBounds:
    """Return the bounds behind the flags of the observations tables."""
    return StockoutBounds(penury=settings.penury_bikes, saturation=settings.saturation_docks)
