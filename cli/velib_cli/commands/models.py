"""``velib models`` and ``velib rollback``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from velib_cli.models import list_models, roll_back
from velib_cli.targets import open_lake


@click.command(short_help="List the models, their accuracy, and which is live.")
@click.option("--bucket", help="gs://BUCKET[/FOLDER] of a deployed network.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that demo or replay left.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def models(bucket: str | None, folder: Path | None, as_json: bool) -> None:
    """List the models of each horizon, their accuracy, and which is live."""
    lake, settings = open_lake(bucket, folder)
    listed = list_models(lake, settings)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in listed], indent=2))
        return
    table = Table("horizon", "version", "live", "trained on", "MAE", "lift over persistence")
    for model in listed:
        lift = "–" if model.mae_lift is None else f"{model.mae_lift:.1%}"
        table.add_row(
            f"{model.horizon_min} min",
            model.version,
            "yes" if model.live else "",
            f"{model.first_day} … {model.last_day}",
            f"{model.mae:.3f}",
            lift,
        )
    Console().print(table)


@click.command()
@click.option("--bucket", required=True, help="gs://BUCKET[/FOLDER] of a deployed network.")
@click.option(
    "--horizon", type=click.IntRange(5, 1440), required=True, help="Minutes ahead, as in 15."
)
@click.option("--to", "version", help="Version to go back to; by default the one before.")
def rollback(bucket: str, horizon: int, version: str | None) -> None:
    """Make an earlier model the live one, from the next snapshot on."""
    lake, settings = open_lake(bucket, None)
    was, now = roll_back(lake, settings, horizon, version)
    click.echo(f"h{horizon}: {was} is replaced by {now} from the next snapshot on")
