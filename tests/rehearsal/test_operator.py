"""Who deploys, with what, and what the operating guide tells them to type."""

import re
import shutil

import pytest
from velib_deploy.function_specs import REPOSITORY

from rehearsal.rehearsal import TARGET, rehearse
from rehearsal.world import OWNER, World

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


def permissions():
    text = (REPOSITORY / "deploy" / "deployer-role.yaml").read_text("utf-8")
    return set(re.findall(r"^- (\S+)$", text, re.MULTILINE))


def test_the_role_of_a_deployer_is_enough_and_holds_no_more(gcloud, tmp_path):
    world = World(callers={OWNER: permissions()})
    with rehearse(tmp_path, gcloud, world, ["build_serving_forecast", "ingest"]) as rehearsal:
        rehearsal.deploy("--alerts", "ops@example.org")
        rehearsal.deploy("destroy")
    assert permissions() - FIXES == world.used - FIXES


def test_a_machine_without_python_deploys_with_the_one_that_comes_with_gcloud(gcloud, tmp_path):
    """As the image of the Google Cloud CLI in Cloud Build, where functions are staged before."""
    with rehearse(tmp_path, gcloud, World(), ["close_day"]) as rehearsal:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("bash", "env", "dirname", "sh"):
            (programs / name).symlink_to(shutil.which(name))
        client = programs / "gcloud"
        client.write_text(f'#!/bin/sh\nexec {rehearsal.env["PYTHON"]} {gcloud}/gcloud "$@"\n')
        client.chmod(0o755)
        (tmp_path / ".venv").unlink()
        env = rehearsal.env | {"PATH": str(programs), "PYTHON": ""}
        words = [str(tmp_path / "deploy.sh"), *TARGET, "--staged", "--settings="]
        done = rehearsal.run([*words, "--dry-run"], env)
        assert done.returncode == 0, done.stderr
        assert "functions deploy velib-close-day" in done.stdout
