"""A rehearsal of deployments: a checkout, a project, and gcloud between the two."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from velib_deploy.function_specs import REPOSITORY

from rehearsal import eventarc, functions, images, operations, projects, pubsub, storage  # noqa: F401
from rehearsal.server import serve
from rehearsal.world import OWNER, PROJECT, REGION, World

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "velib-rehearsal-lake"
TARGET = ["--project", PROJECT, "--region", REGION, "--bucket", BUCKET]

NAMES = ["build_serving_forecast", "close_day", "ingest"]
"""A schedule, a function that publishes, one with two triggers: each kind of step once."""

ENDPOINTS = {
    "artifactregistry": "/artifactregistry/",
    "cloudbuild": "/cloudbuild/",
    "cloudfunctions": "/cloudfunctions/",
    "cloudresourcemanager": "/cloudresourcemanager/",
    "cloudscheduler": "/cloudscheduler/",
    "eventarc": "/eventarc/",
    "iam": "/iam/",
    "logging": "/logging/",
    "monitoring": "/monitoring/",
    "pubsub": "/pubsub/",
    "run": "/run/",
    "serviceusage": "/serviceusage/",
    "storage": "/storage/v1/",
}

CLIENT = """#!/usr/bin/env -S {python} -IS
import json, os, socket, sys
counter = os.environ.get("REHEARSAL_COUNTER")
if counter:
    # The machine goes down after so many commands: see Rehearsal.deploy.
    import fcntl
    with open(counter, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left = int(file.read()) - 1
        file.seek(0)
        file.truncate()
        file.write(str(left))
    if left < 0:
        sys.stderr.write("ERROR: the machine went down")
        sys.exit(137)
with open(os.environ["REHEARSAL_COMMANDS"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
request = {{"words": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}}
socket.send_fds(server, [json.dumps(request).encode() + b"\\n"], [0, 1, 2])
code = server.recv(1)
sys.exit(code[0] if code else 98)
"""


PYTHON = """#!/bin/sh
# Python whose longer sleeps are noted down instead of slept.
[ "$1" = -m ] || exec {python} "$@"
shift
exec {python} -c '
import runpy, sys, time
real = time.sleep
def sleep(seconds):
    if seconds < 1:  # a moment until a process has ended
        return real(seconds)
    with open("{folder}/pauses", "a") as file:
        print(seconds, file=file)
time.sleep = sleep
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
' "$@"
"""


@dataclasses.dataclass
class Rehearsal:
    """One checkout and one project, and what was run between the two."""

    folder: Path
    world: World
    env: dict[str, str]

    def deploy(
        self, *arguments: str, staged: bool = True, commands: int | None = None, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run deploy.sh; with a number of commands, gcloud does nothing after so many."""
        words = list(arguments)
        if "--project" not in words:
            words += TARGET
        env = dict(self.env)
        if commands is not None:
            counter = self.folder / "counter"
            counter.write_text(str(commands), "utf-8")
            env["REHEARSAL_COUNTER"] = str(counter)
        given = [*words, *(["--staged"] if staged else [])]
        done = self.run([str(self.folder / "deploy.sh"), *given], env)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert not self.world.unknown, self.world.unknown
        return done

    def run(
        self, words: list[str], env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            env=env or self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=1700,
        )

    def type(self, line: str) -> str:
        """Run a line as an operator would; return what it prints."""
        done = self.run(["bash", "-euo", "pipefail", "-c", line])
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert not self.world.unknown, self.world.unknown
        return done.stdout

    def commands(self) -> list[list[str]]:
        """Return the words of each gcloud command so far, and forget them."""
        file = Path(self.env["REHEARSAL_COMMANDS"])
        lines = file.read_text("utf-8").splitlines() if file.exists() else []
        file.write_text("", "utf-8")
        return [json.loads(line) for line in lines]


def require_gcloud() -> tuple[str, str]:
    """Return the SDK's root and its Python; skips loudly where there is no SDK."""
    if shutil.which("gcloud") is None:
        pytest.skip("NOT REHEARSED: the Google Cloud SDK is not installed")
    asked = ["gcloud", "info", "--format=value(installation.sdk_root,basic.python_location)"]
    root, python = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return root, python


@contextlib.contextmanager
def preloaded(folder: Path) -> Iterator[Path]:
    """Run the real gcloud loaded once; yield the folder of a ``gcloud`` that speaks to it."""
    root, python = require_gcloud()
    address = folder / "gcloud.socket"
    script = Path(__file__).with_name("preloaded.py")
    server = subprocess.Popen([python, script, root, str(address)], stdin=subprocess.DEVNULL)
    try:
        while not address.exists():
            assert server.poll() is None, "gcloud could not be loaded"
            time.sleep(0.05)
        client = folder / "bin" / "gcloud"
        client.parent.mkdir()
        text = CLIENT.format(python=sys.executable, socket=str(address))
        client.write_text(text, "utf-8")
        client.chmod(0o755)
        yield client.parent
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def rehearse(
    folder: Path, gcloud: Path | None, world: World, names: list[str] | None = None
) -> Iterator[Rehearsal]:
    """Serve a project; yield it with a checkout that has some of the functions, all if None.

    Without ``gcloud`` the command of the machine is used, which takes a second or two each time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy_checkout(folder, names)
    config = folder / "gcloud-config"
    config.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text(OWNER, "utf-8")
    with serve(world) as address:
        env = {
            "PATH": f"{gcloud}:{os.environ['PATH']}" if gcloud else os.environ["PATH"],
            "HOME": str(folder),
            "PYTHON": str(_python_that_does_not_wait(folder)),
            "CLOUDSDK_CONFIG": str(config),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "REHEARSAL_COMMANDS": str(folder / "commands"),
        }
        for api, path in ENDPOINTS.items():
            env[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{api.upper()}"] = f"{address}{path}"
        env["PYTHONPATH"] = ":".join([f"{folder}/shared", f"{folder}/deploy"])
        env["PYTHONPATH"] += f":{REPOSITORY}/cli:{REPOSITORY}/local"
        yield Rehearsal(folder, world, env)


def _python_that_does_not_wait(folder: Path) -> Path:
    file = folder / "python"
    file.write_text(PYTHON.format(python=sys.executable, folder=folder), "utf-8")
    file.chmod(0o755)
    return file


def copy_checkout(folder: Path, names: list[str] | None) -> None:
    """Copy what a deployment needs of the checkout, with its functions staged as they are."""
    for name in ("deploy.sh", "constraints.txt"):
        shutil.copy(REPOSITORY / name, folder)
    for name in ("shared", "deploy"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix)
    for source in sorted((REPOSITORY / "functions").glob("*/function.toml")):
        if names is None or source.parent.name in names:
            name = source.parent.name
            shutil.copytree(source.parent, folder / "functions" / name, dirs_exist_ok=True)
            shutil.copytree(source.parent, folder / "build" / name, dirs_exist_ok=True)


def deployer_permissions() -> set[str]:
    """Return what the role of a deployer permits."""
    text = (REPOSITORY / "deploy" / "deployer-role.yaml").read_text("utf-8")
    return set(re.findall(r"^- (\S+)$", text, re.MULTILINE))


def line(words: list[str]) -> str:
    """Return a command as it is typed."""
    return shlex.join(["gcloud", *words])
