"""What ``deploy.sh destroy`` removes: all that a deployment made for a network, but for its data.

The bucket, the dead letters and the role that other networks use stay. What is there is asked
first; the dry run prints the commands for exactly that.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from velib_core.events.topics import DEAD_LETTER_TOPIC

from velib_deploy import alerts
from velib_deploy.gcloud import NotFoundError
from velib_deploy.policies import held_rights, removal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan


@dataclasses.dataclass(frozen=True)
class Deletion:
    """One command; ``policy`` is the noun and the target of one that takes a right away."""

    line: str
    policy: tuple[tuple[str, ...], str] | None = None


def deletions(plan: Plan, ask: Ask) -> Iterator[Deletion]:
    """Yield the commands, in order: first what makes events, then what handles them.

    With a function chosen, only what is its own: its schedule, triggers, service, rights, account.
    """
    chosen = bool(plan.target.only)
    if not chosen:
        yield from _watch(plan, ask)
    zone, region = f"--location={plan.region}", f"--regions={plan.region}"
    yield from _each(plan, ask("scheduler", "jobs", "list", zone), "scheduler jobs", " pubsub")
    if not chosen:
        yield from _notifications(plan, ask)
    yield from _each(plan, ask("eventarc", "triggers", "list", zone), "eventarc triggers")
    yield from _each(plan, ask("functions", "list", region, "--v2"), "functions")
    yield from _rights(plan, ask)
    if not chosen:
        yield from _each(plan, ask("pubsub", "topics", "list"), "pubsub topics")
    accounts = {item["email"] for item in ask("iam", "service-accounts", "list") or []}
    for email in own_accounts(plan):
        if email in accounts:
            yield Deletion(plan.gcloud("iam", "service-accounts", "delete", email))


def _watch(plan: Plan, ask: Ask) -> Iterator[Deletion]:
    if alerts.enabled(ask):
        for noun, name in alerts.names(plan, ask):
            yield Deletion(plan.gcloud(*noun, "delete", name))


def _each(plan: Plan, there: Any, noun: str, kind: str = "") -> Iterator[Deletion]:  # noqa: ANN401 -- JSON is any value
    """Yield the deletion of each planned thing of one kind that is there; dead letters are kept."""
    names = {item["name"].rpartition("/")[2] for item in there or []}
    verb = f"{noun} deploy" if noun == "functions" else f"{noun} create{kind}"
    for step in plan.of(verb):
        if step.target in names and step.target != plan.target.topic(DEAD_LETTER_TOPIC):
            place = {k: v for k, v in step.flags.items() if k in {"location", "region"}}
            flags = [f"--{key}={value}" for key, value in place.items()]
            yield Deletion(plan.gcloud(*noun.split(), "delete", step.target, *flags))


def own_accounts(plan: Plan) -> list[str]:
    """Return the accounts that go: those of the chosen function, or all of the network."""
    shared = {f"{plan.target.network}-invoker", f"{plan.target.network}-build"}
    ids = [step.target for step in plan.of("iam service-accounts create")]
    return [plan.target.email(i) for i in ids if not plan.target.only or i not in shared]


def _notifications(plan: Plan, ask: Ask) -> Iterator[Deletion]:
    bucket = plan.target.bucket
    ours = {step.flags["topic"] for step in plan.of("storage buckets notifications create")}
    try:
        items = ask("storage", "buckets", "notifications", "list", f"gs://{bucket}") or []
    except NotFoundError:
        return
    for item in items:
        config = item["Notification Configuration"]
        if config["topic"].rpartition("/")[2] in ours:
            name = f"projects/_/buckets/{bucket}/notificationConfigs/{config['id']}"
            yield Deletion(plan.gcloud("storage", "buckets", "notifications", "delete", name))


def _rights(plan: Plan, ask: Ask) -> Iterator[Deletion]:
    """Yield what takes the accounts' rights away: those of a deleted account stay in a policy."""
    members = own_members(plan)
    kept = plan.target.topic(DEAD_LETTER_TOPIC)
    targets: list[tuple[tuple[str, ...], str]] = [(("projects",), plan.project)]
    targets.append((("storage", "buckets"), f"gs://{plan.target.bucket}"))
    topics = plan.of("pubsub topics add-iam-policy-binding") if plan.target.only else []
    targets += [(("pubsub", "topics"), step.target) for step in topics if step.target != kept]
    for noun, target in targets:
        try:
            policy = ask(*noun, "get-iam-policy", target)
        except NotFoundError:
            continue
        for right in sorted(held_rights(policy), key=str):
            if right[1] in members:
                line = plan.gcloud(*removal(noun, target, right, ()))
                yield Deletion(line, (noun, target))


def own_members(plan: Plan) -> set[str]:
    """Return the accounts that go, as policies name them."""
    return {f"serviceAccount:{email}" for email in own_accounts(plan)}
