"""What the functions of a network share, compared with the plan: APIs, bucket, topics, accounts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from velib_deploy.commands import CLEANUP_POLICIES
from velib_deploy.findings import Finding, by_name, days, differences, last_part
from velib_deploy.gcloud import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step


def apis(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for APIs that are off."""
    enabled = {last_part(item["name"]) for item in ask("services", "list", "--enabled") or []}
    for step in steps:
        lacking = sorted(set(step.target.split()) - enabled)
        if lacking:
            enable = plan.gcloud("services", "enable", *lacking)
            yield Finding(f"{', '.join(lacking)} not enabled", enable, step)


def agents(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for the platform's own accounts, which hold a role on the project from the first."""
    policy = ask("projects", "get-iam-policy", plan.project) or {}
    members = {m for binding in policy.get("bindings", []) for m in binding.get("members", [])}
    for step in steps:
        api = step.target.partition(".")[0]
        if not any(f"@gcp-sa-{api}." in member for member in members):
            yield Finding(f"the service agent of {step.target} holds no role", step.line, step)


def bucket_there(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for the bucket."""
    del plan
    for step in steps:
        try:
            ask("storage", "buckets", "describe", step.target)
        except NotFoundError:
            yield Finding(f"there is no bucket {step.target}", step.line, step)


def bucket_settings(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare access, soft delete and the deletion by age; a missing bucket is found above."""
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
        for finding in differences(step.target, found, wanted, step):
            by_age = "deletion by age" in finding.detail  # whose rules deploy.sh has in a file
            yield dataclasses.replace(finding, fix_command=plan.again if by_age else update)


def images(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare what is deleted of the images of functions.

    The platform makes their repository with the first function: before, nothing is wrong.
    """
    wanted = {
        "clean-up": dict(map(_cleanup, CLEANUP_POLICIES)),
        "dry run of the clean-up": False,
    }
    for step in steps:
        place = f"--location={step.flags['location']}"
        try:
            held = ask("artifacts", "repositories", "describe", step.target, place)
        except NotFoundError:
            continue
        policies = held.get("cleanupPolicies") or {}
        found = {
            "clean-up": dict(_cleanup({"name": name, **p}) for name, p in policies.items()),
            "dry run of the clean-up": bool(held.get("cleanupPolicyDryRun")),
        }
        for finding in differences(step.target, found, wanted, step):
            # The policies are in a file that deploy.sh writes.
            yield dataclasses.replace(finding, fix_command=plan.again)


def _cleanup(policy: Mapping[str, Any]) -> tuple[str, str]:
    """Return a policy's name, and what it does in words; gcloud and the API word it differently."""
    action = policy["action"]
    verb = action["type"] if isinstance(action, dict) else action
    newest = (policy.get("mostRecentVersions") or {}).get("keepCount")
    older = days((policy.get("condition") or {}).get("olderThan"))
    return policy["name"], f"{verb.lower()} {f'{newest} newest' if newest else f'after {older}'}"


def topics(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for topics that are missing."""
    del plan
    held = by_name(ask("pubsub", "topics", "list"))
    for step in steps:
        if step.target not in held:
            yield Finding(f"there is no topic {step.target}", step.line, step)


def dead_letters(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the subscription that keeps dead letters."""
    held = by_name(ask("pubsub", "subscriptions", "list"))
    for step in steps:
        subscription = held.get(step.target)
        if subscription is None:
            yield Finding(f"there is no subscription {step.target}", step.line, step)
            continue
        if (topic := last_part(subscription.get("topic", ""))) != step.flags["topic"]:
            delete = plan.gcloud("pubsub", "subscriptions", "delete", step.target)
            detail = f"{step.target}: topic is {topic}, expected {step.flags['topic']}"
            yield Finding(detail, f"{delete} && {step.line}", step)
            continue
        kept = step.flags["message-retention-duration"]
        found = days(subscription.get("messageRetentionDuration"))
        if found != kept or subscription.get("expirationPolicy"):
            words = ("pubsub", "subscriptions", "update", step.target)
            flags = (f"--message-retention-duration={kept}", "--expiration-period=never")
            detail = f"{step.target}: messages are kept {found}, expected {kept}, without expiry"
            yield Finding(detail, plan.gcloud(*words, *flags), step)


def notifications(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for notifications that are missing."""
    del plan
    for step in steps:
        fitting, _ = _notified(step, ask)
        if not fitting:
            topic, prefix = step.flags["topic"], step.flags["object-prefix"]
            yield Finding(f"nothing notifies {topic} of {prefix}", step.line, step)


def surplus_notifications(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
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
        if last_part(config["topic"]) == step.flags["topic"]:
            found = config.get("object_name_prefix"), config.get("event_types")
            planned = step.flags["object-prefix"], [step.flags["event-types"]]
            (fitting if found == planned else others).append(config)
    return fitting, others


def _id_of(step: Step, config: Mapping[str, Any]) -> str:
    bucket = step.target.removeprefix("gs://")
    return f"projects/_/buckets/{bucket}/notificationConfigs/{config['id']}"


def accounts(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Look for service accounts that are missing or disabled."""
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


def role(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Compare the custom role's permissions."""
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
