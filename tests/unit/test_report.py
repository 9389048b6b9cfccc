"""The network page before a browser sees it: what is read, how it is shaped, what it says."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import gzip
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pandas as pd
import published
import pytest
from click.testing import CliRunner
from contract.documents import problems
from present import present
from velib_cli.commands.report import read_basemap
from velib_cli.main import cli
from velib_cli.report import charts, days, places, value
from velib_cli.report import page as report_page
from velib_cli.report.sources import Horizon, read_sources
from velib_core.lake import lineage
from velib_core.lake.artefact import JSON, Artefact
from velib_core.lake.keys import Daily, Monitoring, Snapshot
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings
from velib_core.timeline.bins import Bin, bin_start, day_after, first_bin, iso_z
from velib_local.mirror import MIRROR, FolderLake

if TYPE_CHECKING:
    from velib_cli.report.value import LoggedDay
    from velib_core.lake.bucket import Lake

SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": MIRROR})
MADE_AT = dt.datetime(2025, 11, 7, 10, 2, tzinfo=dt.UTC)
FOLDER = Path(report_page.__file__).parent / "assets"


@pytest.fixture(scope="module")
def data() -> Any:
    return charts.report_data(published.sources(), MADE_AT)


def unpacked(page: str, part: str) -> str:
    packed = present(re.search(rf'id="{part}">([^<]*)<', page))[1]
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_the_tests_own_documents_hold_to_the_contract() -> None:
    found = published.documents_by_path(published.sources())
    assert len(found) == 12
    assert not [line for path, document in found.items() for line in problems(path, document)]


def test_a_station_is_shown_with_its_counts_of_the_newest_bin(data: Any) -> None:
    stations = data["stations"]
    assert data["newest"] == "2025-11-07T10:00:00Z"
    assert stations["id"] == sorted(stations["id"])
    assert stations["bikes"] == [n % 20 for n in range(24)]
    assert stations["docks"] == [25 - n % 20 for n in range(24)]
    series = stations["history"]["bikes"]
    assert [len(series), len(series[0])] == [24, 288]
    assert series[1][39:47] == [1, *[None] * 6, 1]
    assert series[5][-25:] == [6, *[5] * 24]


def test_the_map_keeps_distances(data: Any) -> None:
    panel = present(published.sources().panel)
    lat, lon = np.radians(panel.stations.lat), np.radians(panel.stations.lon)
    for a, b in ((0, 23), (4, 17), (9, 10)):
        half = (
            math.sin((lat[b] - lat[a]) / 2) ** 2
            + math.cos(lat[a]) * math.cos(lat[b]) * math.sin((lon[b] - lon[a]) / 2) ** 2
        )
        great_circle = 2 * 6371.0 * math.asin(math.sqrt(half))
        dx, dy = (data["stations"][k][a] - data["stations"][k][b] for k in "xy")
        assert math.hypot(dx, dy) == pytest.approx(great_circle, rel=5e-3)


def test_a_station_without_a_place_has_none_on_the_map() -> None:
    panel = present(published.sources().panel)
    panel.stations.lat[3] = np.nan
    block = charts.stations_block(panel)
    assert block["y"][3] is None
    assert None not in block["y"][:3]


def test_usual_is_the_mean_of_the_same_half_hour_on_like_days(data: Any) -> None:
    usual = data["usual"]
    assert usual["through"] == "2025-11-05"
    assert usual["step_min"] == 30
    start = dt.datetime.fromisoformat(usual["start"])

    def at(hour: int, day: Any = 6) -> Any:
        wanted = dt.datetime(2025, 11, day, hour, 15, tzinfo=dt.UTC)
        return [row[(wanted - start) // dt.timedelta(minutes=30)] for row in usual["bikes"]]

    # The only day before was seen from 10:05 on, and was this day's like, bin by bin.
    for hour, more in ((19, 1), (21, 0), (23, 1)):
        assert at(hour)[5] == 5 + more
    assert at(5, day=7)[5] is None


def test_forecasts_follow_the_order_of_the_stations_whatever_that_of_the_document() -> None:
    complete = published.sources()
    shuffled = published.forecast(published.HORIZONS[0], present(complete.panel))
    shuffled["data"].reverse()
    block = charts.horizon_block(
        Horizon(published.HORIZONS[0], shuffled, {}, None, []), complete.panel
    )
    expected: list[float | None] = [n % 20 + 0.5 for n in range(24)]
    expected[2] = None
    assert block["forecast"]["bikes_pred"] == expected
    assert block["forecast"]["reason"][2] == "closed"
    assert block["target"] == "2025-11-07T10:15:00Z"


def test_coverage_is_of_every_station_in_every_bin_that_is_over(data: Any) -> None:
    yesterday, today = data["coverage"]["pct"]
    assert data["coverage"]["days"] == ["2025-11-06", "2025-11-07"]
    # UTC days by the clock of Paris; the last UTC hour of the day before, silent, is midnight.
    assert yesterday == [None] + [100.0] * 23
    assert today == [0.0] + [100.0] * 10 + [round(100 / 1, 2)] + [None] * 12


def test_a_network_that_is_polled_every_quarter_of_an_hour_lacks_nothing() -> None:
    counts = np.zeros(288, int)
    counts[::3] = 4
    counts[144:156] = 0  # but an hour
    block = present(days.coverage_block({published.YESTERDAY: (4, counts.tolist())}, None, "UTC"))
    assert block["pct"] == [[100.0] * 12 + [0.0] + [100.0] * 11]


def test_hours_that_have_not_come_are_no_gap() -> None:
    stations = 4
    counts = [0] * 96 + [stations] * 60 + [0] * 12 + [stations] * 60 + [0] * 60
    day = published.YESTERDAY
    block = present(days.coverage_block({day: (stations, counts)}, None, "America/Chicago"))
    assert block["days"] == ["2025-11-06"]
    expected = [None] * 2 + [100.0] * 5 + [0.0] + [100.0] * 5 + [None] * 11
    assert block["pct"] == [expected]


def test_objects_without_a_note_are_not_on_the_timeline(data: Any) -> None:
    names = [row[0] for row in data["pipeline"]["rows"]]
    assert names[0] == "serving/forecast/latest/h15/forecast.json"
    assert len(names) == data["pipeline"]["total"] == 3
    assert ["compact_daily", 1, 2.0, 2.0] in data["pipeline"]["functions"]


def test_only_the_live_version_is_marked_and_the_newest_comes_first(data: Any) -> None:
    models = data["horizons"][0]["models"]
    assert [(m["version"], m["live"]) for m in models] == [("2.0.1", True), ("2.0.0", False)]


def test_a_network_without_anything_makes_a_page_of_reasons() -> None:
    empty = charts.report_data(published.nothing(), MADE_AT)
    for block in ("stations", "usual", "coverage", "health", "drift", "curve", "statuses"):
        assert empty[block] is None
    assert "neuf" in report_page.report_html(empty)


def test_documents_without_a_forecast_to_evaluate_make_no_empty_chart() -> None:
    unscored = {
        "by_hour.json": {"rows": [{"hour": 0, "mae_model": None, "n": 0}]},
        "hist_residuals.json": {"bins": [], "counts": [], "n": 0},
        "station_timeseries.json": {"ts": [], "y_true": [], "y_pred": [], "y_base": []},
    }
    part = Horizon(published.HORIZONS[0], None, unscored, None, [])
    block = charts.horizon_block(part, None)
    assert [block[k] for k in ("by_hour", "residuals", "truth", "forecast")] == [None] * 4


def test_the_page_is_the_same_for_the_same_data_and_carries_it_whole(data: Any) -> None:
    page = report_page.report_html(data)
    assert page == report_page.report_html(data)
    assert json.loads(unpacked(page, "data")) == data
    assert "Plotly" in unpacked(page, "library")[:2000] or "plotly.js" in unpacked(page, "library")


def test_a_name_of_markup_stays_a_name(data: Any) -> None:
    outside = report_page.report_html(data).replace("\n", "")
    assert published.TRICKY not in outside
    assert published.TRICKY in data["stations"]["name"]


def test_a_page_of_fifteen_hundred_stations_has_at_most_five_megabytes() -> None:
    large = charts.report_data(published.sources(1500), MADE_AT)
    assert len(report_page.report_html(large).encode()) <= 5_000_000


def test_both_languages_say_everything_with_the_same_values() -> None:
    french, english = report_page.texts()["fr"], report_page.texts()["en"]
    assert french.keys() == english.keys()
    for key, words in french.items():
        assert words.strip()
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", english[key])), key


def test_every_text_that_is_asked_for_is_there_and_no_other() -> None:
    scripts = "\n".join(path.read_text("utf-8") for path in FOLDER.glob("*.js"))
    page = (FOLDER / "page.html").read_text("utf-8")
    asked = set(re.findall(r'"([a-z]+(?:\.[a-z_]+)+)"', scripts)) - {
        "stations.csv",
        "stations.json",
    }
    asked |= set(re.findall(r'data-(?:text|label|placeholder)="([^"]+)"', page))
    asked |= set(re.findall(r'text\((?:risky \? )?"([a-z.]+)"', scripts))
    families = set(re.findall(r"`([a-z]+)\.\$\{", scripts))
    known = report_page.texts()["en"].keys()
    missing = {key for key in asked if key not in known} - {"document.documentElement"}
    assert not missing
    unused = {k for k in known if k not in asked and k.partition(".")[0] not in families}
    assert not unused


def test_what_is_missing_from_a_lake_is_read_as_missing(lake: Lake, settings: Settings) -> None:
    assert read_sources(lake, settings).panel is None
    page = charts.report_data(read_sources(lake, settings), MADE_AT)
    assert page["newest"] is None
    assert page["pipeline"]["total"] == 0


def test_the_last_day_comes_from_the_daily_and_from_the_snapshots_since(
    lake: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    midnight = first_bin(day_after(network.FIRST_DAY))
    bins = [Bin(midnight + n) for n in (-24, -12, 0, 12)]
    network.upload(lake, settings, bins[2:])
    network.put(lake, layout.name(Snapshot(bins[1])), b"damaged")
    network.put(lake, layout.name(Daily(network.FIRST_DAY)), network.snapshot_object(bins[0]))
    panel = present(read_sources(lake, settings).panel)
    assert panel.stop == bins[3] + 1
    seen = np.flatnonzero(~np.isnan(panel["bikes"][:, 0])) + panel.start
    assert seen.tolist() == [bins[0], bins[2], bins[3]]


def test_an_object_names_the_event_that_made_it_and_how_long_that_took(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SERVICE", "compact_daily")
    artefact = Artefact(b"{}", JSON, "x")
    lake.write("daily/before", artefact, expected_generation=0)
    with lineage.handling("17", "bronze/a.parquet"):
        lake.write("daily/during", artefact, expected_generation=0)
    before, during = lake.lineage_records("daily/")
    assert (before.function, before.cause, before.seconds) == (None, None, None)
    assert (during.function, during.cause, during.event) == (
        "compact_daily",
        "bronze/a.parquet",
        "17",
    )
    assert 0 <= present(during.seconds) < 60
    assert during.written_at.endswith("Z")
    assert present(lake.stat("daily/during")).fingerprint == "x"


def test_a_note_that_is_no_number_is_unknown() -> None:
    made = lineage.lineage_record("a", "2025-11-07T00:00:00Z", 1, {"velib-seconds": "soon"})
    assert made.seconds is None


def test_the_command_wants_exactly_one_lake(tmp_path: Path) -> None:
    both = ["report", "--bucket", "gs://b", "--dir", str(tmp_path)]
    for arguments in (["report"], both):
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 2
        assert "either --bucket" in done.output


def test_the_command_writes_the_page_of_a_folder(tmp_path: Path) -> None:
    bin_ = Bin(first_bin(network.FIRST_DAY))
    name = f"bronze/date={network.FIRST_DAY}/hour=00/{bin_start(bin_):%Y-%m-%dT%H-%M}.parquet"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(network.snapshot_object(bin_))
    out = tmp_path / "pages" / "page.html"
    done = CliRunner().invoke(cli, ["report", "--dir", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    shown = json.loads(unpacked(out.read_text("utf-8"), "data"))
    assert shown["newest"] == iso_z(bin_start(bin_))
    assert len(shown["stations"]["id"]) == network.STATIONS


# --- what the forecasts were worth, by another way ------------------------------------------------


def frame_of(day: LoggedDay, steps: int) -> Any:
    """The same pairs by pandas: joined by station and time, not by position."""
    log = day.log.to_pandas()
    log = log[log["horizon_bins"] == steps]
    bins = pd.date_range(bin_start(day.truth.start).replace(tzinfo=None), periods=288, freq="5min")
    wide = pd.DataFrame(day.truth["bikes"], bins, day.truth.stations.ids)
    bikes = wide.rename_axis("at").reset_index().melt("at", var_name="station_id")
    right = ["at", "station_id"]
    joined = log.merge(bikes, left_on=["target_tbin_utc", "station_id"], right_on=right)
    joined = joined.merge(
        bikes, left_on=["tbin_utc", "station_id"], right_on=right, suffixes=("_then", "_now")
    )
    return joined.dropna(subset=["value_then", "value_now", "y_pred_int"])


@pytest.mark.parametrize("minutes", [15, 60])
def test_warnings_errors_and_reliability_are_what_pandas_counts(data: Any, minutes: int) -> None:
    day = published.sources().logged[0]
    pairs = frame_of(day, minutes // 5)
    made = data["value"][[15, 60].index(minutes)]
    assert made["n"] == len(pairs)
    left = pairs[pairs["value_now"] >= 1]
    came, warned = left["value_then"] < 1, 1 - left["p_bike"] >= value.WARNING_LEVEL
    assert made["warnings"]["bike"] == {
        "stockouts": came.sum(),
        "warned": (came & warned).sum(),
        "warnings": warned.sum(),
    }
    assert came.sum() > 0
    assert (warned & ~came).sum() > 0
    groups = pairs.groupby(((1 - pairs["p_bike"]) * 10).round(6).astype(int))["value_then"]
    expected = [[(g < 1).mean(), len(g)] for _, g in groups if len(g) >= value.LEAST_PAIRS]
    assert [row[1:] for row in made["reliability"]["bike"]] == pytest.approx(
        np.array(expected), abs=1e-4
    )
    hours = pairs["tbin_utc"].dt.tz_localize("UTC").dt.tz_convert(published.TZ).dt.hour
    error = (pairs["value_then"] - pairs["value_now"]).abs().groupby(hours).agg(["mean", "size"])
    enough = error[error["size"] >= value.LEAST_PAIRS]
    assert made["by_hour"]["group"] == enough.index.tolist()
    assert made["by_hour"]["now"] == pytest.approx(enough["mean"].tolist(), abs=1e-4)
    assert set(made["by_hour"]["forecast"]) == {1.0}, "one bike above what came"
    assert set(made["by_hour"]["usual"]) == {None}, "there was no profile"


def test_the_usual_profile_is_a_rival_where_there_is_one() -> None:
    complete = published.sources()
    usual = published.profiles(present(complete.panel))
    day = dataclasses.replace(complete.logged[0], usual=usual)
    made = present(value.value_block([day], [published.HORIZONS[0]], published.TZ)[0])
    known = [mae for mae in made["by_hour"]["usual"] if mae is not None]
    assert known
    assert max(known) < 1


def test_quarters_are_apart_and_named_after_their_largest_station() -> None:
    panel = present(published.sources(400).panel)
    panel.stations.capacity[:] = 20
    panel.stations.capacity[[17, 333]] = 90
    x, y = charts.projected(panel.stations)
    named, of_station = places.quarters(x, y, panel.stations)
    assert 4 <= len(named) <= places.QUARTERS
    assert {17, 333} <= set(named)
    assert set(of_station) == set(range(len(named)))
    x[5] = np.nan
    assert places.quarters(x, y, panel.stations)[1][5] is None


def test_a_base_map_is_drawn_around_the_stations_and_thinned_until_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = present(published.sources().panel)
    line = [[2.30 + n / 10_000, 48.86] for n in range(1000)]
    far = [[9.0, 48.0], [9.1, 48.0]]
    geojson = {
        "type": "FeatureCollection",
        "features": [
            {"properties": {"natural": "water"},
             "geometry": {"type": "Polygon", "coordinates": [line]}},
            {"properties": {}, "geometry": {"type": "LineString", "coordinates": far}},
            {"properties": {"highway": "primary"},
             "geometry": {"type": "MultiLineString", "coordinates": [line]}},
        ],
    }  # fmt: skip
    projection = places.Projection(panel.stations, 6371.0)
    box = [-5, 5, -5, 5]
    complete = places.basemap_lines(geojson, projection, box)
    assert {kind: len(columns[0]) for kind, columns in complete.items()} == {
        "water": 1001,
        "street": 1001,
    }
    monkeypatch.setattr(places, "BASEMAP_BYTES", 3000)
    thin = places.basemap_lines(geojson, projection, box)
    assert len(json.dumps(thin)) <= 3000
    assert [thin["water"][0][n] for n in (0, -2)] == [complete["water"][0][n] for n in (0, -2)]
    for broken in ({"type": "Feature"}, {"type": "FeatureCollection", "features": [{"geometry": {
        "type": "LineString", "coordinates": [["a", "b"], ["c", "d"]]}}]}):  # fmt: skip
        with pytest.raises(places.BasemapError):
            places.basemap_lines(broken, projection, box)


def test_tiles_lie_where_mercator_has_them() -> None:
    panel = present(published.sources().panel)
    projection = places.Projection(panel.stations, 6371.0)
    lat, lon = panel.stations.lat.tolist(), panel.stations.lon.tolist()
    tiles = places.tiles_block("https://t.example/{z}/{x}/{y}.png", projection, lat, lon)
    assert 0 < len(tiles) <= places.TILES
    x, y = charts.projected(panel.stations)
    assert min(t["x"] for t in tiles) <= x.min() <= x.max() <= max(t["x"] + t["w"] for t in tiles)
    assert min(t["y"] - t["h"] for t in tiles) <= y.min() <= y.max() <= max(t["y"] for t in tiles)
    assert tiles[0]["w"] == pytest.approx(tiles[0]["h"], rel=0.02), "a tile is square"


def test_a_page_with_tiles_may_ask_their_host_and_no_other() -> None:
    complete = published.sources(tiles="https://t.example/{z}/{x}/{y}.png")
    page = report_page.report_html(charts.report_data(complete, MADE_AT))
    assert "img-src data: blob: https://t.example;" in page
    assert "img-src data: blob:;" in report_page.report_html(
        charts.report_data(published.sources(), MADE_AT)
    )


@pytest.mark.parametrize(
    "forged", [{}, [], {"points": 3}, {"statuses": [1]}, {"alerts": [7]}, {"median": [{}]}, "x"]
)
@pytest.mark.parametrize("name", ["intro/intro.json", "network/overview/today_curve.json",
    "data/health/manifest.json", "data/drift/psi_by_feature.json"])  # fmt: skip
def test_a_document_of_another_shape_costs_its_own_part_of_the_page_only(
    name: str, forged: Any
) -> None:
    complete = published.sources()
    documents = dict(complete.documents) | {name: forged}
    made = charts.report_data(dataclasses.replace(complete, documents=documents), MADE_AT)
    assert made["stations"]["id"]
    assert json.dumps(made, allow_nan=False)


def test_unreadable_documents_are_not_missing_ones(lake: Lake, settings: Settings) -> None:
    layout = Layout(settings)
    network.put(lake, layout.name(Monitoring("data/health", "kpis.json")), b'{"cover')
    sources = read_sources(lake, settings)
    assert sources.unreadable == ["data/health/kpis.json"]
    assert charts.report_data(sources, MADE_AT)["unreadable"] == ["data/health/kpis.json"]


def test_a_base_map_is_kept_with_the_lake(mirrored_snapshot: Path) -> None:
    file = mirrored_snapshot / "map.geojson"
    river = {"type": "LineString", "coordinates": [[2.34, 48.85], [2.36, 48.86]]}
    feature = {"properties": {"waterway": "river"}, "geometry": river}
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), "utf-8")
    out = mirrored_snapshot.parent / "page.html"
    arguments = ["report", "--dir", str(mirrored_snapshot), "--out", str(out)]
    for more in (["--basemap", str(file)], []):
        done = CliRunner().invoke(cli, [*arguments, *more])
        assert done.exit_code == 0, done.output
        kept = mirrored_snapshot / "page" / "basemap.geojson"
        assert kept.read_bytes() == file.read_bytes()
        assert present(read_basemap(FolderLake(mirrored_snapshot), SETTINGS))["features"] == [
            feature
        ]
    file.write_text("{", "utf-8")
    done = CliRunner().invoke(cli, [*arguments, "--basemap", str(file)])
    assert done.exit_code != 0
    assert "GeoJSON" in str(done.exception)


@pytest.fixture
def mirrored_snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    bin_ = Bin(first_bin(network.FIRST_DAY))
    name = f"bronze/date={network.FIRST_DAY}/hour=00/{bin_start(bin_):%Y-%m-%dT%H-%M}.parquet"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_bytes(network.snapshot_object(bin_))
    return folder


def test_only_stations_that_are_clearly_worse_off_are_listed() -> None:
    rows = 200
    station = np.repeat(np.array(["a", "b", "c"]), rows)
    truth, off = np.zeros(3 * rows), np.zeros(3 * rows)
    off[:9] = 1  # a: 0.045 bikes worse on average
    off[rows : rows + 11] = 1  # b: 0.055
    nothing = np.zeros(3 * rows, np.int64)
    pairs = value._Pairs(
        station, station, nothing, nothing, truth, off, truth, truth, truth, truth, {}
    )
    assert [row[0] for row in value._worst(pairs)] == ["b"]
