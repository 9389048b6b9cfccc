from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import network
import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core.exceptions import PreconditionFailed
from present import present
from velib_core.jobs import build_datasets, compact_daily
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Events, ForecastLog, ForecastLogPartition, Perf
from velib_core.lake.layout import Layout
from velib_core.tables import views
from velib_core.timeline.bins import Bin, Day, HorizonMinutes, bin_start, day_after, first_bin

if TYPE_CHECKING:
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
NEXT = day_after(DAY)


def compact(lake: Lake, settings: Settings, day: Day, every: Any = 6) -> None:
    start = first_bin(day)
    network.upload(lake, settings, [Bin(start + n) for n in range(0, 288, every)])
    compact_daily.run(network.of(lake, settings), day)


def read(lake: Lake, settings: Settings, key: Events | ForecastLog | Perf) -> Any:
    return pq.read_table(io.BytesIO(lake.fetch(Layout(settings).name(key))[1]))


def test_a_daily_makes_its_tables_and_the_latest_aliases(lake: Lake, settings: Settings) -> None:
    compact(lake, settings, DAY)
    build_datasets.run(network.of(lake, settings), DAY)
    events = read(lake, settings, Events(DAY))
    assert events.num_rows == 48 * network.STATIONS
    assert read(lake, settings, Events(None)) == events
    perf = read(lake, settings, Perf(DAY))
    assert perf.num_rows == 2 * events.num_rows
    assert read(lake, settings, Perf(None)) == perf


def test_the_next_daily_gives_the_evaluation_table_its_last_truths(
    lake: Lake, settings: Settings
) -> None:
    compact(lake, settings, DAY)
    build_datasets.run(network.of(lake, settings), DAY)
    before = read(lake, settings, Perf(DAY))["y_true"].null_count
    compact(lake, settings, NEXT)
    build_datasets.run(network.of(lake, settings), NEXT)
    after = read(lake, settings, Perf(DAY))["y_true"].null_count
    # of the two hourly bins a day whose hour-ahead truth lies past midnight, both are found
    assert before - after == 2 * network.STATIONS
    assert read(lake, settings, Perf(None)) == read(lake, settings, Perf(NEXT))


def test_rows_are_counted_once_where_a_race_is_lost(lake: Lake, settings: Settings) -> None:
    class Raced(Lake):
        """Another writer comes first, once."""

        lost = False

        def write(self, name: Any, artefact: Any, **options: Any) -> int:
            if "perf_" in name and not self.lost:
                self.lost = True
                refused: Any = PreconditionFailed
                raise refused("another came first")
            return super().write(name, artefact, **options)

    compact(lake, settings, DAY)
    raced = Raced(lake.bucket)
    result = build_datasets.run(network.of(raced, settings), DAY)
    assert raced.lost
    assert result.counts["perf"] == read(lake, settings, Perf(DAY)).num_rows


def test_an_older_day_does_not_take_the_latest_alias(lake: Lake, settings: Settings) -> None:
    for day in (NEXT, DAY):
        compact(lake, settings, day)
        build_datasets.run(network.of(lake, settings), day)
    assert read(lake, settings, Events(None)) == read(lake, settings, Events(NEXT))


def test_building_again_changes_nothing(lake: Lake, settings: Settings) -> None:
    compact(lake, settings, DAY)
    build_datasets.run(network.of(lake, settings), DAY)
    before = network.contents(lake)
    result = build_datasets.run(network.of(lake, settings), DAY)
    assert set(result.outputs.values()) <= {"fresh", "absent"}
    assert network.contents(lake) == before


def put_partition(lake: Lake, settings: Settings, n: int, minutes: int) -> str:
    """Write the page that the n-th bin's forecast of three stations left; return its name."""
    bin_ = Bin(first_bin(DAY) + n)
    columns: dict[str, Any] = dict.fromkeys(views.FORECAST_LOG_SCHEMA.names, [None] * 3)
    columns |= {
        "tbin_utc": [bin_start(bin_).replace(tzinfo=None)] * 3,
        "target_tbin_utc": [bin_start(Bin(bin_ + minutes // 5)).replace(tzinfo=None)] * 3,
        "horizon_bins": [minutes // 5] * 3,
        "station_id": ["1", "2", "3"],
        "y_pred_int": [n, n + 1, n + 2],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, views.FORECAST_LOG_SCHEMA), sink)
    name = Layout(settings).name(ForecastLogPartition(bin_, HorizonMinutes(minutes), f"{n:08x}"))
    network.put(lake, name, sink.getvalue())
    return name


def test_a_forecast_log_keeps_the_forecasts_of_expired_partitions(
    lake: Lake, settings: Settings
) -> None:
    """Pages expire one by one; meanwhile the day is looked at again, and a late page may come."""
    compact(lake, settings, DAY, every=96)
    pages = [put_partition(lake, settings, n, minutes) for n in (0, 1, 2) for minutes in (15, 60)]
    build_datasets.run(network.of(lake, settings), DAY)
    complete = read(lake, settings, ForecastLog(DAY))
    assert complete.num_rows == 3 * len(pages)
    for name in pages:
        lake.delete(present(lake.stat(name)))
        build_datasets.run(network.of(lake, settings), DAY)
        kept = read(lake, settings, ForecastLog(DAY))
        assert (kept.num_rows, rows_of(kept)) == (complete.num_rows, rows_of(complete))
    put_partition(lake, settings, 3, 15)
    build_datasets.run(network.of(lake, settings), DAY)
    late = read(lake, settings, ForecastLog(DAY))
    assert rows_of(late) > rows_of(complete)
    assert late.num_rows == complete.num_rows + 3


def rows_of(table: Any) -> Any:
    return {tuple(row.values()) for row in table.to_pylist()}
