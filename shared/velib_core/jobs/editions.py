"""One run of a monitoring family: its edition, its instant, its bounds, out of settings and data.

Every instant is the data's own, not the clock's on the wall: a replay writes the same documents.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.jobs.monitoring_family import read_day
from velib_core.monitoring.documents import Edition, StockoutBounds
from velib_core.monitoring.observations import day_panel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_core.lake import Entry, Lake
    from velib_core.panel import Stations
    from velib_core.settings import Settings

_DESCRIBED = ("tbin_utc", "station_id", "bikes", "name", "lat", "lon", "capacity")


def edition(
    settings: Settings, folder: str, generated_at: dt.datetime, inputs: Iterable[Entry]
) -> Edition:
    """Return the edition of a family's folder, made from these objects."""
    return Edition(
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


def stations_in(lake: Lake, views: Iterable[Entry]) -> Stations | None:
    """Return the stations that the last of these events views describes; ``None`` without any."""
    found = None
    for view in views:
        panel = day_panel(read_day(lake, view, _DESCRIBED), ("bikes",))
        found = panel.stations if panel is not None else found
    return found


def stockout_bounds(settings: Settings) -> StockoutBounds:
    """Return the bounds that the flags of the events views were made with."""
    return StockoutBounds(penury=settings.penury_bikes, saturation=settings.saturation_docks)
