"""The views against DuckDB, which computes them from the same daily by SQL."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import network
import numpy as np
import pyarrow as pa
import pytest
from present import present
from velib_core.tables import snapshot, views
from velib_core.tables.panel import Panel, build_panel
from velib_core.timeline.bins import BINS_PER_DAY, Bin, HorizonBins, day_after, first_bin

DAY = network.FIRST_DAY
HORIZONS = [HorizonBins(3), HorizonBins(12)]


def history(days: int = 2, hole: range = range(100, 110)) -> pa.Table:
    """Rows of a network with every kind of station, a hole, and a station that comes late."""
    rng = np.random.default_rng(5)
    tables = []
    for n in range(days * BINS_PER_DAY):
        if n in hole:
            continue
        count = 8 if n > 40 else 7
        table = network.snapshot_table(
            Bin(first_bin(DAY) + n),
            count,
            bikes=rng.integers(0, 12, count).tolist(),
            capacity=[20, 20, 9, 0, None, 30, 10, 15][:count],
            status=["OK", "CLOSED", "OK", "OK", "OK", None, "OK", "OK"][:count],
            docks_available=[None, 3, None, 0, 2, 1, None, None][:count],
            is_renting=pa.array([1, 1, 1, 1, 1, None, 0, 1][:count], pa.int8()),
        )
        tables.append(snapshot.validate(table)[0])
    return pa.concat_tables(tables)


@pytest.fixture(scope="module")
def rows() -> Any:
    return history()


def test_events_mean_what_the_contract_says(rows: Any) -> None:
    view = views.observations_table(rows, penury_bikes=2, saturation_docks=2)
    assert view.schema == views.EVENTS_SCHEMA
    connection = duckdb.connect()
    connection.register("daily", rows)
    connection.register("events", view)
    wrong = connection.execute(
        """
        with expected as (
          select tbin_utc, station_id,
            case when capacity > 0 then bikes / capacity end as occ,
            coalesce(capacity, 1) > 0 and coalesce(status, 'OK') = 'OK'
              and coalesce(is_installed, 1) = 1
              and not (coalesce(is_renting, 1) = 0 and bikes > 0)
              and not (coalesce(is_returning, 1) = 0
                and coalesce(docks_available, greatest(capacity - bikes, 0), 0) > 0)
              and not (coalesce(is_renting, 1) = 0 and coalesce(is_returning, 1) = 0) as usable,
            least(2.0, coalesce(0.1 * capacity, 2.0)) as bound,
            coalesce(docks_available, greatest(capacity - bikes, 0)) as docks,
            bikes, hour(tbin_utc) as utc_h, minute(tbin_utc) as utc_m
          from daily)
        select count(*) from expected join events using (tbin_utc, station_id)
        where occ is distinct from occ_ratio
          or (case when usable then (expected.bikes <= bound)::int end)
             is distinct from is_penury::int
          or (case when usable then (docks <= bound)::int end)
             is distinct from is_saturation::int
          or utc_h <> h or utc_m <> min
        """
    ).fetchone()
    assert wrong == (0,)
    assert view.num_rows == rows.num_rows


def test_small_stations_are_short_of_bikes_only_below_a_tenth_of_their_docks(rows: Any) -> None:
    view = views.observations_table(rows, penury_bikes=2, saturation_docks=2).to_pylist()
    small = [r for r in view if r["capacity"] == 9]
    assert {r["bikes"] for r in small if r["is_penury"]} == {0}
    assert all(r["is_penury"] is None for r in view if r["capacity"] == 0)
    unknown = [r for r in view if r["capacity"] is None]
    assert {r["bikes"] for r in unknown if r["is_penury"]} == {0, 1, 2}


def test_the_truth_is_what_was_observed_at_exactly_the_horizon(rows: Any) -> None:
    start = first_bin(DAY)
    panel = build_panel([rows], start, Bin(start + 2 * BINS_PER_DAY))
    view = views.evaluation_table(panel, DAY, HORIZONS, {})
    assert view.schema == views.PERF_SCHEMA
    connection = duckdb.connect()
    connection.register("daily", rows)
    connection.register("perf", view)
    found = connection.execute(
        """
        with expected as (
          select a.tbin_utc, a.station_id, h.h as horizon_bins, a.bikes as now, b.bikes as later
          from daily a cross join (values (3), (12)) h(h)
          left join daily b on b.station_id = a.station_id
            and b.tbin_utc = a.tbin_utc + h.h * interval 5 minute
          where a.tbin_utc < timestamp '2025-10-31')
        select count(*) filter (where y_true is distinct from later or bikes <> now
                                or y_baseline_persist <> now or y_pred_int is not null),
               count(y_true), count(*)
        from perf full join expected using (tbin_utc, station_id, horizon_bins)
        """
    ).fetchone()
    wrong, known, total = present(found)
    assert wrong == 0
    assert 0 < known < total == view.num_rows


@pytest.mark.parametrize(("docks", "bikes", "occupied"), [(1, 1, 1.0), (4, 1, 0.25), (0, 1, None)])
def test_occupancy_is_bikes_by_docks_down_to_a_single_dock(
    docks: int, bikes: int, occupied: float | None
) -> None:
    bin_ = first_bin(DAY)
    table = network.snapshot_table(bin_, 1, capacity=[docks], bikes=[bikes])
    rows = snapshot.validate(table, bin_)[0]
    panel = build_panel([rows], bin_, Bin(bin_ + 2 * BINS_PER_DAY))
    evaluated = views.evaluation_table(panel, DAY, HORIZONS, {})
    observed = views.observations_table(rows, penury_bikes=2, saturation_docks=2)
    for view in (evaluated, observed):
        assert set(view["occ_ratio"].to_pylist()) == {occupied}


def test_the_last_bins_of_a_day_find_their_truth_in_the_next(rows: Any) -> None:
    start = first_bin(DAY)
    alone = build_panel([rows], start, Bin(start + BINS_PER_DAY))
    both = build_panel([rows], start, Bin(start + 2 * BINS_PER_DAY))
    last = dt.datetime.combine(day_after(DAY), dt.time()) - dt.timedelta(minutes=5)

    def truths(panel: Panel) -> Any:
        rows_ = views.evaluation_table(panel, DAY, HORIZONS, {}).to_pylist()
        return [row["y_true"] for row in rows_ if row["tbin_utc"].to_pydatetime() == last]

    assert set(truths(alone)) == {None}
    assert None not in truths(both)


def test_hindcasts_are_joined_with_their_truth_and_version(rows: Any) -> None:
    start = first_bin(DAY)
    panel = build_panel([rows], start, Bin(start + BINS_PER_DAY))
    shape = (BINS_PER_DAY, len(panel.stations))
    said = np.full(shape, 4.4, np.float32)
    said[:, 2] = np.nan
    hindcast = views.Hindcast("2.1.0", said, np.rint(said), said + 1, (said / 2).astype(np.float32))
    view = views.evaluation_table(panel, DAY, HORIZONS, {HorizonBins(12): hindcast}).to_pylist()
    hour = [r for r in view if r["horizon_bins"] == 12]
    assert {r["y_pred_int"] for r in hour if r["station_id"] != "1002"} == {4}
    assert {r["model_version"] for r in hour} == {"2.1.0", None}
    assert all(r["y_pred_int"] is None for r in view if r["horizon_bins"] == 3)
    assert all(
        r["model_version"] is None and r["y_mean"] is None
        for r in hour
        if r["station_id"] == "1002"
    )


def test_a_day_of_no_rows_makes_empty_views() -> None:
    nothing = snapshot.SCHEMA.empty_table()
    assert views.observations_table(nothing, penury_bikes=2, saturation_docks=2).num_rows == 0
    panel = build_panel([nothing], first_bin(DAY), Bin(first_bin(DAY) + BINS_PER_DAY))
    assert views.evaluation_table(panel, DAY, HORIZONS, {}).num_rows == 0
