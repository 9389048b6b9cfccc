"""Compare a deployed project with the plan of deploy.sh: differences and their fixes.

deploy.sh is asked what it would do to an empty project, and ``gcloud`` what there is. So nothing
here repeats what a function, a topic or a right is to be.
"""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from velib_deploy.plan import DeploymentError, with_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from velib_deploy.plan import Ask, Plan, Step

AT_ONCE = 4
"""Commands under way; each is a process of its own."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One difference from the plan, and the command that fixes it."""

    detail: str
    fix_command: str


def examine(plan: Plan, ask: Ask) -> Iterator[tuple[str, int, list[Finding]]]:
    """Yield what was looked at, how many of it are planned, and what is not as planned."""
    try:
        plan = with_names(plan, _names_in(plan, ask))
    except DeploymentError as error:
        yield "project", 0, [_unanswered(error, plan)]
        return
    for verb, (name, rule) in RULES.items():
        steps = plan.of(verb)
        try:
            findings = list(rule(steps, plan, ask))
        except DeploymentError as error:
            findings = [_unanswered(error, plan)]
        yield name, len(steps), findings


def _unanswered(error: DeploymentError, plan: Plan) -> Finding:
    login = re.search(r"\bauth\b|credential|log in", str(error))
    return Finding(str(error), "gcloud auth login" if login else plan.again)


def _names_in(plan: Plan, ask: Ask) -> Iterator[tuple[str, str]]:
    """Yield the placeholders of a dry run that a project has names for, with the names.

    They are its number, and the subscriptions that the platform made for triggers.
    """
    yield "PROJECT_NUMBER", str(ask("projects", "describe", plan.project)["projectNumber"])
    triggers = _triggers_there(plan, ask)
    firsts = {
        f"{name}-FIRST_TRIGGER": _first_trigger(function)
        for name, function in _functions_there(plan, ask).items()
    }
    for placeholder, trigger in ({name: name for name in triggers} | firsts).items():
        transport = triggers.get(trigger, {}).get("transport", {}).get("pubsub", {})
        if subscription := _last(transport.get("subscription", "")):
            yield f"{placeholder}-SUBSCRIPTION", subscription


def _bucket(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    for step in steps:
        held = ask("storage", "buckets", "describe", step.target)
        rules = (held.get("lifecycle_config") or {}).get("rule") or []
        expiry = {
            prefix: rule["condition"].get("age")
            for rule in rules
            if rule["action"]["type"] == "Delete"
            for prefix in rule["condition"].get("matchesPrefix") or ["*"]
        }
        soft = (held.get("soft_delete_policy") or {}).get("retentionDurationSeconds", 0)
        found = {
            "uniform access": bool(held.get("uniform_bucket_level_access")),
            "public access prevention": held.get("public_access_prevention"),
            "soft delete": f"{int(soft) // 86400}d",
            "deletion by age, in days": expiry,
        }
        wanted = {
            "uniform access": True,
            "public access prevention": "enforced",
            "soft delete": step.flags["soft-delete-duration"],
            "deletion by age, in days": dict(plan.expiry),
        }
        yield from _differences(step.target, found, wanted, plan.again)


def _notifications(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    by_topic: dict[str, list[Mapping[str, Any]]] = {}
    for step in steps[:1]:
        for item in ask("storage", "buckets", "notifications", "list", step.target) or []:
            config = item["Notification Configuration"]
            by_topic.setdefault(_last(config["topic"]), []).append(config)
    for step in steps:
        topic, prefix = step.flags["topic"], step.flags["object-prefix"]
        fitting = 0
        for config in by_topic.get(topic, []):
            found = (config.get("object_name_prefix"), config.get("event_types"))
            fits = found == (prefix, [step.flags["event-types"]])
            fitting += fits
            if not fits or fitting > 1:
                reported = "is there twice" if fits else f"is about {found}, expected {prefix}"
                bucket = step.target.removeprefix("gs://")
                name = f"projects/_/buckets/{bucket}/notificationConfigs/{config['id']}"
                delete = plan.gcloud("storage", "buckets", "notifications", "delete", name)
                yield Finding(f"a notification on {topic} {reported}", delete)
        if not fitting:
            yield Finding(f"nothing notifies {topic} of {prefix}", step.line)


def _accounts(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    held = {
        item["email"].partition("@")[0]: item for item in ask("iam", "service-accounts", "list")
    }
    for step in steps:
        account = held.get(step.target)
        if account is None:
            yield Finding(f"there is no account {step.target}", step.line)
        elif account.get("disabled"):
            enable = plan.gcloud("iam", "service-accounts", "enable", account["email"])
            yield Finding(f"the account {step.target} is disabled", enable)


def _rights(*policy: str, flags: tuple[str, ...] = ()) -> Rule:
    """Return the rule of a kind of resource: its accounts hold the planned roles and no others.

    ``policy`` are the words of the command that prints the IAM policy of one of them.
    """

    def rule(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
        ours = {s.flags["member"] for s in plan.steps if "member" in s.flags}
        targets = list(dict.fromkeys(step.target for step in steps))
        where = [f"--{name}={steps[0].flags[name]}" for name in flags] if steps else []
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            answers = pool.map(lambda target: ask(*policy, target, *where), targets)
            policies = dict(zip(targets, answers, strict=True))
        for target, answer in policies.items():
            planned = {_planned_right(s): s for s in steps if s.target == target}
            held = set(_held_rights(answer))
            for right, step in planned.items():
                if right not in {other[:3] for other in held}:
                    yield Finding(f"{target}: {_reported(right)} is not granted", step.line)
            for held_right in sorted(held, key=str):
                right, member = held_right[:3], held_right[1]
                if right not in planned and (member in ours or member.startswith("all")):
                    remove = plan.gcloud(*_removal(policy[:-1], target, held_right, where))
                    yield Finding(
                        f"{target}: {_reported(right)} is granted and not planned", remove
                    )

    return rule


_Right: TypeAlias = tuple[str, str, str | None]
"""Role, member, and the condition's expression."""

_HeldRight: TypeAlias = tuple[str, str, str | None, str | None]
"""The same with the condition's title, which names it and has no effect."""


def _planned_right(step: Step) -> _Right:
    condition = step.flags.get("condition", "").removeprefix("expression=")
    expression = condition.rpartition(",title=")[0]
    return (step.flags["role"], step.flags["member"], expression or None)


def _held_rights(policy: Any) -> Iterator[_HeldRight]:  # noqa: ANN401 -- JSON is any value
    for binding in (policy or {}).get("bindings") or []:
        condition = binding.get("condition") or {}
        for member in binding.get("members") or []:
            yield (binding["role"], member, condition.get("expression"), condition.get("title"))


def _reported(right: _Right) -> str:
    role, member, expression = right
    folders = re.findall(r'/objects/([^"]*)"', expression or "")
    below = f" below {', '.join(folders)}" if folders else ""
    return f"{role} to {member.partition(':')[2].partition('@')[0] or member}{below}"


def _removal(
    noun: Sequence[str], target: str, right: _HeldRight, where: Iterable[str]
) -> Iterator[str]:
    role, member, expression, title = right
    condition = f"expression={expression},title={title}" if expression else "None"
    yield from (*noun, "remove-iam-policy-binding", target)
    yield from (f"--member={member}", f"--role={role}", *where)
    if "buckets" in noun:  # whose rights have conditions here
        yield f"--condition={condition}"


def _functions(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    held = _functions_there(plan, ask)
    for step in steps:
        name, function = Path(step.flags["source"]).name, held.get(step.target)
        if function is None:
            fix_command = f"{plan.again} --only {name}"
            yield Finding(f"there is no function {step.target}", fix_command)
            continue
        staged = f".venv/bin/python -m velib_deploy.staging --out build --only {name}"
        found = _function_as_flags(function)
        wanted = {flag: step.flags[flag] for flag in found if flag in step.flags}
        wanted |= {"state": "ACTIVE", "retry": str("retry" in step.flags)}
        if _bytes(found["memory"]) == _bytes(wanted["memory"]):
            found["memory"] = wanted["memory"]
        wanted |= _planned_env(step)
        yield from _differences(
            step.target, found | _env_of(function), wanted, f"{staged} && {step.line}"
        )
    for name in sorted(_of_the_network(plan, ask) - {step.target for step in steps}):
        delete = plan.gcloud("functions", "delete", name, f"--region={plan.region}")
        yield Finding(f"the function {name} is not planned", delete)


def _of_the_network(plan: Plan, ask: Ask) -> set[str]:
    """Return the names of the deployed functions of the plan's network."""
    networks = {_planned_env(step)["VELIB_NETWORK"] for step in plan.of("functions deploy")}
    there = _functions_there(plan, ask)
    return {name for name in there if _env_of(there[name]).get("VELIB_NETWORK") in networks}


def _planned_env(step: Step) -> dict[str, str]:
    pairs = step.flags["set-env-vars"].removeprefix("^|^").split("|")
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def _env_of(function: Mapping[str, Any]) -> dict[str, Any]:
    return dict(function.get("serviceConfig", {}).get("environmentVariables", {}))


def _function_as_flags(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function is as the flags that would deploy it."""
    service, build = function.get("serviceConfig", {}), function.get("buildConfig", {})
    event = function.get("eventTrigger", {})
    ingress = service.get("ingressSettings", "").removeprefix("ALLOW_")
    return {
        "state": function.get("state"),
        "runtime": build.get("runtime"),
        "entry-point": build.get("entryPoint"),
        "memory": str(service.get("availableMemory")),
        "cpu": str(service.get("availableCpu")),
        "timeout": f"{service.get('timeoutSeconds')}s",
        "concurrency": str(service.get("maxInstanceRequestConcurrency")),
        "max-instances": str(service.get("maxInstanceCount")),
        "service-account": service.get("serviceAccountEmail"),
        "ingress-settings": ingress.lower().replace("_", "-"),
        "trigger-topic": _last(event.get("pubsubTopic", "")),
        "trigger-service-account": event.get("serviceAccountEmail"),
        "retry": str(event.get("retryPolicy") == "RETRY_POLICY_RETRY"),
    }


def _triggers(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    where = f"--location={plan.region}"
    held = _triggers_there(plan, ask)
    planned = {step.target for step in steps}
    for step in steps:
        trigger = held.get(step.target)
        if trigger is None:
            yield Finding(f"there is no trigger {step.target}", step.line)
            continue
        run = trigger.get("destination", {}).get("cloudRun", {})
        found = {
            "topic": _last(trigger.get("transport", {}).get("pubsub", {}).get("topic", "")),
            "service": run.get("service"),
            "account": trigger.get("serviceAccount"),
        }
        wanted = {
            "topic": _last(step.flags["transport-topic"]),
            "service": step.flags["destination-run-service"],
            "account": step.flags["service-account"],
        }
        delete = plan.gcloud("eventarc", "triggers", "delete", step.target, where)
        yield from _differences(step.target, found, wanted, f"{delete} && {step.line}")
    services = {step.target for step in plan.of("functions deploy")} | _of_the_network(plan, ask)
    firsts = {_first_trigger(function) for function in _functions_there(plan, ask).values()}
    for name, trigger in held.items():
        service = trigger.get("destination", {}).get("cloudRun", {}).get("service")
        if service in services and name not in planned | firsts:
            delete = plan.gcloud("eventarc", "triggers", "delete", name, where)
            yield Finding(f"the trigger {name} of {service} is not planned", delete)


def _subscriptions(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the subscription behind each trigger that there is."""
    del plan
    held = _by_name(ask("pubsub", "subscriptions", "list"))
    for step in steps:
        name = step.target
        if name not in held:
            continue  # its trigger is missing, and is found there
        policy, retry = (held[name].get(key, {}) for key in ("deadLetterPolicy", "retryPolicy"))
        found = {
            "dead-letter-topic": _last(policy.get("deadLetterTopic", "")),
            "max-delivery-attempts": str(policy.get("maxDeliveryAttempts")),
            "ack-deadline": str(held[name].get("ackDeadlineSeconds")),
            "min-retry-delay": retry.get("minimumBackoff"),
            "max-retry-delay": retry.get("maximumBackoff"),
        }
        wanted = {flag: step.flags[flag] for flag in found}
        yield from _differences(name, found, wanted, step.line)


def _schedules(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    where = f"--location={plan.region}"
    held = _by_name(ask("scheduler", "jobs", "list", where))
    for step in steps:
        job = held.get(step.target)
        if job is None:
            yield Finding(f"there is no schedule {step.target}", step.line)
            continue
        if job.get("state") != "ENABLED":
            resume = plan.gcloud("scheduler", "jobs", "resume", step.target, where)
            yield Finding(f"the schedule {step.target} is {job.get('state')}", resume)
        target = job.get("pubsubTarget", {})
        found = {
            "schedule": job.get("schedule"),
            "time-zone": job.get("timeZone"),
            "topic": target.get("topicName"),
            "message-body": base64.b64decode(target.get("data", "")).decode("utf-8", "replace"),
        }
        wanted = {flag: step.flags[flag] for flag in found}
        fix_command = step.line.replace(" create ", " update ")
        yield from _differences(step.target, found, wanted, fix_command)


def _differences(
    what: str, found: Mapping[str, Any], wanted: Mapping[str, Any], fix_command: str
) -> Iterator[Finding]:
    for key, value in wanted.items():
        if found.get(key) != value:
            yield Finding(f"{what}: {key} is {found.get(key)}, expected {value}", fix_command)


def _by_name(items: Iterable[Any] | None) -> dict[str, Any]:
    return {_last(item["name"]): item for item in items or []}


def _functions_there(plan: Plan, ask: Ask) -> dict[str, Any]:
    return _by_name(ask("functions", "list", f"--regions={plan.region}"))


def _triggers_there(plan: Plan, ask: Ask) -> dict[str, Any]:
    return _by_name(ask("eventarc", "triggers", "list", f"--location={plan.region}"))


def _first_trigger(function: Mapping[str, Any]) -> str:
    return _last(function.get("eventTrigger", {}).get("trigger", ""))


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _bytes(memory: str) -> int:
    """Return what ``512Mi``, ``512M`` or ``2Gi`` stand for; the platform writes either."""
    match = re.fullmatch(r"(\d+)([KMG]?)(i?)B?", memory)
    if not match:
        return 0
    power = " KMG".index(match[2] or " ")
    return int(match[1]) * int((1024 if match[3] else 1000) ** power)


Rule: TypeAlias = "Callable[[Sequence[Step], Plan, Ask], Iterator[Finding]]"

RULES: Mapping[str, tuple[str, Rule]] = {
    "storage buckets update": ("bucket settings", _bucket),
    "storage buckets notifications create": ("notifications", _notifications),
    "iam service-accounts create": ("accounts", _accounts),
    "storage buckets add-iam-policy-binding": (
        "rights on objects",
        _rights("storage", "buckets", "get-iam-policy"),
    ),
    "pubsub topics add-iam-policy-binding": (
        "rights on topics",
        _rights("pubsub", "topics", "get-iam-policy"),
    ),
    "functions deploy": ("functions", _functions),
    "run services add-iam-policy-binding": (
        "who may invoke",
        _rights("run", "services", "get-iam-policy", flags=("region",)),
    ),
    "eventarc triggers create": ("triggers", _triggers),
    "pubsub subscriptions add-iam-policy-binding": (
        "rights of delivery",
        _rights("pubsub", "subscriptions", "get-iam-policy"),
    ),
    "pubsub subscriptions update": ("retries and dead letters", _subscriptions),
    "scheduler jobs create pubsub": ("schedules", _schedules),
}
"""By the command of the plan that brings it about: what it is called, and how it is looked at."""
