"""Who deploys, with what, and the commands of the operating guide."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from present import present
from velib_deploy.function_specs import REPOSITORY

from rehearsal.rehearsal import BUCKET, NAMES, TARGET, deployer_permissions, rehearse
from rehearsal.test_doctor_rehearsed import doctor
from rehearsal.world import OWNER, PROJECT, REGION, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)  # the limits here are in counts, not in seconds

FIXES = {
    "cloudfunctions.functions.update",
    "cloudscheduler.jobs.enable",
    "cloudscheduler.jobs.update",
    "iam.roles.undelete",
    "iam.roles.update",
    "iam.serviceAccounts.enable",
    "pubsub.subscriptions.delete",
}
"""What upgrades need, and the commands that doctor prints."""


@pytest.mark.slow
def test_the_role_of_a_deployer_is_enough_and_holds_no_more(
    gcloud: Any, deployed_once: Any, tmp_path: Path
) -> None:
    """The first deployment had these permissions; so have the alerts and the end of it here."""
    world = copy.deepcopy(deployed_once[0])
    assert world.callers == {OWNER: deployer_permissions()}
    with rehearse(tmp_path, gcloud, world, NAMES) as rehearsal:
        rehearsal.deploy("--alerts", "ops@example.org")
        rehearsal.deploy("destroy")
    assert deployer_permissions() - FIXES == world.used - FIXES


def test_a_machine_without_python_deploys_with_the_one_that_comes_with_gcloud(
    gcloud: Any, tmp_path: Path
) -> None:
    """As the image of the Google Cloud CLI in Cloud Build, where functions are staged before."""
    with rehearse(tmp_path, gcloud, World(), ["close_day"]) as rehearsal:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("bash", "env", "dirname", "sh"):
            (programs / name).symlink_to(present(shutil.which(name)))
        client = programs / "gcloud"
        client.write_text(f'#!/bin/sh\nexec {rehearsal.env["PYTHON"]} {gcloud}/gcloud "$@"\n')
        client.chmod(0o755)
        (tmp_path / ".venv").unlink()
        env = rehearsal.env | {"PATH": str(programs), "PYTHON": ""}
        words = [str(tmp_path / "deploy.sh"), *TARGET, "--staged", "--settings="]
        done = rehearsal.run([*words, "--dry-run"], env)
        assert done.returncode == 0, done.stderr
        assert "functions deploy velib-close-day" in done.stdout


ELSEWHERE = (
    (".venv/bin/velib", "tests/e2e/test_docs_commands.py; doctor below"),
    ("GCS_BUCKET_ROOT=", "tests/e2e/test_recovery.py"),
    ("gcloud auth", "needs a person"),
    ("gcloud builds submit", "Cloud Build is not rehearsed; its steps are in test_deploy_plan.py"),
    ("gcloud billing", "gcloud has no setting for the address of that API; parsed elsewhere"),
    ("gcloud artifacts", "the platform's own images are not rehearsed"),
    ("gcloud storage ls", "the local cloud holds the objects"),
    ("gcloud storage restore", "as above"),
    ("gcloud storage rsync", "as above"),
)
"""Beginnings of the guide's commands that are not run here, and why."""


def guide_commands(*starts: Any) -> Iterator[Any]:
    """The guide's commands that begin in one way, in order, with the names of the rehearsal."""
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", guide, re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    names = {"DEPLOYER@example.org": OWNER, "READER@example.org": "reader@example.org"}
    names |= {"LYON_BUCKET": "lyon-lake", "BUCKET": BUCKET, "PROJECT": PROJECT, "-OLD": "-ingest"}
    for line in lines:
        if line.startswith(starts) and not line.startswith(
            tuple(start for start, _ in ELSEWHERE if start not in starts)
        ):
            for old, new in names.items():
                line = line.replace(old, new)  # noqa: PLW2901 -- one line, name after name
            yield line


def test_the_commands_of_the_operating_guide_do_what_it_says(rehearsal: Any) -> None:
    alerts = f"projects/{PROJECT}/topics/velib-alerts"  # made for functions that are not here
    rehearsal.world.resources[alerts] = {"name": alerts}
    commands = list(guide_commands("gcloud"))
    assert len(commands) >= 10
    for command in commands:
        rehearsal.type(command)
    world = rehearsal.world
    assert f"projects/{PROJECT}/subscriptions/velib-alerts-inbox" in world.resources
    assert f"projects/{PROJECT}/roles/velibDeployer" in world.resources
    readers = [b for b in world.policies[f"buckets/{BUCKET}"]["bindings"] if "reader@" in str(b)]
    assert [b["condition"]["title"] for b in readers] == ["forecast-readers"]
    assert f"projects/{PROJECT}/locations/{REGION}/jobs/velib-ingest" not in world.resources
    published = [path for _, path, _ in world.calls if path.endswith(":publish")]
    assert {path.rpartition("/")[2] for path in published} >= {
        "velib-train:publish",
        "velib-replay:publish",
    }


@pytest.mark.slow
def test_the_deployments_and_checks_of_the_operating_guide_do_what_it_says(rehearsal: Any) -> None:
    """Nothing to do, alerts, a second city, away again; what was deployed is as planned."""
    guide = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
    rehearsal.type(
        present(re.search(r"^cat > lyon\.env <<END\n.*?^END$", guide, re.MULTILINE | re.DOTALL))[0]
    )
    ran = []
    for line in guide_commands("./deploy.sh", ".venv/bin/velib"):
        words = shlex.split(line)
        if words[0] == "./deploy.sh":
            rehearsal.type(line)
        elif words[1] == "doctor" and "--bucket" in words:
            assert doctor(rehearsal, words[2:]) == [], line
        else:
            continue
        ran.append(line)
    assert sum(line.startswith("./deploy.sh") for line in ran) >= 7
    assert sum(" doctor " in line for line in ran) >= 2
    there = rehearsal.world.resources
    assert f"projects/{PROJECT}/locations/{REGION}/functions/lyon-ingest" in there
    assert f"projects/{PROJECT}/locations/{REGION}/functions/velib-ingest" not in there
