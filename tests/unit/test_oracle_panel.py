"""The panel against rows walked one by one."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from velib_core.tables import snapshot
from velib_core.tables.panel import STATION_VARIABLES, WEATHER_VARIABLES, build_panel
from velib_core.timeline.bins import Bin

START, STOP = 6_000_000, 6_000_010
EPOCH = dt.datetime(1970, 1, 1)


def maybe(values):
    return st.one_of(st.none(), values)


COUNT = maybe(st.integers(0, 40))
ROW = st.fixed_dictionaries(
    {
        "station_id": st.sampled_from("abcd"),
        "status": maybe(st.sampled_from(["OK", "CLOSED", "?"])),
        "late_s": st.integers(0, 299),
        "age_s": maybe(st.integers(-600, 9000)),
        "lat": maybe(st.floats(-80, 80)),
        "lon": maybe(st.floats(-170, 170)),
        "name": maybe(st.sampled_from(["x", "y", "z"])),
        "bikes": st.integers(0, 40),
        **{name: COUNT for name in STATION_VARIABLES if not name.startswith(("is_", "bikes"))},
        **{name: maybe(st.integers(0, 1)) for name in STATION_VARIABLES if name.startswith("is_")},
        **{name: maybe(st.floats(0, 50, width=32)) for name in WEATHER_VARIABLES},
    }
)
SNAPSHOTS = st.dictionaries(
    st.integers(START - 3, STOP + 2),
    st.lists(ROW, max_size=4, unique_by=lambda row: row["station_id"]),
    max_size=8,
)


def table_of(bin_: int, rows) -> pa.Table:
    columns = {field.name: [] for field in snapshot.SCHEMA}
    for row in rows:
        made = EPOCH + dt.timedelta(seconds=300 * bin_ + row["late_s"])
        age = row["age_s"]
        derived = {
            "tbin_utc": EPOCH + dt.timedelta(seconds=300 * bin_),
            "ts_utc": made,
            "last_reported_utc": None if age is None else made - dt.timedelta(seconds=age),
            "weather_utc": None,
        }
        for name, values in columns.items():
            values.append((row | derived)[name])
    return pa.table(columns, snapshot.SCHEMA)


def number(value) -> float:
    return math.nan if value is None else value


@settings(max_examples=30, deadline=None)
@given(SNAPSHOTS)
def test_a_panel_holds_each_row_at_its_bin_and_station(snapshots):
    tables = [table_of(bin_, rows) for bin_, rows in sorted(snapshots.items())]
    panel = build_panel(tables, Bin(START), Bin(STOP))
    inside = {t: rows for t, rows in sorted(snapshots.items()) if START <= t < STOP}
    ids = sorted({row["station_id"] for rows in inside.values() for row in rows})
    assert panel.stations.ids.tolist() == ids
    assert (panel.start, panel.stop) == (START, STOP)
    newest: dict[str, dict[str, object]] = {i: {} for i in ids}
    variables = (*STATION_VARIABLES, "ok", "age_min")
    expected = {name: np.full((STOP - START, len(ids)), np.nan, np.float32) for name in variables}
    weather = {name: np.full(STOP - START, np.nan, np.float32) for name in WEATHER_VARIABLES}
    for t, rows in inside.items():
        for row in rows:
            newest[row["station_id"]] |= {k: v for k, v in row.items() if v is not None}
            derived = {
                "ok": {None: None, "OK": 1}.get(row["status"], 0),
                "age_min": None if row["age_s"] is None else row["age_s"] / 60,
            }
            for name in variables:
                value = (row | derived)[name]
                expected[name][t - START, ids.index(row["station_id"])] = number(value)
            for name in WEATHER_VARIABLES:
                if row[name] is not None:
                    weather[name][t - START] = row[name]
    for name in variables:
        np.testing.assert_allclose(panel[name], expected[name], rtol=1e-6)
    for name in WEATHER_VARIABLES:
        np.testing.assert_array_equal(panel.weather[name], weather[name])
    stations = panel.stations
    assert stations.names.tolist() == [newest[i].get("name", "") for i in ids]
    for name in ("lat", "lon", "capacity"):
        expected = [number(newest[i].get(name)) for i in ids]
        assert getattr(stations, name).tolist() == pytest.approx(expected, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(st.integers(-15, 15), st.integers(0, 20))
def test_a_window_is_the_panel_where_it_reaches_and_unknown_elsewhere(offset, length):
    rng = np.random.default_rng(1)
    rows = [
        {"station_id": "a", "late_s": 0, "age_s": 0, "status": "OK", "lat": 1.0, "lon": 2.0}
        | {"name": "x", "bikes": int(rng.integers(40))}
        | dict.fromkeys((*STATION_VARIABLES[1:], *WEATHER_VARIABLES), 1)
        for _ in range(START, STOP)
    ]
    tables = [table_of(START + n, [row]) for n, row in enumerate(rows)]
    panel = build_panel(tables, Bin(START), Bin(STOP))
    first = START + offset
    window = panel.window(Bin(first), Bin(first + length))
    assert (window.start, window.bins) == (first, length)
    for n in range(length):
        inside = 0 <= offset + n < len(rows)
        expected = rows[offset + n]["bikes"] if inside else math.nan
        assert window["bikes"][n, 0] == pytest.approx(expected, nan_ok=True)
        assert window.weather["temp_C"][n] == pytest.approx(1 if inside else math.nan, nan_ok=True)
