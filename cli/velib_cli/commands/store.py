"""``velib store``: the objects of a run behind the interface of the cloud's object store."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click
from google.cloud import storage
from velib_core.lake.bucket import connect
from velib_core.settings.network import Settings
from velib_local.emulator.object_store import object_store
from velib_local.mirror import MIRROR
from velib_local.writable_mirror import copy_objects

from velib_cli.targets import open_lake

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableLake

PROJECT = "local"


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder that demo or replay left.",
)
@click.option(
    "--port",
    type=click.IntRange(1024, 65535),
    default=4443,
    show_default=True,
    help="Port of this machine to serve at.",
)
def store(folder: Path, port: int) -> None:
    """Serve what a run left as a bucket, to run functions by hand.

    Answers once all objects are loaded. Prints the environment that points functions and jobs at
    it, and stays until it is interrupted. What they write is lost then; the folder stays as it is.
    """
    if not _is_free(port):
        raise click.UsageError(f"--port {port} is in use; name another, as in --port {port + 1}")
    lake, _ = open_lake(None, folder)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts jobs with the first ignored
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="velib-store-") as scratch:
        log, objects = Path(scratch) / "objects.log", Path(scratch) / "objects"
        click.echo(f"Loading the objects of {folder}", err=True)
        # At a port that nobody knows: at its own it never serves a part.
        with object_store(log, folder=objects) as loading:
            count = fill(loading, lake)
        # It answers before the last line is said, so it may be interrupted before that too.
        with (
            contextlib.suppress(KeyboardInterrupt),
            object_store(log, folder=objects, port=port) as address,
        ):
            environment = {
                "STORAGE_EMULATOR_HOST": address,
                "GCS_BUCKET_ROOT": MIRROR,
                "GOOGLE_CLOUD_PROJECT": PROJECT,
            }
            for name, value in environment.items():
                click.echo(f"export {name}={value}")
            click.echo(f"{count} objects are served at {address}; Ctrl-C ends it.", err=True)
            threading.Event().wait()


def _is_free(port: int) -> bool:
    """Return whether nothing listens on a port; one that was just closed counts as free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def fill(address: str, lake: ReadableLake) -> int:
    """Copy a lake into the bucket of a store; return how many objects it holds."""
    os.environ["STORAGE_EMULATOR_HOST"] = address
    storage.Client(project=PROJECT).create_bucket(MIRROR.removeprefix("gs://"))
    env = {"GCS_BUCKET_ROOT": MIRROR, "GOOGLE_CLOUD_PROJECT": PROJECT}
    target = connect(Settings.from_env(env))
    return copy_objects(lake, target)
