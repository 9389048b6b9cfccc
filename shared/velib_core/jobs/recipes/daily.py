"""What a daily is made from: all snapshots of its day."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from velib_core.lake.readable import Entry

RECIPE = "compact_daily 2"


def fingerprint(listing: Sequence[Entry]) -> str:
    """Return the fingerprint that a daily of these snapshots must carry."""
    return fingerprint_of(RECIPE, listing)


def is_stale(listing: Sequence[Entry], daily: Entry | None) -> bool:
    """Return whether a daily was made from other snapshots (`Layout.bronze_day`) than there are."""
    if not listing:
        return False
    return daily is None or daily.fingerprint != fingerprint(listing)
