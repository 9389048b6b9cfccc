"""Who may do what: policies compared with the planned bindings, and extended by what is missing."""

from __future__ import annotations

import concurrent.futures
import copy
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from velib_deploy.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from velib_deploy.findings import Rule
    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step

AT_ONCE = 4
"""Commands under way; each is a process of its own."""

BINDING = "add-iam-policy-binding"

_Right: TypeAlias = tuple[str, str, str | None]
"""Role, member, and the condition's expression."""

_HeldRight: TypeAlias = tuple[str, str, str | None, str | None]
"""The same with the condition's title, which distinguishes it and grants nothing."""


def rights(*noun: str) -> Rule:
    """Return the rule of a kind of resource: its accounts hold the planned roles and no others.

    A resource that is not there has no rights; that it is missing is found elsewhere.
    """

    def rule(steps: Sequence[Step], plan: Plan, ask: Ask) -> Iterator[Finding]:
        members = {s.flags["member"] for s in plan.steps if "member" in s.flags}
        ours = {m for m in members if "@gcp-sa-" not in m}  # the platform grants to its own
        where = _where(steps)
        for target, answer in _policies(noun, steps, ask).items():
            planned = {_planned_right(s): s for s in steps if s.target == target}
            held = set(held_rights(answer))
            for right, step in planned.items():
                if right not in {other[:3] for other in held}:
                    yield Finding(f"{target}: {_described(right)} is not granted", step.line, step)
            for held_right in sorted(held, key=str):
                right, member = held_right[:3], held_right[1]
                if right not in planned and (member in ours or member.startswith("all")):
                    remove = plan.gcloud(*removal(noun, target, held_right, where))
                    detail = f"{target}: {_described(right)} is granted and not planned"
                    yield Finding(detail, remove, left=True)

    return rule


def _where(steps: Sequence[Step]) -> list[str]:
    region = steps[0].flags.get("region") if steps else None
    return [f"--region={region}"] if region else []


def _policies(noun: Sequence[str], steps: Sequence[Step], ask: Ask) -> dict[str, Any]:
    targets = list(dict.fromkeys(step.target for step in steps))
    where = _where(steps)

    def policy(target: str) -> Any:  # noqa: ANN401 -- JSON is any value
        return ask(*noun, "get-iam-policy", target, *where)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(targets, pool.map(policy, targets), strict=True))


def extended(policy: Mapping[str, Any], steps: Iterable[Step]) -> dict[str, Any]:
    """Return a policy with the bindings of some steps in it; its etag stays."""
    wanted = {**copy.deepcopy(dict(policy)), "version": 3}
    bindings = wanted.setdefault("bindings", [])
    for step in steps:
        role, member, expression = _planned_right(step)
        binding: dict[str, Any] = {"role": role, "members": [member]}
        if expression:
            title = step.flags["condition"].rpartition(",title=")[2]
            binding["condition"] = {"expression": expression, "title": title}
        bindings.append(binding)
    return wanted


def without(policy: Mapping[str, Any], members: set[str]) -> dict[str, Any]:
    """Return a policy without some members."""
    kept = {**copy.deepcopy(dict(policy)), "version": 3}
    for binding in kept.get("bindings", []):
        binding["members"] = [m for m in binding.get("members", []) if m not in members]
    kept["bindings"] = [binding for binding in kept.get("bindings", []) if binding["members"]]
    return kept


def _planned_right(step: Step) -> _Right:
    condition = step.flags.get("condition", "").removeprefix("expression=")
    expression = condition.rpartition(",title=")[0]
    return (step.flags["role"], step.flags["member"], expression or None)


def held_rights(policy: Any) -> Iterator[_HeldRight]:  # noqa: ANN401 -- JSON is any value
    """Yield who holds what by a policy."""
    for binding in (policy or {}).get("bindings") or []:
        condition = binding.get("condition") or {}
        for member in binding.get("members") or []:
            yield (binding["role"], member, condition.get("expression"), condition.get("title"))


def _described(right: _Right) -> str:
    role, member, expression = right
    folders = re.findall(r'/objects/([^"]*)"', expression or "")
    below = f" below {', '.join(folders)}" if folders else ""
    return f"{role} to {member.partition(':')[2].partition('@')[0] or member}{below}"


def removal(
    noun: Sequence[str], target: str, right: _HeldRight, where: Iterable[str]
) -> Iterator[str]:
    """Yield the words of the command that takes a right away."""
    role, member, expression, title = right
    condition = f"expression={expression},title={title}" if expression else "None"
    yield from (*noun, "remove-iam-policy-binding", target)
    yield from (f"--member={member}", f"--role={role}", *where)
    if noun[-1] in {"buckets", "projects"}:  # whose rights have conditions here
        yield f"--condition={condition}"
