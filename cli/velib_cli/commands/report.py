"""``velib report``: the network page from a bucket or a folder."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from velib_core.errors import PermanentError
from velib_core.lake.artefact import JSON, Artefact
from velib_core.settings.network import bucket_and_folder

from velib_cli.dead_letters import DeadLetters, dead_lettered
from velib_cli.options import bucket_option, folder_option, settings_option
from velib_cli.report.charts import report_data
from velib_cli.report.page import report_html
from velib_cli.report.places import BasemapError
from velib_cli.report.sources import read_sources
from velib_cli.run_notes import command_that_made
from velib_cli.status import inspect_lake
from velib_cli.targets import open_lake, open_writable_lake

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.lake.bucket import Lake
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
@click.option(
    "--basemap",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="GeoJSON of rivers, parks and streets to draw under the stations; kept with the lake.",
)
@click.option(
    "--tiles",
    help="Address of map tiles, as in https://HOST/{z}/{x}/{y}.png: the page asks that host.",
)
def report(
    bucket: str | None,
    folder: Path | None,
    settings_file: Path | None,
    out: Path,
    basemap: Path | None,
    tiles: str | None,
) -> None:
    """Write the network page: one HTML file that works offline.

    Station map with forecasts and risks, accuracy against "no change", drift, coverage, models
    and what made what, from the published objects alone.
    """
    if tiles is not None and not all(part in tiles for part in ("https://", "{z}", "{x}", "{y}")):
        raise click.UsageError(f"--tiles {tiles}: expected https://HOST/{{z}}/{{x}}/{{y}}.png")
    if basemap is not None:
        keep_basemap(*open_writable_lake(bucket, folder, settings_file), basemap)
    lake, settings = open_lake(bucket, folder, file=settings_file)
    size = write_report(lake, settings, out, folder, tiles)
    click.echo(f"{out}: {size / 2**20:.1f} MiB; open it in a browser.")


def write_report(
    lake: ReadableLake,
    settings: Settings,
    out: Path,
    folder: Path | None = None,
    tiles: str | None = None,
) -> int:
    """Write the page of a lake as it is now; return its size in bytes.

    ``folder`` is where the lake is mirrored, ``None`` for a bucket, whose page does not know how
    many messages were dead-lettered.
    """
    now = dt.datetime.now(dt.UTC)
    dead = dead_lettered(folder) if folder is not None else DeadLetters(None)
    place = f"--dir {folder}" if folder is not None else None
    remake = command_that_made(folder) if folder is not None else None
    live = folder is None
    state = inspect_lake(lake, settings, now, dead, live=live, place=place, remake=remake)
    basemap = read_basemap(lake, settings)
    sources = read_sources(lake, settings, dead.count, basemap, tiles, state.findings)
    page = report_html(report_data(sources, now)).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(page)
    return len(page)


def keep_basemap(lake: Lake, settings: Settings, file: Path) -> None:
    """Keep a base map with the lake, so that every later page has it; raise `BasemapError`."""
    data = file.read_bytes()
    try:
        json.loads(data)
    except ValueError as error:
        raise BasemapError("--basemap", str(file), f"GeoJSON: {error}") from error
    artefact = Artefact(data, JSON, hashlib.sha256(data).hexdigest())
    lake.update(_basemap_name(settings), lambda _: artefact)


def read_basemap(lake: ReadableLake, settings: Settings) -> Mapping[str, Any] | None:
    """Return the base map that is kept with a lake, ``None`` where there is none."""
    try:
        kept = lake.fetch_json(_basemap_name(settings))
    except PermanentError:
        return None
    return kept if isinstance(kept, dict) else None


def _basemap_name(settings: Settings) -> str:
    folder = bucket_and_folder(settings.root)[1]
    return "/".join(filter(None, (folder, "page", "basemap.geojson")))


def report_folder(folder: Path, out: Path) -> int:
    """Write the page of a mirrored lake; its run knows how many messages were dead-lettered."""
    lake, settings = open_lake(None, folder)
    return write_report(lake, settings, out, folder)
