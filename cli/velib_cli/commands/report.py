"""``velib report``: the network page from a bucket or a folder."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from velib_cli.dead_letters import dead_lettered
from velib_cli.options import bucket_option, folder_option, settings_option
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html
from velib_cli.report.sources import read_sources
from velib_cli.targets import open_lake

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableLake
    from velib_core.settings.network import Settings


@click.command()
@bucket_option
@folder_option
@settings_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The page.",
)
def report(bucket: str | None, folder: Path | None, settings_file: Path | None, out: Path) -> None:
    """Write the network page: one HTML file that works offline.

    Station map with forecasts and risks, accuracy against "no change", drift, coverage, models
    and what made what, from the published objects alone.
    """
    if folder is not None and bucket is None:
        size = report_folder(folder, out, settings_file)
    else:
        size = write_report(*open_lake(bucket, folder, file=settings_file), out)
    click.echo(f"{out}: {size / 2**20:.1f} MiB; open it in a browser.")


def write_report(
    lake: ReadableLake, settings: Settings, out: Path, dead_letters: int | None = None
) -> int:
    """Write the page of a lake as it is now; return its size in bytes."""
    sources = read_sources(lake, settings, dead_letters)
    page = report_html(report_data(sources, dt.datetime.now(dt.UTC))).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(page)
    return len(page)


def report_folder(folder: Path, out: Path, settings_file: Path | None = None) -> int:
    """Write the page of a mirrored lake; its run knows how many messages were dead-lettered."""
    lake, settings = open_lake(None, folder, file=settings_file)
    return write_report(lake, settings, out, dead_lettered(folder).count)
