from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from velib_core.timeline import bins
from velib_core.timeline.bins import HorizonMinutes

INSTANTS = st.datetimes(dt.datetime(1980, 1, 1), dt.datetime(2090, 1, 1))


@given(INSTANTS)
def test_an_instant_lies_in_its_bin_and_in_no_other(instant: Any) -> None:
    start = bins.bin_start(bins.bin_of(instant)).replace(tzinfo=None)
    assert start <= instant < start + dt.timedelta(minutes=5)
    assert start.minute % 5 == start.second == start.microsecond == 0


@given(INSTANTS)
def test_a_naive_instant_is_utc(instant: Any) -> None:
    assert bins.bin_of(instant) == bins.bin_of(instant.replace(tzinfo=dt.UTC))


@given(st.dates(dt.date(1980, 1, 1), dt.date(2090, 1, 1)))
def test_a_day_has_288_bins_that_all_belong_to_it(date: dt.date) -> None:
    day = bins.Day(date)
    first = bins.first_bin(day)
    assert bins.bin_start(first) == dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC)
    assert bins.day_of(first) == bins.day_of(bins.Bin(first + 287)) == day
    assert bins.day_of(bins.Bin(first + 288)) == bins.day_after(day)


@pytest.mark.parametrize("minutes", [0, -15, 7, 61])
def test_a_horizon_is_a_positive_multiple_of_a_bin(minutes: int) -> None:
    with pytest.raises(ValueError, match=str(minutes)):
        bins.horizon_bins(HorizonMinutes(minutes))


def test_horizons_convert_both_ways() -> None:
    assert bins.horizon_bins(HorizonMinutes(60)) == 12
    assert bins.horizon_minutes(bins.horizon_bins(HorizonMinutes(15))) == 15


@pytest.mark.parametrize("text", ["2025-1-1", "20250101", "2025-13-01", "2025-11-01T00", "", "x"])
def test_only_iso_days_are_days(text: str) -> None:
    with pytest.raises(ValueError, match=r"day|month|format"):
        bins.parse_day(text)


def test_stamps_end_in_z_whatever_the_zone() -> None:
    paris = dt.timezone(dt.timedelta(hours=2))
    assert bins.iso_z(dt.datetime(2025, 7, 1, 10, 0, 5, tzinfo=paris)) == "2025-07-01T08:00:05Z"
