"""What the freshness documents are made from: the newest snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import dated_fingerprint
from velib_core.lake.keys import Monitoring
from velib_core.monitoring.documents import MANIFEST
from velib_core.tables.snapshots_index import newest_snapshot

if TYPE_CHECKING:
    from velib_core.lake.readable import ReadableNetwork
    from velib_core.tables.snapshots_index import Newest

JOB = "build_data_freshness"
FOLDER = "data/freshness"


def expected_fingerprint(newest: Newest) -> str:
    """Return the fingerprint of the freshness of a snapshot: its bin comes first."""
    return dated_fingerprint(newest.bin, f"{JOB} 1", [newest.entry])


def is_stale(network: ReadableNetwork) -> bool:
    """Return whether there is a snapshot newer than the freshness document."""
    layout = network.layout
    newest = newest_snapshot(network.lake, layout)
    manifest = network.lake.stat(layout.name(Monitoring(FOLDER, MANIFEST)))
    return newest is not None and (
        manifest is None or manifest.fingerprint != expected_fingerprint(newest)
    )
