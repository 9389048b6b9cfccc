"""The network that a job works on: its settings, its lake and its publisher."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_core.lake.readable import ReadableNetwork

if TYPE_CHECKING:
    from velib_core.events.publisher import Publisher
    from velib_core.lake.bucket import Lake


@dataclasses.dataclass(frozen=True)
class Network(ReadableNetwork):
    """One network, to be worked on: what a job reads, writes and publishes."""

    lake: Lake
    publisher: Publisher
