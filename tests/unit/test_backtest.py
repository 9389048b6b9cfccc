"""The backtest: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from panels import START, make_panel
from velib_cli.backtest.backtest import (
    BacktestError,
    BacktestResult,
    metrics_of,
    read_recording,
    run_backtest,
)
from velib_cli.commands.backtest import backtest, verdict
from velib_core.timeline.bins import Bin, HorizonMinutes, day_of

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.tables.panel import Panel

DAYS = 5
TEST_FROM = day_of(Bin(START + 4 * 288))
QUARTER, HOUR = HorizonMinutes(15), HorizonMinutes(60)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Panel]:
    """A recording of five days in no order, with strays: no station, closed, twice in a bin."""
    panel = make_panel(days=DAYS)
    t, s = np.nonzero(~np.isnan(panel["bikes"]))
    stamps = (panel.start + t) * 300 + 20
    ids = panel.stations.ids[s].astype(object)
    bikes = panel["bikes"][t, s].astype(np.int64)
    ids[5] = None
    status = np.where(s == 2, "closed", "renting+returning").astype(object)
    status[s == 3] = None
    order = np.random.default_rng(0).permutation(len(t))
    table = pa.table(
        {
            "ts_utc": pa.array(stamps[order] * 1_000_000, pa.timestamp("us")),
            "station_id": pa.array(ids[order].tolist(), pa.string()),
            "bikes": bikes[order],
            "capacity": panel["capacity"][t, s].astype(np.int64)[order],
            "status": pa.array(status[order].tolist(), pa.string()),
            "lat": panel.stations.lat[s][order],
            "lon": panel.stations.lon[s][order],
        }
    )
    earlier = table.slice(0, 200)
    before = pa.array(np.asarray(earlier["ts_utc"].cast(pa.int64())) - 10_000_000).cast(
        pa.timestamp("us")
    )
    stray = earlier.set_column(0, "ts_utc", before).set_column(2, "bikes", pa.array([77] * 200))
    path = tmp_path_factory.mktemp("recording") / "city.parquet"
    pq.write_table(pa.concat_tables([table, stray]), path)
    return path, panel


@pytest.fixture(scope="module")
def result(
    recording: tuple[Path, Panel], tmp_path_factory: pytest.TempPathFactory
) -> BacktestResult:
    return run_backtest(recording[0], TEST_FROM, (QUARTER, HOUR), tmp_path_factory.mktemp("out"))


def test_predictions_are_joined_with_the_exact_observations(
    recording: tuple[Path, Panel], result: BacktestResult
) -> None:
    path, panel = recording
    del path
    for minutes in (QUARTER, HOUR):
        table = pq.read_table(result.out / f"predictions_h{minutes}.parquet").to_pandas()
        assert list(table)[:8] == [
            "station_id",
            "tbin_utc",
            "target_ts_utc",
            "y_true",
            "y_base",
            "y_pred",
            "y_pred_int",
            "y_mean",
        ]
        assert len(table)
        origin = table["tbin_utc"].astype("int64").to_numpy() // 300_000_000_000 - panel.start
        station = np.searchsorted(panel.stations.ids, table["station_id"].to_numpy(str))
        np.testing.assert_array_equal(table["y_base"], panel["bikes"][origin, station])
        np.testing.assert_array_equal(
            table["y_true"], panel["bikes"][origin + minutes // 5, station]
        )
        assert (
            (table["target_ts_utc"] - table["tbin_utc"]).dt.total_seconds().eq(60 * minutes).all()
        )
        assert (table["y_pred_int"] == np.rint(table["y_pred"])).all()
        assert table["tbin_utc"].min().date() >= TEST_FROM


def test_a_closed_station_is_not_forecast_and_one_without_status_is(
    recording: tuple[Path, Panel], result: BacktestResult
) -> None:
    stations = set(pq.read_table(result.out / "predictions_h60.parquet")["station_id"].to_pylist())
    ids = recording[1].stations.ids
    assert ids[2] not in stations
    assert ids[3] in stations


def test_metrics_are_those_of_the_predictions(result: BacktestResult) -> None:
    table = pq.read_table(result.out / "predictions_h60.parquet").to_pandas()
    said = json.loads((result.out / "metrics.json").read_text())["horizons"]["60"]
    overall = said["overall"]
    persistence = (table["y_true"] - table["y_base"]).abs().mean()
    mae = (table["y_true"] - table["y_pred_int"]).abs().mean()
    assert overall["n"] == len(table)
    assert overall["mae"] == pytest.approx(mae)
    assert overall["mae_lift"] == pytest.approx(1 - mae / persistence)
    rmse = np.sqrt(((table["y_true"] - table["y_mean"]) ** 2).mean())
    assert overall["rmse"] == pytest.approx(rmse, rel=1e-6)
    assert sum(group["n"] for group in said["by_hour"].values()) == len(table)
    brier = ((table["p_bike"] - (table["y_true"] >= 1)) ** 2).mean()
    assert said["p_bike"]["brier"] == pytest.approx(brier, rel=1e-5)
    dock = ((table["p_dock"] - (table["capacity"] > table["y_true"])) ** 2).mean()
    assert said["p_dock"]["brier"] == pytest.approx(dock, rel=1e-5)


def test_nothing_after_the_day_changes_its_model(
    recording: tuple[Path, Panel], result: BacktestResult, tmp_path: Path
) -> None:
    path, panel = recording
    del panel
    table = pq.read_table(path)
    last = np.asarray(table["ts_utc"].cast(pa.int64())) >= (START + 4 * 288 + 144) * 300_000_000
    noon = table.filter(pa.array(~last))
    pq.write_table(noon, tmp_path / "noon.parquet")
    again = run_backtest(tmp_path / "noon.parquet", TEST_FROM, (HOUR,), tmp_path / "out")
    before = pq.read_table(result.out / "predictions_h60.parquet").to_pandas()
    after = pq.read_table(again.out / "predictions_h60.parquet").to_pandas()
    key = ["station_id", "tbin_utc"]
    both = after.merge(before, on=key, suffixes=("", "_whole"))
    assert len(both) == len(after) > 0
    np.testing.assert_array_equal(both["y_pred"], both["y_pred_whole"])
    np.testing.assert_array_equal(both["p_dock"], both["p_dock_whole"])


def test_the_newest_snapshot_of_a_bin_counts(recording: tuple[Path, Panel]) -> None:
    path, panel = recording
    bikes = read_recording(path, TEST_FROM).panel["bikes"]
    assert np.nanmax(bikes) == np.nanmax(panel["bikes"])


def test_the_page_stands_on_its_own(result: BacktestResult) -> None:
    page = (result.out / "report.html").read_text()
    assert "Plotly.newPlot" in page
    for tag in ('<script src="', '<link rel="stylesheet"'):
        assert tag not in page
    assert page.count('class="figure"') == 12


def test_perfect_persistence_has_no_lift() -> None:
    table = pa.table(
        {
            "tbin_utc": pa.array([START * 300 * 10**9] * 4, pa.timestamp("ns")),
            "y_true": [1, 2, 3, 4],
            "y_base": [1, 2, 3, 4],
            "y_pred_int": [1, 2, 3, 4],
            "y_mean": [1.0, 2.0, 3.0, 4.0],
            "p_bike": [1.0] * 4,
            "p_dock": [1.0] * 4,
            "capacity": [9, 9, 9, 9],
            "docks_base": [8, 7, 6, 5],
            "docks_true": [8, 7, 6, 5],
            "station_id": ["a", "a", "b", "b"],
            "crps": [0.0] * 4,
            "crps_climatology": [1.0, 2.0, np.nan, 3.0],
        }
    )
    overall = metrics_of(table, "Europe/Paris")["overall"]
    assert overall["mae"] == 0
    assert overall["mae_lift"] is None
    assert overall["crps_climatology"] == 2


def test_what_is_no_recording_is_refused_with_a_reason(
    recording: tuple[Path, Panel], tmp_path: Path
) -> None:
    path, _ = recording
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    with pytest.raises(BacktestError, match="a Parquet file"):
        read_recording(tmp_path / "junk.parquet", TEST_FROM)
    pq.write_table(pq.read_table(path).drop(["bikes"]), tmp_path / "bare.parquet")
    with pytest.raises(BacktestError, match="bikes"):
        read_recording(tmp_path / "bare.parquet", TEST_FROM)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--test-from", "2025-03-25"], "days to train on"),
        (["--test-from", "2026-01-01"], "expected a day until"),
        (["--test-from", "yesterday"], "YYYY-MM-DD"),
        (["--test-from", "2025-03-28", "--horizons", "7"], "multiples of 5"),
        (["--test-from", "2025-03-28", "--tz", "Paris"], "IANA"),
    ],
)
def test_the_command_says_what_is_wrong_and_fails(
    recording: tuple[Path, Panel], tmp_path: Path, arguments: list[str], said: str
) -> None:
    run = CliRunner().invoke(
        backtest, ["--source", str(recording[0]), "--out", str(tmp_path), *arguments]
    )
    assert run.exit_code != 0
    assert said in " ".join(run.output.split())


def test_the_verdict_is_the_rule_that_training_promotes_by() -> None:
    better = verdict({"mae": 0.8, "mae_persistence": 0.9})
    assert better == "would go live: 0.8000 bikes against 0.9000 of persistence"
    for mae in (0.9, 1.0):
        assert verdict({"mae": mae, "mae_persistence": 0.9}).startswith("would be refused")


def test_the_command_prints_its_metrics_as_json(
    recording: tuple[Path, Panel], tmp_path: Path
) -> None:
    run = CliRunner().invoke(
        backtest,
        [
            "--source",
            str(recording[0]),
            "--out",
            str(tmp_path),
            "--test-from",
            str(TEST_FROM),
            "--horizons",
            "15",
            "--json",
        ],
    )
    assert run.exit_code == 0
    assert json.loads(run.stdout)["horizons"]["15"]["overall"]["n"] > 0
