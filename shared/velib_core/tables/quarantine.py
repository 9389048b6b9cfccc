"""Keep what cannot be read, with the reason; the rest is processed."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.lake.artefact import JSON, Artefact, json_bytes
from velib_core.lake.readable import UnreadableObjectError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from velib_core.lake.bucket import Lake
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry
    from velib_core.tables.defects import Defect

MAX_DEFECTS_LISTED = 100
"""Enough to see what is wrong; the count covers the rest."""


@dataclasses.dataclass(frozen=True)
class Reject:
    """Bytes that were refused, wholly or in part: where they came from and why."""

    source: str
    data: bytes | None
    reason: str
    defects: Sequence[Defect] = ()


MAX_KEPT_BYTES = 64 << 20
"""A larger object is described and not copied: no function has memory to spare for it. So is
one that nobody can read."""


def keep_object(
    lake: Lake, layout: Layout, entry: Entry, reason: str, defects: Sequence[Defect] = ()
) -> None:
    """Copy an object that was refused, with the reason; see `keep`."""
    try:
        data = lake.read_up_to(entry, MAX_KEPT_BYTES)
    except UnreadableObjectError:
        data = None
    keep(lake, layout, Reject(entry.name, data, reason, defects))


def keep(lake: Lake, layout: Layout, reject: Reject, digest: str = "") -> None:
    """Copy rejected bytes and write their reason as ``.json``, once per digest.

    The digest is that of the bytes (of the reason where there are none) unless it is given.
    """
    listed = [defect.as_json() for defect in reject.defects[:MAX_DEFECTS_LISTED]]
    report = {
        "source": reject.source,
        "size": None if reject.data is None else len(reject.data),
        "reason": reject.reason,
        "defects": len(reject.defects),
        "listed": listed,
    }
    digest = digest or hashlib.sha256(reject.data or json_bytes(report)).hexdigest()[:12]
    target = layout.quarantined(reject.source, digest)
    if reject.data is not None:
        copy = Artefact(reject.data, "application/octet-stream", digest)
        lake.update(target, lambda _: copy)
    note = Artefact(json_bytes(report), JSON, digest)
    if lake.update(f"{target}.json", lambda kept: None if kept else note) == "written":
        message = f"quarantined {reject.source}: {reject.reason}"
        logs.log("ERROR", message, defects=len(reject.defects))
