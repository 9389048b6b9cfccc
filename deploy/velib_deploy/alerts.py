"""Alert policies and a dashboard of Cloud Monitoring, for when a network stops working.

``watch/alerts.json`` and ``watch/dashboard.json`` hold them for any network; here they are made for
one. Each carries the digest of its content as a label, so that a change is found and deployed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from velib_deploy.alert_documents import documents
from velib_deploy.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step

CHANNELS = ("beta", "monitoring", "channels")
POLICIES = ("alpha", "monitoring", "policies")
DASHBOARDS = ("monitoring", "dashboards")


def of_plan(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the policies and the dashboard of a plan, by the name of their file."""
    return documents(plan.target, [step.target for step in plan.of("functions deploy")])


def address(plan: Plan, ask: Ask) -> str | None:
    """Return the address that a network's channel reaches, where there is one."""
    if not enabled(ask):
        return None
    for item in _ours(ask(*CHANNELS, "list"), plan, "userLabels").values():
        return str(item["labels"]["email_address"])
    return None


def enabled(ask: Ask) -> bool:
    """Return whether the project has an API to ask about alerts."""
    apis = ask("services", "list", "--enabled") or []
    return any(item["name"].endswith("/monitoring.googleapis.com") for item in apis)


def channel(plan: Plan, ask: Ask) -> str | None:
    """Return the name of the channel that reaches the plan's address, where there is one."""
    for item in ask(*CHANNELS, "list") or []:
        if item.get("labels", {}).get("email_address") == plan.target.alerts:
            return str(item["name"])
    return None


def channel_rule(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Yield the channel that is missing."""
    for step in steps:
        if channel(plan, ask) is None:
            yield Finding(f"no channel reaches {step.target}", step.line, step)


def policy_rule(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Yield the alert policies that are missing, are another version's, or notify nobody."""
    held = _ours(ask(*POLICIES, "list"), plan, "userLabels") if steps else {}
    for step in steps:
        wanted = of_plan(plan)[step.target]
        there = held.get(wanted["displayName"])
        if there is None:
            yield Finding(f"there is no alert {wanted['displayName']!r}", step.line, step)
        elif (
            _digest(there, "userLabels") != _digest(wanted, "userLabels")
            or channel(plan, ask) not in there.get("notificationChannels", [])
            or there.get("enabled") is False
        ):
            delete = plan.gcloud(*POLICIES, "delete", there["name"])
            detail = f"the alert {wanted['displayName']!r} is not as planned"
            yield Finding(detail, f"{delete} && {step.line}")
        elif edited := list(_edited(there, wanted)):
            delete = plan.gcloud(*POLICIES, "delete", there["name"])
            detail = f"the alert {wanted['displayName']!r} was edited: {', '.join(edited)}"
            yield Finding(detail, f"{delete} && {step.line}", left=True)


def _edited(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a condition is and was to be; what is zero may be left out of an answer."""
    if len(there.get("conditions", [])) != len(wanted["conditions"]):
        yield "another number of conditions"
        return
    for held, planned in zip(there["conditions"], wanted["conditions"], strict=True):
        (kind,) = planned.keys() - {"displayName"}
        for field in ("filter", "comparison", "thresholdValue", "duration"):
            is_now, expected = (x.get(kind, {}).get(field, 0) for x in (held, planned))
            if is_now != expected and {is_now, expected} != {0, "0s"}:
                yield f"{field} is {is_now}, expected {expected}"


def dashboard_rule(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
    """Yield the dashboard where it is missing or another version's."""
    held = _ours(ask(*DASHBOARDS, "list"), plan, "labels") if steps else {}
    for step in steps:
        wanted = of_plan(plan)[step.target]
        there = held.get(wanted["displayName"])
        if there is None:
            yield Finding(f"there is no dashboard {wanted['displayName']!r}", step.line, step)
        elif _digest(there, "labels") != _digest(wanted, "labels"):
            delete = plan.gcloud(*DASHBOARDS, "delete", there["name"])
            detail = f"the dashboard {wanted['displayName']!r} is not as planned"
            yield Finding(detail, f"{delete} && {step.line}")


def names(plan: Plan, ask: Ask) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what there is of a network, by the noun of the command that deletes it."""
    for noun, labels in (
        (POLICIES, "userLabels"),
        (DASHBOARDS, "labels"),
        (CHANNELS, "userLabels"),
    ):
        for item in _ours(ask(*noun, "list"), plan, labels).values():
            yield noun, item["name"]


def budget(plan: Plan) -> str:
    """Return the commands that set a budget, which belongs to the billing account.

    An amount without a currency is in the account's: gcloud refuses any other.
    """
    enable = plan.gcloud("services", "enable", "billingbudgets.googleapis.com")
    flags = ["--billing-account=BILLING_ACCOUNT", f"--display-name={plan.target.network}"]
    flags += ["--budget-amount=10", "--threshold-rule=percent=0.5", "--threshold-rule=percent=1.0"]
    flags.append(f"--filter-projects=projects/{plan.project}")
    return f"{enable} && {plan.gcloud('billing', 'budgets', 'create', *flags)}"


def _ours(items: Any, plan: Plan, labels: str) -> dict[str, Any]:  # noqa: ANN401 -- JSON is any value
    network = plan.target.network
    ours = [i for i in items or [] if i.get(labels, {}).get("velib_network") == network]
    return {item["displayName"]: item for item in ours}


def _digest(document: Mapping[str, Any], labels: str) -> str | None:
    digest = document.get(labels, {}).get("velib_digest")
    return str(digest) if digest else None
