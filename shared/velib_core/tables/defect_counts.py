"""How many defects of each kind a feed had, as the Parquet metadata of observations carries it.

A snapshot counts those of its polls, a daily and its observations table those of its snapshots.
"""

from __future__ import annotations

import collections
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from velib_core.tables.defects import Defect

DEFECTS = b"velib-defects"
"""Parquet metadata: the number of defects by kind, and of the `SNAPSHOTS` that counted them."""

SNAPSHOTS = "snapshots"
"""Distinguishes a feed without a defect from observations whose defects nobody counted."""

MAX_KINDS = 100
MAX_KIND_LENGTH = 300
MAX_COUNTED = 1_000_000_000

_NUMBERS = re.compile(r"(?<!\w)(?<!\w-)-?\d[\d:TZ.…-]*")


def kind_of(defect: Defect) -> str:
    """Return the kind of a defect: its field and expectation, whatever the numbers in it."""
    refused = " (record refused)" if defect.refused else ""
    return f"{defect.field}: {_NUMBERS.sub('…', defect.expected)}{refused}"[:MAX_KIND_LENGTH]


def count(defects: Iterable[Defect]) -> collections.Counter[str]:
    """Return how many defects of each kind a snapshot has; the rarest of very many are left out."""
    kinds = collections.Counter(map(kind_of, defects))
    return collections.Counter({SNAPSHOTS: 1, **dict(kinds.most_common(MAX_KINDS))})


def with_counts(table: pa.Table, counts: Mapping[str, int]) -> pa.Table:
    """Return the table with these counts in its metadata, which keeps what else it has."""
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != DEFECTS}
    if counts:
        metadata[DEFECTS] = json.dumps(dict(sorted(counts.items())), ensure_ascii=False).encode()
    return table.replace_schema_metadata(metadata or None)


def counts_of(table: pa.Table) -> collections.Counter[str]:
    """Return the counts that a table's metadata holds; empty where nobody counted.

    The metadata is part of an object that anyone may have written: what is no count is left out.
    """
    try:
        counted = json.loads((table.schema.metadata or {}).get(DEFECTS, b"{}"))
    except (ValueError, RecursionError):
        return collections.Counter()
    sound = {
        kind[:MAX_KIND_LENGTH]: n
        for kind, n in (counted.items() if isinstance(counted, dict) else ())
        if type(n) is int and 0 < n <= MAX_COUNTED
    }
    snapshots = sound.pop(SNAPSHOTS, 0)
    kinds = dict(collections.Counter(sound).most_common(MAX_KINDS))
    return collections.Counter({SNAPSHOTS: snapshots, **kinds} if snapshots else {})
