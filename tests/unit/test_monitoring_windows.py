"""Local calendar windows, against pandas' own reading of the zone rules."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from velib_core.timeline import windows
from velib_core.timeline.bins import BINS_PER_DAY, bin_start

PARIS = "Europe/Paris"
ZONES = ["Europe/Paris", "America/Chicago", "Asia/Taipei", "Asia/Kolkata", "America/Santiago"]


@given(
    as_of=st.datetimes(dt.datetime(2023, 1, 1), dt.datetime(2027, 1, 1)),
    count=st.integers(1, 40),
    tz=st.sampled_from(ZONES),
)
def test_complete_days_hold_exactly_the_bins_whose_local_date_lies_before_today(
    as_of: dt.datetime, count: int, tz: Any
) -> None:
    window = windows.complete_days(as_of, count, tz)
    today = pd.Timestamp(as_of, tz="UTC").tz_convert(tz).date()
    hours = pd.date_range(
        pd.Timestamp(as_of).floor("5min") - pd.Timedelta(days=count + 2),
        pd.Timestamp(as_of).floor("5min") + pd.Timedelta(days=1),
        freq="5min",
        tz="UTC",
    )
    dates = np.array(hours.tz_convert(tz).date)
    inside = hours[(dates < today) & (dates >= today - dt.timedelta(days=count))]
    assert bin_start(window.start) == inside[0].to_pydatetime()
    assert window.bins == len(inside)
    assert window.days == tuple(sorted(set(inside.tz_convert(tz).date)))


@pytest.mark.parametrize(
    ("as_of", "hours"),
    [("2025-03-31T03:00", 23), ("2025-10-27T03:00", 25), ("2025-06-02T03:00", 24)],
)
def test_a_day_is_as_long_as_its_clock_says(as_of: str, hours: int) -> None:
    window = windows.complete_days(dt.datetime.fromisoformat(as_of), 1, PARIS)
    assert window.bins == hours * 12


def test_a_window_across_a_clock_change_still_starts_and_ends_at_midnight() -> None:
    window = windows.complete_days(dt.datetime(2025, 10, 29, 0, 10), 7, PARIS)
    assert window.as_json() == {
        "start_utc": "2025-10-21T22:00:00Z",
        "end_utc": "2025-10-28T23:00:00Z",
        "first_day_local": "2025-10-22",
        "last_day_local": "2025-10-28",
        "days": 7,
    }


def test_the_files_of_a_window_are_the_utc_days_it_touches() -> None:
    window = windows.complete_days(dt.datetime(2025, 11, 10, 12), 2, PARIS)
    assert [str(day) for day in window.utc_days()] == ["2025-11-07", "2025-11-08", "2025-11-09"]


def test_the_reference_ends_where_the_window_starts() -> None:
    window = windows.complete_days(dt.datetime(2025, 11, 3, 12), 3, PARIS)
    reference = windows.days_before(window, 9)
    assert reference.stop == window.start
    assert reference.days[0] == dt.date(2025, 10, 22)
    assert reference.bins == 9 * BINS_PER_DAY + 12


def test_today_so_far_ends_with_the_bin_in_progress() -> None:
    today = windows.today_so_far(dt.datetime(2025, 11, 3, 12, 7), PARIS)
    assert bin_start(today.start) == dt.datetime(2025, 11, 2, 23, tzinfo=dt.UTC)
    assert bin_start(today.stop) == dt.datetime(2025, 11, 3, 12, 10, tzinfo=dt.UTC)


def test_a_window_of_no_days_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 day"):
        windows.complete_days(dt.datetime(2025, 11, 3), 0, PARIS)


@pytest.mark.parametrize(
    ("history", "expected"),
    [(60, (14, 28)), (42, (14, 28)), (21, (7, 14)), (8, (3, 5)), (2, (1, 1)), (0, (1, 1))],
)
def test_a_young_network_is_compared_with_the_past_it_has(history: int, expected: Any) -> None:
    as_of = dt.datetime(2025, 11, 20, 12)
    first = dt.date(2025, 11, 20) - dt.timedelta(days=history)
    assert windows.share_of_history(as_of, first, 14, 28, PARIS) == expected


def test_days_with_observations_are_counted_by_the_local_calendar() -> None:
    window = windows.complete_days(dt.datetime(2025, 10, 29, 0, 10), 7, PARIS)
    seen = np.zeros((window.bins, 2), bool)
    # 26 October has 25 hours: its last bin and the first of the next day.
    last = window.edges[5] - 1 - window.start
    seen[last, 1] = True
    assert window.days_with(seen) == 1
    seen[last + 1, 0] = True
    assert window.days_with(seen) == 2
