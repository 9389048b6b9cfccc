"""Eight days by events alone: every monitoring document, valid and filled; alerts; replays."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

import network
import pytest
from contract.documents import FAMILIES, expected, problems
from google.cloud import pubsub_v1
from velib_core.events.messages import ReplayRequested, TrainRequested
from velib_core.events.topics import ALERTS
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables import snapshot
from velib_core.timeline.bins import BINS_PER_DAY, BINS_PER_HOUR, Bin, day_after, first_bin
from velib_local.emulator.cloud import LocalCloud, local_cloud

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake

pytestmark = pytest.mark.e2e

MONITORING = [
    "build_data_health",
    "build_data_drift",
    "build_data_freshness",
    "build_model_performance",
    "build_model_explainability",
    "build_network_overview",
    "build_network_stations",
    "build_network_dynamics",
    "build_monitoring_intro",
]
CHAIN = ["close_day", "compact_daily", "build_datasets", "reconcile"]
LEARNING = ["refresh_profiles", "export_training_base", "train_model", "build_serving_forecast"]
DAYS, EVERY = 8, 3
STATIONS = 8
NEWEST = Bin(first_bin(network.FIRST_DAY) + DAYS * BINS_PER_DAY + EVERY)
QUICK = {"TRAIN_ROUNDS": "8", "TRAIN_MAX_ROWS": "4000"}


def tidal(bin_: Bin) -> bytes:
    """Return a snapshot of stations that swing through the day: the hour determines what comes."""
    phases = range(STATIONS)
    bikes = [round(12 + 9 * math.sin(2 * math.pi * (bin_ / 96 + s / STATIONS))) for s in phases]
    places = {"lat": [48.8 + s / 100 for s in phases], "lon": [2.3] * STATIONS}
    capacity = [25] * (STATIONS - 1) + [0]
    rows = network.snapshot_table(bin_, STATIONS, bikes=bikes, capacity=capacity, **places)
    return snapshot.to_bytes(snapshot.validate(rows, bin_)[0])


def observe(
    cloud: LocalCloud, first: int, last: int, rng: random.Random | None = None, every: int = EVERY
) -> None:
    """Write the snapshots of days, each time the next one's first, which closes them."""
    start = first_bin(network.FIRST_DAY)
    bins = [Bin(start + n) for n in range(first * BINS_PER_DAY, last * BINS_PER_DAY + 1, every)]
    if rng:
        rng.shuffle(bins)
    layout = Layout(cloud.settings)
    for bin_ in bins:
        network.put(cloud.lake, layout.name(Snapshot(bin_)), tidal(bin_))


def documents_of(lake: Lake) -> dict[str, dict[str, Any]]:
    found = {}
    for entry in lake.entries("monitoring/"):
        if entry.name.endswith(".json"):
            found[entry.name] = json.loads(lake.read(entry))
    return found


@pytest.fixture(scope="module")
def week() -> Any:
    """The documents of eight days with models from the fifth on, again after a forced replay."""
    with local_cloud(QUICK, only=[*CHAIN, *LEARNING, *MONITORING]) as cloud:
        topic = cloud.settings.topic(ALERTS)
        listening = topic.replace("/topics/", "/subscriptions/") + "-heard"
        with pubsub_v1.SubscriberClient() as subscriber:
            subscriber.create_subscription(request={"name": listening, "topic": topic})
            observe(cloud, 0, 4)
            cloud.wait_until_idle()
            cloud.publish(TrainRequested())
            cloud.wait_until_idle()
            for day in range(4, DAYS):
                observe(cloud, day, day + 1)
                cloud.wait_until_idle()
            # The models that the last day asked for are on the page of the next snapshot.
            network.put(cloud.lake, Layout(cloud.settings).name(Snapshot(NEWEST)), tidal(NEWEST))
            cloud.wait_until_idle()
            heard = subscriber.pull(subscription=listening, max_messages=100, timeout=10)
        alerts = [json.loads(item.message.data) for item in heard.received_messages]
        before = documents_of(cloud.lake)
        generations = {e.name: e.generation for e in cloud.lake.entries("monitoring/")}
        cloud.publish(ReplayRequested())
        cloud.wait_until_idle()
        healed = {e.name: e.generation for e in cloud.lake.entries("monitoring/")}
        delivered = len(cloud.gateway.deliveries)
        for stage in ("build_datasets", *MONITORING):
            last = day_after(network.FIRST_DAY, DAYS - 1)
            cloud.publish(ReplayRequested(last, day_after(last), stage, force=True))
        cloud.wait_until_idle()
        replayed = {record.function for record in list(cloud.gateway.deliveries)[delivered:]}
        after = documents_of(cloud.lake)
        assert cloud.dead_letters() == []
        assert healed == generations, "a lake that is whole was made again"
        assert replayed >= set(MONITORING), "not every family was replayed"
        return before, after, alerts


def test_every_document_of_the_contract_is_there_and_valid(week: Any) -> None:
    documents, _, _ = week
    wrong = [line for name, document in documents.items() for line in problems(name, document)]
    assert not wrong
    for family in FAMILIES:
        prefix = f"monitoring/{family}/latest"
        wanted = set()
        for name in expected(prefix) - {"h{H}/by_cluster.json"}:
            wanted |= {name.replace("{H}", h) for h in ("15", "60")}
        assert {f"{prefix}/{name}" for name in wanted} <= set(documents)


@pytest.mark.parametrize("horizon", [15, 60])
def test_performance_has_the_hindcast_and_the_logged_forecasts(week: Any, horizon: Any) -> None:
    kpis = week[0][f"monitoring/model/performance/latest/h{horizon}/kpis.json"]
    assert kpis["n"] > 0
    assert kpis["lift_vs_baseline"] > 0.3
    assert kpis["served"]["n"] > 0
    assert kpis["served"]["lift_vs_baseline"] > 0.3
    assert [row["lead_min"] for row in kpis["served"]["by_lead"]] == [horizon]


@pytest.mark.parametrize("horizon", [15, 60])
def test_explainability_names_what_moved_each_stations_forecast(week: Any, horizon: Any) -> None:
    found = week[0][f"monitoring/model/explainability/latest/h{horizon}/feature_importance.json"]
    assert found["model_version"]
    assert found["rows"][0]["shap_mean_abs"] > 0
    stations = {row["station_id"] for row in found["stations"]}
    assert stations == {str(1000 + s) for s in range(STATIONS)}


def test_the_intro_is_of_the_newest_snapshot_and_all_is_well(week: Any) -> None:
    intro = week[0]["monitoring/intro/latest/intro.json"]
    newest = f"{day_after(network.FIRST_DAY, DAYS)}T00:15:00Z"
    assert intro["statuses"]["api_stations"]["source_generated_at"] == newest
    assert intro["statuses"]["batch_forecast_h60"]["led"] == "ok"
    assert intro["kpis"]["stations_active"] == STATIONS - 1


def test_alerts_are_published_once_and_are_those_of_the_manifests(week: Any) -> None:
    documents, _, alerts = week
    state: dict[Any, Any] = {}
    for alert in alerts:
        key = (alert["family"], alert["artefact"], alert["code"])
        assert state.get(key) != alert["state"], "published twice"
        state[key] = alert["state"]
    raised = {key for key, reported in state.items() if reported == "raised"}
    live = {
        (name.removeprefix("monitoring/").partition("/latest/")[0], a["artefact"], a["code"])
        for name, document in documents.items()
        if name.endswith("latest/manifest.json")
        for a in document["alerts"]
    }
    assert raised == live
    assert live, "a network polled every quarter of an hour covers a third of its bins"


def test_a_forced_replay_writes_the_same_documents(week: Any) -> None:
    before, after, _ = week
    assert after == before


def test_disorder_and_duplicates_leave_the_documents_of_an_undisturbed_run() -> None:
    rng = random.Random(5)

    def delivery(subscription: Any, _message: Any) -> list[float] | tuple[float]:
        if "-objects" in subscription or "dead-letter" in subscription:
            return (0.0,)
        return [rng.uniform(0.0, 2.0) for _ in range(rng.randint(1, 3))]

    found = []
    for faults in (None, delivery):
        options: dict[str, Any] = {} if faults is None else {"delivery": faults}
        with local_cloud({}, only=[*CHAIN, *MONITORING], **options) as cloud:
            observe(cloud, 0, 2, rng, every=BINS_PER_HOUR)
            cloud.wait_until_idle()
            assert cloud.dead_letters() == []
            found.append(documents_of(cloud.lake))
    assert found[0] == found[1]
    assert len(found[0]) > 60
