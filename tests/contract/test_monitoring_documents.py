"""Every monitoring document keeps to its schema, whatever the inputs are like."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import json
from typing import Any

import numpy as np
import pandas as pd
import planted
import pyarrow as pa
import pytest
from contract.documents import expected
from planted import Network
from velib_core.monitoring import intro
from velib_core.monitoring.data import drift as data_drift
from velib_core.monitoring.data import freshness
from velib_core.monitoring.data import health as data_health
from velib_core.monitoring.documents import clean
from velib_core.monitoring.model import explainability as model_explainability
from velib_core.monitoring.model import performance as model_performance
from velib_core.monitoring.model.importance import Importance
from velib_core.monitoring.network import dynamics as network_dynamics
from velib_core.monitoring.network import overview as network_overview
from velib_core.monitoring.network import stations as network_stations
from velib_core.monitoring.network.day_sums import summarise
from velib_core.tables.panel import build_panel
from velib_core.timeline.bins import Bin, HorizonMinutes
from velib_core.timeline.windows import LocalDays, complete_days


def health(net: Any, events: Any, perf: Any) -> Any:
    return data_health.build(
        events,
        window=window(net, 4),
        now=planted.after(net),
        run_metadata=planted.run_metadata("data/health"),
    )


def drift(net: Any, events: Any, perf: Any) -> Any:
    return data_drift.build(
        events,
        window=window(net, 3),
        reference_days=4,
        run_metadata=planted.run_metadata("data/drift"),
    )


def fresh(net: Any, events: Any, perf: Any) -> Any:
    table = events[-1] if events else pa.table({c: [] for c in freshness.COLUMNS}, schema())
    return freshness.build(
        table, now=planted.after(net), run_metadata=planted.run_metadata("data/freshness")
    )


def overview(net: Any, events: Any, perf: Any) -> Any:
    sums = [s for s in map(summarise, events) if s]
    return network_overview.build(
        events[-2:],
        sums,
        now=planted.after(net),
        run_metadata=planted.run_metadata("network/overview"),
    )


def stations(net: Any, events: Any, perf: Any) -> Any:
    return network_stations.build(
        events, window=window(net, 4), run_metadata=planted.run_metadata("network/stations")
    )


def dynamics(net: Any, events: Any, perf: Any) -> Any:
    return network_dynamics.build(
        events, window=window(net, 4), run_metadata=planted.run_metadata("network/dynamics")
    )


def performance(net: Any, events: Any, perf: Any) -> Any:
    return model_performance.build(
        perf,
        window=window(net, 4),
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("model/performance"),
        forecast_log=[planted.forecast_log(table) for table in perf],
        clusters={"s0": 1, "s1": 0},
    )


def explainability(net: Any, events: Any, perf: Any) -> Any:
    return model_explainability.build(
        perf,
        window=window(net, 4),
        horizons=planted.HORIZONS,
        run_metadata=planted.run_metadata("model/explainability"),
    )


FAMILIES = {
    "data/health": health,
    "data/drift": drift,
    "data/freshness": fresh,
    "network/overview": overview,
    "network/stations": stations,
    "network/dynamics": dynamics,
    "model/performance": performance,
    "model/explainability": explainability,
}


def window(net: Any, days: int) -> LocalDays:
    return complete_days(planted.after(net), days, planted.TZ)


def schema() -> Any:
    return planted.network(days=1, stations=1).events(0).select(freshness.COLUMNS).schema


def without_forecasts(net: Any) -> Any:
    return net, net.all_events(), net.all_perf()


def one_day_only(net: Any) -> Any:
    net = planted.network(days=1)
    return net, net.all_events(), net.all_perf(planted.forecast)


def one_station(net: Any) -> Any:
    net = planted.network(stations=1, days=5)
    return net, net.all_events(), net.all_perf(planted.forecast)


def no_weather(net: Any) -> Any:
    net = dataclasses.replace(
        net, frame=net.frame.assign(temp_C=None, precip_mm=None, wind_mps=None)
    )
    return net, net.all_events(), []


def one_horizon_without_forecasts(net: Any) -> Any:
    perf = [t.filter(np.asarray(t["horizon_bins"]) == 3) for t in net.all_perf(planted.forecast)]
    return net, net.all_events(), perf


def bare_columns(net: Any) -> Any:
    """A feed that states neither docks, nor flags, nor reports, nor where a station is."""
    columns = ["docks_available", "is_installed", "is_renting", "is_returning"]
    columns += ["last_reported_utc", "lat", "lon", "name", "mechanical", "ebike", "capacity"]
    net = dataclasses.replace(net, frame=net.frame.drop(columns=columns))
    return net, net.all_events(), net.all_perf(planted.forecast)


def nobody_in_service(net: Any) -> Any:
    net = dataclasses.replace(net, frame=net.frame.assign(status="CLOSED"))
    return net, net.all_events(), []


def nothing_at_all(net: Any) -> Any:
    return net, [], []


def empty_tables(net: Any) -> Any:
    return net, [t.slice(0, 0) for t in net.all_events()], [t.slice(0, 0) for t in net.all_perf()]


def ordinary(net: Any) -> Any:
    return net, net.all_events(), net.all_perf(planted.forecast)


@pytest.fixture(scope="module")
def net() -> Network:
    return planted.network(days=6)


@pytest.fixture(scope="module")
def made_of(net: Network) -> Any:
    """Return the inputs of a case, made once."""
    return functools.cache(lambda case: case(net))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "inputs",
    [
        ordinary,
        without_forecasts,
        one_day_only,
        one_station,
        no_weather,
        one_horizon_without_forecasts,
        bare_columns,
        nobody_in_service,
        nothing_at_all,
        empty_tables,
    ],
    ids=lambda case: case.__name__,
)
def test_documents_keep_to_their_schemas(
    family: Any, inputs: Any, made_of: Any, validate: Any
) -> None:
    folder = f"monitoring/{family}/latest"
    documents = FAMILIES[family](*made_of(inputs))
    validate(folder, documents)
    wanted = {name.replace("h{H}", f"h{h}") for name in expected(folder) for h in (15, 60)}
    assert wanted <= set(documents)
    assert documents["manifest.json"]["inputs"] == {"exports/x": 7}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_inputs_the_manifest_says_so(family: Any, net: Network) -> None:
    manifest = FAMILIES[family](*nothing_at_all(net))["manifest.json"]
    assert manifest["status"] == "no_data"
    assert manifest["reason"]


@pytest.mark.parametrize("family", FAMILIES)
def test_documents_of_the_same_inputs_are_the_same(family: Any, made_of: Any) -> None:
    once, again = (FAMILIES[family](*made_of(ordinary)) for _ in range(2))
    assert json.dumps(once) == json.dumps(again)


@pytest.mark.parametrize(
    "case",
    [ordinary, one_day_only, one_station, no_weather, nobody_in_service, nothing_at_all, None],
    ids=lambda case: case.__name__ if case else "no source",
)
def test_the_intro_keeps_to_its_schema(
    case: Any, net: Network, made_of: Any, validate: Any
) -> None:
    sources = intro.IntroSources(uris={"overview": "gs://bucket/x"})
    if case:
        names = ("data/health", "data/drift", "network/overview", "data/freshness")
        made = {name: FAMILIES[name](*made_of(case)) for name in names}
        forecast = {"generated_at": "2025-10-26T00:00:00Z", "data": [{"bikes_pred_int": 3}]}
        sources = intro.IntroSources(
            overview=made["network/overview"]["kpis.json"],
            health=made["data/health"]["kpis.json"],
            freshness=made["data/freshness"]["freshness.json"],
            drift=made["data/drift"]["summary.json"],
            models={HorizonMinutes(15): {"version": "2.1.0"}, HorizonMinutes(60): None},
            forecasts={HorizonMinutes(15): forecast, HorizonMinutes(60): None},
        )
    documents = intro.build(
        sources,
        horizons=[HorizonMinutes(15), HorizonMinutes(30)],
        now=planted.after(net),
        run_metadata=planted.run_metadata("intro"),
    )
    validate("monitoring/intro/latest", documents)
    assert documents["manifest.json"]["status"] == ("ok" if case else "no_data")
    assert documents["intro.json"]["statuses"]["batch_forecast_h30"]["led"] == "down"


def test_importances_with_and_without_contributions_keep_to_the_schema(
    net: Network, validate: Any
) -> None:
    for rows in (0, 3):
        moved = Importance(
            ["a", "b"],
            {
                "gain": {"a": 2.0},
                "total_gain": {"a": 6.0},
                "weight": {"a": 3.0},
                "cover": {"a": 1.0},
            },
            np.ones((rows, 2), np.float32),
            ["s0"] * rows,
            [Bin(n) for n in range(rows)],
        )
        documents = model_explainability.build(
            net.all_perf(planted.forecast),
            window=window(net, 2),
            horizons=planted.HORIZONS,
            run_metadata=planted.run_metadata("model/explainability"),
            importance=dict.fromkeys(planted.HORIZONS, moved),
            stations=build_panel(net.all_events(), net.start, Bin(net.start + 1)).stations,
        )
        validate("monitoring/model/explainability/latest", documents)


def test_no_number_that_json_lacks_gets_through() -> None:
    dirty = {
        "a": np.float32("nan"),
        "b": [np.inf, -np.inf, np.int64(3)],
        "c": np.array([0.5, np.nan]),
    }
    assert clean(dirty) == {"a": None, "b": [None, None, 3], "c": [0.5, None]}
    assert clean({"t": pd.NA is None, "d": -1e-9, "n": dt.date(2025, 1, 1).isoformat()}) == {
        "t": False,
        "d": 0.0,
        "n": "2025-01-01",
    }
