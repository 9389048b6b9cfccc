"""A city in a local cloud whose functions are checked by a rule, operation by operation."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING

import network
from permission_proxy import behind_proxy
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_local.emulator.cloud import local_cloud
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from permission_proxy import Rule
    from velib_core.events.messages import Message
    from velib_core.timeline.bins import Bin
    from velib_local.emulator.cloud import LocalCloud

START = dt.datetime(2025, 11, 28, tzinfo=dt.UTC)
SETTINGS = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30", "MON_HORIZONS": "60"}
SETTINGS |= {"DELETE_AFTER_COMPACT": "1"}


@dataclasses.dataclass
class Run:
    """A local cloud and the city that it is fed with."""

    cloud: LocalCloud
    feed: FeedServer
    city: City

    def live(self, hours: int, every: int = 15, *, in_step: bool = False) -> None:
        """Let the city live on, with a snapshot every so many minutes, until all is handled.

        ``in_step`` waits after each one: which forecasts are published, and so enter the log,
        is otherwise a matter of time.
        """
        for _ in range(0, hours * 60, every):
            self.feed.show(self.city.state())
            self.cloud.trigger_ingest()
            if in_step:
                self.cloud.wait_until_idle()
            self.city.advance(self.city.now + dt.timedelta(minutes=every))
        self.cloud.wait_until_idle()

    def put(self, bin_: Bin, data: bytes) -> None:
        """Write a snapshot's object from outside, whatever it holds."""
        network.put(self.cloud.lake, Layout(self.cloud.settings).name(Snapshot(bin_)), data)
        self.cloud.wait_until_idle()

    def ask(self, message: Message) -> None:
        """Publish a message and wait until all that it causes is handled."""
        self.cloud.publish(message)
        self.cloud.wait_until_idle()

    def content(self) -> dict[str, str]:
        """Return every object's checksum; models' reports without when they were written."""
        found = {}
        for entry in self.cloud.lake.entries(""):
            found[entry.name] = entry.crc32c
            if entry.name.startswith("models/") and entry.name.endswith(".json"):
                report = json.loads(self.cloud.lake.read(entry))
                report.pop("built_at_utc", None)
                found[entry.name] = json.dumps(report)
        return found


@contextlib.contextmanager
def running(
    rule: Rule | None = None,
    only: Sequence[str] | None = None,
    logs: Path | None = None,
    **settings: str,
) -> Iterator[Run]:
    """Start a cloud whose functions are checked by a rule, and a city."""
    with FeedServer() as feed:
        env = feed.environment() | SETTINGS | settings
        proxy = behind_proxy(rule) if rule else None
        with local_cloud(env, proxy=proxy, only=only, logs=logs) as cloud:
            yield Run(cloud, feed, City(12, start=START))
