"""A project compared with the plan of its deployment: what differs, and the command that fixes it.

``velib doctor`` shows the findings; ``deploy.sh`` carries out the plan's part of them. What a
function, a topic or a right has to be is in the plan and not repeated here.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_deploy import alerts, function_rules, shared_rules
from velib_deploy.findings import Finding, last_part
from velib_deploy.function_rules import first_trigger, functions_there, triggers_there
from velib_deploy.gcloud import GcloudError, remedy
from velib_deploy.plan import make_plan, with_names
from velib_deploy.policies import rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from velib_deploy.findings import Rule
    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan


def examine(plan: Plan, ask: Ask) -> Iterator[tuple[str, int, list[Finding]]]:
    """Yield what was looked at, how many of it are planned, and what is not as planned.

    Where the plan names nobody to alert, alerts are compared with those of whoever is.
    """
    try:
        address = plan.target.alerts or alerts.address(plan, ask)
        if address != plan.target.alerts:
            plan = make_plan(dataclasses.replace(plan.target, alerts=address))
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


def named(plan: Plan, ask: Ask, verbs: Iterable[str] | None = None) -> Plan:
    """Return a plan with the names that a project has for the placeholders of some verbs, or all.

    A project is asked only for what these verbs are about: each question takes a second.
    """
    steps = plan.steps if verbs is None else [step for verb in verbs for step in plan.of(verb)]
    return with_names(plan, _names_in(plan, ask, "\n".join(step.line for step in steps)))


def _unanswered(error: GcloudError, plan: Plan) -> Finding:
    advice, command = remedy(error, plan.project) or ("", plan.again)
    return Finding(f"{error}. {advice}" if advice else str(error), command)


def _names_in(plan: Plan, ask: Ask, lines: str) -> Iterator[tuple[str, str]]:
    """Yield the placeholders in lines of a dry run that a project has names for, with the names.

    They are its number, and the subscriptions that the platform made for triggers.
    """
    if "ALERT_CHANNEL" in lines and (channel := alerts.channel(plan, ask)):
        yield "ALERT_CHANNEL", channel
    if "PROJECT_NUMBER" in lines:
        yield "PROJECT_NUMBER", str(ask("projects", "describe", plan.project)["projectNumber"])
    if "-SUBSCRIPTION" not in lines:
        return
    triggers = triggers_there(plan, ask)
    firsts = {
        f"{name}-FIRST_TRIGGER": first_trigger(function)
        for name, function in functions_there(plan, ask).items()
    }
    for placeholder, trigger in ({name: name for name in triggers} | firsts).items():
        transport = triggers.get(trigger, {}).get("transport", {}).get("pubsub", {})
        if subscription := last_part(transport.get("subscription", "")):
            yield f"{placeholder}-SUBSCRIPTION", subscription


RULES: Mapping[str, tuple[str, Rule]] = {
    "services enable": ("APIs", shared_rules.apis),
    "beta services identity create": ("service agents", shared_rules.agents),
    "storage buckets create": ("bucket", shared_rules.bucket_there),
    "storage buckets update": ("bucket settings", shared_rules.bucket_settings),
    "pubsub topics create": ("topics there", shared_rules.topics),
    "pubsub subscriptions create": ("subscription of dead letters", shared_rules.dead_letters),
    "storage buckets notifications delete": (
        "surplus notifications",
        shared_rules.surplus_notifications,
    ),
    "storage buckets notifications create": ("notifications", shared_rules.notifications),
    "iam service-accounts create": ("accounts", shared_rules.accounts),
    "iam roles create": ("role", shared_rules.role),
    "projects add-iam-policy-binding": ("rights on the project", rights("projects")),
    "storage buckets add-iam-policy-binding": ("rights on objects", rights("storage", "buckets")),
    "pubsub topics add-iam-policy-binding": ("rights on topics", rights("pubsub", "topics")),
    "functions deploy": ("functions", function_rules.functions),
    "artifacts repositories set-cleanup-policies": ("clean-up of images", shared_rules.images),
    "run services add-iam-policy-binding": ("who may invoke", rights("run", "services")),
    "eventarc triggers create": ("triggers", function_rules.triggers),
    "pubsub subscriptions add-iam-policy-binding": (
        "rights of delivery",
        rights("pubsub", "subscriptions"),
    ),
    "pubsub subscriptions update": ("retries and dead letters", function_rules.subscriptions),
    "scheduler jobs create pubsub": ("schedules", function_rules.schedules),
    "beta monitoring channels create": ("who is alerted", alerts.channel_rule),
    "alpha monitoring policies create": ("alerts", alerts.policy_rule),
    "monitoring dashboards create": ("dashboard", alerts.dashboard_rule),
}
"""By the command of the plan that brings it about: what it is called, and how it is compared."""
