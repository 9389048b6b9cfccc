"""``velib demo``: days of a simulated city by events alone, down to forecasts of trained models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from chromium import chromium, log, open_page, requests_of
from commands import velib
from contract.documents import problems

pytestmark = pytest.mark.e2e

SCHEMAS = Path(__file__).parents[1] / "contract" / "schemas"


TRAINED = 3
"""Days after which models are trained; forecasts have numbers from then on."""

with_models = pytest.mark.parametrize(
    "demo", [pytest.param(TRAINED, marks=pytest.mark.slow)], indirect=True
)
"""A demo of a day takes a minute, one that trains takes three; the chain of a week with models
is in test_monitoring_chain.py."""


@pytest.fixture(scope="module", params=[1, pytest.param(TRAINED, marks=pytest.mark.slow)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report, the folder and the days of a small demo."""
    out, days = tmp_path_factory.mktemp("demo") / "out", request.param
    done = velib("demo", "--days", str(days), "--stations", "12", "--out", out, "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout), out, days


def stations(out: Path) -> int:
    """How many stations the newest snapshot has: some of the city's open after days."""
    newest = max(out.glob("bronze/*/*/*.parquet"))
    return int(pq.ParquetFile(newest).metadata.num_rows)


def documents(out: Path, pattern: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text("utf-8")) for path in sorted(out.glob(pattern))]
    assert found, pattern
    return found


def validate(document: Any, schema: str) -> None:
    loaded = json.loads((SCHEMAS / f"{schema}.schema.json").read_text("utf-8"))
    jsonschema.validate(document, loaded, cls=jsonschema.Draft202012Validator)


def test_days_are_closed_compacted_and_exported_by_events_alone(demo: Any) -> None:
    report, out, days = demo
    assert report["dead_letters"] == 0
    assert report["objects"]["daily"] == days
    assert len(list((out / "exports").glob("events_*.parquet"))) == days
    assert {stage["function"]: stage["failures"] for stage in report["stages"]} == dict.fromkeys(
        (stage["function"] for stage in report["stages"]), 0
    )


@with_models
def test_models_are_trained_evaluated_and_registered_by_events(demo: Any) -> None:
    _, out, _days = demo
    folders = [path.parent for path in out.glob("models/h*/*/pack.json")]
    refused = list(out.glob("models/h*/*/refused.json"))
    assert {path.parent.name for path in [*folders, *(r.parent for r in refused)]} >= {"h15", "h60"}
    for record in documents(out, "models/h*/*/version.json"):
        validate(record, "models.latest")
        assert (
            record["verdict"]["candidate"]["mae"]
            < record["verdict"]["candidate"]["mae_persistence"]
        )


@with_models
def test_every_snapshot_since_the_training_is_forecast_and_logged(demo: Any) -> None:
    _, out, _days = demo
    trained = "2025-11-06"
    since = {path.stem for path in out.glob("bronze/*/*/*.parquet") if path.stem >= trained}
    assert len(since) == 7.5 * 12 + 1
    live = [path.parent.name for path in out.glob("models/h*/latest.json")]
    assert live, "no model was promoted"
    for horizon in live:
        logged = [path.stem for path in out.glob(f"ledger/*/*/*_{horizon}_*.parquet")]
        assert {stem.partition("_")[0] for stem in logged} == since


def test_every_station_has_its_forecast_or_the_reason_for_none(demo: Any) -> None:
    _, out, _days = demo
    for horizon in (15, 60):
        api, alias = (
            documents(out, f"serving/forecast/{path}")[0]
            for path in (f"latest/h{horizon}/forecast.json", f"h{horizon}/latest.json")
        )
        assert api == alias
        validate(api, "serving.forecast")
        assert len(api["data"]) == stations(out)
        for row in api["data"]:
            assert (row["bikes_pred"] is None) == (row["reason"] is not None)
    validate(
        documents(out, "serving/forecast/latest/manifest.json")[0], "serving.forecast.manifest"
    )
    bundle = documents(out, "serving/forecast/latest_forecast.json")[0]
    validate(bundle, "serving.forecast.bundle")
    assert {key: len(rows) for key, rows in bundle["data"].items()} == dict.fromkeys(
        ("15", "60"), stations(out)
    )


def test_monitoring_is_published_and_holds_to_the_contract(demo: Any) -> None:
    _, out, _days = demo
    found = sorted((out / "monitoring").rglob("*.json"))
    assert sum(path.name == "manifest.json" for path in found) == 10  # health has two
    wrong = []
    for path in found:
        name = path.relative_to(out).as_posix()
        wrong += problems(name, json.loads(path.read_text("utf-8")))
    assert not wrong


def test_the_demo_leaves_its_page_with_every_station_on_the_map(demo: Any) -> None:
    _, out, days = demo
    with chromium() as browser:
        open_page(browser, out / "report.html")
        browser.execute_script("drawAll()")
        assert log(browser, "browser") == []
        assert not [url for url in requests_of(browser) if url.startswith("http")]
        data = browser.execute_script("return data")
        placed = browser.execute_script("return document.getElementById('map').data[0].customdata")
    assert len(placed) == stations(out)
    assert {row[2] for row in data["pipeline"]["rows"]} >= {
        "compact_daily",
        "build_datasets",
        "build_data_health",
        "build_serving_forecast",
    } | ({"train_model"} if days == TRAINED else set())
    assert data["dead_letters"] == 0


def test_deliveries_record_which_event_made_what(demo: Any) -> None:
    _, out, days = demo
    lines = (out / "_local" / "deliveries.jsonl").read_text("utf-8").splitlines()
    functions = {json.loads(line)["function"] for line in lines}
    assert {"ingest", "close_day", "compact_daily"} <= functions
    assert ("train_model" in functions) == (days == TRAINED)
