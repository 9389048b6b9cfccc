"""The panel against rows walked one by one."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from velib_core.tables import service, snapshot
from velib_core.tables.panel import STATION_VARIABLES, WEATHER_VARIABLES, build_panel, is_frozen
from velib_core.timeline.bins import Bin

START, STOP = 6_000_000, 6_000_010
EPOCH = dt.datetime(1970, 1, 1)


def row_of(rng: np.random.Generator, station: str) -> dict[str, Any]:
    """A row in which any field but the bikes may be unknown."""

    def maybe(value: float | str) -> Any:
        return None if rng.random() < 0.25 else value

    def count(most: int) -> Any:
        return maybe(int(rng.integers(0, most + 1)))

    def flag() -> Any:
        return maybe(int(rng.random() < 0.7))

    counts = {n: flag() if n.startswith("is_") else count(40) for n in STATION_VARIABLES}
    weather = {n: maybe(float(np.float32(rng.uniform(0, 50)))) for n in WEATHER_VARIABLES}
    return {
        **counts,
        **weather,
        "bikes": int(rng.integers(0, 41)),
        "station_id": station,
        "status": maybe(str(rng.choice(["OK", "OK", "OK", "CLOSED", "?"]))),
        "late_s": int(rng.integers(0, 300)),
        "age_s": maybe(int(rng.integers(-600, 9000))),
        "lat": maybe(rng.uniform(-80, 80)),
        "lon": maybe(rng.uniform(-170, 170)),
        "name": maybe(str(rng.choice(["x", "y", "z"]))),
    }


def snapshots_of(seed: int) -> dict[int, list[dict[str, Any]]]:
    """Rows by bin, before, in and after the window; in any order of stations."""
    rng = np.random.default_rng(seed)
    bins = rng.choice(np.arange(START - 3, STOP + 3), 9, replace=False).tolist()
    return {
        t: [row_of(rng, s) for s in rng.permutation(list("abcd"))[: rng.integers(0, 5)].tolist()]
        for t in bins
    }


def table_of(bin_: int, rows: Any) -> pa.Table:
    columns: dict[str, list[Any]] = {field.name: [] for field in snapshot.SCHEMA}
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


def free_docks_of(row: dict[str, Any]) -> Any:
    if row["docks_available"] is None and row["capacity"] is not None:
        return max(row["capacity"] - row["bikes"], 0)
    return row["docks_available"]


def is_closed(row: dict[str, Any]) -> bool:
    rents_not, takes_not = (row[flag] == 0 for flag in ("is_renting", "is_returning"))
    return (
        row["status"] not in (None, "OK")
        or row["is_installed"] == 0
        or (rents_not and takes_not)
        or (rents_not and row["bikes"] > 0)
        or (takes_not and (free_docks_of(row) or 0) > 0)
    )


def number(value: Any) -> float:
    return math.nan if value is None else value


@pytest.mark.parametrize("seed", range(12))
def test_a_panel_holds_each_row_at_its_bin_and_station(seed: Any) -> None:
    snapshots = snapshots_of(seed)
    tables = [table_of(bin_, rows) for bin_, rows in sorted(snapshots.items())]
    days = [pa.concat_tables(tables[:5]), pa.concat_tables(tables[5:])]
    panel = build_panel(days, Bin(START), Bin(STOP))
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
                "ok": 0 if is_closed(row) else {None: None, "OK": 1}[row["status"]],
                "age_min": None if row["age_s"] is None else max(row["age_s"], 0) / 60,
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
        stated = [number(newest[i].get(name)) for i in ids]
        assert getattr(stations, name).tolist() == pytest.approx(stated, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_in_service_and_how_many_docks_are_free(seed: Any) -> None:
    rng = np.random.default_rng(seed)
    rows = [row_of(rng, "a") for _ in range(200)]
    table = table_of(START, rows)
    assert service.free_docks(table).to_pylist() == [free_docks_of(row) for row in rows]
    assert service.closed(table).to_pylist() == [is_closed(row) for row in rows]
    expected = [not is_closed(row) and row["capacity"] != 0 for row in rows]
    assert service.in_service(table).to_pylist() == expected


@pytest.mark.parametrize("offset", [-15, -9, -1, 0, 1, 9, 10, 15])
@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 20])
def test_a_window_is_the_panel_where_it_reaches_and_unknown_elsewhere(
    offset: int, length: int
) -> None:
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


@pytest.mark.parametrize(
    ("seen", "rest", "frozen"), [(200, 20, 8), (199, 20, 0), (203, 13, 1), (203, 12, 0)]
)
def test_a_feed_is_frozen_where_200_stations_are_as_12_bins_before(
    seen: int, rest: int, frozen: int
) -> None:
    bikes = np.random.default_rng(2).integers(0, 30, (60, 203)).astype(np.float32)
    bikes[30 : 30 + rest] = bikes[30]
    bikes[:, seen:] = np.nan
    expected = np.zeros(60, bool)
    expected[42 : 42 + frozen] = True
    assert is_frozen(bikes).tolist() == expected.tolist()
    bikes[30 : 30 + rest, 0] = np.arange(rest)
    assert not is_frozen(bikes).any()
