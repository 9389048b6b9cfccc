"""``velib query``: SQL over what a run left."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from velib_cli.options import bucket_option, folder_option, json_option, settings_option
from velib_cli.printed import harmless
from velib_cli.query import connect_views, copy_files, views_of
from velib_cli.targets import open_lake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.readable import ReadableLake
    from velib_core.settings.network import Settings

MOST_ROWS = 200
"""Rows that are printed for a person; ``--json`` prints all."""


@contextlib.contextmanager
def _files(lake: ReadableLake, settings: Settings, sql: str, folder: Path | None) -> Iterator[Path]:
    """Yield the folder of the files: the lake's own, or one with copies of a bucket's."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="velib-query-") as scratch:
        count = copy_files(lake, settings, sql, Path(scratch))
        click.echo(f"{count} files read from {settings.root}", err=True)
        yield Path(scratch)


@click.command(short_help="Ask a question of the lake in SQL.")
@click.argument("sql")
@bucket_option
@folder_option
@settings_option
@json_option
def query(
    sql: str, bucket: str | None, folder: Path | None, settings_file: Path | None, as_json: bool
) -> None:
    """Ask a question of the lake in SQL, as in "SELECT count(*) FROM observations".

    Views: snapshots, dailies, observations, evaluations and forecast_log, of the files that there
    are; local_time(t) is the network's own clock. docs/QUERY.md has ten questions answered. The
    files of the views that a question names are downloaded from a bucket, and deleted afterwards.
    """
    try:
        import duckdb  # noqa: PLC0415 -- an extra of its own
    except ModuleNotFoundError:
        raise click.ClickException(
            "DuckDB is not installed: .venv/bin/pip install duckdb, or the extra 'query'"
        ) from None
    lake, settings = open_lake(bucket, folder, file=settings_file)
    try:
        with (
            _files(lake, settings, sql, folder) as place,
            connect_views(place, settings) as connection,
        ):
            answer = connection.execute(sql)
            names = [column[0] for column in answer.description or []]
            rows = answer.fetchall()
    except duckdb.Error as error:
        known = ", ".join(views_of(settings))
        said = harmless(str(error).partition("\n")[0])
        raise click.ClickException(f"{said} (the views are {known})") from None
    if as_json:
        records = [dict(zip(names, row, strict=True)) for row in rows]
        click.echo(json.dumps(records, indent=2, default=str))
        return
    table = Table(*names)
    for row in rows[:MOST_ROWS]:
        table.add_row(*(escape(harmless("–" if cell is None else cell)) for cell in row))
    Console().print(table)
    if len(rows) > MOST_ROWS:
        click.echo(f"{len(rows)} rows, the first {MOST_ROWS} of them shown; --json prints all.")
