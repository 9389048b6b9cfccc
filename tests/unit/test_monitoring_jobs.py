"""The monitoring jobs on a lake: every document of the contract, from the lake's own objects."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import io
import json
from typing import TYPE_CHECKING, Any

import hostile
import network
import planted
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract.documents import FAMILIES, expected, problems
from contract.routes import routes
from planted import Network
from present import present
from velib_core import launcher
from velib_core.errors import TransientError
from velib_core.jobs import (
    build_data_freshness,
    build_data_health,
    build_datasets,
    build_model_performance,
    build_monitoring_intro,
    build_network_overview,
    build_network_stations,
)
from velib_core.jobs.compact_daily import to_bytes
from velib_core.jobs.family_update import NotDue, Plan, update_family
from velib_core.jobs.recipes import families
from velib_core.jobs.recipes.stations import FAMILY
from velib_core.lake.artefact import StoreError
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Daily, Events, Monitoring, Snapshot
from velib_core.lake.layout import Layout
from velib_core.tables import snapshot
from velib_core.tables.panel import bins_of
from velib_core.timeline.bins import Bin, Day, day_after, first_bin, parse_day

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.events.job import JobResult
    from velib_core.settings.network import Settings

NO_WEATHER = dict.fromkeys(("temp_C", "precip_mm", "wind_mps"), float("nan"))


class Recorder:
    """A publisher that keeps what it gets."""

    def __init__(self) -> None:
        self.alerts: list[Any] = []

    def publish_alert(self, body: Any) -> None:
        self.alerts.append(body)


@pytest.fixture
def reported() -> Recorder:
    return Recorder()


def days_of(net: Network) -> list[Day]:
    return [day_after(parse_day(net.first.isoformat()), n) for n in range(net.days)]


def fill(lake: Lake, settings: Settings, net: Network, snapshots: Any = 14) -> None:
    """Put a network's days in the lake, and the first snapshots of the day after them."""
    layout = Layout(settings)
    *closed, today = days_of(net)
    for n, day in enumerate(closed):
        network.put(lake, layout.name(Daily(day)), to_bytes(net.daily(n)))
    for day in closed:
        build_datasets.run(network.of(lake, settings), day)
    rows = net.daily(len(closed))
    start = first_bin(today)
    for bin_ in (Bin(start + n) for n in range(snapshots)):
        mine = pa.array(bins_of(rows["tbin_utc"]) == bin_)
        table, _ = snapshot.validate(rows.filter(mine), bin_)
        network.put(lake, layout.name(Snapshot(bin_)), snapshot.to_bytes(table))


@pytest.fixture(scope="module")
def nine_days() -> Any:
    """The objects of a lake of nine closed days and the first hour of the tenth, by name."""
    return {}


@pytest.fixture
def filled(lake: Lake, settings: Settings, nine_days: Any) -> Lake:
    """A lake of those objects: made for the first test, put there for the others."""
    if nine_days:
        for name, data in nine_days.items():
            network.put(lake, name, data)
    else:
        fill(lake, settings, planted.network(days=10))
        nine_days |= {entry.name: lake.read(entry) for entry in lake.entries("")}
    return lake


def launch(settings: Settings, **environ: Any) -> int:
    base = {"GCS_BUCKET_ROOT": settings.root, "GOOGLE_CLOUD_PROJECT": settings.project}
    return launcher.launch(base | {"JOB": "monitoring_pipeline"} | environ)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts have no service to go to here; their messages have tests of their own."""
    monkeypatch.setattr("velib_core.events.publisher.Publisher.publish_alert", lambda *_: None)


def contents(lake: Lake, prefix: Any = "monitoring/") -> dict[str, bytes]:
    return {e.name: lake.read(e) for e in lake.entries(prefix) if e.name.endswith(".json")}


def check_everything(lake: Lake) -> Any:
    found = {}
    for name, data in contents(lake).items():
        found[name] = json.loads(data)
        assert not problems(name, found[name])
    for family in FAMILIES:
        names = {n.partition("/latest/")[2] for n in found if n.startswith(f"monitoring/{family}/")}
        wanted = {name.replace("h{H}", "h15") for name in expected(f"monitoring/{family}/latest")}
        assert wanted - names <= {"h15/by_cluster.json"}, family
        manifest = found[f"monitoring/{family}/latest/manifest.json"]
        assert manifest["inputs"] or manifest["status"] == "no_data"
    assert {name for name in routes([15, 60]).values() if name not in found} == set()
    return found


@pytest.mark.usefixtures("quiet")
def test_the_pipeline_makes_every_document_of_the_contract(
    filled: Lake, settings: Settings
) -> None:
    assert launch(settings) == launcher.DONE
    found = check_everything(filled)
    health = found["monitoring/data/health/latest/kpis.json"]
    assert health["stations"] == 8
    assert health["files_aware_days"] == 9
    assert (
        found["monitoring/data/freshness/latest.json"]
        == (found["monitoring/data/freshness/latest/freshness.json"])
    )
    overview = found["monitoring/network/overview/latest/manifest.json"]
    assert sum("network/overview/days" in name for name in overview["inputs"]) == 9


@pytest.mark.usefixtures("quiet")
def test_run_again_it_writes_nothing_and_by_force_the_same_again(
    filled: Lake, settings: Settings
) -> None:
    launch(settings)
    before = {e.name: e.generation for e in filled.entries("monitoring/")}
    documents = contents(filled)
    assert launch(settings) == launcher.DONE
    assert {e.name: e.generation for e in filled.entries("monitoring/")} == before
    assert launch(settings, FORCE="1") == launcher.DONE
    assert contents(filled) == documents


@pytest.mark.usefixtures("quiet")
def test_steps_go_by_their_short_names_and_a_dry_run_writes_nothing(
    filled: Lake, settings: Settings
) -> None:
    before = network.contents(filled)
    assert launch(settings, STEPS="health,network", DRY_RUN="1") == launcher.DONE
    assert network.contents(filled) == before
    assert launch(settings, STEPS="health,perf") == launcher.DONE
    folders = {name.split("/latest/")[0] for name in contents(filled)}
    assert folders == {"monitoring/data/health", "monitoring/model/performance"}
    assert launch(settings, STEPS="health,tea") == launcher.WRONG_SETTING


@pytest.mark.usefixtures("quiet")
def test_the_other_steps_run_on_after_one_failed_if_asked_to(
    filled: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(lake: Lake, name: str, *args: Any, **options: Any) -> int:
        if name.startswith("exports/"):
            raise StoreError(name)
        return write(lake, name, *args, **options)

    write = Lake.write
    day = days_of(planted.network(days=10))[3]
    filled.delete(present(filled.stat(Layout(settings).name(Events(day)))))
    monkeypatch.setattr(Lake, "write", refused)
    environ = {"STEPS": "datasets,health", "DAY": str(day)}
    assert launch(settings, **environ) == launcher.FAILED
    assert not contents(filled)
    assert launch(settings, **environ, CONTINUE_ON_ERROR="1") == launcher.FAILED
    folders = {name.split("/latest/")[0] for name in contents(filled)}
    assert folders == {"monitoring/data/health"}


def test_a_view_that_cannot_be_read_costs_its_day_alone_and_is_named(
    filled: Lake, settings: Settings, reported: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = Layout(settings).name(Events(days_of(planted.network(days=10))[3]))
    network.put(filled, name, b"no parquet")
    build_data_health.run(network.of(filled, settings, reported))
    kpis = filled.fetch_json("monitoring/data/health/latest/kpis.json")
    assert kpis["files_aware_days"] == 9  # its hours before midnight are in the view before
    assert kpis["rows"] == 8 * (8 * 288 - 12)  # the last hour is the next local day's
    assert f"{name} is left out" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no parquet", hostile.parquet_bytes(pa.table({"a": [1]}))])
def test_an_unreadable_newest_view_stops_no_family(
    filled: Lake, settings: Settings, reported: Recorder, content: bytes
) -> None:
    last = days_of(planted.network(days=10))[-2]
    network.put(filled, Layout(settings).name(Events(last)), content)
    on = network.of(filled, settings, reported)
    for family in families.FAMILIES:
        importlib.import_module(f"velib_core.jobs.{family.job}").run(on)
    build_network_overview.run_for_days(on, build_network_overview.WarmState())
    manifests = [e.name for e in filled.entries("monitoring/") if e.name.endswith("manifest.json")]
    assert len(manifests) == len(families.FAMILIES) + 2  # health has two


def test_a_file_of_clusters_makes_their_figures(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    name = "exports/clusters.csv"
    network.put(filled, name, b"station_id,cluster\ns1,hill\ns2,hill\ns3,river\n")
    grouped = dataclasses.replace(
        settings,
        monitoring=dataclasses.replace(
            settings.monitoring, performance_clusters=f"{settings.root}/{name}"
        ),
    )
    build_model_performance.run(network.of(filled, grouped, reported))
    document = filled.fetch_json("monitoring/model/performance/latest/h15/by_cluster.json")
    assert not problems("monitoring/model/performance/latest/h15/by_cluster.json", document)
    assert [row["cluster"] for row in document["rows"]] == ["hill", "river"]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"a,b\n1,2\n", b'"' * 200_000])
def test_a_file_of_clusters_that_is_none_costs_their_figures_alone(
    filled: Lake, settings: Settings, reported: Recorder, data: bytes
) -> None:
    name = "exports/clusters.csv"
    network.put(filled, name, data)
    limits = dataclasses.replace(
        settings.monitoring, performance_clusters=f"{settings.root}/{name}"
    )
    grouped = dataclasses.replace(settings, monitoring=limits)
    build_model_performance.run(network.of(filled, grouped, reported))
    found = {document.rpartition("/")[2] for document in contents(filled)}
    assert "kpis.json" in found


@pytest.mark.usefixtures("quiet")
def test_an_empty_lake_gets_valid_documents_that_say_why_they_are_empty(
    lake: Lake, settings: Settings
) -> None:
    assert launch(settings) == launcher.DONE
    found = {name: json.loads(data) for name, data in contents(lake).items()}
    manifests = {n: d for n, d in found.items() if n.endswith("latest/manifest.json")}
    assert len(manifests) == 8  # no snapshot, no freshness
    for name, document in found.items():
        assert not problems(name, document)
    del manifests["monitoring/intro/latest/manifest.json"]  # it has documents to report
    for name, manifest in manifests.items():
        assert manifest["status"] == "no_data", name
        assert manifest["reason"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(lambda frame: frame[frame["tbin_utc"] >= "2025-10-21"], id="one closed day"),
        pytest.param(lambda frame: frame[frame["station_id"] == "s1"], id="one station"),
        pytest.param(lambda frame: frame.assign(**NO_WEATHER), id="no weather"),
    ],
)
def test_odd_networks_get_valid_documents(
    lake: Lake, settings: Settings, frame: Callable[..., Any]
) -> None:
    net = planted.network(days=3)
    fill(lake, settings, dataclasses.replace(net, frame=frame(net.frame)))
    assert launch(settings) == launcher.DONE
    check_everything(lake)


def test_a_manifest_names_the_checksum_of_every_document(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    build_data_health.run(network.of(filled, settings, reported))
    folder = "monitoring/data/health/latest/"
    manifest = filled.fetch_json(f"{folder}manifest.json")
    assert manifest["checksums"] == {
        name: present(filled.stat(folder + name)).crc32c for name in manifest["artifacts"]
    }


@pytest.mark.usefixtures("quiet")
def test_a_horizon_that_nobody_forecasts_has_documents_that_say_so(
    filled: Lake, settings: Settings
) -> None:
    assert launch(settings, STEPS="perf,explain", MON_HORIZONS="15,30") == launcher.DONE
    found = {name: json.loads(data) for name, data in contents(filled).items()}
    assert not [line for name, document in found.items() for line in problems(name, document)]
    for family in ("performance", "explainability"):
        folder = f"monitoring/model/{family}/latest"
        manifest = found[f"{folder}/manifest.json"]
        assert manifest["horizons"] == [15, 30]
        assert manifest["status"] == "partial"
        assert "h30: no" in manifest["reason"]
    assert found["monitoring/model/performance/latest/h30/kpis.json"]["n_truth"] == 0
    assert not [name for name in found if "/h60/" in name]


class Broken:
    """A publisher whose service is away."""

    def publish_alert(self, body: Any) -> None:
        raise TransientError(f"never published {body['code']}")


def test_a_run_that_breaks_off_leaves_a_folder_that_no_manifest_calls_complete(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    build_data_health.run(network.of(filled, settings, reported))
    folder = "monitoring/data/health/latest/"
    manifest = filled.fetch_json(f"{folder}manifest.json")
    changed = dataclasses.replace(
        settings, monitoring=dataclasses.replace(settings.monitoring, health_fresh_slo_min=0.0)
    )
    with pytest.raises(TransientError):
        build_data_health.run(network.of(filled, changed, Broken()))
    assert filled.fetch_json(f"{folder}manifest.json") == manifest
    held = {name: present(filled.stat(folder + name)).crc32c for name in manifest["artifacts"]}
    assert {name for name in held if held[name] != manifest["checksums"][name]} == {
        "kpis.json",
        "alerts.json",
    }
    build_data_health.run(network.of(filled, changed, reported))
    complete = filled.fetch_json(f"{folder}manifest.json")
    assert complete["checksums"] == held


def test_a_run_that_began_earlier_never_overwrites_a_later_one(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    """The slower of two runs finds its documents replaced, and does the work again."""
    later = day_after(days_of(planted.network(days=10))[-1], -1)
    plans = []

    def plan() -> Plan | NotDue:
        inputs = FAMILY.inputs(network.of(filled, settings))
        plans.append(inputs)
        fingerprint = FAMILY.fingerprint(settings, inputs)

        def make() -> Any:
            if len(plans) == 1:  # another run reads newer inputs, and is done before this one
                build_datasets.run(network.of(filled, settings), later, force=True)
                filled.delete(present(filled.stat(f"exports/events_{DAY_ONE}.parquet")))
                build_network_stations.run(network.of(filled, settings))
            return build_network_stations._make(network.of(filled, settings), inputs)

        return Plan(fingerprint, inputs.entries, make)

    update_family(network.of(filled, settings), FAMILY.folder, FAMILY.job, plan)
    manifest = filled.fetch_json("monitoring/network/stations/latest/manifest.json")
    assert f"exports/events_{DAY_ONE}.parquet" not in manifest["inputs"]
    assert len(plans) == 2


DAY_ONE = planted.network(days=1).first


def test_alerts_are_published_when_they_are_raised_and_when_they_are_cleared(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    strict = dataclasses.replace(
        settings,
        monitoring=dataclasses.replace(settings.monitoring, health_fresh_slo_min=0.0),
    )
    build_data_health.run(network.of(filled, strict, reported))
    (raised,) = [alert for alert in reported.alerts if alert["code"] == "freshness"]
    assert raised["state"] == "raised"
    assert raised["family"] == "data/health"
    assert raised["artefact"] == "kpis.json"
    assert raised["value"] > raised["threshold"] == 0.0
    build_data_health.run(network.of(filled, strict, reported), force=True)
    assert [alert["code"] for alert in reported.alerts].count("freshness") == 1
    lenient = dataclasses.replace(
        settings,
        monitoring=dataclasses.replace(settings.monitoring, health_fresh_slo_min=1e6),
    )
    build_data_health.run(network.of(filled, lenient, reported))
    assert [a["state"] for a in reported.alerts if a["code"] == "freshness"] == [
        "raised",
        "cleared",
    ]


def test_repeated_rows_in_the_lake_are_found_by_data_health(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    layout = Layout(settings)
    day = days_of(planted.network(days=10))[-2]
    name = layout.name(Daily(day))
    daily = pq.read_table(io.BytesIO(filled.fetch(name)[1]))
    network.put(filled, name, to_bytes(snapshot.with_repeats(daily, {"s3": 40})))
    build_datasets.run(network.of(filled, settings), day)
    build_data_health.run(network.of(filled, settings, reported))
    (found,) = filled.fetch_json("monitoring/data/health/latest/anomalies/duplicates.json")
    assert (found["station_id"], found["dups"]) == ("s3", 40)


def test_an_overtaken_snapshot_costs_a_look_and_writes_nothing(
    filled: Lake, settings: Settings
) -> None:
    today = first_bin(days_of(planted.network(days=10))[-1])
    older = Bin(today + 3)
    warm = build_network_overview.WarmState()
    for result in (
        build_data_freshness.run(network.of(filled, settings), older),
        build_network_overview.run(network.of(filled, settings), warm, older),
    ):
        assert result.counts == {"overtaken": 1}
        assert not result.outputs


def test_freshness_has_the_weathers_own_time(lake: Lake, settings: Settings) -> None:
    net = planted.network(days=2)
    at = net.at(1, 0)
    net.frame = net.frame.assign(weather_utc=at - dt.timedelta(minutes=20))
    fill(lake, settings, net, snapshots=1)
    build_data_freshness.run(network.of(lake, settings))
    reported = lake.fetch_json("monitoring/data/freshness/latest/freshness.json")
    seconds = (
        dt.datetime.fromisoformat(reported["now_utc"]).replace(tzinfo=None) - at
    ).total_seconds()
    assert reported["weather"]["freshness_min"] == pytest.approx(20 + seconds / 60)


def show(on: Any) -> JobResult:
    return build_monitoring_intro.run(on, build_monitoring_intro.WarmState())


def test_the_intro_follows_its_sources_and_only_them(
    filled: Lake, settings: Settings, reported: Recorder
) -> None:
    build_network_overview.run(network.of(filled, settings), build_network_overview.WarmState())
    name = Layout(settings).name(Monitoring("intro", "manifest.json"))
    assert show(network.of(filled, settings, reported)).outputs[name] == "written"
    assert show(network.of(filled, settings, reported)).outputs[name] == "fresh"
    build_data_freshness.run(network.of(filled, settings))
    assert show(network.of(filled, settings, reported)).outputs[name] == "written"
    intro = filled.fetch_json("monitoring/intro/latest/intro.json")
    assert intro["kpis"]["stations_active"] == 8
    root = settings.root
    assert intro["sources"] == {
        "overview_kpis": f"{root}/monitoring/network/overview/latest/kpis.json",
        "health_kpis": f"{root}/monitoring/data/health/latest/kpis.json",
        "freshness": f"{root}/monitoring/data/freshness/latest/freshness.json",
        "drift_summary": f"{root}/monitoring/data/drift/latest/summary.json",
        "model_h15": f"{root}/models/h15/latest.json",
        "model_h60": f"{root}/models/h60/latest.json",
        "forecast_h15_latest": f"{root}/serving/forecast/latest/h15/forecast.json",
        "forecast_h60_latest": f"{root}/serving/forecast/latest/h60/forecast.json",
    }
