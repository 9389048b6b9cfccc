"""Two networks of different GBFS versions in one cloud: neither notices the other."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from permission_policy import only_what_is_granted
from permission_proxy import behind_proxy
from velib_core.events.messages import DayClosed, TrainRequested
from velib_core.events.publisher import Publisher
from velib_core.lake.layout import Layout
from velib_core.timeline.bins import Day
from velib_deploy.function_specs import REPOSITORY
from velib_local.emulator.cloud import LocalCloud, deployed
from velib_local.emulator.servers import BUCKET, local_servers
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry

pytestmark = pytest.mark.e2e

START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
CHAIN = ["ingest", "close_day", "compact_daily", "refresh_profiles", "build_datasets"]
CHAIN += ["build_serving_forecast"]
QUICK = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30"}

CITIES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "velib": ("gbfs/2", {"stations": 12, "seed": 7}, {"MON_HORIZONS": "15,60"}),
    "velib-lyon": (
        "gbfs/3",
        {"stations": 9, "seed": 11, "centre": (45.76, 4.84)},
        {"MON_HORIZONS": "30", "OPENMETEO_LAT": "45.76", "OPENMETEO_LON": "4.84"},
    ),
}
"""By network: the version of its feed, its city, its own settings. One name begins the other."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a network's run left: its objects, all objects, and its functions' deliveries."""

    lake: dict[str, str]
    bucket: dict[str, str]
    reported: set[tuple[str, str]]
    dead_letters: int


@contextlib.contextmanager
def running(names: Any, only: list[str] | None = None, rule: Any = None) -> Iterator[Any]:
    """Start networks side by side; yield for each its cloud, its feed and its city."""
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(local_servers())
        parts = {}
        for name in names:
            version, city, settings = CITIES[name]
            feed = stack.enter_context(FeedServer())
            env = {
                "VELIB_NETWORK": name,
                "GCS_BUCKET_ROOT": f"gs://{BUCKET}/{name}",
            } | feed.environment(version)
            cloud = stack.enter_context(
                deployed(
                    servers,
                    env | settings | QUICK,
                    only=only,
                    proxy=behind_proxy(rule) if rule else None,
                )
            )
            parts[name] = cloud, feed, City(start=START, **city)
        yield parts


def live(parts: Any, days: Any, every: Any) -> Any:
    """Let the networks live through days, beating for each in turn; return what each left."""
    for minute in range(0, days * 1440, every):
        until = START + dt.timedelta(minutes=minute)
        for cloud, feed, city in parts.values():
            city.advance(until)
            feed.show(city.state())
            cloud.trigger_ingest()
    clouds = {name: cloud for name, (cloud, _, _) in parts.items()}
    for cloud in clouds.values():
        cloud.publish(DayClosed(Day(until.date())))
    wait_until_idle(clouds)
    return {name: outcome(name, cloud) for name, cloud in clouds.items()}


def wait_until_idle(clouds: Any) -> None:
    for cloud in clouds.values():
        cloud.wait_until_idle()


def outcome(name: Any, cloud: LocalCloud) -> Outcome:
    bucket = {entry.name: content(cloud.lake, entry) for entry in cloud.lake.entries("")}
    return Outcome(
        lake={n: crc for n, crc in bucket.items() if n.startswith(f"{name}/")},
        bucket=bucket,
        reported={(r.function, r.subject) for r in cloud.gateway.deliveries},
        dead_letters=len(cloud.dead_letters()),
    )


def content(lake: Lake, entry: Entry) -> Any:
    """Return an object's checksum.

    Of a model's report it leaves out the time at which it was written, and of a manifest the
    checksums of such reports among its inputs.
    """
    of_model, manifest = "/models/" in entry.name, entry.name.endswith("/manifest.json")
    if not (of_model and entry.name.endswith(".json")) and not manifest:
        return entry.crc32c
    document = json.loads(lake.read(entry))
    document.pop("built_at_utc", None)
    if isinstance(document.get("inputs"), dict):
        document["inputs"] = {n: c for n, c in document["inputs"].items() if "/models/" not in n}
    return document


@pytest.fixture(scope="module")
def together() -> Any:
    """What two networks left, each with its own rights, and after each got the other's events."""
    with running(CITIES, CHAIN, only_what_is_granted) as parts:
        left = live(parts, days=1, every=120)
        clouds = {name: cloud for name, (cloud, _, _) in parts.items()}
        for name, cloud in clouds.items():
            (other,) = (c for n, c in clouds.items() if n != name)
            for topic, prefix in Layout(other.settings).notified.items():
                for entry in list(other.lake.entries(prefix))[-1:]:
                    Publisher(cloud.settings).republish(topic, entry, force=True)
        wait_until_idle(clouds)
        return left, {name: outcome(name, cloud) for name, cloud in clouds.items()}


@pytest.mark.parametrize("name", CITIES)
def test_a_network_leaves_the_same_with_another_in_the_cloud(name: Any, together: Any) -> None:
    left, _ = together
    with running([name], CHAIN) as parts:
        alone = live(parts, days=1, every=120)[name]
    assert left[name].lake == alone.lake
    assert left[name].reported == alone.reported
    assert left[name].dead_letters == alone.dead_letters == 0
    folders = {n.split("/")[1] for n in alone.lake}
    assert folders >= {"bronze", "daily", "exports", "profiles", "serving"}


def test_every_object_is_of_one_network_and_no_function_hears_of_anothers(
    together: Any,
) -> None:
    left, _ = together
    assert set(left["velib"].bucket) == {n for o in left.values() for n in o.lake}
    for name, its in left.items():
        subjects = {subject for _, subject in its.reported if subject in its.bucket}
        assert subjects
        assert subjects <= set(its.lake), name


def test_the_notifications_of_another_network_are_ignored(together: Any) -> None:
    left, after = together
    for name, its in after.items():
        assert its.lake == left[name].lake
        assert its.dead_letters == 0
        (others,) = (o.lake for n, o in after.items() if n != name)
        assert {subject for _, subject in its.reported} & set(others), (
            "nothing foreign was delivered"
        )


def test_two_deployments_of_a_project_share_its_services_and_one_role(tmp_path: Path) -> None:
    settings = tmp_path / "feed.env"
    settings.write_text("GBFS_URL=https://example.org/gbfs/2/gbfs.json\n", "utf-8")
    plans = {name: plan(name, settings) for name in CITIES}
    both = set.intersection(*map(set, plans.values()))
    assert {" ".join(line.split()[1:4]) for line in both} == {
        "artifacts repositories set-cleanup-policies",
        "beta services identity",
        "iam roles create",
        "services enable artifactregistry.googleapis.com",
    }
    for name, lines in plans.items():
        assert all(f"{name}-" in line or f"gs://{name}.b" in line for line in set(lines) - both)


def plan(name: str, settings: Path) -> Any:
    command = ["./deploy.sh", "--dry-run", "--project", "my-project", "--region", "europe-west1"]
    command += ["--bucket", f"{name}.b", "--network", name, "--settings", str(settings)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_networks_with_models_leave_together_what_they_leave_alone() -> None:
    def lived(names: Any, rule: Any = None) -> Any:
        with running(names, rule=rule) as parts:
            live(parts, days=3, every=5)
            clouds = {name: cloud for name, (cloud, _, _) in parts.items()}
            for cloud in clouds.values():
                cloud.publish(TrainRequested())
            wait_until_idle(clouds)
            return {name: outcome(name, cloud) for name, cloud in clouds.items()}

    together = lived(CITIES, only_what_is_granted)
    for name, its in together.items():
        assert its.lake == lived([name])[name].lake
        assert its.dead_letters == 0
        assert any(n.endswith("/latest.json") and "/models/" in n for n in its.lake)
