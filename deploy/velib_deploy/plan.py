"""What deploy.sh would do to an empty project, by its dry run; and how a project is asked."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from velib_deploy.function_specs import REPOSITORY, deployment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from velib_core.settings.network import Settings

TIMEOUT_S = 60
Ask: TypeAlias = "Callable[..., Any]"
"""The words of a gcloud command → its answer, as JSON is read."""


class DeploymentError(RuntimeError):
    """The plan could not be made, or the project could not be asked."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of the plan: ``pubsub topics create``, ``velib-tick``, its flags, its line."""

    verb: str
    target: str
    flags: Mapping[str, str]
    line: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a deployment of one network consists of.

    ``expiry`` is the age in days at which objects below a prefix are deleted; ``again`` is the
    command that deploys all of it.
    """

    project: str
    region: str
    steps: Sequence[Step]
    expiry: Mapping[str, int]
    again: str

    def gcloud(self, *words: str) -> str:
        """Return a command on the project, to be typed into a shell."""
        return shlex.join(["gcloud", *words, f"--project={self.project}"])

    def of(self, verb: str) -> list[Step]:
        """Return the steps of one kind."""
        return [step for step in self.steps if step.verb == verb]


def deploy_command(settings: Settings, region: str, file: Path | None = None) -> str:
    """Return the command that deploys a network, to be typed into a shell.

    ``file`` holds the network's settings, as deploy.sh reads them.
    """
    words = ["./deploy.sh", "--project", settings.project or "PROJECT", "--region", region]
    words += ["--bucket", settings.bucket, "--network", settings.network]
    return shlex.join([*words, *(["--settings", str(file)] if file else [])])


def read_plan(settings: Settings, region: str, file: Path | None = None) -> Plan:
    """Ask deploy.sh what it would deploy; raise `DeploymentError` where it refuses."""
    again = deploy_command(settings, region, file)
    words = shlex.split(deploy_command(settings, region, file and file.resolve()))
    env = {**os.environ, "PYTHON": sys.executable}
    printed = _output([*words, "--dry-run"], cwd=REPOSITORY, env=env)
    facts = (fact for fact in deployment({}, settings, {}) if fact[0] == "expire")
    expiry = {prefix: int(days) for _, prefix, days in facts}
    steps = [_step(line) for line in printed.splitlines()]
    return Plan(settings.project, region, steps, expiry, again)


def with_names(plan: Plan, names: Iterable[tuple[str, str]]) -> Plan:
    """Return a plan with names in place of its placeholders; steps of unknown things are left out.

    A dry run prints ``X-SUBSCRIPTION`` for a subscription that deploy.sh would ask a project for.
    """
    known = dict(names)
    steps = []
    for step in plan.steps:
        if step.target.endswith("-SUBSCRIPTION") and step.target not in known:
            continue
        line = step.line.replace(step.target, known.get(step.target, step.target))
        line = line.replace("PROJECT_NUMBER", known.get("PROJECT_NUMBER", "PROJECT_NUMBER"))
        steps.append(_step(line))
    return dataclasses.replace(plan, steps=steps)


def gcloud(project: str) -> Ask:
    """Return what asks a project, each question once."""

    @functools.cache
    def ask(*words: str) -> Any:  # noqa: ANN401 -- JSON is any value
        flags = [f"--project={project}", "--format=json", "--quiet"]
        answer = _output(["gcloud", *words, *flags])
        try:
            return json.loads(answer or "null")
        except ValueError as error:
            raise DeploymentError(f"gcloud {' '.join(words)}: no JSON: {error}") from error

    return ask


def _output(command: Sequence[str], **options: Any) -> str:  # noqa: ANN401 -- of subprocess.run
    said = " ".join(command[:4])
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeploymentError(f"{said}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip() or "no word of why").splitlines()[-1]
        raise DeploymentError(f"{said}: {last}")
    return str(done.stdout)


def _step(line: str) -> Step:
    words = shlex.split(line)[1:]
    flags = [word[2:].partition("=") for word in words if word.startswith("--")]
    plain = [word for word in words if not word.startswith("--")]
    at = 2 if plain[:2] == ["services", "enable"] else len(plain) - 1
    values = {name: value for name, _, value in flags}
    return Step(" ".join(plain[:at]), " ".join(plain[at:]), values, line)
