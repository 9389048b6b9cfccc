from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import network
import pyarrow as pa
import pyarrow.parquet as pq
from velib_core.jobs import compact_daily, compact_monthly
from velib_core.lake.keys import Monthly
from velib_core.lake.layout import Layout, parse_month
from velib_core.timeline.bins import Bin, first_bin, parse_day

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

MONTH = parse_month("2025-10")
PENULTIMATE, LAST, NEXT = (parse_day(d) for d in ("2025-10-30", "2025-10-31", "2025-11-01"))


def compact(lake: Lake, settings: Settings, *days: Any, every: Any = 200) -> None:
    for day in days:
        start = first_bin(day)
        network.upload(lake, settings, [Bin(start + n) for n in range(0, 288, every)])
        compact_daily.run(network.of(lake, settings), day)


def monthly(lake: Lake, settings: Settings) -> pa.Table:
    name = Layout(settings).name(Monthly(MONTH))
    return pq.read_table(io.BytesIO(lake.fetch(name)[1]))


def test_a_month_is_left_alone_until_it_is_over(lake: Lake, settings: Settings) -> None:
    compact(lake, settings, PENULTIMATE)
    assert set(compact_monthly.run(network.of(lake, settings), MONTH).outputs.values()) == {
        "absent"
    }


def test_a_complete_month_holds_the_rows_of_its_days_and_no_others(
    lake: Lake, settings: Settings
) -> None:
    compact(lake, settings, PENULTIMATE, LAST, NEXT)
    compact_monthly.run_for_day(network.of(lake, settings), LAST)
    stamps = monthly(lake, settings)["tbin_utc"].to_pylist()
    assert len(stamps) == 2 * 2 * network.STATIONS
    assert {stamp.date() for stamp in stamps} == {PENULTIMATE, LAST}
    assert stamps == sorted(stamps)


def test_a_month_whose_last_day_is_missing_is_complete_with_the_next_one(
    lake: Lake, settings: Settings
) -> None:
    compact(lake, settings, PENULTIMATE, NEXT)
    compact_monthly.run_for_day(network.of(lake, settings), NEXT)
    assert monthly(lake, settings).num_rows == 2 * network.STATIONS


def test_a_changed_daily_makes_its_month_again(lake: Lake, settings: Settings) -> None:
    compact(lake, settings, PENULTIMATE, LAST)
    compact_monthly.run(network.of(lake, settings), MONTH)
    assert set(compact_monthly.run(network.of(lake, settings), MONTH).outputs.values()) == {"fresh"}
    compact(lake, settings, PENULTIMATE, every=100)
    compact_monthly.run(network.of(lake, settings), MONTH)
    assert monthly(lake, settings).num_rows == 5 * network.STATIONS


def test_a_january_daily_touches_december() -> None:
    touched = compact_monthly.months_touched(parse_day("2026-01-01"))
    assert touched == [parse_month("2025-12"), parse_month("2026-01")]
