"""The Parquet files of a lake as views of DuckDB: pure SQL over what a folder holds."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from velib_core.lake.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    from velib_core.lake.readable import ReadableLake
    from velib_core.settings.network import Settings


def views_of(settings: Settings) -> dict[str, str]:
    """Return the files of each view, as patterns below the root of the lake."""
    layout = Layout(settings)
    return {
        "snapshots": f"{layout.bronze}/date=*/hour=*/*.parquet",
        "dailies": f"{layout.daily}/compact_*.parquet",
        "observations": f"{layout.exports}/events_*.parquet",
        "evaluations": f"{layout.exports}/perf_*.parquet",
        "forecast_log": f"{layout.exports}/served_*.parquet",
    }


def copy_files(lake: ReadableLake, settings: Settings, sql: str, folder: Path) -> int:
    """Copy the files of the views that a question names into a folder; return their number.

    They keep their names. What a question does not name is not downloaded.
    """
    count = 0
    for name, pattern in views_of(settings).items():
        if not re.search(rf"\b{name}\b", sql, re.IGNORECASE):
            continue
        start = pattern[: pattern.index("*")]
        for entry in lake.entries(start):
            if not PurePosixPath(entry.name).match(pattern):
                continue
            target = folder / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lake.read(entry))
            count += 1
    return count


def connect_views(folder: Path, settings: Settings) -> duckdb.DuckDBPyConnection:
    """Return a connection in memory with a view of each kind of file that the folder holds.

    ``local_time(t)`` turns a UTC stamp into the network's own clock. A file of an older schema
    has nulls where a column is missing.
    """
    import duckdb  # noqa: PLC0415 -- an extra of its own

    connection = duckdb.connect()
    for name, pattern in views_of(settings).items():
        if next(folder.glob(pattern), None) is not None:
            files = _quoted(str(folder / pattern))
            source = f"read_parquet({files}, union_by_name = true, hive_partitioning = false)"
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}")  # noqa: S608 -- ours
    local = f"timezone({_quoted(settings.tz)}, timezone('UTC', t::TIMESTAMP))"
    connection.execute(f"CREATE MACRO local_time(t) AS {local}")
    return connection


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
