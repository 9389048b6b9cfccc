"""Functions and what starts them, compared with the plan: triggers, deliveries, schedules."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velib_deploy.findings import Finding, by_name, days, differences, last_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step


def functions(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the functions, with their settings and the digest of their files."""
    held = functions_there(plan, ask)
    for step in steps:
        name, function = Path(step.flags["source"]).name, held.get(step.target)
        if function is None:
            fix_command = f"{plan.again} --only {name}"
            yield Finding(f"there is no function {step.target}", fix_command, step)
            continue
        found = _function_as_flags(function)
        wanted = {flag: step.flags[flag] for flag in found if flag in step.flags}
        wanted |= {"state": "ACTIVE", "retry": str("retry" in step.flags)}
        if _bytes(found["memory"]) == _bytes(wanted["memory"]):
            found["memory"] = wanted["memory"]
        if wanted["update-labels"] == "velib_digest=digest":
            del wanted["update-labels"]
        env = _env_of(function)
        env_wanted = _planned_env(step)
        wanted |= env_wanted
        wanted |= dict.fromkeys(env.keys() - env_wanted.keys() - _PLATFORM_ENV, "absent")
        staged = f".venv/bin/python -m velib_deploy.staging --out build --only {name}"
        for finding in differences(step.target, found | env, wanted, step):
            yield dataclasses.replace(finding, fix_command=f"{staged} && {step.line}")
    if plan.target.only:
        return
    for name in sorted(_of_the_network(plan, ask) - {step.target for step in steps}):
        delete = plan.gcloud("functions", "delete", name, f"--region={plan.region}")
        yield Finding(f"the function {name} is not planned", delete, left=True)


_PLATFORM_ENV = {"LOG_EXECUTION_ID"}
"""What the platform adds (cloud.google.com/functions/docs/configuring/env-var)."""


def _of_the_network(plan: Plan, ask: Ask) -> set[str]:
    """Return the names of the deployed functions of the plan's network."""
    networks = {_planned_env(step)["VELIB_NETWORK"] for step in plan.of("functions deploy")}
    there = functions_there(plan, ask)
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
        "state": "FAILED" if function.get("stateMessages") else function.get("state"),
        "update-labels": f"velib_digest={function.get('labels', {}).get('velib_digest')}",
        "runtime": build.get("runtime"),
        "entry-point": build.get("entryPoint"),
        "memory": str(service.get("availableMemory")),
        "cpu": str(service.get("availableCpu")),
        "timeout": f"{service.get('timeoutSeconds')}s",
        "concurrency": str(service.get("maxInstanceRequestConcurrency")),
        "max-instances": str(service.get("maxInstanceCount")),
        "service-account": service.get("serviceAccountEmail"),
        "build-service-account": build.get("serviceAccount"),
        "ingress-settings": ingress.lower().replace("_", "-"),
        "trigger-topic": last_part(event.get("pubsubTopic", "")),
        "trigger-service-account": event.get("serviceAccountEmail"),
        "retry": str(event.get("retryPolicy") == "RETRY_POLICY_RETRY"),
    }


def triggers(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the triggers of all topics but the first, which is part of the function."""
    where = f"--location={plan.region}"
    held = triggers_there(plan, ask)
    planned = {step.target for step in steps}
    for step in steps:
        trigger = held.get(step.target)
        if trigger is None:
            yield Finding(f"there is no trigger {step.target}", step.line, step)
            continue
        run = trigger.get("destination", {}).get("cloudRun", {})
        found = {
            "topic": last_part(trigger.get("transport", {}).get("pubsub", {}).get("topic", "")),
            "service": run.get("service"),
            "account": trigger.get("serviceAccount"),
        }
        wanted = {
            "topic": last_part(step.flags["transport-topic"]),
            "service": step.flags["destination-run-service"],
            "account": step.flags["service-account"],
        }
        delete = plan.gcloud("eventarc", "triggers", "delete", step.target, where)
        for finding in differences(step.target, found, wanted, step):
            yield dataclasses.replace(finding, fix_command=f"{delete} && {step.line}", step=None)
    if plan.target.only:
        return
    services = {step.target for step in plan.of("functions deploy")} | _of_the_network(plan, ask)
    firsts = {first_trigger(function) for function in functions_there(plan, ask).values()}
    for name, trigger in held.items():
        service = trigger.get("destination", {}).get("cloudRun", {}).get("service")
        if service in services and name not in planned | firsts:
            delete = plan.gcloud("eventarc", "triggers", "delete", name, where)
            detail = f"the trigger {name} of {service} is not planned"
            yield Finding(detail, delete, left=True)


def subscriptions(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the subscription behind each trigger that there is."""
    del plan
    held = by_name(ask("pubsub", "subscriptions", "list"))
    for step in steps:
        name = step.target
        if name not in held:
            continue  # its trigger is missing, and is found there
        policy, retry = (held[name].get(key, {}) for key in ("deadLetterPolicy", "retryPolicy"))
        found = {
            "dead-letter-topic": last_part(policy.get("deadLetterTopic", "")),
            "max-delivery-attempts": str(policy.get("maxDeliveryAttempts")),
            "message-retention-duration": days(held[name].get("messageRetentionDuration")),
            "ack-deadline": str(held[name].get("ackDeadlineSeconds")),
            "min-retry-delay": retry.get("minimumBackoff"),
            "max-retry-delay": retry.get("maximumBackoff"),
        }
        wanted = {flag: step.flags[flag] for flag in found}
        yield from differences(name, found, wanted, step)


def schedules(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the schedules; a paused one is left to the operator."""
    where = f"--location={plan.region}"
    held = by_name(ask("scheduler", "jobs", "list", where))
    for step in steps:
        job = held.get(step.target)
        if job is None:
            yield Finding(f"there is no schedule {step.target}", step.line, step)
            continue
        if job.get("state") != "ENABLED":
            resume = plan.gcloud("scheduler", "jobs", "resume", step.target, where)
            detail = f"the schedule {step.target} is {job.get('state')}"
            yield Finding(detail, resume, left=True)
        target = job.get("pubsubTarget", {})
        found = {
            "schedule": job.get("schedule"),
            "time-zone": job.get("timeZone"),
            "topic": target.get("topicName"),
            "message-body": base64.b64decode(target.get("data", "")).decode("utf-8", "replace"),
        }
        wanted = {flag: step.flags[flag] for flag in found}
        update = step.line.replace(" create ", " update ")
        for finding in differences(step.target, found, wanted, step):
            yield dataclasses.replace(finding, fix_command=update, step=None)


def functions_there(plan: Plan, ask: Ask) -> dict[str, Any]:
    """Return the functions of the region by their names."""
    return by_name(ask("functions", "list", f"--regions={plan.region}", "--v2"))


def triggers_there(plan: Plan, ask: Ask) -> dict[str, Any]:
    """Return the triggers of the region by their names."""
    return by_name(ask("eventarc", "triggers", "list", f"--location={plan.region}"))


def first_trigger(function: Mapping[str, Any]) -> str:
    """Return the name of the trigger that a function was deployed with."""
    return last_part(function.get("eventTrigger", {}).get("trigger", ""))


def _bytes(memory: str) -> int:
    """Return what ``512Mi``, ``512M`` or ``2Gi`` stand for; the platform writes either."""
    match = re.fullmatch(r"(\d+)([KMG]?)(i?)B?", memory)
    if not match:
        return 0
    power = " KMG".index(match[2] or " ")
    return int(match[1]) * int((1024 if match[3] else 1000) ** power)
