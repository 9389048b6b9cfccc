"""What ``velib doctor`` finds in a deployed project, and what it says to type."""

import base64
import copy
import datetime as dt
import http.server
import json
import os
import re
import shlex
import threading
import time
from pathlib import Path

import network
import pytest
from click.testing import CliRunner
from cloud_sdk import lint
from velib_cli.doctor import examine
from velib_cli.main import cli
from velib_cli.targets import deployed_settings
from velib_core.lake.layout import Layout
from velib_core.timeline.bins import bin_of
from velib_deploy import drift
from velib_deploy import plan as deploy_plan
from velib_deploy.function_specs import account_id, load_specs, objects_below, permissions, place
from velib_local.emulator.cloud import local_cloud
from velib_local.emulator.pubsub_google import find_emulator
from velib_local.emulator.servers import BUCKET, PROJECT

REGION = "europe-west1"
SETTINGS = deployed_settings({}, "gs://b/velib", "p")
SPECS = load_specs()
AGENT = "serviceAccount:service-42@gcp-sa-pubsub.iam.gserviceaccount.com"
"""Who delivers messages, in a project of the number 42."""

NO_FEEDS = {"GBFS_URL": "http://127.0.0.1:9/gbfs.json", "METEO_DISABLE": "1"}


def mail(account):
    return f"{account}@p.iam.gserviceaccount.com"


def member(account):
    return f"serviceAccount:{mail(account)}"


def account_of(spec):
    return account_id("velib", spec.service_account)


def service(name):
    return f"velib-{name.replace('_', '-')}"


def trigger(name, topic, target):
    """A trigger as the Eventarc API returns it (v1, Trigger)."""
    return {
        "name": f"projects/p/locations/{REGION}/triggers/{name}",
        "destination": {"cloudRun": {"service": target, "region": REGION}},
        "serviceAccount": mail("velib-invoker"),
        "transport": {
            "pubsub": {
                "topic": f"projects/p/topics/velib-{topic}",
                "subscription": f"projects/p/subscriptions/eventarc-{REGION}-{name}-sub-7",
            }
        },
    }


def subscription(name):
    """A subscription as the Pub/Sub API returns it (v1, Subscription)."""
    return {
        "name": f"projects/p/subscriptions/eventarc-{REGION}-{name}-sub-7",
        "ackDeadlineSeconds": 600,
        "deadLetterPolicy": {
            "deadLetterTopic": "projects/p/topics/velib-dead-letter",
            "maxDeliveryAttempts": 20,
        },
        "retryPolicy": {"minimumBackoff": "10s", "maximumBackoff": "600s"},
    }


def function(spec):
    """A function as the Cloud Functions API returns it (v2, Function)."""
    return {
        "name": f"projects/p/locations/{REGION}/functions/{service(spec.name)}",
        "state": "ACTIVE",
        "buildConfig": {"runtime": "python311", "entryPoint": spec.entry_point},
        "serviceConfig": {
            "availableMemory": spec.memory,
            "availableCpu": str(spec.cpu),
            "timeoutSeconds": spec.timeout_s,
            "maxInstanceRequestConcurrency": spec.concurrency,
            "maxInstanceCount": spec.max_instances,
            "serviceAccountEmail": mail(account_of(spec)),
            "ingressSettings": "ALLOW_INTERNAL_ONLY",
            "environmentVariables": {
                "GCS_BUCKET_ROOT": "gs://b/velib",
                "VELIB_NETWORK": "velib",
                "GOOGLE_CLOUD_PROJECT": "p",
                "LOG_EXECUTION_ID": "true",
                **dict(spec.env),
            },
        },
        "eventTrigger": {
            "trigger": f"projects/p/locations/{REGION}/triggers/{service(spec.name)}-123456",
            "pubsubTopic": f"projects/p/topics/velib-{spec.topics[0]}",
            "serviceAccountEmail": mail("velib-invoker"),
            "retryPolicy": "RETRY_POLICY_RETRY" if spec.retry else "RETRY_POLICY_DO_NOT_RETRY",
        },
    }


def schedule(spec):
    """A job as the Cloud Scheduler API returns it (v1, Job)."""
    return {
        "name": f"projects/p/locations/{REGION}/jobs/{service(spec.name)}",
        "state": "ENABLED",
        "schedule": spec.schedule.cron,
        "timeZone": "Etc/UTC",
        "pubsubTarget": {
            "topicName": f"projects/p/topics/velib-{spec.schedule.topic}",
            "data": base64.b64encode(spec.schedule.message.encode()).decode(),
        },
    }


def bucket_policy(layout):
    """Who may do what in the bucket, by its policy."""
    roles = {"read": "roles/storage.objectViewer", "create": "roles/storage.objectCreator"}
    roles["delete"] = "projects/p/roles/velibObjectDeleter"
    accounts = {name: account_of(spec) for name, spec in SPECS.items()}
    readers = [member(account) for account in accounts.values()]
    bindings = [
        {"role": "roles/storage.legacyBucketReader", "members": readers},
        {"role": "roles/storage.legacyBucketOwner", "members": ["projectOwner:p"]},
    ]
    for name, spec in SPECS.items():
        for kind, folders in permissions(spec.access).items():
            expression = objects_below("b", [place(layout, folder) for folder in folders])
            title = f"{accounts[name]}-{kind}"
            binding = {"role": roles[kind], "members": [member(accounts[name])]}
            if folders:
                binding["condition"] = {"title": title, "expression": expression}
                bindings.append(binding)
    return {"bindings": bindings}


def healthy():
    """What gcloud answers of a project that is as planned, by the words of the question."""
    layout = Layout(SETTINGS)
    firsts = {name: f"{service(name)}-123456" for name in SPECS}
    rest = {f"{service(n)}-{t}": (t, service(n)) for n, s in SPECS.items() for t in s.topics[1:]}
    triggers = [trigger(firsts[n], s.topics[0], None) for n, s in SPECS.items()]
    triggers += [trigger(name, *of) for name, of in rest.items()]
    accounts = [account_of(s) for s in SPECS.values()]
    notified = enumerate(layout.notified.items())
    topics = {topic for spec in SPECS.values() for topic in spec.access.publish}
    publishers = {
        topic: [member(account_of(s)) for s in SPECS.values() if topic in s.access.publish]
        for topic in topics
    }
    subscriptions = [subscription(name) for name in [*firsts.values(), *rest]]
    return {
        "projects describe p": {"projectId": "p", "projectNumber": "42"},
        "storage buckets describe gs://b": {
            "uniform_bucket_level_access": True,
            "public_access_prevention": "enforced",
            "soft_delete_policy": {"retentionDurationSeconds": "604800"},
            "lifecycle_config": {
                "rule": [
                    {
                        "action": {"type": "Delete"},
                        "condition": {"age": 400, "matchesPrefix": [f"velib/{folder}/"]},
                    }
                    for folder in ("bronze", "ledger")
                ]
                + [
                    {
                        "action": {"type": "AbortIncompleteMultipartUpload"},
                        "condition": {"age": 7},
                    }
                ]
            },
        },
        "storage buckets notifications list gs://b": [
            {
                "Bucket URL": "gs://b",
                "Notification Configuration": {
                    "id": str(n),
                    "topic": f"//pubsub.googleapis.com/projects/p/topics/velib-{topic}",
                    "object_name_prefix": f"{folder}/",
                    "event_types": ["OBJECT_FINALIZE"],
                    "payload_format": "JSON_API_V1",
                },
            }
            for n, (topic, folder) in notified
        ],
        "storage buckets get-iam-policy gs://b": bucket_policy(layout),
        "iam service-accounts list": [
            {"email": mail(a)} for a in [*accounts, "velib-invoker", "velib-build", "stranger"]
        ],
        f"functions list --regions={REGION}": [function(spec) for spec in SPECS.values()],
        f"eventarc triggers list --location={REGION}": triggers,
        "pubsub subscriptions list": subscriptions,
        f"scheduler jobs list --location={REGION}": [
            schedule(spec) for spec in SPECS.values() if spec.schedule
        ],
        **{
            f"pubsub topics get-iam-policy velib-{topic}": {
                "bindings": [{"role": "roles/pubsub.publisher", "members": members}]
            }
            for topic, members in {**publishers, "dead-letter": [AGENT]}.items()
        },
        **{
            f"pubsub subscriptions get-iam-policy {item['name'].rpartition('/')[2]}": {
                "bindings": [{"role": "roles/pubsub.subscriber", "members": [AGENT]}]
            }
            for item in subscriptions
        },
        **{
            f"run services get-iam-policy {service(name)} --region={REGION}": {
                "bindings": [{"role": "roles/run.invoker", "members": [member("velib-invoker")]}]
            }
            for name in SPECS
        },
    }


HEALTHY = healthy()


@pytest.fixture(scope="module")
def plan():
    return deploy_plan.read_plan(SETTINGS, REGION)


def findings(plan, answers):
    """Return what is wrong, as name, detail and command."""
    found = drift.examine(plan, lambda *words: answers[" ".join(words)])
    return [(name, f.detail, f.fix_command) for name, _, several in found for f in several]


def test_a_project_that_is_as_planned_has_nothing_wrong(plan):
    assert findings(plan, HEALTHY) == []


def test_everything_that_a_deployment_makes_is_looked_at(plan):
    """But for what it makes again at every deployment, or what the other checks ask the cloud."""
    assert {step.verb for step in plan.steps} - set(drift.RULES) == {
        "services enable",
        "projects add-iam-policy-binding",
        "iam roles create",
        "storage buckets create",
        "pubsub topics create",
        "pubsub subscriptions create",
    }


def of(answers, question, name):
    """Return the item of a name in the answer to a question."""
    (item,) = [i for i in answers[question] if i["name"].endswith(f"/{name}")]
    return item


FUNCTIONS = f"functions list --regions={REGION}"
TRIGGERS = f"eventarc triggers list --location={REGION}"
JOBS = f"scheduler jobs list --location={REGION}"
POLICY = "storage buckets get-iam-policy gs://b"
NOTIFICATIONS = "storage buckets notifications list gs://b"


def soft_delete_off(a):
    a["storage buckets describe gs://b"]["soft_delete_policy"] = {}


def everything_expires(a):
    a["storage buckets describe gs://b"]["lifecycle_config"]["rule"].append(
        {"action": {"type": "Delete"}, "condition": {"age": 30}}
    )


def public(a):
    a["storage buckets describe gs://b"]["public_access_prevention"] = "inherited"


def not_notified(a):
    del a[NOTIFICATIONS][0]


def notified_of_too_much(a):
    a[NOTIFICATIONS][0]["Notification Configuration"]["object_name_prefix"] = "velib/"


def notified_twice(a):
    again = copy.deepcopy(a[NOTIFICATIONS][0])
    again["Notification Configuration"]["id"] = "99"
    a[NOTIFICATIONS].append(again)


def account_gone(a):
    a["iam service-accounts list"] = a["iam service-accounts list"][1:]


def account_disabled(a):
    a["iam service-accounts list"][0]["disabled"] = True


def right_withdrawn(a):
    bindings = a[POLICY]["bindings"]
    lost = next(b for b in bindings if b.get("condition", {}).get("title") == "velib-ingest-create")
    bindings.remove(lost)


def right_of_an_earlier_version(a):
    expression = objects_below("b", ["velib/models"])
    a[POLICY]["bindings"].append(
        {
            "role": "roles/storage.objectViewer",
            "members": [member("velib-ingest")],
            "condition": {"title": "velib-ingest-read", "expression": expression},
        }
    )


def open_to_all(a):
    policy = a[f"run services get-iam-policy velib-ingest --region={REGION}"]
    policy["bindings"].append({"role": "roles/run.invoker", "members": ["allUsers"]})


def may_not_publish(a):
    a["pubsub topics get-iam-policy velib-day-closed"] = {"etag": "ACAB"}


def delivery_may_not_publish(a):
    a["pubsub topics get-iam-policy velib-dead-letter"] = {}


def delivery_may_not_take(a):
    name = f"eventarc-{REGION}-velib-build-datasets-models-sub-7"
    a[f"pubsub subscriptions get-iam-policy {name}"] = {}


def function_gone(a):
    a[FUNCTIONS].remove(of(a, FUNCTIONS, "velib-ingest"))


def less_memory(a):
    of(a, FUNCTIONS, "velib-train-model")["serviceConfig"]["availableMemory"] = "256Mi"


def other_account(a):
    config = of(a, FUNCTIONS, "velib-ingest")["serviceConfig"]
    config["serviceAccountEmail"] = "42-compute@developer.gserviceaccount.com"


def other_root(a):
    config = of(a, FUNCTIONS, "velib-ingest")["serviceConfig"]
    config["environmentVariables"]["GCS_BUCKET_ROOT"] = "gs://c/velib"


def failed_deployment(a):
    of(a, FUNCTIONS, "velib-ingest")["state"] = "FAILED"


def function_of_an_earlier_version(a):
    old = copy.deepcopy(of(a, FUNCTIONS, "velib-ingest"))
    old["name"] = old["name"].replace("velib-ingest", "velib-sweep")
    a[FUNCTIONS].append(old)


def no_retry(a):
    of(a, FUNCTIONS, "velib-ingest")["eventTrigger"]["retryPolicy"] = "RETRY_POLICY_DO_NOT_RETRY"


def trigger_gone(a):
    a[TRIGGERS].remove(of(a, TRIGGERS, "velib-build-datasets-profiles"))


def trigger_of_an_earlier_version(a):
    a[TRIGGERS].append(trigger("velib-close-day-daily", "daily", "velib-close-day"))


def no_dead_letter(a):
    for item in a["pubsub subscriptions list"]:
        if "velib-ingest" in item["name"]:
            del item["deadLetterPolicy"]


def paused(a):
    of(a, JOBS, "velib-ingest")["state"] = "PAUSED"


def other_schedule(a):
    of(a, JOBS, "velib-ingest")["schedule"] = "0 * * * *"


WRONG = [
    (soft_delete_off, "soft delete is 0d, expected 7d", "./deploy.sh --project p"),
    (everything_expires, "'*': 30}, expected {'velib/bronze/': 400", "./deploy.sh"),
    (public, "public access prevention is inherited, expected enforced", "./deploy.sh"),
    (not_notified, "nothing notifies velib-bronze of velib/bronze/", "notifications create"),
    (notified_of_too_much, "nothing notifies velib-bronze", "notifications create"),
    (notified_twice, "velib-bronze is there twice", "notificationConfigs/99"),
    (account_gone, "there is no account velib-build-data-drift", "service-accounts create"),
    (account_disabled, "is disabled", "service-accounts enable"),
    (
        right_withdrawn,
        "objectCreator to velib-ingest below velib/bronze/, velib/quarantine/ is not granted",
        "storage buckets add-iam-policy-binding gs://b",
    ),
    (
        right_of_an_earlier_version,
        "objectViewer to velib-ingest below velib/models/ is granted and not planned",
        "storage buckets remove-iam-policy-binding gs://b",
    ),
    (open_to_all, "allUsers is granted and not planned", "remove-iam-policy-binding"),
    (may_not_publish, "publisher to velib-close-day is not granted", "topics add-iam-policy"),
    (delivery_may_not_publish, "to service-42 is not granted", f"--member={AGENT}"),
    (delivery_may_not_take, "velib-build-datasets-models-sub-7: roles", f"--member={AGENT}"),
    (function_gone, "there is no function velib-ingest", "--only ingest"),
    (less_memory, "memory is 256Mi, expected", "functions deploy velib-train-model"),
    (other_account, "service-account is 42-compute@", "functions deploy velib-ingest"),
    (other_root, "GCS_BUCKET_ROOT is gs://c/velib, expected gs://b/velib", "functions deploy"),
    (failed_deployment, "state is FAILED, expected ACTIVE", "functions deploy velib-ingest"),
    (function_of_an_earlier_version, "velib-sweep is not planned", "functions delete velib-sweep"),
    (no_retry, "retry is False, expected True", "functions deploy velib-ingest"),
    (trigger_gone, "there is no trigger velib-build-datasets-profiles", "triggers create"),
    (trigger_of_an_earlier_version, "velib-close-day is not planned", "triggers delete"),
    (no_dead_letter, "dead-letter-topic is , expected velib-dead-letter", "subscriptions update"),
    (paused, "the schedule velib-ingest is PAUSED", "scheduler jobs resume velib-ingest"),
    (other_schedule, "schedule is 0 * * * *, expected */5 * * * *", "jobs update pubsub"),
]


@pytest.mark.parametrize(
    ("spoil", "detail", "fix_command"), WRONG, ids=lambda v: getattr(v, "__name__", "")
)
def test_a_difference_comes_with_what_is_expected_and_a_command(plan, spoil, detail, fix_command):
    answers = copy.deepcopy(HEALTHY)
    spoil(answers)
    found = findings(plan, answers)
    assert any(detail in reported and fix_command in command for _, reported, command in found), (
        found
    )
    assert all(reported and command for _, reported, command in found)


def test_a_project_that_does_not_answer_is_reported_once(plan):
    def ask(*words):
        raise deploy_plan.DeploymentError("gcloud projects describe: You do not have credentials")

    (reported,) = drift.examine(plan, ask)
    assert reported[0] == "project"
    assert [finding.fix_command for finding in reported[2]] == ["gcloud auth login"]


def test_the_functions_of_another_network_are_its_own(plan):
    answers = copy.deepcopy(HEALTHY)
    theirs = copy.deepcopy(of(answers, FUNCTIONS, "velib-ingest"))
    theirs["name"] = theirs["name"].replace("velib-ingest", "velib-two-ingest")
    theirs["serviceConfig"]["environmentVariables"]["VELIB_NETWORK"] = "velib-two"
    answers[FUNCTIONS].append(theirs)
    assert findings(plan, answers) == []


def test_an_account_that_is_none_of_ours_keeps_its_rights(plan):
    answers = copy.deepcopy(HEALTHY)
    answers[POLICY]["bindings"].append(
        {"role": "roles/storage.objectViewer", "members": ["user:analyst@example.org"]}
    )
    assert findings(plan, answers) == []


def test_every_suggested_command_is_one(plan, tmp_path):
    reported = set()
    for spoil, *_ in WRONG:
        answers = copy.deepcopy(HEALTHY)
        spoil(answers)
        reported |= {command for *_, command in findings(plan, answers)}
    parts = {part for command in reported for part in command.split(" && ")}
    lines = sorted(shlex.join(shlex.split(p)) for p in parts if p.startswith("gcloud"))
    kinds = {words.partition(" velib-")[0].partition(" eventarc-")[0]: words for words in HEALTHY}
    questions = [f"gcloud {words} --project=p --format=json --quiet" for words in kinds.values()]
    assert lint([*lines, *questions], tmp_path) == []


def test_the_settings_of_a_network_reach_its_plan(tmp_path, monkeypatch):
    file = tmp_path / "lyon.env"
    file.write_text("OPENMETEO_LAT=45.76\nGCS_RAW_PREFIX=gs://c/lyon/raw\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    lyon = deployed_settings({}, "gs://c/lyon", "p", file)
    reported = deploy_plan.read_plan(lyon, REGION, Path("lyon.env"))
    envs = {step.flags["set-env-vars"] for step in reported.of("functions deploy")}
    assert all("|OPENMETEO_LAT=45.76|" in env.replace("^|^", "|") for env in envs)
    assert reported.expiry == {"lyon/raw/": 400, "lyon/ledger/": 400}
    assert reported.again.endswith("--bucket c --network lyon --settings lyon.env")


def test_a_wrong_file_of_settings_is_reported_by_its_line(tmp_path):
    file = tmp_path / "lyon.env"
    file.write_text("OPENMETEO_LATITUDE=45.76\n", "utf-8")
    checks = {c.name: c for c in examine(NO_FEEDS, "gs://c/lyon", "p", REGION, file)}
    assert checks["settings"].result == "failed"
    assert "OPENMETEO_LATITUDE" in checks["settings"].detail


STUB = """#!/usr/bin/env bash
# Stands for gcloud: answers what was recorded, and knows no more.
for word; do
  case $word in --format=json | --quiet | --project=p) ;; *) question+="${word//\\//%} " ;; esac
done
if [[ -f "$RECORDED/$question" ]]; then exec cat "$RECORDED/$question"; fi
echo "ERROR: (gcloud) not recorded: $question" >&2
exit 1
"""


def record(folder, answers):
    """Write each answer to a file that is named by its question."""
    folder.mkdir(exist_ok=True)
    for question, answer in answers.items():
        (folder / f"{question.replace('/', '%')} ").write_text(json.dumps(answer), "utf-8")


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A gcloud on the path that answers from a folder, and nobody who may read the bucket."""
    stub = tmp_path / "bin" / "gcloud"
    stub.parent.mkdir()
    stub.write_text(STUB, "utf-8")
    stub.chmod(0o755)
    folder = tmp_path / "recorded"
    for name in ("STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST", "VELIB_NETWORK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in NO_FEEDS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORDED", str(folder))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    return folder


def run_doctor(*arguments):
    where = ["--bucket", "gs://b/velib", "--project", "p", "--region", REGION]
    return CliRunner().invoke(cli, ["doctor", *where, *arguments])


def test_a_project_is_asked_by_gcloud_and_each_finding_is_a_line_with_its_command(recorded):
    answers = copy.deepcopy(HEALTHY)
    record(recorded, answers)
    checks = {check["name"]: check for check in json.loads(run_doctor("--json").output)}
    asked = {name: checks[name]["result"] for name, _ in drift.RULES.values()}
    assert set(asked.values()) == {"ok"}, checks
    assert checks["functions"]["detail"] == f"{len(SPECS)} as planned"
    assert checks["bucket"]["mend"] == "gcloud auth application-default login"
    paused(answers)
    record(recorded, answers)
    (recorded / f"{NOTIFICATIONS.replace('/', '%')} ").unlink()
    result = run_doctor()
    lines = result.output.splitlines()
    at = next(n for n, line in enumerate(lines) if "velib-ingest is PAUSED" in line)
    assert lines[at].startswith("failed  schedules")
    assert "fix it with: gcloud scheduler jobs resume velib-ingest" in lines[at + 1]
    assert any("not recorded: storage buckets notifications" in line for line in lines)
    assert result.exit_code == 1


def test_without_a_region_the_project_is_skipped_and_the_option_is_named():
    checks = {c.name: c for c in examine(NO_FEEDS | {"PATH": ""}, "gs://b/velib", "p")}
    assert (checks["project"].result, "--region" in checks["project"].detail) == ("skipped", True)


def test_without_a_deployment_only_this_machine_is_looked_at():
    checks = {c.name: c for c in examine({})}
    assert checks["deployment"].result == "skipped"
    assert "--bucket" in checks["deployment"].detail


def test_a_bucket_that_is_no_address_is_reported_with_an_example():
    checks = {c.name: c for c in examine({"GCS_BUCKET_ROOT": "nowhere"})}
    assert checks["settings"].result == "failed"
    assert "gs://BUCKET" in checks["settings"].detail


def test_a_bucket_is_asked_for_its_clock_and_its_newest_snapshot(lake, settings):
    now = dt.datetime.now(dt.UTC)
    env = {**os.environ, **NO_FEEDS}

    def inspect_lake():
        return {check.name: check for check in examine(env, settings.root)}

    before = inspect_lake()
    assert {before[name].result for name in ("clock", "bucket")} == {"ok"}
    assert re.search(r"[+-]\d+ s between", before["clock"].detail)
    assert before["newest snapshot"].detail == "there is none"
    assert "scheduler jobs run velib-ingest" in before["newest snapshot"].fix_command
    network.upload(lake, settings, [bin_of(now - dt.timedelta(hours=1))])
    assert "expected at most 30 min" in inspect_lake()["newest snapshot"].detail
    network.upload(lake, settings, [bin_of(now)])
    assert inspect_lake()["newest snapshot"].result == "ok"
    assert inspect_lake()["GBFS feed"].result == "failed"
    missing = {c.name: c for c in examine(env, "gs://no-such-bucket")}["bucket"]
    assert (missing.result, missing.fix_command.split()[0]) == ("failed", "./deploy.sh")


@pytest.fixture
def strange_store(monkeypatch):
    """A store that is five minutes ahead, and lets its caller list and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            granted = {"permissions": ["storage.objects.list"]}
            body = json.dumps(granted if "testPermissions" in self.path else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp=None):
            return super().date_time_string(time.time() + 300)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("strange_store")
def test_a_wrong_clock_and_a_missing_right_are_reported_with_what_is_expected():
    checks = {c.name: c for c in examine(NO_FEEDS, "gs://b/velib")}
    assert re.match(r"\+(29\d|30\d) s .*, expected at most 60 s", checks["clock"].detail)
    assert "ntp" in checks["clock"].fix_command
    reported = checks["bucket"]
    assert reported.detail == "you may not storage.objects.create, storage.objects.get"
    assert reported.fix_command.startswith("gcloud storage buckets add-iam-policy-binding gs://b")


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["embedded", pytest.param("google", marks=pytest.mark.slow)])
def test_topics_and_dead_letters_are_looked_at_where_messages_are(kind):
    if kind == "google" and find_emulator() is None:
        pytest.skip("Google's Pub/Sub emulator is not installed")

    def inspect_lake():
        checks = examine({**os.environ, **NO_FEEDS}, f"gs://{BUCKET}", PROJECT)
        return {check.name: check for check in checks}

    with local_cloud({}, kind=kind):
        checks = inspect_lake()
    assert checks["topics"].result == checks["dead-letter subscription"].result == "ok"
    assert checks["project"].result == "skipped"
    with local_cloud({}, kind=kind, only=["close_day"]):
        checks = inspect_lake()
    assert checks["topics"].detail == "missing velib-alerts"
    assert checks["topics"].fix_command.startswith("gcloud pubsub topics create velib-alerts")
