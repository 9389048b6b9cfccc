"""A finding: something in a project that is not as planned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from velib_deploy.gcloud import Ask
    from velib_deploy.plan import Plan, Step

Rule: TypeAlias = "Callable[[Sequence[Step], Plan, Ask], Iterator[Finding]]"
"""Compares the steps of one verb with a project."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is not as planned, and the command that fixes it.

    ``step`` is the planned command whose effect is missing, where it is one. What is ``left`` to
    the operator is not changed by a deployment: it may be there on purpose, or be of somebody else.
    """

    detail: str
    fix_command: str
    step: Step | None = None
    left: bool = False


def differences(
    what: str, found: Mapping[str, Any], wanted: Mapping[str, Any], step: Step
) -> Iterator[Finding]:
    """Yield a finding for each planned value that is another in the project."""
    for key, value in wanted.items():
        if found.get(key) != value:
            detail = f"{what}: {key} is {found.get(key)}, expected {value}"
            yield Finding(detail, step.line, step)


def by_name(items: Iterable[Any] | None) -> dict[str, Any]:
    """Return resources by the last part of their names."""
    return {last_part(item["name"]): item for item in items or []}


def last_part(name: str) -> str:
    """Return what is after the last slash of a name."""
    return name.rpartition("/")[2]


def days(duration: str | None) -> str:
    """Return a duration such as ``604800s`` as ``7d``."""
    return f"{int((duration or '0s').rstrip('s')) // 86400}d"
