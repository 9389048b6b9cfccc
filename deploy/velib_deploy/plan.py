"""What a deployment of one network consists of: the gcloud commands for an empty project, in order.

The commands are made from the facts of `function_specs.deployment`. ``deploy.sh`` runs those whose
effect is missing in the project, ``--dry-run`` prints all of them, and ``velib doctor`` compares a
project with them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from typing import TYPE_CHECKING

from velib_core.errors import InvalidValueError
from velib_core.settings.network import Settings

from velib_deploy.commands import commands
from velib_deploy.function_specs import (
    FunctionSpecError,
    deployment,
    load_specs,
    read_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from velib_deploy.target import Target


class DeploymentError(InvalidValueError):
    """An argument of a deployment that cannot be used."""


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

    target: Target
    steps: Sequence[Step]
    expiry: Mapping[str, int]

    @property
    def project(self) -> str:
        """Return the project's id."""
        return self.target.project

    @property
    def region(self) -> str:
        """Return the region of functions, triggers and schedules."""
        return self.target.region

    @property
    def again(self) -> str:
        """Return the command that deploys all of it."""
        return self.target.command()

    def gcloud(self, *words: str) -> str:
        """Return a command on the project, to be typed into a shell."""
        return shlex.join(["gcloud", *words, f"--project={self.project}"])

    def of(self, *verbs: str) -> list[Step]:
        """Return the steps of some kinds."""
        return [step for step in self.steps if step.verb in verbs]


def make_plan(target: Target, staged: Path | None = None) -> Plan:
    """Return the plan of a network; raise `DeploymentError` or `FunctionSpecError` if it has none.

    ``staged`` holds the folders that are deployed; with them each function is labelled with the
    digest of its files and its settings.
    """
    specs = load_specs()
    if target.only and target.only not in specs:
        likely = target.only.removeprefix(f"{target.network}-").replace("-", "_").lower()
        expected = likely if likely in specs else f"one of {', '.join(specs)}"
        raise FunctionSpecError("--only", target.only, expected)
    env = read_settings(target.file) if target.file else {}
    if target.network != "velib" and not {"GBFS_URL", "VELIB_STATUS_URL"} & env.keys():
        raise DeploymentError(
            "--settings",
            str(target.file or "no file"),
            f"a file that names the feed of {target.network}, as in GBFS_URL=https://…/gbfs.json",
        )
    env |= {
        "GCS_BUCKET_ROOT": f"gs://{target.bucket}/{target.network}",
        "VELIB_NETWORK": target.network,
        "GOOGLE_CLOUD_PROJECT": target.project,
    }
    chosen = {name: spec for name, spec in specs.items() if target.only in {None, name}}
    facts = list(deployment(chosen, Settings.from_env(env), env))
    steps = [_step(target.project, words, flags) for words, flags in commands(target, facts)]
    if staged is not None:
        steps = [_with_digest(step, staged) for step in steps]
    _check_names(steps)
    expiry = {fact[1]: int(fact[2]) for fact in facts if fact[0] == "expire"}
    return Plan(target, steps, expiry)


def _step(project: str, words: str, flags: Mapping[str, str]) -> Step:
    plain = words.split(" ")
    if plain[:2] == ["services", "enable"]:
        verb, target = words[:15], words[16:]
    elif plain[-1] == "create" and plain[0] in {"alpha", "beta", "monitoring"}:
        verb, target = words, _subject(flags)
    else:
        verb, _, target = words.rpartition(" ")
    given = [f"--{name}={value}" if value else f"--{name}" for name, value in flags.items()]
    return Step(verb, target, flags, shlex.join(["gcloud", *plain, *given, f"--project={project}"]))


def _subject(flags: Mapping[str, str]) -> str:
    """Return what a command is about that names it by a flag."""
    file = flags.get("policy-from-file") or flags.get("config-from-file")
    if file:
        return file.rpartition("/")[2].removesuffix(".json")
    return flags.get("service") or flags["channel-labels"].partition("=")[2]


def with_names(plan: Plan, names: Iterable[tuple[str, str]]) -> Plan:
    """Return a plan with names in place of its placeholders; steps of unknown things are left out.

    A plan for an empty project has ``X-SUBSCRIPTION`` for a subscription that the platform names.
    """
    known = dict(names)
    steps = []
    for step in plan.steps:
        if step.target.endswith("-SUBSCRIPTION") and step.target not in known:
            continue
        replaced = {name: known.get(name, name) for name in ("PROJECT_NUMBER", "ALERT_CHANNEL")}
        if step.target in known:
            replaced[step.target] = known[step.target]
        line, target, member = step.line, step.target, step.flags.get("member", "")
        for old, new in replaced.items():
            line, target = line.replace(old, new), target.replace(old, new)
            member = member.replace(old, new)
        flags = {**step.flags, "member": member} if member else step.flags
        steps.append(Step(step.verb, target, flags, line))
    return dataclasses.replace(plan, steps=steps)


def _with_digest(step: Step, staged: Path) -> Step:
    """Label a function with the digest of what makes it what it is: its files and its settings."""
    if step.verb != "functions deploy":
        return step
    digest = hashlib.sha256(step.line.encode())
    folder = staged / step.flags["source"].partition("/")[2]
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    label = f"velib_digest={digest.hexdigest()[:40]}"
    line = step.line.replace("velib_digest=digest", label)
    return Step(step.verb, step.target, {**step.flags, "update-labels": label}, line)


_NAMES = {
    "functions deploy": (r"[a-z](?:[-a-z0-9]*[a-z0-9])?", 49, "a Cloud Run service"),
    "eventarc triggers create": (r"[a-z](?:[-a-z0-9]*[a-z0-9])?", 63, "a trigger"),
    "iam service-accounts create": (r"[a-z][-a-z0-9]{4,}[a-z0-9]", 30, "a service account"),
}
"""What a name has to be, how long at most, and of what it is the name."""


def _check_names(steps: Iterable[Step]) -> None:
    for step in steps:
        pattern, longest, what = _NAMES.get(step.verb, (".*", 1000, ""))
        if len(step.target) > longest or not re.fullmatch(pattern, step.target):
            raise DeploymentError(
                "--network",
                step.target,
                f"a name of {what} has at most {longest} characters: choose a shorter network",
            )
