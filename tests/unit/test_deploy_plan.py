"""What deploy.sh would do: accepted by the real command, done once, undone but for the data."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from cloud_sdk import lint
from velib_deploy.function_specs import (
    REPOSITORY,
    FunctionSpecError,
    account_id,
    load_specs,
    read_settings,
)
from velib_deploy.staging import stage

TARGET = ["--project", "p", "--region", "europe-west1", "--bucket", "b"]
SPECS = load_specs()

VERBS = {
    "add-iam-policy-binding",
    "create",
    "delete",
    "deploy",
    "describe",
    "enable",
    "list",
    "update",
}

# What the parser of SDK 528 accepts, for where there is none; with one, the tests below ask it.
FLAGS = {
    "eventarc triggers create": "destination-run-region destination-run-service event-filters"
    " location service-account transport-topic",
    "eventarc triggers delete": "location",
    "eventarc triggers describe": "location",
    "functions delete": "region",
    "functions deploy": "build-service-account concurrency cpu entry-point gen2 ingress-settings"
    " max-instances memory no-allow-unauthenticated region retry runtime service-account"
    " set-env-vars source timeout trigger-service-account trigger-topic update-labels",
    "functions describe": "region",
    "iam roles create": "permissions title",
    "iam roles describe": "",
    "iam service-accounts create": "display-name",
    "iam service-accounts delete": "",
    "iam service-accounts describe": "",
    "projects add-iam-policy-binding": "condition member role",
    "projects describe": "",
    "pubsub subscriptions add-iam-policy-binding": "member role",
    "pubsub subscriptions create": "expiration-period message-retention-duration topic",
    "pubsub subscriptions describe": "",
    "pubsub subscriptions update": "ack-deadline dead-letter-topic max-delivery-attempts"
    " max-retry-delay min-retry-delay",
    "pubsub topics add-iam-policy-binding": "member role",
    "pubsub topics create": "",
    "pubsub topics delete": "",
    "pubsub topics describe": "",
    "run services add-iam-policy-binding": "member region role",
    "scheduler jobs create pubsub": "location message-body schedule time-zone topic",
    "scheduler jobs delete": "location",
    "scheduler jobs describe": "location",
    "scheduler jobs update pubsub": "location message-body schedule time-zone topic",
    "services enable": "",
    "storage buckets add-iam-policy-binding": "condition member role",
    "storage buckets create": "location public-access-prevention uniform-bucket-level-access",
    "storage buckets describe": "",
    "storage buckets notifications create": "event-types object-prefix payload-format topic",
    "storage buckets notifications delete": "",
    "storage buckets notifications list": "",
    "storage buckets update": "lifecycle-file public-access-prevention soft-delete-duration"
    " uniform-bucket-level-access",
}

STUB = r"""#!/usr/bin/env bash
# Stands for gcloud in an empty project: remembers what was made, refuses to make it twice and
# to touch what is not there. Its answers are the placeholders of a dry run.
set -euo pipefail
words=() flags=""
for argument; do [[ $argument == --* ]] && flags+=" $argument" || words+=("$argument"); done
line="${words[*]}"
things="$STUB_STATE/things" && mkdir -p "$things"
path() { printf '%s' "$things/${1//[ \/]/_}"; }
said=$(printf 'gcloud'; printf ' %q' "$@")
echo "$said" >>"$STUB_STATE/asked"
case $line in
  *" describe "* | *" list "*) ;;
  *) echo "$said" >>"$STUB_STATE/log" ;;
esac
case $line in
  "services enable"* | "projects add-iam"*) ;;
  "projects describe"*) echo PROJECT_NUMBER ;;
  "storage buckets notifications list"*) cat "$STUB_STATE/notifications" 2>/dev/null || true ;;
  "storage buckets notifications create"*)
    topic=${flags#*--topic=} topic=${topic%% *}
    printf '//pubsub.googleapis.com/projects/p/topics/%s\t%s\n' "$topic" "$RANDOM" \
      >>"$STUB_STATE/notifications" ;;
  "storage buckets notifications delete"*)
    grep -v "${line##*/}\$" "$STUB_STATE/notifications" >"$STUB_STATE/kept" || true
    mv "$STUB_STATE/kept" "$STUB_STATE/notifications" ;;
  "functions deploy"*)
    echo "${flags##*velib_digest=}" | cut -d' ' -f1 >"$(path "functions ${words[2]}")"
    touch "$(path "eventarc triggers ${words[2]}-FIRST_TRIGGER")" ;;
  "functions delete"*)
    rm "$(path "functions ${words[2]}")" "$(path "eventarc triggers ${words[2]}-FIRST_TRIGGER")" ;;
  "functions describe"*)
    cat "$(path "functions ${words[2]}")" >"$STUB_STATE/label"
    case $flags in
      *velib_digest*) cat "$STUB_STATE/label" ;;
      *eventTrigger*) echo "${words[2]}-FIRST_TRIGGER" ;;
    esac ;;
  *)
    line=${line/create pubsub/create} line=${line/update pubsub/update} line=${line%@*}
    for verb in create describe update delete add-iam-policy-binding; do
      [[ $line == *" $verb "* ]] || continue
      thing=$(path "${line%% "$verb" *} ${line##* "$verb" }")
      case $thing in *run_services_*) exit ;; *-SUBSCRIPTION) exit ;; esac
      case $verb in
        create) [[ ! -e $thing ]] && touch "$thing" ;;
        delete) rm "$thing" ;;
        *) [[ -e $thing ]] ;;
      esac
      [[ $flags != *"value(transport"* ]] || echo "${words[3]}-SUBSCRIPTION"
      exit
    done
    exit 1 ;;
esac
"""


class Project:
    """A project behind the stub, with deploy.sh and staged functions in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.state = folder / "state"
        if self.state.exists():
            return
        self.state.mkdir()
        shutil.copy(REPOSITORY / "deploy.sh", folder)
        stub = folder / "bin" / "gcloud"
        stub.parent.mkdir()
        stub.write_text(STUB, "utf-8")
        stub.chmod(0o755)
        for name in SPECS:
            stage(name, folder / "build")

    def run(self, *arguments):
        """Run deploy.sh; return the commands that change something, in order."""
        log = self.state / "log"
        log.unlink(missing_ok=True)
        env = {"STUB_STATE": str(self.state), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        deploy(*arguments, "--staged", script=self.folder / "deploy.sh", env=env)
        return log.read_text("utf-8").splitlines() if log.exists() else []

    def things(self):
        return {path.name for path in (self.state / "things").iterdir()}


def deploy(*arguments, script=REPOSITORY / "deploy.sh", env=None, code=0):
    done = subprocess.run(
        [script, *arguments],
        env=dict(os.environ) | {"PYTHON": sys.executable} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines() if code == 0 else done.stderr


def plan(*arguments):
    return deploy(*arguments, "--dry-run", *TARGET)


def flag(line, name):
    return next(
        (word.partition("=")[2] for word in shlex.split(line) if word.startswith(f"--{name}=")),
        None,
    )


def command(line):
    """The groups and the verb of a command, without what it is about."""
    words = [word for word in shlex.split(line)[1:] if not word.startswith("--")]
    verb = next(n for n, word in enumerate(words) if word in VERBS)
    return " ".join(words[: verb + 2] if words[verb + 1] == "pubsub" else words[: verb + 1])


def flags(line):
    """The flags of a command, but for those that every command has."""
    given = {word[2:].partition("=")[0] for word in shlex.split(line) if word.startswith("--")}
    return given - {"project", "quiet", "format"}


@pytest.fixture(scope="module")
def deployed_once(tmp_path_factory):
    """A project that was deployed to once, and what that changed."""
    project = Project(tmp_path_factory.mktemp("project"))
    return project, project.run(*TARGET)


@pytest.fixture
def project(deployed_once, tmp_path):
    """A copy of the project that was deployed to once."""
    return copy_of(deployed_once[0], tmp_path / "project")


def copy_of(project, folder):
    shutil.copytree(project.folder, folder)
    return Project(folder)


def test_what_a_dry_run_prints_is_what_is_done_to_an_empty_project(deployed_once):
    done = [
        re.sub(r"velib_digest=\w+", "velib_digest=digest", line.removesuffix(" --quiet"))
        for line in deployed_once[1]
    ]
    assert done == plan()


def test_a_second_deployment_creates_and_deploys_nothing(deployed_once, project):
    first = deployed_once[1]
    second = project.run(*TARGET)
    assert any(" create " in line for line in first)
    assert not [line for line in second if re.search(r" (create|deploy|delete) ", line)]
    assert set(second) - set(first) == {
        line.replace(" create ", " update ") for line in first if " scheduler jobs " in line
    }


def test_only_a_function_that_changed_is_deployed_again(project):
    with (project.folder / "build" / "close_day" / "main.py").open("a") as source:
        source.write("\n")
    deployed = [line for line in project.run(*TARGET) if " functions deploy " in line]
    assert [flag(line, "entry-point") for line in deployed] == ["close_day"]


def test_only_what_is_united_elsewhere_expires(deployed_once):
    project, _ = deployed_once
    rules = json.loads((project.folder / "build" / "lifecycle.json").read_text("utf-8"))["rule"]
    deleted = [rule["condition"] for rule in rules if rule["action"]["type"] == "Delete"]
    assert deleted == [
        {"age": 400, "matchesPrefix": ["velib/bronze/"]},
        {"age": 400, "matchesPrefix": ["velib/ledger/"]},
    ]


def test_destroying_leaves_the_data_and_the_dead_letters(project):
    project.run("destroy", *TARGET)
    assert project.things() == {
        "storage_buckets_gs:__b",
        "pubsub_topics_velib-dead-letter",
        "pubsub_subscriptions_velib-dead-letter",
        "iam_roles_velibObjectDeleter",
    }
    assert (project.state / "notifications").read_text("utf-8") == ""
    assert project.run("destroy", *TARGET) == []


def test_two_networks_share_nothing_but_the_project(project):
    before = project.things()
    project.run("--network", "lyon", "--project", "p", "--region", "europe-west1", "--bucket", "c")
    new = project.things() - before
    assert all("lyon" in name or name == "storage_buckets_gs:__c" for name in new)
    assert len(new) == len(before) - 1, "the role is the project's"


def test_every_function_is_deployed_as_its_configuration_says():
    deployed = {flag(line, "entry-point"): line for line in plan() if " functions deploy " in line}
    assert set(deployed) == {spec.entry_point for spec in SPECS.values()}
    for spec in SPECS.values():
        line = deployed[spec.entry_point]
        assert flag(line, "memory") == spec.memory
        assert flag(line, "timeout") == f"{spec.timeout_s}s"
        assert flag(line, "concurrency") == str(spec.concurrency)
        assert flag(line, "max-instances") == str(spec.max_instances)
        assert flag(line, "trigger-topic") == f"velib-{spec.topics[0]}"
        assert ("--retry" in shlex.split(line)) == spec.retry
        assert flag(line, "set-env-vars").startswith(
            "^|^GCS_BUCKET_ROOT=gs://b/velib|VELIB_NETWORK=velib|GOOGLE_CLOUD_PROJECT=p"
        )


def test_each_topic_of_a_function_reaches_it():
    lines = plan()
    for spec in SPECS.values():
        target = f"velib-{spec.name.replace('_', '-')}"
        reached = {
            flag(line, "transport-topic").rpartition("/")[2]
            for line in lines
            if flag(line, "destination-run-service") == target
        }
        assert reached == {f"velib-{topic}" for topic in spec.topics[1:]}


def test_nobody_from_outside_may_call_a_function():
    lines = plan()
    for line in lines:
        assert "--allow-unauthenticated" not in shlex.split(line)
        assert "allUsers" not in line
        assert "allAuthenticatedUsers" not in line
        if " functions deploy " in line:
            assert "--no-allow-unauthenticated" in shlex.split(line)
            assert flag(line, "ingress-settings") == "internal-only"
    invoked = [line for line in lines if flag(line, "role") == "roles/run.invoker"]
    assert len(invoked) == len(SPECS)
    assert {flag(line, "member") for line in invoked} == {
        "serviceAccount:velib-invoker@p.iam.gserviceaccount.com"
    }


def test_a_function_has_an_account_of_its_own_with_the_rights_of_its_configuration():
    lines = plan()
    accounts = [flag(line, "service-account") for line in lines if " functions deploy " in line]
    assert len(set(accounts)) == len(accounts) == len(SPECS)
    granted = {
        (command(line), flag(line, "role"), flag(line, "condition"))
        for line in lines
        if flag(line, "member") == "serviceAccount:velib-ingest@p.iam.gserviceaccount.com"
    }

    def below(*folders):
        names = (f"projects/_/buckets/b/objects/velib/{folder}/" for folder in folders)
        return " || ".join(f'resource.name.startsWith("{name}")' for name in names)

    written = below("bronze", "quarantine")
    replaced = below("bronze")
    bucket = "storage buckets add-iam-policy-binding"
    assert granted == {
        (bucket, "roles/storage.legacyBucketReader", None),
        (bucket, "roles/storage.objectViewer", f"expression={written},title=velib-ingest-read"),
        (bucket, "roles/storage.objectCreator", f"expression={written},title=velib-ingest-create"),
        (
            bucket,
            "projects/p/roles/velibObjectDeleter",
            f"expression={replaced},title=velib-ingest-delete",
        ),
    }


def test_only_the_builder_has_a_role_on_the_project():
    granted = [line for line in plan() if command(line) == "projects add-iam-policy-binding"]
    assert [(flag(line, "member"), flag(line, "role")) for line in granted] == [
        (
            "serviceAccount:velib-build@p.iam.gserviceaccount.com",
            "roles/cloudbuild.builds.builder",
        )
    ]


def test_account_ids_are_within_the_limit_and_apart():
    names = [spec.service_account for spec in SPECS.values()]
    ids = [account_id("a-network-of-24-letters-", name) for name in names]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", name) for name in ids)


def test_one_function_is_deployed_alone():
    deployed = [line for line in plan("--only", "ingest") if " functions deploy " in line]
    assert [flag(line, "entry-point") for line in deployed] == ["ingest"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dry-run", "--project", "p", "--region", "r"], "--bucket"),
        (["--dry-run", *TARGET, "--turbo"], "--turbo"),
        (["--dry-run", *TARGET, "--only"], "--only"),
        (["--dry-run", *TARGET, "--only", "fly"], "fly"),
        (["--dry-run", *TARGET, "--network", "Vélib"], "VELIB_NETWORK"),
    ],
)
def test_a_wrong_argument_is_named(arguments, named):
    assert named in deploy(*arguments, code=2)


def test_a_networks_settings_reach_every_function_and_unknown_ones_are_refused(tmp_path):
    file = tmp_path / "lyon.env"
    file.write_text("# Lyon\nGBFS_URL=https://example.org/gbfs.json\nMON_HORIZONS=15,30\n", "utf-8")
    for line in plan("--settings", str(file)):
        if " functions deploy " in line:
            env = flag(line, "set-env-vars")
            assert "|GBFS_URL=https://example.org/gbfs.json|" in env.replace("^|^", "|")
            assert "|MON_HORIZONS=15,30|" in env
    file.write_text("GBSF_URL=https://example.org/gbfs.json\n", "utf-8")
    with pytest.raises(FunctionSpecError, match="GBSF_URL"):
        read_settings(file)


@pytest.fixture(scope="module")
def asked(deployed_once, tmp_path_factory):
    """Every command that two deployments and a removal issue, those that only look included."""
    project = copy_of(deployed_once[0], tmp_path_factory.mktemp("asked") / "project")
    project.run(*TARGET)
    project.run("destroy", *TARGET)
    return (project.state / "asked").read_text("utf-8").splitlines()


def test_commands_have_the_flags_that_are_known_to_exist(asked):
    used = {}
    for line in asked:
        used.setdefault(command(line), set()).update(flags(line))
    assert used == {name: set(known.split()) for name, known in FLAGS.items()}


def test_the_real_parser_accepts_each_kind_of_command(asked, tmp_path):
    kinds = {(command(line), *sorted(flags(line))): line for line in asked}
    deployments = [line for line in plan() if command(line) == "functions deploy"]
    assert lint([*kinds.values(), *deployments], tmp_path) == []


def test_the_real_parser_refuses_a_wrong_flag_and_a_wrong_value(tmp_path):
    line = next(line for line in plan("--only", "ingest") if " functions deploy " in line)
    wrong = [line.replace("--timeout=60s", "--timeout=60x"), f"{line} --turbo"]
    assert len(lint(wrong, tmp_path)) == 2


@pytest.mark.slow
def test_the_real_parser_accepts_every_command(asked, tmp_path):
    assert lint(sorted({*plan(), *plan("destroy"), *asked}), tmp_path) == []


LOAD_BUILD = """
import sys
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
build = config.LoadCloudbuildConfigFromPath(
    sys.argv[1], cloudbuild_util.GetMessagesModule(), params={"_BUCKET": "b"}
)
print(*(step.id for step in build.steps))
"""


def test_the_build_is_read_by_the_real_loader_and_its_deployment_by_deploy_sh(tmp_path):
    if shutil.which("gcloud") is None:
        pytest.skip("the Google Cloud SDK is not installed")
    asked = ["gcloud", "info", "--format=value(installation.sdk_root,basic.python_location)"]
    env = dict(os.environ) | {"CLOUDSDK_CONFIG": str(tmp_path)}
    info = subprocess.run(asked, env=env, capture_output=True, text=True, check=True)
    root, python = info.stdout.split()
    library = f"{root}/lib:{root}/lib/third_party"
    done = subprocess.run(
        [python, "-c", LOAD_BUILD, str(REPOSITORY / "cloudbuild.yaml")],
        env=env | {"PYTHONPATH": library},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["test", "stage", "deploy"]
    text = (REPOSITORY / "cloudbuild.yaml").read_text("utf-8")
    arguments = re.findall(r"^ +- (--\S+)$", text, re.MULTILINE)
    values = {"PROJECT_ID": "p", "_REGION": "europe-west1", "_BUCKET": "b", "_NETWORK": "velib"}
    given = [re.sub(r"\$(\w+)", lambda m: values[m[1]], argument) for argument in arguments]
    assert deploy(*given, "--dry-run") == plan()


def test_the_commands_of_the_operating_guide_are_accepted(tmp_path):
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    guide = guide.replace("PROJECT", "my-project").replace("BUCKET", "my-bucket")
    commands = re.findall(r"^gcloud .*$|(?<=`)gcloud [^`\n]+(?=`)", guide, re.MULTILINE)
    runnable = sorted({line for line in commands if len(line.split()) > 3})
    assert len(runnable) > 8
    assert lint(runnable, tmp_path) == []


def test_the_settings_of_the_operating_guide_are_settings(tmp_path):
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    file = tmp_path / "lyon.env"
    file.write_text(re.search(r"<<END\n(.*?)END", guide, re.DOTALL)[1], "utf-8")
    assert set(read_settings(file)) == {"GBFS_URL", "OPENMETEO_LAT", "OPENMETEO_LON"}


def test_every_test_that_the_threat_table_names_exists():
    table = (REPOSITORY / "docs" / "SECURITY.md").read_text("utf-8")
    sources = "".join(p.read_text("utf-8") for p in (REPOSITORY / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 15
    assert not [name for name in named if f"def {name}(" not in sources]
