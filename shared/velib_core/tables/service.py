"""What "in service" means: one rule, for ingestion, forecasts, training and monitoring alike.

A station is closed where its status says so, where it is not installed, where it neither rents
nor takes bikes back, and where it refuses what it has (bikes that it does not rent, free docks
that it does not take bikes into). Flags that only repeat the counts close nothing: many networks
say of an empty station that it does not rent, and of a full one that it takes nothing back. What
is not known counts as in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

OK, CLOSED = "OK", "CLOSED"

_OPEN = {"ok", "active", "open", "opened", "operative", "in_service", "in service", "online"}
"""What networks call a station in service, in lower case."""


def status_of(word: str) -> str:
    """Return the status that a network's word means: any that is not known for open is closed."""
    return OK if word.strip().lower() in _OPEN else CLOSED


def closed(table: pa.Table) -> pa.ChunkedArray:
    """Return of each row of snapshot columns whether its station is closed (bool, never null).

    Reads ``status``, ``is_installed``, ``is_renting``, ``is_returning``, ``bikes``,
    ``docks_available`` and ``capacity``; a column that is absent is unknown.
    """
    rents_not, takes_not = (_is(table, flag, 0) for flag in ("is_renting", "is_returning"))
    refuses_bikes = pc.and_(rents_not, _above_0(_column(table, "bikes")))
    refuses_docks = pc.and_(takes_not, _above_0(free_docks(table)))
    shut = pc.fill_null(pc.not_equal(_column(table, "status", pa.string()), OK), fill_value=False)
    for reason in (_is(table, "is_installed", 0), pc.and_(rents_not, takes_not)):
        shut = pc.or_(shut, reason)
    return pc.or_(pc.or_(shut, refuses_bikes), refuses_docks)


def in_service(table: pa.Table) -> pa.ChunkedArray:
    """Return of each row whether its station can be used: not `closed`, and not without docks."""
    return pc.and_not(pc.invert(closed(table)), _is(table, "capacity", 0))


class _ByName(Protocol):
    """A panel: its arrays ``float32[T, S]`` by the names of variables."""

    def __getitem__(self, name: str, /) -> NDArray[np.float32]: ...


def observed_in_service(panel: _ByName) -> NDArray[np.bool_]:
    """Return where a panel's stations were observed and `in_service`, ``bool[T, S]``."""
    there: NDArray[np.bool_] = ~np.isnan(panel["bikes"])
    there &= (panel["capacity"] != 0) & (panel["ok"] != 0)
    return there


def free_docks(table: pa.Table) -> pa.ChunkedArray:
    """Return the free docks of each row: as reported, else capacity − bikes, never below 0."""
    capacity, bikes = _column(table, "capacity"), _column(table, "bikes")
    computed = pc.max_element_wise(pc.subtract(capacity, bikes), 0, skip_nulls=False)
    return pc.coalesce(_column(table, "docks_available"), computed)


def _column(table: pa.Table, name: str, kind: pa.DataType | None = None) -> pa.ChunkedArray:
    kind = kind or pa.int64()
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    return pc.cast(table[name], kind, safe=False)


def _is(table: pa.Table, name: str, value: int) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(_column(table, name), value), fill_value=False)


def _above_0(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(pc.greater(column, 0), fill_value=False)
