"""What was wrong with the feed, by kind and day, and which kinds are new."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

from velib_core.monitoring.documents import Alert
from velib_core.tables.defect_counts import SNAPSHOTS
from velib_core.timeline.bins import day_after

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from velib_core.timeline.bins import Day

DOCUMENT = "feed_defects.json"

WEEK = 7
"""Days in which a kind must not have been for it to be new."""


def rows(
    counts: Mapping[Day, collections.Counter[str]], days: Collection[Day]
) -> list[dict[str, Any]]:
    """Return a row for each of the days that were counted, in order, its kinds most often first.

    ``counts`` are those of `velib_core.tables.defect_counts.counts_of`, by UTC day.
    """
    return [
        {
            "day": day.isoformat(),
            "snapshots": counts[day][SNAPSHOTS],
            "kinds": [{"kind": kind, "count": n} for kind, n in _kinds(counts[day]).most_common()],
        }
        for day in sorted(counts.keys() & set(days))
        if counts[day]
    ]


def alerts(counts: Mapping[Day, collections.Counter[str]]) -> list[Alert]:
    """Return an alert for each field with a kind that is new on the newest day.

    There is none where no day of the week before was counted: then every kind would be new.
    """
    newest = max((day for day in counts if counts[day]), default=None)
    if newest is None:
        return []
    before = [counts.get(day_after(newest, -n), collections.Counter()) for n in range(1, WEEK + 1)]
    if not any(before):
        return []
    known = {kind for earlier in before for kind in earlier}
    new = {kind: n for kind, n in _kinds(counts[newest]).most_common() if kind not in known}
    by_field: dict[str, list[str]] = {}
    for kind in new:
        by_field.setdefault(kind.partition(":")[0], []).append(kind)
    return [
        Alert(
            "medium",
            f"feed_defect_{field}",
            f"new in the feed on {newest}: "
            + "; ".join(f"{kind}, {new[kind]} times" for kind in kinds),
            DOCUMENT,
            sum(new[kind] for kind in kinds),
            0.0,
        )
        for field, kinds in sorted(by_field.items())
    ]


def _kinds(counts: collections.Counter[str]) -> collections.Counter[str]:
    return collections.Counter({kind: counts[kind] for kind in sorted(counts) if kind != SNAPSHOTS})
