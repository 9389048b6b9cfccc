"""The plan of a deployment: what deploy.sh would do to an empty project. See also rehearsal/."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cloud_sdk import lint
from present import present
from velib_deploy.function_specs import (
    REPOSITORY,
    FunctionSpecError,
    account_id,
    load_specs,
    read_settings,
)

if TYPE_CHECKING:
    from pathlib import Path

TARGET = ["--project", "my-project", "--region", "europe-west1", "--bucket", "my-lake"]
SPECS = load_specs()

VERBS = {
    "add-iam-policy-binding",
    "create",
    "delete",
    "deploy",
    "describe",
    "enable",
    "list",
    "set-cleanup-policies",
    "update",
}


def deploy(
    *arguments: Any, script: Any = REPOSITORY / "deploy.sh", env: Any = None, code: Any = 0
) -> list[str] | str:
    done = subprocess.run(
        [script, *arguments],
        env=dict(os.environ) | {"PYTHON": sys.executable} | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines() if code == 0 else done.stderr


def plan(*arguments: Any) -> list[str] | str:
    return deploy(*arguments, "--dry-run", *TARGET)


def flag(line: str, name: str) -> str | None:
    return next(
        (word.partition("=")[2] for word in shlex.split(line) if word.startswith(f"--{name}=")),
        None,
    )


def command(line: str) -> str:
    """The groups and the verb of a command, without what it is about."""
    words = [word for word in shlex.split(line)[1:] if not word.startswith("--")]
    verb = next(n for n, word in enumerate(words) if word in VERBS)
    if verb + 1 == len(words):
        return " ".join(words)
    return " ".join(words[: verb + 2] if words[verb + 1] == "pubsub" else words[: verb + 1])


def test_every_function_is_deployed_as_its_configuration_says() -> None:
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
        assert present(flag(line, "set-env-vars")).startswith(
            "^|^GCS_BUCKET_ROOT=gs://my-lake/velib|VELIB_NETWORK=velib|GOOGLE_CLOUD_PROJECT=my-project"
        )


def test_each_topic_of_a_function_reaches_it() -> None:
    lines = plan()
    for spec in SPECS.values():
        target = f"velib-{spec.name.replace('_', '-')}"
        reached = {
            present(flag(line, "transport-topic")).rpartition("/")[2]
            for line in lines
            if flag(line, "destination-run-service") == target
        }
        assert reached == {f"velib-{topic}" for topic in spec.topics[1:]}


def test_nobody_from_outside_may_call_a_function() -> None:
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
        "serviceAccount:velib-invoker@my-project.iam.gserviceaccount.com"
    }


def test_a_function_has_an_account_of_its_own_with_the_rights_of_its_configuration() -> None:
    lines = plan()
    accounts = [flag(line, "service-account") for line in lines if " functions deploy " in line]
    assert len(set(accounts)) == len(accounts) == len(SPECS)
    granted = {
        (command(line), flag(line, "role"), flag(line, "condition"))
        for line in lines
        if flag(line, "member") == "serviceAccount:velib-ingest@my-project.iam.gserviceaccount.com"
    }

    def below(*folders: Any) -> str:
        names = (f"projects/_/buckets/my-lake/objects/velib/{folder}/" for folder in folders)
        return " || ".join(f'resource.name.startsWith("{name}")' for name in names)

    written = below("bronze", "quarantine")
    replaced = below("bronze")
    bucket = "storage buckets add-iam-policy-binding"
    assert granted == {
        (bucket, "roles/storage.legacyBucketReader", "None"),
        (bucket, "roles/storage.objectViewer", f"expression={written},title=velib-ingest-read"),
        (bucket, "roles/storage.objectCreator", f"expression={written},title=velib-ingest-create"),
        (
            bucket,
            "projects/my-project/roles/velibObjectDeleter",
            f"expression={replaced},title=velib-ingest-delete",
        ),
    }


def test_only_the_builder_has_roles_on_the_project_and_none_of_them_reaches_a_lake() -> None:
    granted = [line for line in plan() if command(line) == "projects add-iam-policy-binding"]
    builder = "serviceAccount:velib-build@my-project.iam.gserviceaccount.com"
    assert {flag(line, "member") for line in granted} == {builder}
    conditions = {flag(line, "role"): flag(line, "condition") for line in granted}
    assert conditions == {
        "roles/artifactregistry.writer": "None",
        "roles/logging.logWriter": "None",
        "roles/storage.objectViewer": "expression=resource.name.startsWith("
        '"projects/_/buckets/gcf-v2-sources-"),title=function-sources',
    }


def test_account_ids_are_within_the_limit_and_apart() -> None:
    names = [spec.service_account for spec in SPECS.values()]
    ids = [account_id("a-network-of-24-letters-", name) for name in names]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", name) for name in ids)


def test_one_function_is_deployed_alone() -> None:
    deployed = [line for line in plan("--only", "ingest") if " functions deploy " in line]
    assert [flag(line, "entry-point") for line in deployed] == ["ingest"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--dry-run", "--project", "my-project", "--region", "europe-west1"], "--bucket"),
        (["--dry-run", *TARGET, "--turbo"], "--turbo"),
        (["--dry-run", *TARGET, "--only"], "--only"),
        (["--dry-run", *TARGET, "--only", "fly"], "fly"),
        (["--dry-run", *TARGET, "--network", "Vélib"], "--network"),
        (["--dry-run", *TARGET, "--bucket", "gs://My-Lake/"], "type --bucket my-lake"),
        (["--dry-run", *TARGET, "--bucket", "10.0.0.1"], "as in my-project-velib"),
        (["--dry-run", *TARGET, "--bucket", "BUCKET"], "'BUCKET': expected a bucket's name"),
        (["--dry-run", *TARGET, "--project", "PROJECT"], "'PROJECT': expected a project's id"),
        (["--dry-run", *TARGET, "--region", "Europe-West1"], "type --region europe-west1"),
        (["--dry-run", *TARGET, "--alerts", "ops"], "as in ops@example.org"),
        (["--dry-run", *TARGET, "--only", "velib-close-day"], "expected close_day"),
        (["--dry-run", *TARGET, "--settings", "none.env"], "'none.env', expected a file of text"),
        (["--dry-run", *TARGET, "--settings", "docs/report.png"], "expected a file of text"),
        (["--dry-run", *TARGET, "--network", "lyon"], "GBFS_URL"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[Any], named: str) -> None:
    said: Any = deploy(*arguments, code=2)
    (line,) = said.splitlines()
    assert named in line


def test_a_networks_settings_reach_every_function_and_unknown_ones_are_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "lyon.env"
    file.write_text("# Lyon\nGBFS_URL=https://example.org/gbfs.json\nMON_HORIZONS=15,30\n", "utf-8")
    for line in plan("--settings", str(file)):
        if " functions deploy " in line:
            env = present(flag(line, "set-env-vars"))
            assert "|GBFS_URL=https://example.org/gbfs.json|" in env.replace("^|^", "|")
            assert "|MON_HORIZONS=15,30|" in env
    file.write_text("GBSF_URL=https://example.org/gbfs.json\n", "utf-8")
    with pytest.raises(FunctionSpecError, match="GBSF_URL"):
        read_settings(file)


def test_the_real_parser_refuses_a_wrong_flag_and_a_wrong_value(tmp_path: Path) -> None:
    line = next(line for line in plan("--only", "ingest") if " functions deploy " in line)
    wrong = [line.replace("--timeout=60s", "--timeout=60x"), f"{line} --turbo"]
    assert len(lint(wrong, tmp_path)) == 2


LOAD_BUILD = """
import sys
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
build = config.LoadCloudbuildConfigFromPath(
    sys.argv[1], cloudbuild_util.GetMessagesModule(), params={"_BUCKET": "b"}
)
print(*(step.id for step in build.steps))
"""


def test_the_build_is_read_by_the_real_loader_and_its_deployment_by_deploy_sh(
    tmp_path: Path,
) -> None:
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
    values = {"PROJECT_ID": "my-project", "_REGION": "europe-west1", "_BUCKET": "my-lake"}
    values |= {"_NETWORK": "velib", "_SETTINGS": ""}
    given = [re.sub(r"\$(\w+)", lambda m: values[m[1]], argument) for argument in arguments]
    assert deploy(*given, "--dry-run") == plan()


def test_the_commands_of_the_operating_guide_are_accepted(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    guide = guide.replace("PROJECT", "my-project").replace("BUCKET", "my-bucket")
    commands = re.findall(r"^gcloud .*$|(?<=`)gcloud [^`\n]+(?=`)", guide, re.MULTILINE)
    runnable = sorted({line for line in commands if len(line.split()) > 3})
    assert len(runnable) > 8
    assert lint(runnable, tmp_path) == []


def test_the_settings_of_the_operating_guide_are_settings(tmp_path: Path) -> None:
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    file = tmp_path / "lyon.env"
    file.write_text(present(re.search(r"<<END\n(.*?)END", guide, re.DOTALL))[1], "utf-8")
    assert set(read_settings(file)) == {"GBFS_URL", "OPENMETEO_LAT", "OPENMETEO_LON"}


def test_every_test_that_the_threat_table_names_exists() -> None:
    table = (REPOSITORY / "docs" / "SECURITY.md").read_text("utf-8")
    sources = "".join(p.read_text("utf-8") for p in (REPOSITORY / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 15
    assert not [name for name in named if f"def {name}(" not in sources]
