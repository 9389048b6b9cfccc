"""Digests of what an artefact is made from: its recipe, and the names and checksums of its inputs.

Equal fingerprints mean that making it again would give the same bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

from velib_core.timeline.bins import YEARS, bin_of, bin_start, iso_z

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_core.lake.readable import Entry
    from velib_core.timeline.bins import Bin


def fingerprint_of(recipe: str, inputs: Iterable[Entry]) -> str:
    """Return the digest of a recipe and of the names and contents of its inputs (hex)."""
    digest = hashlib.sha256(recipe.encode())
    for entry in sorted(inputs, key=lambda e: e.name):
        digest.update(f"\n{entry.name} {entry.crc32c}".encode())
    return digest.hexdigest()[:32]


def dated_fingerprint(newest: Bin, recipe: str, inputs: Iterable[Entry]) -> str:
    """Return a fingerprint that begins with the bin of the newest input: they sort by age."""
    return f"{iso_z(bin_start(newest))} {fingerprint_of(recipe, inputs)}"


def dated_bin(fingerprint: str | None) -> Bin | None:
    """Return the bin that a dated fingerprint begins with; ``None`` for any other."""
    try:
        instant = dt.datetime.fromisoformat((fingerprint or "").partition(" ")[0])
    except ValueError:
        return None
    return bin_of(instant) if instant.year in YEARS else None
