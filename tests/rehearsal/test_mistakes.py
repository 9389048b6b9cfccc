"""What a new deployer gets wrong: the answer names what to type, and nothing is made."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from present import present

from rehearsal.rehearsal import BUCKET, TARGET, rehearse
from rehearsal.world import EXPIRED, PROJECT, REGION, World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)  # the limits here are in counts, not in seconds


def target(**changed: Any) -> Any:
    """The arguments of the rehearsal with some of them changed."""
    values = {"project": PROJECT, "region": REGION, "bucket": BUCKET} | changed
    return [word for name, value in values.items() for word in (f"--{name}", value)]


@pytest.mark.parametrize(
    ("world", "arguments", "expected"),
    [
        ({}, target(project="velib-rehersal"), "Check --project"),
        ({}, target(region="europe-west99"), "gcloud functions regions list"),
        ({"billing": False}, TARGET, f"gcloud billing projects link {PROJECT}"),
        ({"taken": {BUCKET}}, TARGET, "Choose another --bucket"),
        ({"callers": {"owner@example.org": set()}}, TARGET, "Who deploys"),
    ],
)
def test_a_mistake_is_answered_with_what_to_do(
    gcloud: Any, tmp_path: Path, world: dict[Any, Any], arguments: Any, expected: str
) -> None:
    with rehearse(tmp_path, gcloud, World(**world), ["close_day"]) as rehearsal:
        said = rehearsal.deploy(*arguments, code=1).stderr
        assert expected in said.splitlines()[-2], said
        assert "Traceback" not in said
        assert not [name for name in rehearsal.world.resources if "velib-" in name.split("/")[-1]]
        assert not (tmp_path / "pauses").exists(), "a mistake is not waited for"


@pytest.mark.parametrize("token", [None, EXPIRED])
def test_who_is_not_signed_in_reads_how_to(gcloud: Any, tmp_path: Path, token: Any) -> None:
    with rehearse(tmp_path, gcloud, World(), ["close_day"]) as rehearsal:
        if token is None:
            del rehearsal.env["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]
        else:
            (tmp_path / "token").write_text(token, "utf-8")
        said = rehearsal.deploy(code=1).stderr
        assert said.splitlines()[-2] == "Sign in: gcloud auth login"


def test_without_the_cli_its_absence_is_reported(gcloud: Any, tmp_path: Path) -> None:
    with rehearse(tmp_path, gcloud, World(), ["close_day"]) as rehearsal:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name in ("bash", "env", "dirname", "sh"):
            (programs / name).symlink_to(present(shutil.which(name)))
        rehearsal.env["PATH"] = str(programs)
        said = rehearsal.deploy(code=1).stderr
        assert said.splitlines()[-2].startswith("Install the Google Cloud CLI")
