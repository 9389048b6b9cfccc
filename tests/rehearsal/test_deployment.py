"""deploy.sh and the real gcloud on a project: first, again, changed, interrupted, undone."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from present import present
from velib_deploy.function_specs import REPOSITORY

from rehearsal.rehearsal import BUCKET, TARGET, rehearse, require_gcloud
from rehearsal.world import NUMBER, PROJECT, REGION, World

if TYPE_CHECKING:
    from pathlib import Path

    from rehearsal.server import Call

pytestmark = pytest.mark.timeout(1800)  # the limits here are in counts, not in seconds

SUBSCRIPTIONS = f"projects/{PROJECT}/subscriptions/"
FUNCTIONS = f"projects/{PROJECT}/locations/{REGION}/functions/"


def functions(world: World) -> Any:
    """The functions of a project by name, without the network's prefix."""
    found = {k: v for k, v in world.resources.items() if k.startswith(FUNCTIONS)}
    return {name.rpartition("/velib-")[2]: value for name, value in found.items()}


def changed(before: Any, after: Any) -> Any:
    """The names of the resources and policies that differ between two states."""
    return {
        name
        for kind in ("resources", "policies")
        for name in before[kind].keys() | after[kind].keys()
        if before[kind].get(name) != after[kind].get(name)
    }


def deployed(rehearsal: Any) -> Any:
    """The functions that gcloud was asked to deploy since the last look."""
    commands = rehearsal.commands()
    return {words[2] for words in commands if words[:2] == ["functions", "deploy"]}


def test_a_first_deployment_serves_every_function_and_wakes_it(deployed_once: Any) -> None:
    world, _ = deployed_once
    there = functions(world)
    assert {name: f["state"] for name, f in there.items()} == dict.fromkeys(
        ("build-serving-forecast", "close-day", "ingest"), "ACTIVE"
    )
    subscriptions = {k: v for k, v in world.resources.items() if k.startswith(SUBSCRIPTIONS)}
    topics = {s["topic"].rpartition("/")[2] for n, s in subscriptions.items() if "eventarc" in n}
    assert topics == {"velib-bronze", "velib-models", "velib-tick"}
    assert {s["messageRetentionDuration"] for s in subscriptions.values()} == {"604800s"}
    assert {
        s.get("deadLetterPolicy", {}).get("maxDeliveryAttempts") for s in subscriptions.values()
    } == {None, 20}
    agent = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
    for name in subscriptions:
        if "eventarc" in name:
            assert world.policies[name]["bindings"] == [
                {"role": "roles/pubsub.subscriber", "members": [agent]}
            ]


def test_a_second_deployment_changes_nothing(rehearsal: Any) -> None:
    before = rehearsal.world.state()
    rehearsal.deploy()
    assert rehearsal.world.changes() == []
    assert rehearsal.world.state() == before


def test_what_changed_is_upgraded_and_nothing_else(rehearsal: Any) -> None:
    """A function's code, another's trigger, and a setting of all of them, one after the other."""
    rehearsal.commands()
    before = rehearsal.world.state()
    (rehearsal.folder / "build/close_day/main.py").open("a").write("\n")
    rehearsal.deploy()
    assert changed(before, rehearsal.world.state()) == {FUNCTIONS + "velib-close-day"}
    assert deployed(rehearsal) == {"velib-close-day"}
    edit(
        rehearsal,
        "functions/build_serving_forecast/function.toml",
        'topic = "models"',
        'topic = "daily"',
    )
    edit(rehearsal, "functions/close_day/function.toml", "256Mi", "512Mi")
    before = rehearsal.world.state()
    rehearsal.deploy()
    assert deployed(rehearsal) == {"velib-close-day"}
    close_day = functions(rehearsal.world)["close-day"]
    assert close_day["serviceConfig"]["availableMemory"] == "512Mi"
    new = changed(before, rehearsal.world.state())
    assert FUNCTIONS + "velib-close-day" in new
    triggers = {name.rpartition("/")[2] for name in new if "/triggers/" in name}
    assert triggers == {"velib-build-serving-forecast-daily"}


def edit(rehearsal: Any, file: str, old: str, new: str) -> None:
    path = rehearsal.folder / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_a_setting_reaches_every_function_and_a_prefix_its_notification(rehearsal: Any) -> None:
    rehearsal.commands()
    file = rehearsal.folder / "velib.env"
    file.write_text(f"MON_HORIZONS=15,30\nGCS_DAILY_PREFIX=gs://{BUCKET}/velib/days\n", "utf-8")
    before = rehearsal.world.resources
    rehearsal.deploy("--settings", str(file))
    assert len(deployed(rehearsal)) == 3
    env = functions(rehearsal.world)["ingest"]["serviceConfig"]["environmentVariables"]
    assert env["MON_HORIZONS"] == "15,30"
    notified = {
        v["topic"].rpartition("-")[2]: v["object_name_prefix"]
        for k, v in rehearsal.world.resources.items()
        if k.startswith("notifications/")
    }
    assert len(notified) == len([k for k in before if k.startswith("notifications/")])
    assert notified["daily"] == "velib/days/"
    assert notified["bronze"] == "velib/bronze/"


def test_one_function_is_deployed_alone(gcloud: Any, tmp_path: Path) -> None:
    with rehearse(tmp_path, gcloud, World()) as rehearsal:
        rehearsal.deploy("--only", "ingest")
        assert set(functions(rehearsal.world)) == {"ingest"}
        assert sum("/serviceAccounts/velib" in k for k in rehearsal.world.resources) == 3


def test_a_function_whose_build_failed_is_deployed_again(rehearsal: Any) -> None:
    (rehearsal.folder / "build/close_day/main.py").open("a").write("\n")
    rehearsal.world.failing_builds["velib-close-day"] = 1
    failed = rehearsal.deploy(code=1)
    assert "velib-close-day failed" in failed.stderr
    function = functions(rehearsal.world)["close-day"]
    assert function["state"] == "FAILED"
    assert function["labels"]["velib_digest"], "it is written before the build"
    rehearsal.commands()
    rehearsal.deploy()
    assert deployed(rehearsal) == {"velib-close-day"}
    assert functions(rehearsal.world)["close-day"]["state"] == "ACTIVE"


def test_what_is_known_only_after_a_while_is_waited_for(gcloud: Any, tmp_path: Path) -> None:
    """Each new API, account, role and right is unknown to the first two who ask."""
    with rehearse(tmp_path, gcloud, World(delay=2), ["close_day"]) as rehearsal:
        rehearsal.deploy()
        assert functions(rehearsal.world)["close-day"]["state"] == "ACTIVE"
        refused = [path for _, path, code in rehearsal.world.calls if code in {400, 403, 404}]
        assert len(refused) > 6
        pauses = (tmp_path / "pauses").read_text("utf-8").split()
        assert len(pauses) > 6


def test_what_never_comes_ends_the_deployment_with_its_reason(gcloud: Any, tmp_path: Path) -> None:
    with rehearse(tmp_path, gcloud, World(delay=1000), ["close_day"]) as rehearsal:
        done = rehearsal.deploy(code=1)
        assert "has not been used in project" in done.stderr
        pauses = [float(pause) for pause in (tmp_path / "pauses").read_text("utf-8").split()]
        assert 300 <= sum(pauses) <= 420


def test_an_error_that_time_does_not_fix_is_not_waited_for(gcloud: Any, tmp_path: Path) -> None:
    with rehearse(tmp_path, gcloud, World(quotas={"accounts": 2}), ["close_day"]) as rehearsal:
        done = rehearsal.deploy(code=1)
        assert "Maximum number of service accounts" in done.stderr
        assert not (tmp_path / "pauses").exists()


def test_whoever_may_not_look_is_not_taken_for_absent(rehearsal: Any) -> None:
    """A denied permission ends the run: what could not be read is not created."""
    rehearsal.world.callers["owner@example.org"] = {"serviceusage.services.list"}
    done = rehearsal.deploy(code=1)
    assert "denied" in done.stderr
    assert rehearsal.world.changes() == []


def interrupt(gcloud: Any, folder: Path, after: int, undisturbed: Any) -> None:
    """Deploy until the machine goes down after some commands, then again; compare the ends."""
    with rehearse(folder, gcloud, World(), ["close_day"]) as rehearsal:
        rehearsal.deploy(commands=after, code=1)
        rehearsal.deploy()
        assert rehearsal.world.state() == undisturbed, after


class Recorded(World):
    """A project that keeps a copy of each state that it went through."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.states = [copy.deepcopy(self)]

    def log(self, call: Call, code: int) -> None:
        super().log(call, code)
        if call.method != "GET" and self.state() != self.states[-1].state():
            self.states.append(copy.deepcopy(self))


@pytest.fixture(scope="module")
def small(gcloud: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorded, int]:
    """A project after one function was deployed undisturbed, and the number of commands."""
    world = Recorded()
    with rehearse(tmp_path_factory.mktemp("small"), gcloud, world, ["close_day"]) as rehearsal:
        rehearsal.deploy()
        return world, len(rehearsal.commands())


def test_an_interrupted_deployment_is_finished_by_the_next(
    gcloud: Any, tmp_path: Path, small: tuple[Recorded, int]
) -> None:
    """Once in the middle; the next test has the rest."""
    world, count = small
    interrupt(gcloud, tmp_path, count // 2, world.state())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_deployment_interrupted_at_any_state_is_finished_by_the_next(
    gcloud: Any, tmp_path: Path, small: tuple[Recorded, int]
) -> None:
    """From each state that the calls of a deployment leave: of its commands, most only read."""
    world, _ = small
    assert len(world.states) >= 40
    for n, left in enumerate(world.states[:-1]):
        with rehearse(tmp_path / str(n), gcloud, left, ["close_day"]) as rehearsal:
            rehearsal.deploy()
            assert rehearsal.world.state() == world.state(), n


@pytest.mark.slow
def test_two_networks_in_one_project_share_nothing_but_the_role(
    gcloud: Any, tmp_path: Path, small: tuple[Recorded, int]
) -> None:
    before = small[0].state()
    with rehearse(tmp_path, gcloud, copy.deepcopy(small[0]), ["close_day"]) as rehearsal:
        target = f"--project {PROJECT} --region {REGION} --bucket lyon-lake --network lyon"
        lyon = target.split()
        refused = rehearsal.deploy(*lyon, code=2)
        assert "GBFS_URL" in refused.stderr
        file = tmp_path / "lyon.env"
        file.write_text("GBFS_URL=https://example.org/gbfs.json\n", "utf-8")
        rehearsal.deploy(*lyon, "--settings", str(file))
        after = rehearsal.world.state()
        new = changed(before, after)
        assert {name for name in new if "lyon" not in name} == {f"projects/{PROJECT}"}
        rehearsal.deploy("destroy", *lyon, "--settings", str(file))
        left = changed(before, rehearsal.world.state())
        assert left == {
            "buckets/lyon-lake",
            f"{SUBSCRIPTIONS}lyon-dead-letter",
            f"projects/{PROJECT}/topics/lyon-dead-letter",
        }


def test_a_network_with_too_long_a_name_is_refused_before_anything_is_made(
    gcloud: Any, tmp_path: Path
) -> None:
    with rehearse(tmp_path, gcloud, World(), ["build_serving_forecast"]) as rehearsal:
        file = tmp_path / "long.env"
        file.write_text("GBFS_URL=https://example.org/gbfs.json\n", "utf-8")
        name = "a-network-of-23-letters"
        long = ["--project", PROJECT, "--region", REGION, "--bucket", BUCKET, "--network", name]
        done = rehearsal.deploy(*long, "--settings", str(file), code=2)
        assert "at most" in done.stderr
        assert rehearsal.commands() == []


def test_destroying_leaves_the_data_the_dead_letters_and_the_role(rehearsal: Any) -> None:
    announced = rehearsal.deploy("destroy", "--dry-run").stdout.splitlines()
    assert rehearsal.world.changes() == []
    assert all(re.search(r" (delete|remove-iam-policy-binding) ", line) for line in announced)
    rehearsal.deploy("destroy")
    names = set(rehearsal.world.state()["resources"])
    kept = {
        name
        for name in names
        if not name.startswith(f"projects/{PROJECT}/serviceAccounts/service-")
    }
    assert kept == {
        f"buckets/{BUCKET}",
        f"projects/{PROJECT}/topics/velib-dead-letter",
        f"{SUBSCRIPTIONS}velib-dead-letter",
        f"projects/{PROJECT}/roles/velibObjectDeleter",
        f"projects/{PROJECT}/locations/{REGION}/repositories/gcf-artifacts",
    }
    held = str(rehearsal.world.state()["policies"])
    assert f"velib-ingest@{PROJECT}" not in held
    assert "deleted:" not in held
    deleted = [line for line in announced if " delete " in line]
    assert len(deleted) >= 25
    assert rehearsal.deploy("destroy", "--dry-run").stdout == ""


def test_destroying_one_function_leaves_the_chain_of_the_others(rehearsal: Any) -> None:
    before = rehearsal.world.state()
    rehearsal.deploy("destroy", "--only", "build_serving_forecast")
    after = rehearsal.world.state()
    gone = changed(before, after) - {f"buckets/{BUCKET}"}
    assert gone
    assert all("build-serving-forecast" in name for name in gone), gone
    assert not any(name.startswith("notifications/") for name in gone)


def test_an_earlier_version_comes_back(rehearsal: Any) -> None:
    before = rehearsal.world.state()
    original = (rehearsal.folder / "build/ingest/main.py").read_text("utf-8")
    (rehearsal.folder / "build/ingest/main.py").write_text(original + "\n", "utf-8")
    rehearsal.deploy()
    assert changed(before, rehearsal.world.state()) == {FUNCTIONS + "velib-ingest"}
    (rehearsal.folder / "build/ingest/main.py").write_text(original, "utf-8")
    rehearsal.deploy()
    assert changed(before, rehearsal.world.state()) == set()


def test_whoever_is_named_is_alerted_of_four_troubles_and_sees_a_dashboard(rehearsal: Any) -> None:
    said = rehearsal.deploy("--alerts", "ops@example.org").stderr
    budget = present(re.search(r"gcloud services enable billingbudgets.*", said))[0]
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8").replace("PROJECT", PROJECT)
    assert "\n".join(budget.split(" && ")) in guide
    made = {
        k: v for k, v in rehearsal.world.resources.items() if re.search("/(alertP|dashb|notif)", k)
    }
    (channel,) = [name for name in made if "notificationChannels" in name]
    policies = [value for name, value in made.items() if "alertPolicies" in name]
    assert len(policies) == 4
    assert all(policy["notificationChannels"] == [channel] for policy in policies)
    filters = json.dumps(policies)
    assert "velib-build-serving-forecast|velib-close-day|velib-ingest" in filters
    assert sum("dashboards" in name for name in made) == 1
    before = rehearsal.world.state()
    rehearsal.world.calls.clear()
    rehearsal.deploy("--alerts", "ops@example.org")
    assert rehearsal.world.changes() == []
    edit(rehearsal, "deploy/velib_deploy/watch/alerts.json", "3600", "7200")
    rehearsal.deploy("--alerts", "ops@example.org")
    assert len(changed(before, rehearsal.world.state())) == 2, "one policy in place of another"
    rehearsal.deploy("destroy")
    assert not [name for name in made if name in rehearsal.world.resources]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_commands_of_a_dry_run_typed_one_by_one_give_the_same_project(
    gcloud: Any, tmp_path: Path, small: tuple[Recorded, int]
) -> None:
    with rehearse(tmp_path, gcloud, World(), ["close_day"]) as rehearsal:
        lines = rehearsal.deploy("--dry-run").stdout.splitlines()
        rehearsal.deploy("--only", "close_day", commands=0, code=1)  # writes the bucket's rules
        subscription = None
        for line in lines:
            if subscription is None and "FIRST_TRIGGER" in line:
                found = [k for k in rehearsal.world.resources if "sub-" in k]
                subscription = found[0].rpartition("/")[2]
            text = line.replace("velib-close-day-FIRST_TRIGGER-SUBSCRIPTION", str(subscription))
            rehearsal.type(text.replace("PROJECT_NUMBER", NUMBER).replace("=digest", "=typed"))
        typed, state = rehearsal.world.state(), copy.deepcopy(small[0].state())
        name = FUNCTIONS + "velib-close-day"
        for one in (typed, state):
            for key in ("labels", "buildConfig"):
                one["resources"][name].pop(key, None)
        assert typed == state


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_function_of_the_tree_is_deployed_by_the_gcloud_of_this_machine(
    tmp_path: Path,
) -> None:
    """Without preloading: what an operator has. All 19 functions, from an empty project."""
    require_gcloud()
    with rehearse(tmp_path, None, World()) as rehearsal:
        done = subprocess.run(
            [str(tmp_path / "deploy.sh"), *TARGET, "--staged"],
            env=rehearsal.env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=1700,
        )
        assert done.returncode == 0, done.stderr
        assert len(functions(rehearsal.world)) == 19
        assert not rehearsal.world.unknown
