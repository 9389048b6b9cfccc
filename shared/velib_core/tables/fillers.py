"""Numbers that stand for "unknown": they have the right type and no station can have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.tables.snapshot import nullify, refuse

if TYPE_CHECKING:
    from velib_core.tables.defects import Defect

FILLERS = (999, 9999, 1023, 2047, 4095)
"""Counts that programs write for "unknown" or "always room". The largest stations of the world
hold some hundreds of bikes."""

BIKES_PER_DOCK, BIKES_WITHOUT_DOCK = 10, 100
"""At events, and where few docks are, bikes stand without one, but never in such numbers."""

SPARE_SHARE, SPARE = 0.5, 5
"""A published capacity may be out of date by so many docks, and this share of it."""


def without_fillers(table: pa.Table) -> tuple[pa.Table, list[Defect]]:
    """Return snapshot rows without filler values, and what they were.

    ``docks_available`` beyond what a station of this ``capacity`` can have becomes null, and so do
    a filler as ``docks_available`` or ``capacity``, and a place at 0°, 0° or −1°, −1°. A row
    whose ``bikes`` are a filler beyond its capacity, or many times that, is refused.
    """
    defects: list[Defect] = []
    fillers = pa.array(FILLERS, pa.int64())

    def is_filler(name: str) -> pa.ChunkedArray:
        return pc.is_in(table[name], fillers)

    def beyond(name: str, most: pa.ChunkedArray, *, unknown: bool) -> pa.ChunkedArray:
        more = pc.greater(pc.cast(table[name], pa.float64(), safe=False), most)
        return pc.fill_null(more, fill_value=unknown)

    table = nullify(table, "capacity", is_filler("capacity"), "docks of one station", defects)
    capacity = pc.cast(table["capacity"], pa.float64(), safe=False)
    known = pc.if_else(pc.greater(capacity, 0), capacity, None)
    most = pc.add(pc.multiply(known, 1 + SPARE_SHARE), SPARE)
    too_many = beyond("docks_available", most, unknown=False)
    no_count = pc.or_(is_filler("docks_available"), too_many)
    table = nullify(table, "docks_available", no_count, "free docks of one station", defects)
    at_sea = pc.is_in(table["lat"], pa.array([0.0, -1.0]))
    nowhere = pc.and_(at_sea, pc.equal(table["lat"], table["lon"]))
    for name in ("lat", "lon"):
        table = nullify(table, name, nowhere, "a place on land", defects)
    no_bikes = pc.and_(is_filler("bikes"), beyond("bikes", most, unknown=True))
    possible = pc.add(pc.multiply(known, BIKES_PER_DOCK), BIKES_WITHOUT_DOCK)
    no_bikes = pc.or_(no_bikes, beyond("bikes", possible, unknown=False))
    return refuse(table, [("bikes", no_bikes, "bikes of one station")], defects), defects
