"""What the lake keeps: dailies of late, repeated and expired snapshots, and the forecast log."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import io
import itertools
import random
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracles import monitoring as oracle
from oracles.observations import plain
from velib_core.jobs import compact_daily
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Daily, Snapshot
from velib_core.lake.layout import Layout
from velib_core.monitoring.model import forecast_grid, scored_log
from velib_core.tables import snapshot, views
from velib_core.timeline.bins import Bin, Day, HorizonBins, bin_start, day_after, first_bin, today
from velib_core.timeline.windows import complete_days

if TYPE_CHECKING:
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
START = first_bin(DAY)


def observed(bin_: Bin, seed: int) -> pa.Table:
    """A poll of a bin, in which stations may stand twice; later polls were made later."""
    rng = np.random.default_rng([bin_, seed])
    ids = rng.choice(["a", "b", "c"], 4).tolist()
    made = bin_start(bin_).replace(tzinfo=None)
    late = np.sort(rng.choice(290, 4, replace=False))
    return network.snapshot_table(
        bin_,
        4,
        station_id=ids,
        bikes=rng.integers(0, 20, 4).tolist(),
        ts_utc=pa.array([made + dt.timedelta(seconds=int(s)) for s in late], snapshot.STAMP),
    )


def newest(tables: Any) -> dict[tuple[Any, str], Any]:
    """Each station's last row of a bin."""
    rows = [row for table in tables for row in table.to_pylist()]
    rows.sort(key=lambda row: row["ts_utc"])
    return {(row["tbin_utc"], row["station_id"]): row["bikes"] for row in rows}


def daily_of(lake: Lake, settings: Settings, day: Day = DAY) -> dict[tuple[Any, str], Any]:
    table = pq.read_table(io.BytesIO(lake.fetch(Layout(settings).name(Daily(day)))[1]))
    rows = [(row["tbin_utc"], row["station_id"]) for row in table.to_pylist()]
    assert rows == sorted(set(rows)), "each station once a bin, in order"
    return newest([table])


@pytest.mark.parametrize("seed", range(3))
def test_a_daily_holds_each_stations_newest_row_of_every_bin_ever_seen(
    lake: Lake, settings: Settings, seed: Any
) -> None:
    """Snapshots come late, are replaced, and expire between compactions."""
    rng = random.Random(seed)
    held: list[pa.Table] = []
    for _ in range(4):
        come = {}
        for n in [*rng.sample(range(288), 5), 40]:
            bin_ = Bin(START + n)
            come[bin_] = observed(bin_, rng.randrange(3))
            data = snapshot.to_bytes(come[bin_])
            network.put(lake, Layout(settings).name(Snapshot(bin_)), data)
        held += come.values()
        compact_daily.run(network.of(lake, settings), DAY)
        assert daily_of(lake, settings) == newest(held)
        for entry in list(lake.entries("bronze/")):
            if rng.random() < 0.4:
                lake.delete(entry)
    if list(lake.entries("bronze/")):
        compact_daily.run(network.of(lake, settings), DAY)
    assert daily_of(lake, settings) == newest(held)


class DiedError(Exception):
    """The process dies."""


def dying(lake: Lake, calls: int) -> Lake:
    """A lake whose writes and deletions fail after so many, every other time with effect."""
    left = itertools.count(calls, -1)

    def act(work: Any, *args: Any, **options: Any) -> Any:
        n = next(left)
        if n > 0 or (n == 0 and calls % 2):
            done = work(*args, **options)
        if n <= 0:
            raise DiedError
        return done

    class Dying(Lake):
        def write(self, *args: Any, **options: Any) -> Any:
            return act(lake.write, *args, **options)

        def delete(self, entry: Any) -> Any:
            return act(lake.delete, entry)

    return Dying(lake.bucket)


@pytest.mark.parametrize("seed", range(4))
def test_no_row_is_lost_by_late_data_compactions_deletions_and_crashes_in_any_order(
    lake: Lake, settings: Settings, seed: Any
) -> None:
    rng = random.Random(seed)
    deleting = dataclasses.replace(settings, delete_after_compact=True)
    come: list[pa.Table] = []
    for _ in range(14):
        bin_ = Bin(START + rng.choice([0, 1, 40, 41]))
        name = Layout(settings).name(Snapshot(bin_))
        rows, _ = snapshot.validate(observed(bin_, rng.randrange(6)), bin_)
        come.append(rows)
        current = lake.stat(name)
        if current is not None:
            rows = snapshot.merge(snapshot.read(lake, current, bin_)[0], rows)
        network.put(lake, name, snapshot.to_bytes(rows))
        if rng.random() < 0.6:
            with contextlib.suppress(DiedError):
                compact_daily.run(network.of(dying(lake, rng.randrange(5)), deleting), DAY)
    compact_daily.run(network.of(lake, deleting), DAY)
    assert daily_of(lake, settings) == newest(come)
    assert not list(lake.entries("bronze/"))


@pytest.mark.parametrize(("age", "deleted"), [(0, 0), (1, 0), (3, 3)])
def test_what_forecasts_and_the_overview_look_back_at_is_not_deleted_after_compaction(
    lake: Lake, settings: Settings, age: int, deleted: int
) -> None:
    day = day_after(today(), -age)
    bins = [Bin(first_bin(day) + n) for n in (0, 1, 7)]
    network.upload(lake, settings, bins)
    cleaning = dataclasses.replace(settings, delete_after_compact=True)
    result = compact_daily.run(network.of(lake, cleaning), day)
    assert result.counts.get("deleted", 0) == deleted
    assert len(list(lake.entries("bronze/"))) == len(bins) - deleted
    assert len(daily_of(lake, settings, day)) == 3 * network.STATIONS


def test_nothing_is_deleted_unless_asked_for(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, [START])
    compact_daily.run(network.of(lake, settings), DAY)
    assert len(list(lake.entries("bronze/"))) == 1


def log_of(rows: list[tuple[int, int, str, int]]) -> pa.Table:
    """A forecast log: rows of (publication, horizon, station, forecast)."""
    columns: dict[str, Any] = dict.fromkeys(views.FORECAST_LOG_SCHEMA.names, [None] * len(rows))
    columns |= {
        "tbin_utc": [bin_start(Bin(START + n)).replace(tzinfo=None) for n, *_ in rows],
        "horizon_bins": [h for _, h, *_ in rows],
        "station_id": [s for *_, s, _ in rows],
        "y_pred_int": [y for *_, y in rows],
    }
    return pa.table(columns, views.FORECAST_LOG_SCHEMA)


def rows_in(table: pa.Table) -> list[tuple[Any, ...]]:
    names = ("tbin_utc", "horizon_bins", "station_id", "y_pred_int")
    return sorted(tuple(row[name] for name in names) for row in table.to_pylist())


@pytest.mark.parametrize("seed", range(5))
def test_the_log_keeps_what_expired_partitions_said(seed: Any) -> None:
    """A partition is a publication and a horizon: of one bin, one horizon's may be gone alone."""
    rng = random.Random(seed)
    pairs = [(n, h) for n in range(4) for h in (3, 12)]
    log, here = rng.sample(pairs, 5), rng.sample(pairs, 4)
    before = [(n, h, s, 1) for n, h in log for s in "ab"]
    now = [(n, h, s, 2) for n, h in here for s in "abc"]
    expected = now + [row for row in before if row[:2] not in here]
    found = views.with_expired(log_of(now), log_of(before))
    assert rows_in(found) == rows_in(log_of(expected))
    if len(expected) > len(now):
        keys = [(r["tbin_utc"], r["horizon_bins"], r["station_id"]) for r in found.to_pylist()]
        assert keys == sorted(keys)


def scored(seed: int) -> Any:
    """Observations of two days, and forecasts published about them, some of them unscorable."""
    rng = np.random.default_rng(seed)
    window = complete_days(bin_start(Bin(START + 3 * 288)), 2, "Europe/Paris")
    shape = (window.bins, 3)
    docks = rng.integers(0, 3, shape).astype(np.float32)
    docks[rng.random(shape) < 0.1] = np.nan
    bikes = rng.integers(0, 5, shape).astype(np.float32)
    bikes[rng.random(shape) < 0.2] = np.nan
    nothing = np.full(shape, np.nan, np.float32)
    ids = np.array(["a", "b", "c"])
    h = HorizonBins(3)
    grid = forecast_grid.Hindcasts(
        h, window, ids, {}, nothing, bikes, nothing, nothing, nothing, nothing, docks
    )
    rows = []
    for _ in range(400):
        issued = int(rng.integers(window.start - 5, window.stop + 5))
        lead = int(rng.choice([0, 1, 2, 3, 3, 3, 288, 289]))
        said = rng.random(2).tolist()
        rows.append(
            {
                "issued": issued,
                "target": issued + lead,
                "station_id": str(rng.choice(["a", "b", "c", "unknown"])),
                "horizon_bins": int(rng.choice([3, 3, 12])),
                "y_pred_int": None if rng.random() < 0.05 else int(rng.integers(0, 5)),
                "y_mean": None if rng.random() < 0.1 else float(rng.uniform(0, 4)),
                "p_bike": None if rng.random() < 0.1 else said[0],
                "p_dock": None if rng.random() < 0.1 else said[1],
            }
        )
    return grid, rows


def table_of(rows: Any) -> pa.Table:
    def stamp(t: int) -> dt.datetime:
        return bin_start(Bin(t)).replace(tzinfo=None)

    columns = {name: [row.get(name) for row in rows] for name in views.FORECAST_LOG_SCHEMA.names}
    columns["tbin_utc"] = [stamp(row["issued"]) for row in rows]
    columns["target_tbin_utc"] = [stamp(row["target"]) for row in rows]
    return pa.table(columns, views.FORECAST_LOG_SCHEMA)


@pytest.mark.parametrize("seed", range(3))
def test_published_forecasts_are_scored_one_by_one(seed: Any) -> None:
    grid, rows = scored(seed)
    start = grid.window.start
    bikes, docks = (
        {station: plain(array[:, s]) for s, station in enumerate("abc")}
        for array in (grid.persistence, grid.docks)
    )
    mine = [row for row in rows if row["horizon_bins"] == 3]
    expected, leads = oracle.scores(mine, bikes, docks, start)
    found = scored_log.score_forecast_log([table_of(rows)], {HorizonBins(3): grid})
    document = found[HorizonBins(3)].as_json()
    assert {name: document[name] for name in expected} == pytest.approx(expected)
    by_lead = {row["lead_min"]: row for row in document["by_lead"]}
    assert by_lead.keys() == leads.keys()
    for lead, figures in leads.items():
        assert {name: by_lead[lead][name] for name in figures} == pytest.approx(figures)
