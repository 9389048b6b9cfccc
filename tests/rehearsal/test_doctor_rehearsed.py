"""``velib doctor`` on a rehearsed project: each planted deviation is found, its command works."""

from __future__ import annotations

import base64
import copy
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rehearsal.rehearsal import BUCKET
from rehearsal.world import NUMBER, PROJECT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(1800)  # the limits here are in counts, not in seconds

P = f"projects/{PROJECT}"
L = f"{P}/locations/{REGION}"
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"


def mail(name: str) -> str:
    return f"velib-{name}@{PROJECT}.iam.gserviceaccount.com"


HERE = ["--bucket", f"gs://{BUCKET}/velib", "--project", PROJECT, "--region", REGION]


def doctor(rehearsal: Any, where: Any = HERE) -> Any:
    """What doctor finds wrong in the project: detail and command, in order."""
    code = "from velib_cli.main import main; main()"
    env = rehearsal.env | {
        "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere/key.json",
        "GBFS_URL": "http://127.0.0.1:9/gbfs.json",
        "METEO_DISABLE": "1",
    }
    done = rehearsal.run([sys.executable, "-c", code, "doctor", *where, "--json"], env)
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)
    mine = (
        "runtime",
        "clock",
        "bucket",
        "newest snapshot",
        "topics",
        "dead-letter subscription",
        "GBFS feed",
    )
    project = [check for check in checks if check["name"] not in mine]
    return [(c["detail"], c["mend"]) for c in project if c["result"] == "failed"]


def of(world: Any, name: str) -> Any:
    return world.resources[name]


def bindings(world: Any, name: str) -> Any:
    return world.policies[name]["bindings"]


def binding(world: Any, name: str, role: str, member: str) -> Any:
    return next(b for b in bindings(world, name) if b["role"] == role and member in b["members"])


def subscription(world: Any, trigger: Any) -> Any:
    return of(world, f"{L}/triggers/{trigger}")["transport"]["pubsub"]["subscription"]


def first(world: Any, function: str) -> Any:
    return of(world, f"{L}/functions/velib-{function}")["eventTrigger"]["trigger"].rpartition("/")[
        2
    ]


def plant(world: Any) -> Iterator[Any]:
    """Spoil a project in many ways at once; yield what doctor has to say about each."""
    world.enabled.discard("cloudbuild")
    yield "cloudbuild.googleapis.com not enabled"
    eventarc = f"serviceAccount:service-{NUMBER}@gcp-sa-eventarc.iam.gserviceaccount.com"
    binding(world, P, "roles/eventarc.serviceAgent", eventarc)["members"].clear()
    yield "the service agent of eventarc.googleapis.com holds no role"
    bucket = of(world, f"buckets/{BUCKET}")
    bucket["softDeletePolicy"] = {"retentionDurationSeconds": "0"}
    yield "soft delete is 0d, expected 7d"
    bucket["lifecycle"]["rule"].append({"action": {"type": "Delete"}, "condition": {"age": 30}})
    yield "'*': 30"
    bucket["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    yield "public access prevention is inherited, expected enforced"
    del world.resources[f"{P}/topics/velib-exports"]
    yield "there is no topic velib-exports"
    of(world, f"{P}/subscriptions/velib-dead-letter")["messageRetentionDuration"] = "86400s"
    yield "velib-dead-letter: messages are kept 1d, expected 7d"
    images = of(world, f"{L}/repositories/gcf-artifacts")
    del images["cleanupPolicies"]["keep-newest"]
    yield "gcf-artifacts: clean-up is {'delete-old': 'delete after 1d'}, expected"
    yield from plant_notifications(world)
    yield from plant_accounts(world)
    yield from plant_functions(world)
    yield from plant_delivery(world)
    yield from plant_watch(world)


def plant_watch(world: Any) -> Iterator[Any]:
    """Spoil alerts and the dashboard of a network that alerts somebody."""
    there = {v["displayName"]: k for k, v in world.resources.items() if "displayName" in v}
    of(world, there["velib: functions answer 5xx"])["enabled"] = False
    yield "the alert 'velib: functions answer 5xx' is not as planned"
    of(world, there["velib: no ingest for thirty minutes"])["notificationChannels"] = []
    yield "the alert 'velib: no ingest for thirty minutes' is not as planned"
    waiting = of(world, there["velib: a message has waited for an hour"])
    waiting["conditions"][0]["conditionThreshold"]["thresholdValue"] = 86400
    yield "was edited: thresholdValue is 86400"
    del world.resources[there["velib: a message was dead-lettered"]]
    yield "there is no alert 'velib: a message was dead-lettered'"
    of(world, there["velib: forecasts"])["labels"]["velib_digest"] = "older"
    yield "the dashboard 'velib: forecasts' is not as planned"


def plant_notifications(world: Any) -> Iterator[Any]:
    notified = {
        v["topic"].rpartition("-")[2]: k
        for k, v in world.resources.items()
        if k.startswith("notifications/")
    }
    del world.resources[notified["daily"]]
    yield "nothing notifies velib-daily of velib/daily/"
    of(world, notified["models"])["object_name_prefix"] = ""
    yield "nothing notifies velib-models of velib/models/"
    twin = dict(of(world, notified["bronze"]), id="77")
    world.resources[f"notifications/{BUCKET}/77"] = twin
    yield "a notification on velib-bronze is there twice"


def plant_accounts(world: Any) -> Iterator[Any]:
    of(world, f"{P}/serviceAccounts/{mail('ingest')}")["disabled"] = True
    yield "the account velib-ingest is disabled"
    of(world, f"{P}/roles/velibObjectDeleter")["includedPermissions"] = ["storage.objects.list"]
    yield "velibObjectDeleter: permissions are"
    builder = f"serviceAccount:{mail('build')}"
    bindings(world, P).remove(binding(world, P, "roles/logging.logWriter", builder))
    yield "roles/logging.logWriter to velib-build is not granted"
    bindings(world, P).append({"role": "roles/cloudbuild.builds.builder", "members": [builder]})
    yield "roles/cloudbuild.builds.builder to velib-build is granted and not planned"
    lake = f"buckets/{BUCKET}"
    ingest = f"serviceAccount:{mail('ingest')}"
    bindings(world, lake).remove(binding(world, lake, "roles/storage.objectCreator", ingest))
    yield "objectCreator to velib-ingest below velib/bronze/, velib/quarantine/ is not granted"
    bindings(world, lake).append({"role": "roles/storage.objectAdmin", "members": [ingest]})
    yield "roles/storage.objectAdmin to velib-ingest is granted and not planned"
    bindings(world, lake).append({"role": "roles/storage.objectViewer", "members": ["allUsers"]})
    yield "roles/storage.objectViewer to allUsers is granted and not planned"
    world.policies[f"{P}/topics/velib-day-closed"] = {"bindings": [], "etag": "BwAA"}
    yield "velib-day-closed: roles/pubsub.publisher to velib-close-day is not granted"
    world.policies[f"{P}/topics/velib-dead-letter"] = {"bindings": [], "etag": "BwAA"}
    yield f"velib-dead-letter: roles/pubsub.publisher to service-{NUMBER} is not granted"


def plant_functions(world: Any) -> Iterator[Any]:
    ingest = of(world, f"{L}/functions/velib-ingest")
    ingest["serviceConfig"]["availableMemory"] = "256Mi"
    yield "velib-ingest: memory is 256Mi, expected 512Mi"
    ingest["serviceConfig"]["environmentVariables"]["MON_HORIZONS"] = "30"
    yield "velib-ingest: MON_HORIZONS is 30, expected absent"
    ingest["eventTrigger"]["retryPolicy"] = "RETRY_POLICY_DO_NOT_RETRY"
    yield "velib-ingest: retry is False, expected True"
    forecast = of(world, f"{L}/functions/velib-build-serving-forecast")
    forecast |= {"state": "FAILED"}
    yield "velib-build-serving-forecast: state is FAILED, expected ACTIVE"
    forecast["serviceConfig"]["serviceAccountEmail"] = f"{NUMBER}-compute@example.org"
    yield f"service-account is {NUMBER}-compute@example.org"
    old = copy.deepcopy(forecast)
    old["name"] = f"{L}/functions/velib-sweep"
    old["eventTrigger"] = {}
    old["serviceConfig"]["service"] = f"{L}/services/velib-sweep"
    world.resources[old["name"]] = old
    world.resources[f"{L}/services/velib-sweep"] = {"name": f"{L}/services/velib-sweep"}
    yield "the function velib-sweep is not planned"
    service = f"{L}/services/velib-close-day"
    world.policies[service] = {
        "bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}],
        "etag": "BwAA",
    }
    yield "velib-close-day: roles/run.invoker to velib-invoker is not granted"
    yield "velib-close-day: roles/run.invoker to allUsers is granted and not planned"


def plant_delivery(world: Any) -> Iterator[Any]:
    name = "velib-build-serving-forecast-models"
    trigger = of(world, f"{L}/triggers/{name}")
    stale = copy.deepcopy(trigger)
    stale["name"] = f"{L}/triggers/velib-build-serving-forecast-daily"
    stale["transport"]["pubsub"]["subscription"] += "9"
    world.resources[stale["name"]] = stale
    yield "the trigger velib-build-serving-forecast-daily of velib-build-serving-forecast is not"
    world.policies.pop(trigger["transport"]["pubsub"]["subscription"])
    del world.resources[trigger["transport"]["pubsub"]["subscription"]]
    del world.resources[trigger["name"]]
    yield f"there is no trigger {name}"
    letters = of(world, subscription(world, first(world, "ingest")))
    del letters["deadLetterPolicy"]
    yield "dead-letter-topic is , expected velib-dead-letter"
    letters["messageRetentionDuration"] = "86400s"
    yield "message-retention-duration is 1d, expected 7d"
    world.policies.pop(subscription(world, first(world, "close-day")))
    yield f"roles/pubsub.subscriber to service-{NUMBER} is not granted"
    job = of(world, f"{L}/jobs/velib-ingest")
    job |= {"state": "PAUSED", "schedule": "0 * * * *"}
    yield "the schedule velib-ingest is PAUSED"
    yield "velib-ingest: schedule is 0 * * * *, expected */5 * * * *"
    job["pubsubTarget"]["data"] = base64.b64encode(b'{"force": true}').decode()
    yield 'message-body is {"force": true}, expected {}'


@pytest.mark.parametrize("most", [10, pytest.param(None, marks=pytest.mark.slow)])
def test_each_of_forty_planted_deviations_is_found_and_its_command_fixes_it(
    rehearsal: Any, most: int | None
) -> None:
    """All are looked for; by default ten of the commands are run, for each takes seconds."""
    rehearsal.deploy("--alerts", "ops@example.org")
    planted = list(plant(rehearsal.world))
    assert len(planted) >= 40
    found = doctor(rehearsal)
    for detail in planted:
        assert any(detail in said and command for said, command in found), (detail, found)
    commands = list(dict.fromkeys(command for _, command in found))
    # deploy.sh, which brings the rules of deletion, would do what the others are to show.
    alone = [command for command in commands if "./deploy.sh" not in command]
    typed = [*alone, *(command for command in commands if command not in alone)][:most]
    for command in typed:
        rehearsal.type(command)
    left = doctor(rehearsal)
    assert not [line for line in left if line[1] in typed]
    assert most or left == []


def test_a_project_that_is_as_planned_has_nothing_wrong(rehearsal: Any) -> None:
    assert doctor(rehearsal) == []
    assert rehearsal.world.changes() == []


def test_a_project_that_may_not_be_asked_is_reported_once(rehearsal: Any) -> None:
    rehearsal.world.callers["owner@example.org"] = set()
    (found,) = doctor(rehearsal)
    assert "denied" in found[0]


def test_the_functions_and_the_rights_of_others_are_theirs(rehearsal: Any) -> None:
    theirs = copy.deepcopy(of(rehearsal.world, f"{L}/functions/velib-ingest"))
    theirs["name"] = f"{L}/functions/velib-two-ingest"
    theirs["serviceConfig"]["environmentVariables"]["VELIB_NETWORK"] = "velib-two"
    rehearsal.world.resources[theirs["name"]] = theirs
    viewer = {"role": "roles/storage.objectViewer", "members": ["user:analyst@example.org"]}
    bindings(rehearsal.world, f"buckets/{BUCKET}").append(viewer)
    assert doctor(rehearsal) == []
