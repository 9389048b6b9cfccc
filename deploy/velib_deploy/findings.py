"""A finding: something in a project that is not as planned."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
