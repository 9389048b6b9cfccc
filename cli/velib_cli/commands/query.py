"""``velib query``: SQL over what a run left."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from velib_cli.options import json_option
from velib_cli.printed import harmless
from velib_cli.query import connect_views, views_of
from velib_cli.targets import open_lake

MOST_ROWS = 200
"""Rows that are printed for a person; ``--json`` prints all."""


@click.command(short_help="Ask a question of the lake in SQL.")
@click.argument("sql")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder that demo or replay left, or a copy of a bucket.",
)
@json_option
def query(sql: str, folder: Path, as_json: bool) -> None:
    """Ask a question of the lake in SQL, as in "SELECT count(*) FROM observations".

    Views: snapshots, dailies, observations, evaluations and forecast_log, of the files that there
    are; local_time(t) is the network's own clock. docs/QUERY.md has ten questions answered.
    """
    try:
        import duckdb  # noqa: PLC0415 -- an extra of its own
    except ModuleNotFoundError:
        raise click.ClickException(
            "DuckDB is not installed: .venv/bin/pip install duckdb, or the extra 'query'"
        ) from None
    _, settings = open_lake(None, folder)
    try:
        with connect_views(folder, settings) as connection:
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
