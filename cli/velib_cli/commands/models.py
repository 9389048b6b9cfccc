"""``velib models`` and ``velib rollback``."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from velib_cli.models import list_models, roll_back
from velib_cli.options import bucket_option, folder_option, json_option, settings_option
from velib_cli.printed import harmless
from velib_cli.targets import open_lake, open_writable_lake

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="List the models, their accuracy, and which is live.")
@bucket_option
@folder_option
@settings_option
@json_option
def models(
    bucket: str | None, folder: Path | None, settings_file: Path | None, as_json: bool
) -> None:
    """List the models of each horizon, their accuracy, and which is live."""
    lake, settings = open_lake(bucket, folder, file=settings_file)
    listed = list_models(lake, settings)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(model) for model in listed], indent=2))
        return
    if not listed:
        click.echo("No model is registered yet: the first training makes one.")
        return
    table = Table("horizon", "version", "live", "trained on", "MAE", "lift over persistence")
    for model in listed:
        row = (
            f"{model.horizon_min} min",
            model.version,
            "yes" if model.live else "",
            f"{model.first_day} … {model.last_day}",
            "–" if model.mae is None else f"{model.mae:.3f}",
            "–" if model.mae_lift is None else f"{model.mae_lift:.1%}",
        )
        table.add_row(*(escape(harmless(cell)) for cell in row))
    Console().print(table)


@click.command()
@bucket_option
@folder_option
@settings_option
@click.option(
    "--horizon", type=click.IntRange(5, 1440), required=True, help="Minutes ahead, as in 15."
)
@click.option("--to", "version", help="Version to go back to; by default the one before.")
def rollback(
    bucket: str | None,
    folder: Path | None,
    settings_file: Path | None,
    horizon: int,
    version: str | None,
) -> None:
    """Make an earlier model the live one, from the next snapshot on."""
    lake, settings = open_writable_lake(bucket, folder, settings_file)
    if horizon not in settings.horizons:
        known = ", ".join(map(str, settings.horizons))
        raise click.UsageError(f"--horizon {horizon}: this network forecasts {known} minutes ahead")
    was, now = roll_back(lake, settings, horizon, version)
    click.echo(f"h{horizon}: {was} is replaced by {now} from the next snapshot on")
