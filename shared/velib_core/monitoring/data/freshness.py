"""Freshness: how old what the newest snapshot says was when it arrived.

A station's age is counted from its own last report, the feed's from the time it says it was
made, the weather's from the newest weather hour that is not in the future. No age is negative:
a clock ahead of ours is as fresh as can be.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.monitoring.documents import OK, Documents, RunMetadata, Status, with_manifest
from velib_core.timeline.bins import bin_of, bin_start, iso_z

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VERSION = "v1"

DOCUMENT = "freshness.json"

COLUMNS = ("ts_utc", "tbin_utc", "station_id", "last_reported_utc")
"""Columns of the snapshot that are read."""

TOP = 50


def build(
    snapshot: pa.Table,
    *,
    now: dt.datetime,
    run_metadata: RunMetadata,
    weather_times: Sequence[dt.datetime] = (),
) -> Documents:
    """Make the documents of ``data/freshness``.

    Parameters
    ----------
    snapshot
        The newest snapshot, with `COLUMNS`; may have no rows.
    now
        When it was ingested.
    weather_times
        The times that the known weather values stand for; those after ``now`` are forecasts.

    """
    at = _seconds(now)
    reported = _column(snapshot, "last_reported_utc")
    known = np.isfinite(reported)
    ages = np.maximum(at - reported[known], 0) / 60
    ids = np.asarray(snapshot["station_id"].to_pylist(), object)[known]
    p50, p95 = np.quantile(ages, [0.5, 0.95]) if len(ages) else (None, None)
    oldest = sorted(zip((-ages).tolist(), ids.tolist(), strict=True))[:TOP]
    feed = _column(snapshot, "ts_utc")
    document = {
        "now_utc": iso_z(now),
        "stations": {
            "count": len(pc.unique(snapshot["station_id"])),
            "without_report": int((~known).sum()),
            "freshness": {
                "p50_min": p50,
                "p95_min": p95,
                "max_min": float(ages.max()) if len(ages) else None,
            },
            "top_oldest": [{"station_id": sid, "freshness_min": -age} for age, sid in oldest],
        },
        "feed": {"freshness_min": _age(at, feed)},
        "weather": _weather(at, weather_times),
        "meta": {
            "bin_t_utc": iso_z(bin_start(bin_of(_instant(feed.max())))) if len(feed) else None,
            "schema": VERSION,
        },
    }
    return with_manifest(
        {DOCUMENT: document},
        run_metadata,
        VERSION,
        status=_status(snapshot, known),
        window_days=None,
        windows={},
    )


def _status(snapshot: pa.Table, known: NDArray[np.bool_]) -> Status:
    if not snapshot.num_rows:
        return Status("no_data", "the snapshot has no stations")
    if not known.any():
        return Status("partial", "no station says when it last reported")
    return OK


def _weather(at: float, times: Sequence[dt.datetime]) -> dict[str, float | str | None]:
    past = [seconds for seconds in map(_seconds, times) if seconds <= at]
    if not past:
        return {"freshness_min": None, "reason": "the snapshot has no weather"}
    return {"freshness_min": (at - max(past)) / 60, "reason": None}


def _age(at: float, seconds: NDArray[np.float64]) -> float | None:
    known = seconds[np.isfinite(seconds)]
    return float(max(at - known.max(), 0) / 60) if len(known) else None


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    stamps = pc.floor_temporal(table[name], unit="second").cast(pa.timestamp("s"))
    seconds = pc.cast(pc.cast(stamps, pa.int64()), pa.float64())
    return np.asarray(seconds.to_numpy(zero_copy_only=False), np.float64)


def _seconds(instant: dt.datetime) -> float:
    return (instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)).timestamp()


def _instant(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(float(seconds), dt.UTC)
