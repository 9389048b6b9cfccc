"""Functions live a day on what a rehearsed deployment granted, subscribed and notified."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import network
import permission_policy
import permission_proxy
import pytest
from city_run import START, running
from permission_proxy import Denial
from velib_core.events.messages import ReplayRequested, TrainRequested
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings
from velib_core.timeline.bins import Bin, bin_of
from velib_deploy.function_specs import account_id, load_specs
from velib_local.emulator import servers

from rehearsal.rehearsal import BUCKET, NAMES, rehearse
from rehearsal.world import NUMBER, PROJECT, World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

SETTINGS = Settings.from_env(
    {"GCS_BUCKET_ROOT": f"gs://{BUCKET}/velib", "GOOGLE_CLOUD_PROJECT": PROJECT}
)


def woken(world: Any) -> Any:
    """The topics that start each function: a trigger, its topic, and who may call the service."""
    found: dict[Any, Any] = {}
    for name, trigger in world.resources.items():
        if "/triggers/" not in name:
            continue
        service = trigger["destination"]["cloudRun"]["service"]
        topic = trigger["transport"]["pubsub"]["topic"]
        invoker = {
            "role": "roles/run.invoker",
            "members": [f"serviceAccount:{trigger['serviceAccount']}"],
        }
        assert (
            invoker
            in world.policies[f"{name.partition('/triggers/')[0]}/services/{service}"]["bindings"]
        )
        assert topic in world.resources
        function = service.removeprefix("velib-").replace("-", "_")
        found.setdefault(function, set()).add(topic)
    return found


def notified(world: Any) -> Any:
    """The prefix of the objects that each topic is notified of; the bucket's agent may publish."""
    found: dict[Any, Any] = {}
    agent = f"serviceAccount:service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
    for name, config in world.resources.items():
        if name.startswith(f"notifications/{BUCKET}/"):
            topic = config["topic"].removeprefix("//pubsub.googleapis.com/")
            assert agent in str(world.policies[topic])
            found[topic] = config["object_name_prefix"]
    return found


def live(world: World, names: list[str], until: Any) -> Any:
    """Let some functions work with the rights of a project; return what was asked and the lake.

    The local cloud wires functions by their configurations, so it has to be the project's wiring.
    """
    specs = {name: spec for name, spec in load_specs().items() if name in names}
    assert woken(world) == {n: set(map(SETTINGS.topic, s.topics)) for n, s in specs.items()}
    layout = Layout(SETTINGS)
    assert notified(world) == {SETTINGS.topic(t): p for t, p in layout.notified.items()}
    accounts = {account_id("velib", spec.service_account): name for name, spec in specs.items()}
    granted = permission_policy.rights_in(world.policies, accounts)
    asked = {}

    def rule(_specs: Any, _settings: Any) -> Any:
        def policy(operation: Any) -> Denial | None:
            there = operation.resource.replace(f"buckets/{servers.BUCKET}", f"buckets/{BUCKET}")
            there = there.replace(f"projects/{servers.PROJECT}/", f"projects/{PROJECT}/")
            operation = dataclasses.replace(operation, resource=there)
            asked[operation] = permission_policy.allows(granted, operation)
            return None if asked[operation] else Denial(403)

        return policy

    root = f"gs://{servers.BUCKET}/velib"
    with running(rule, only=list(names), GCS_BUCKET_ROOT=root) as run:
        until(run)
        assert run.cloud.dead_letters() == []
        return asked, set(run.content())


def past_midnight(run: Any) -> None:
    """Show the last half hour of a day and the first of the next; a snapshot comes late."""
    run.city.advance(START + dt.timedelta(hours=23, minutes=30))
    run.live(1, every=15)
    late = Bin(bin_of(START) + 285)
    run.put(late, network.snapshot_object(late))


def test_functions_pass_midnight_with_the_rights_of_a_rehearsed_deployment(
    deployed_once: Any,
) -> None:
    world, _ = deployed_once
    asked, lake = live(world, NAMES, past_midnight)
    assert {operation for operation, allowed in asked.items() if not allowed} == set()
    days = {name.split("/")[2] for name in lake if name.startswith("velib/bronze/")}
    assert days == {"date=2025-11-28", "date=2025-11-29"}
    assert "velib/serving/forecast/latest/h60/forecast.json" in lake
    published = {o.resource for o in asked if o.permission == permission_proxy.PUBLISH}
    assert SETTINGS.topic("day-closed") in published


def test_without_one_right_of_the_deployment_its_function_is_refused(rehearsal: Any) -> None:
    policy = rehearsal.world.policies[f"buckets/{BUCKET}"]
    policy["bindings"] = [b for b in policy["bindings"] if "ingest-create" not in str(b)]

    def once(run: Any) -> None:
        run.feed.show(run.city.state())
        run.cloud.trigger_ingest()

    with pytest.raises(AssertionError, match="velib-ingest-tick"):
        live(rehearsal.world, NAMES, once)


def a_day(run: Any) -> None:
    """Live a day and an hour, train, and look for what is missing."""
    run.live(25, every=15)
    run.ask(TrainRequested())
    run.ask(ReplayRequested())


@pytest.mark.slow
def test_every_function_lives_a_day_with_the_rights_of_a_rehearsed_deployment(
    gcloud: Any, tmp_path: Path
) -> None:
    with rehearse(tmp_path, gcloud, World()) as rehearsal:
        rehearsal.deploy()
        asked, lake = live(rehearsal.world, list(load_specs()), a_day)
    assert {operation for operation, allowed in asked.items() if not allowed} == set()
    made = {"bronze", "daily", "exports", "monitoring", "profiles", "serving"}
    assert {name.split("/")[1] for name in lake} >= made
