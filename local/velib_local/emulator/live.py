"""Follow the real feed in the local cloud: ingest every five minutes, keep each object."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import threading
from typing import TYPE_CHECKING

import click
from velib_core.lake.bucket import connect
from velib_core.settings.network import Settings
from velib_core.timeline.bins import BIN_SECONDS

from velib_local.emulator import run
from velib_local.emulator.cloud import deployed
from velib_local.emulator.servers import BUCKET, local_servers
from velib_local.mirror import FolderLake
from velib_local.records import RECORDS
from velib_local.writable_mirror import copy_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from velib_local.emulator.run import ChainReport
    from velib_local.emulator.servers import PubSubKind

VELIB = "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/gbfs.json"
"""Vélib' Métropole's own feed: https://www.velib-metropole.fr/donnees-open-data-gbfs-du-service-velib-metropole"""

FEED_RECORD = "feed.json"
"""In the records of a run: which feed it follows."""


def follow_feed(
    out: Path,
    count: int,
    pubsub: PubSubKind,
    train_every_days: int,
    kept: Callable[[ChainReport], None],
) -> ChainReport | None:
    """Poll the feed of the environment's settings so many times, or until interrupted.

    An interrupt ends it after the current snapshot, a second one at once. After each one every
    object is written below ``out`` and ``kept`` is called. An earlier run of the same feed that was
    left there continues: its objects are in the bucket before the first trigger. Returns the last
    report, ``None`` where it was interrupted before the first.

    Raises ``click.UsageError`` where the folder holds something else.
    """
    env = {"GBFS_URL": VELIB, **os.environ, "GCS_BUCKET_ROOT": f"gs://{BUCKET}"}
    settings = Settings.from_env(env)
    _claim(out, settings.gbfs_url)
    last = None
    with _interrupted() as over, local_servers(kind=pubsub, logs=out / RECORDS) as servers:
        copy_objects(FolderLake(out), connect(settings))
        with deployed(servers, {"GBFS_URL": settings.gbfs_url}) as cloud:
            for last in run.follow(cloud, moments(count, over), train_every_days):
                run.keep(cloud, last, out)
                kept(last)
    return last


def moments(count: int, over: threading.Event) -> Iterator[None]:
    """Yield at once, and then as each 5-minute bin begins, until it is ``over``."""
    for n in range(count):
        if n:
            now = dt.datetime.now(dt.UTC).timestamp()
            over.wait(BIN_SECONDS - now % BIN_SECONDS)
        if over.is_set():
            return
        yield


@contextlib.contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Yield what the first interrupt sets; only a second one breaks into what is under way."""
    over = threading.Event()

    def note(_signal: int, _frame: object) -> None:
        if over.is_set():
            raise KeyboardInterrupt
        over.set()
        click.echo("Ends after this snapshot; once more, and it ends at once.", err=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield over
    finally:
        signal.signal(signal.SIGINT, before)


def _claim(out: Path, feed: str) -> None:
    """Note that the folder follows a feed, and refuse a folder that does not."""
    record = out / RECORDS / FEED_RECORD
    if record.is_file():
        held = json.loads(record.read_text("utf-8"))["gbfs_url"]
        if held != feed:
            raise click.UsageError(f"--out {out} follows {held}, not {feed}")
    elif out.exists() and any(out.iterdir()):
        raise click.UsageError(f"--out {out} is not empty and follows no feed")
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"gbfs_url": feed}), "utf-8")
