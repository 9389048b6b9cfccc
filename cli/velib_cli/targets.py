"""The lake that a command looks at, bucket or folder, with the settings of its deployment."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click
from velib_core.lake.layout import Layout
from velib_core.settings.env import SettingsError, as_network, as_prefix
from velib_core.settings.network import Settings, bucket_and_folder
from velib_deploy.function_specs import read_settings
from velib_local.mirror import MIRROR, FolderLake
from velib_local.records import RECORDS, SETTINGS

from velib_cli.published_settings import as_published

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import ReadableLake


def deployed_settings(
    environ: Mapping[str, str],
    bucket: str,
    project: str | None = None,
    file: Path | None = None,
) -> Settings:
    """Return the settings of the network that lives in ``gs://BUCKET[/FOLDER]``.

    They are those of the file that it was deployed with, and else of the environment. A network
    is called like its folder, as deploy.sh has it, unless VELIB_NETWORK says otherwise. Raises
    `SettingsError` where the bucket is none, `FunctionSpecError` where the file is wrong.
    """
    root = as_prefix("--bucket", bucket)
    env = {**environ, **(read_settings(file) if file else {}), "GCS_BUCKET_ROOT": root}
    if project:
        env["GOOGLE_CLOUD_PROJECT"] = project
    with contextlib.suppress(SettingsError):
        env.setdefault("VELIB_NETWORK", as_network("--bucket", bucket_and_folder(root)[1]))
    return Settings.from_env(env)


def open_lake(
    bucket: str | None,
    folder: Path | None,
    project: str | None = None,
    file: Path | None = None,
) -> tuple[ReadableLake, Settings]:
    """Open a deployed lake or a mirrored one to read; exactly one of the two is to be given.

    Its settings are those of the file, for a folder those that its run left there, and else
    what the lake's own documents say; a deployed one's last resort is the environment.

    Raises ``click.UsageError`` where not exactly one is given, or where the folder holds no
    lake, and `SettingsError` where the bucket is none.
    """
    if folder is None or bucket is not None:
        return _open_bucket(bucket, folder, project, file)
    settings, given = _settings_in(folder, file)
    lake = FolderLake(folder)
    return lake, as_published(lake, settings, given)


def open_writable_lake(
    bucket: str | None, folder: Path | None, file: Path | None = None
) -> tuple[Lake, Settings]:
    """Open a lake as `open_lake` does, to write in it."""
    if folder is None or bucket is not None:
        return _open_bucket(bucket, folder, None, file)
    # It brings the client of the store, which a look at a folder does without.
    from velib_local.writable_mirror import WritableFolderLake  # noqa: PLC0415

    settings, given = _settings_in(folder, file)
    lake = WritableFolderLake(folder)
    return lake, as_published(lake, settings, given)


def _open_bucket(
    bucket: str | None, folder: Path | None, project: str | None, file: Path | None
) -> tuple[Lake, Settings]:
    if bucket is None or folder is not None:
        raise click.UsageError("give either --bucket gs://BUCKET[/FOLDER] or --dir FOLDER")
    from velib_core.lake.bucket import connect  # noqa: PLC0415 -- as above

    settings = deployed_settings(os.environ, bucket, project, file)
    lake = connect(settings)
    return lake, as_published(lake, settings, read_settings(file) if file else {})


def _settings_in(folder: Path, file: Path | None) -> tuple[Settings, dict[str, str]]:
    """Return the settings of a mirrored lake, and those of them that were given."""
    left = folder / RECORDS / SETTINGS
    given = read_settings(left) if left.is_file() else {}
    given |= read_settings(file) if file else {}
    settings = Settings.from_env({**given, "GCS_BUCKET_ROOT": MIRROR})
    if not any((folder / place).exists() for place in Layout(settings).notified.values()):
        raise click.UsageError(f"{folder} holds no objects; `velib demo` or replay leaves some")
    return settings, given
