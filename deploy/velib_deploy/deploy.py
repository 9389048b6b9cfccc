"""The command behind ``deploy.sh``: a project brought to the plan of a network, or freed of it.

A deployment compares the project with the plan (`drift`) and runs the commands whose effect is
missing, phase by phase. So a second run changes nothing, and a run after an interruption does the
rest. It runs on the standard library alone where the functions are staged already.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from velib_core.errors import InvalidValueError

from velib_deploy import alerts, drift
from velib_deploy.commands import CLEANUP, CLEANUP_POLICIES, LIFECYCLE, WATCH
from velib_deploy.function_specs import load_specs
from velib_deploy.gcloud import GcloudError, asker, patient, remedy, run
from velib_deploy.plan import DeploymentError, make_plan
from velib_deploy.policies import BINDING, extended, without
from velib_deploy.takedown import deletions, own_members
from velib_deploy.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from velib_deploy.findings import Finding
    from velib_deploy.plan import Plan, Step

BUILD = Path("build")
AT_ONCE = 5
"""Commands under way. A build takes minutes; Cloud Build runs at least ten at once."""

PHASES = (
    ("services enable",),
    ("beta services identity create",),
    (
        "storage buckets create",
        "pubsub topics create",
        "iam service-accounts create",
        "iam roles create",
    ),
    ("storage buckets notifications delete",),
    (
        "storage buckets update",
        "pubsub subscriptions create",
        "storage buckets notifications create",
        f"projects {BINDING}",
        f"storage buckets {BINDING}",
    ),
    (f"pubsub topics {BINDING}",),
    ("functions deploy",),
    (
        f"run services {BINDING}",
        "eventarc triggers create",
        "artifacts repositories set-cleanup-policies",
    ),
    (f"pubsub subscriptions {BINDING}", "pubsub subscriptions update"),
    ("scheduler jobs create pubsub",),
    ("beta monitoring channels create",),
    ("alpha monitoring policies create", "monitoring dashboards create"),
)
"""What is brought about side by side. Schedules come last: before that no event arises, unless the
network ran already."""

NAMED = 2
"""The first phase whose steps may be about things that the platform named."""

Task: TypeAlias = "tuple[str, Callable[[], None]]"
"""What is changed, and what changes it."""


def deploy(plan: Plan, pause: Callable[[float], None] = time.sleep) -> None:
    """Bring a project to a plan; raise `GcloudError` for the first command that fails for good."""
    _write(Path(LIFECYCLE), lifecycle(plan))
    _write(Path(CLEANUP), CLEANUP_POLICIES)
    for name, document in alerts.of_plan(plan).items() if plan.target.alerts else ():
        _write(Path(WATCH, f"{name}.json"), document)
    ask = asker(plan.project, pause)
    for n, phase in enumerate(PHASES):
        # The first look asks for all names: a wrong region is refused before anything is made.
        known = plan if n < NAMED else drift.named(plan, ask, None if n == NAMED else phase)
        tasks: list[Task] = []
        for verb in phase:
            tasks += _tasks(drift.missing(known, ask, verb), known, verb)
        if tasks:
            say(f"{', '.join(drift.RULES[verb][0] for verb in phase)}: {len(tasks)} to do")
            at_once(tasks, pause)
            ask = asker(plan.project, pause)


def destroy(plan: Plan, pause: Callable[[float], None] = time.sleep) -> None:
    """Remove what is there of a plan, one after the other; all rights on a resource at once."""
    gone = own_members(plan)
    done = set()
    for deletion in deletions(plan, asker(plan.project, pause)):
        if deletion.policy is None:
            say(deletion.line)
            patient(_command(deletion.line), pause)
        elif deletion.policy not in done:
            done.add(deletion.policy)
            noun, resource = deletion.policy
            say(f"rights on {resource}")
            patient(_rewrite(plan, noun, resource, lambda policy: without(policy, gone)), pause)


def _tasks(findings: Sequence[Finding], plan: Plan, verb: str) -> Iterator[Task]:
    """Yield what to do about findings, each task once, with its name."""
    planned = [finding for finding in findings if not finding.left]
    steps = [finding.step for finding in planned if finding.step]
    if verb.endswith(BINDING):
        for target in dict.fromkeys(step.target for step in steps):
            grants = [step for step in steps if step.target == target]
            yield target, _grant(plan, verb, target, grants)
        return
    if verb == "pubsub topics create" and steps:
        names = [step.target for step in steps]
        yield ", ".join(names), _command(plan.gcloud(*verb.split(), *names))
        return
    lines: dict[str, str] = {}
    for finding in planned:
        line = finding.step.line if finding.step and verb in _AS_PLANNED else finding.fix_command
        lines.setdefault(line, finding.step.target if finding.step else finding.detail)
    for line, name in lines.items():
        yield name, _command(line)


_AS_PLANNED = {
    "functions deploy",
    "storage buckets update",
    "artifacts repositories set-cleanup-policies",
}
"""Steps that are carried out as planned, whatever an operator would type to get there."""


def _command(line: str) -> Callable[[], None]:
    def task() -> None:
        for words in split(line):
            run([*words, "--quiet"])

    return task


def split(line: str) -> list[list[str]]:
    """Return the words of each command of a line, which are joined by ``&&``."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(line):
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def _grant(plan: Plan, verb: str, target: str, grants: Sequence[Step]) -> Callable[[], None]:
    """Return what grants several rights on one resource, in one change of its policy."""
    if len(grants) == 1:
        return _command(grants[0].line)
    return _rewrite(plan, verb.split()[:-1], target, lambda policy: extended(policy, grants))


def _rewrite(
    plan: Plan,
    noun: Sequence[str],
    resource: str,
    change: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Callable[[], None]:
    """Return what changes a policy; its etag keeps apart who changes it at the same time."""
    file = BUILD / "policies" / f"{re.sub(r'[^a-z0-9]+', '-', resource)}.json"

    def task() -> None:
        _write(file, change(asker(plan.project)(*noun, "get-iam-policy", resource)))
        words = plan.gcloud(*noun, "set-iam-policy", resource, str(file), "--quiet")
        run(shlex.split(words))

    return task


def at_once(tasks: Iterable[Task], pause: Callable[[float], None]) -> None:
    """Do tasks side by side, each patiently; raise the first failure when all have ended."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {name: pool.submit(patient, task, pause) for name, task in tasks}
    failed = {name: error for name, f in futures.items() if (error := f.exception())}
    for name, error in failed.items():
        if not isinstance(error, GcloudError):
            raise error
        say(f"{name} failed: {error}")
    if failed:
        summary = f"{len(failed)} of {len(futures)} failed: {', '.join(failed)}"
        raise GcloudError(summary) from next(iter(failed.values()))


def lifecycle(plan: Plan) -> dict[str, object]:
    """Return the bucket's lifecycle rules: what expires by age is kept elsewhere by then."""
    rules: list[object] = [
        {"action": {"type": "Delete"}, "condition": {"age": days, "matchesPrefix": [prefix]}}
        for prefix, days in plan.expiry.items()
    ]
    abort = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}
    return {"rule": [*rules, abort]}


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1), "utf-8")


def say(text: str) -> None:
    """Report progress to the operator."""
    sys.stderr.write(f"== {text}\n")
    sys.stderr.flush()


# --- the command ---------------------------------------------------------------------------------

_FORMS = {
    "project": (r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "a project's id, as in my-project-1234"),
    "region": (r"[a-z]+-[a-z]+\d+", "a region, as in europe-west1"),
    "bucket": (
        r"(?!goog)(?!.*google)(?!.*\.\.)(?![\d.]+$)[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]",
        "a bucket's name, as in my-project-velib",
    ),
    "network": (r"[a-z][a-z0-9-]*[a-z0-9]", "a network's name, as in velib"),
    "alerts": (r"[^@\s,;:<>]+@[\w-]+(\.[\w-]+)+", "one e-mail address, as in ops@example.org"),
}


class _Parser(argparse.ArgumentParser):
    """Answers a mistake in one line; the usage is behind ``--help``."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (deploy.sh --help lists all arguments)\n")


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, Target]:
    """Read the command line; end the program with what to type where it is wrong."""
    parser = _Parser(
        "deploy.sh", description="Deploy a network to a project of Google Cloud, or take it down."
    )
    parser.add_argument("action", nargs="?", choices=["deploy", "destroy"], default="deploy")
    parser.add_argument("--project", required=True)
    parser.add_argument("--region", required=True, help="as in europe-west1")
    parser.add_argument("--bucket", required=True, help="its name, without gs://")
    parser.add_argument("--network", default="velib")
    parser.add_argument("--only", metavar="FUNCTION", help="this function and what it needs")
    parser.add_argument("--settings", metavar="FILE", help="NAME=value lines for every function")
    parser.add_argument(
        "--alerts", metavar="EMAIL", help="who receives the alerts of Cloud Monitoring"
    )
    parser.add_argument("--staged", action="store_true", help="deploy the folders of build/ as is")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the commands for an empty project and call nothing; of destroy, what it would"
        " delete",
    )
    given = parser.parse_args(arguments)
    for name, (pattern, expected) in _FORMS.items():
        value = getattr(given, name)
        if value is not None and not re.fullmatch(pattern, value):
            likely = value.strip().lower().removeprefix("gs://").strip("/")
            fits = likely != name and re.fullmatch(pattern, likely)
            hint = f"type --{name} {likely}" if fits else f"expected {expected}"
            parser.error(f"--{name} {value!r}: {hint}")
    file = Path(given.settings) if given.settings else None
    where = (given.project, given.region, given.bucket, given.network)
    target = Target(*where, given.only, file, given.alerts)
    return given, target


def main(
    arguments: Sequence[str] | None = None, pause: Callable[[float], None] = time.sleep
) -> int:
    """Deploy or destroy; return 0, 2 for a wrong argument, 1 for a command that failed."""
    given, target = parse(arguments)
    try:
        plan = make_plan(target)
        if given.dry_run:
            destroyed = given.action == "destroy"
            lines = deletions(plan, asker(plan.project)) if destroyed else plan.steps
            sys.stdout.writelines(f"{command.line}\n" for command in lines)
            return 0
        if given.action == "destroy":
            destroy(plan, pause)
        else:
            if not given.staged:
                stage(target.only)
            deploy(make_plan(target, BUILD), pause)
            if target.alerts:
                say(f"no budget is set here; this sets one: {alerts.budget(plan)}")
    except (InvalidValueError, OSError) as error:
        sys.stderr.write(f"deploy.sh: {error}\n")
        return 2
    except GcloudError as error:
        found = remedy(error, target.project)
        advice = f"{found[0]}: {found[1]}\nThen r" if found else "R"
        sys.stderr.write(f"deploy.sh: {error}\n{advice}un it again: what is done stays done.\n")
        return 1
    say("done")
    return 0


def stage(only: str | None) -> None:
    """Write the folders that are deployed; needs the packages of the project."""
    say("staging")
    try:
        from velib_deploy import staging  # noqa: PLC0415 -- needs packages, which --staged does not
    except ImportError as error:
        raise DeploymentError(
            "python", str(error), "run make test first, or pass --staged"
        ) from error
    for name in [only] if only else list(load_specs()):
        staging.stage(name, BUILD)


if __name__ == "__main__":
    sys.exit(main())
