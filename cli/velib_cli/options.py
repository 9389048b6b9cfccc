"""Options that several commands share; imports nothing but click, so that help stays fast."""

from __future__ import annotations

from pathlib import Path

import click

bucket_option = click.option("--bucket", help="gs://BUCKET[/FOLDER] of a deployed network.")
folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that demo or replay left.",
)
settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of settings that the network was deployed with.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
