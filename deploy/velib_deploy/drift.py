"""A project compared with the plan of its deployment: what differs, and the command that fixes it.

``velib doctor`` shows the findings; ``deploy.sh`` carries out the plan's part of them. What a
function, a topic or a right has to be is in the plan and not repeated here.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velib_deploy import alerts
from velib_deploy.findings import Finding
from velib_deploy.gcloud import GcloudError, NotFoundError
from velib_deploy.plan import with_names
from velib_deploy.policies import rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from velib_deploy.findings import Rule
    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step


def examine(plan: Plan, ask: Ask) -> Iterator[tuple[str, int, list[Finding]]]:
    """Yield what was looked at, how many of it are planned, and what is not as planned."""
    try:
        plan = named(plan, ask)
    except GcloudError as error:
        yield "project", 0, [_unanswered(error, plan)]
        return
    for verb, (name, _) in RULES.items():
        try:
            findings = missing(plan, ask, verb)
        except GcloudError as error:
            findings = [_unanswered(error, plan)]
        yield name, len(plan.of(verb)), findings


def missing(plan: Plan, ask: Ask, verb: str) -> list[Finding]:
    """Return what differs from the steps of one verb; `named` has to name what they are about."""
    _, rule = RULES[verb]
    return list(rule(plan.of(verb), plan, ask))


def named(plan: Plan, ask: Ask) -> Plan:
    """Return a plan with the names that a project has for its placeholders."""
    return with_names(plan, _names_in(plan, ask))


def _unanswered(error: GcloudError, plan: Plan) -> Finding:
    login = re.search(r"\bauth\b|credential|log in", str(error))
    return Finding(str(error), "gcloud auth login" if login else plan.again)


def _names_in(plan: Plan, ask: Ask) -> Iterator[tuple[str, str]]:
    """Yield the placeholders of a dry run that a project has names for, with the names.

    They are its number, and the subscriptions that the platform made for triggers.
    """
    if plan.target.alerts and (channel := alerts.channel(plan, ask)):
        yield "ALERT_CHANNEL", channel
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


def _apis(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    enabled = {_last(item["name"]) for item in ask("services", "list", "--enabled") or []}
    for step in steps:
        lacking = sorted(set(step.target.split()) - enabled)
        if lacking:
            enable = plan.gcloud("services", "enable", *lacking)
            yield Finding(f"{', '.join(lacking)} not enabled", enable, step)


def _agents(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for the platform's own accounts, which hold a role on the project from the first."""
    policy = ask("projects", "get-iam-policy", plan.project) or {}
    members = {m for binding in policy.get("bindings", []) for m in binding.get("members", [])}
    for step in steps:
        api = step.target.partition(".")[0]
        if not any(f"@gcp-sa-{api}." in member for member in members):
            yield Finding(f"the service agent of {step.target} holds no role", step.line, step)


def _bucket_there(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    del plan
    for step in steps:
        try:
            ask("storage", "buckets", "describe", step.target)
        except NotFoundError:
            yield Finding(f"there is no bucket {step.target}", step.line, step)


def _bucket(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    for step in steps:
        try:
            held = ask("storage", "buckets", "describe", step.target)
        except NotFoundError:
            continue  # found above
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
        flags = [f"--{k}={v}" if v else f"--{k}" for k, v in step.flags.items()]
        flags.remove(f"--lifecycle-file={step.flags['lifecycle-file']}")
        update = plan.gcloud("storage", "buckets", "update", step.target, *flags)
        for finding in _differences(step.target, found, wanted, step):
            by_age = "deletion by age" in finding.detail  # whose rules deploy.sh has in a file
            yield dataclasses.replace(finding, fix_command=plan.again if by_age else update)


def _topics(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    del plan
    held = _by_name(ask("pubsub", "topics", "list"))
    for step in steps:
        if step.target not in held:
            yield Finding(f"there is no topic {step.target}", step.line, step)


def _dead_letters(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    held = _by_name(ask("pubsub", "subscriptions", "list"))
    for step in steps:
        subscription = held.get(step.target)
        if subscription is None:
            yield Finding(f"there is no subscription {step.target}", step.line, step)
            continue
        if (topic := _last(subscription.get("topic", ""))) != step.flags["topic"]:
            delete = plan.gcloud("pubsub", "subscriptions", "delete", step.target)
            detail = f"{step.target}: topic is {topic}, expected {step.flags['topic']}"
            yield Finding(detail, f"{delete} && {step.line}", step)
            continue
        kept = step.flags["message-retention-duration"]
        found = _days(subscription.get("messageRetentionDuration"))
        if found != kept or subscription.get("expirationPolicy"):
            words = ("pubsub", "subscriptions", "update", step.target)
            flags = (f"--message-retention-duration={kept}", "--expiration-period=never")
            detail = f"{step.target}: messages are kept {found}, expected {kept}, without expiry"
            yield Finding(detail, plan.gcloud(*words, *flags), step)


def _days(duration: str | None) -> str:
    return f"{int((duration or '0s').rstrip('s')) // 86400}d"


def _notifications(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    del plan
    for step in steps:
        fitting, _ = _notified(step, ask)
        if not fitting:
            topic, prefix = step.flags["topic"], step.flags["object-prefix"]
            yield Finding(f"nothing notifies {topic} of {prefix}", step.line, step)


def _surplus(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for notifications to delete before others are made: a bucket may have ten."""
    del steps
    for step in plan.of("storage buckets notifications create"):
        topic, prefix = step.flags["topic"], step.flags["object-prefix"]
        fitting, others = _notified(step, ask)
        reported = [(config, "is there twice") for config in fitting[1:]]
        reported += [(config, f"is about {config.get('object_name_prefix')}") for config in others]
        for config, state in reported:
            name = _id_of(step, config)
            delete = plan.gcloud("storage", "buckets", "notifications", "delete", name)
            yield Finding(f"a notification on {topic} {state}, expected one about {prefix}", delete)


def _notified(step: Step, ask: Ask) -> tuple[list[Any], list[Any]]:
    """Return the notifications on a step's topic: those that are as planned, and the others."""
    fitting: list[Any] = []
    others: list[Any] = []
    for item in ask("storage", "buckets", "notifications", "list", step.target) or []:
        config = item["Notification Configuration"]
        if _last(config["topic"]) == step.flags["topic"]:
            found = config.get("object_name_prefix"), config.get("event_types")
            planned = step.flags["object-prefix"], [step.flags["event-types"]]
            (fitting if found == planned else others).append(config)
    return fitting, others


def _id_of(step: Step, config: Mapping[str, Any]) -> str:
    bucket = step.target.removeprefix("gs://")
    return f"projects/_/buckets/{bucket}/notificationConfigs/{config['id']}"


def _accounts(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    held = {
        item["email"].partition("@")[0]: item for item in ask("iam", "service-accounts", "list")
    }
    for step in steps:
        account = held.get(step.target)
        if account is None:
            yield Finding(f"there is no account {step.target}", step.line, step)
        elif account.get("disabled"):
            enable = plan.gcloud("iam", "service-accounts", "enable", account["email"])
            yield Finding(f"the account {step.target} is disabled", enable, left=True)


def _role(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    for step in steps:
        try:
            held = ask("iam", "roles", "describe", step.target)
        except NotFoundError:
            yield Finding(f"there is no role {step.target}", step.line, step)
            continue
        if held.get("deleted"):
            undelete = plan.gcloud("iam", "roles", "undelete", step.target)
            yield Finding(f"the role {step.target} was deleted", undelete)
        permissions = step.flags["permissions"]
        if held.get("includedPermissions") != permissions.split(","):
            words = ("iam", "roles", "update", step.target, f"--permissions={permissions}")
            detail = f"{step.target}: permissions are {held.get('includedPermissions')}"
            yield Finding(f"{detail}, expected {permissions}", plan.gcloud(*words))


def _functions(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    held = _functions_there(plan, ask)
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
        for finding in _differences(step.target, found | env, wanted, step):
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
            yield Finding(f"there is no trigger {step.target}", step.line, step)
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
        for finding in _differences(step.target, found, wanted, step):
            yield dataclasses.replace(finding, fix_command=f"{delete} && {step.line}", step=None)
    if plan.target.only:
        return
    services = {step.target for step in plan.of("functions deploy")} | _of_the_network(plan, ask)
    firsts = {_first_trigger(function) for function in _functions_there(plan, ask).values()}
    for name, trigger in held.items():
        service = trigger.get("destination", {}).get("cloudRun", {}).get("service")
        if service in services and name not in planned | firsts:
            delete = plan.gcloud("eventarc", "triggers", "delete", name, where)
            detail = f"the trigger {name} of {service} is not planned"
            yield Finding(detail, delete, left=True)


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
            "message-retention-duration": _days(held[name].get("messageRetentionDuration")),
            "ack-deadline": str(held[name].get("ackDeadlineSeconds")),
            "min-retry-delay": retry.get("minimumBackoff"),
            "max-retry-delay": retry.get("maximumBackoff"),
        }
        wanted = {flag: step.flags[flag] for flag in found}
        yield from _differences(name, found, wanted, step)


def _schedules(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    where = f"--location={plan.region}"
    held = _by_name(ask("scheduler", "jobs", "list", where))
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
        for finding in _differences(step.target, found, wanted, step):
            yield dataclasses.replace(finding, fix_command=update, step=None)


def _differences(
    what: str, found: Mapping[str, Any], wanted: Mapping[str, Any], step: Step
) -> Iterator[Finding]:
    for key, value in wanted.items():
        if found.get(key) != value:
            detail = f"{what}: {key} is {found.get(key)}, expected {value}"
            yield Finding(detail, step.line, step)


def _by_name(items: Iterable[Any] | None) -> dict[str, Any]:
    return {_last(item["name"]): item for item in items or []}


def _functions_there(plan: Plan, ask: Ask) -> dict[str, Any]:
    return _by_name(ask("functions", "list", f"--regions={plan.region}", "--v2"))


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


RULES: Mapping[str, tuple[str, Rule]] = {
    "services enable": ("APIs", _apis),
    "beta services identity create": ("service agents", _agents),
    "storage buckets create": ("bucket", _bucket_there),
    "storage buckets update": ("bucket settings", _bucket),
    "pubsub topics create": ("topics there", _topics),
    "pubsub subscriptions create": ("subscription of dead letters", _dead_letters),
    "storage buckets notifications delete": ("surplus notifications", _surplus),
    "storage buckets notifications create": ("notifications", _notifications),
    "iam service-accounts create": ("accounts", _accounts),
    "iam roles create": ("role", _role),
    "projects add-iam-policy-binding": ("rights on the project", rights("projects")),
    "storage buckets add-iam-policy-binding": ("rights on objects", rights("storage", "buckets")),
    "pubsub topics add-iam-policy-binding": ("rights on topics", rights("pubsub", "topics")),
    "functions deploy": ("functions", _functions),
    "run services add-iam-policy-binding": ("who may invoke", rights("run", "services")),
    "eventarc triggers create": ("triggers", _triggers),
    "pubsub subscriptions add-iam-policy-binding": (
        "rights of delivery",
        rights("pubsub", "subscriptions"),
    ),
    "pubsub subscriptions update": ("retries and dead letters", _subscriptions),
    "scheduler jobs create pubsub": ("schedules", _schedules),
    "beta monitoring channels create": ("who is alerted", alerts.channel_rule),
    "alpha monitoring policies create": ("alerts", alerts.policy_rule),
    "monitoring dashboards create": ("dashboard", alerts.dashboard_rule),
}
"""By the command of the plan that brings it about: what it is called, and how it is compared."""
