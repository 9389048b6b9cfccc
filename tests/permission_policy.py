"""What each function's account may do, read from the very conditions that deployment grants.

A local cloud with `only_what_is_granted` refuses what Google Cloud would refuse.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import permission_proxy
from permission_proxy import Denial
from velib_deploy.function_specs import deployment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from permission_proxy import Operation, Policy
    from velib_core.settings.network import Settings
    from velib_deploy.function_specs import FunctionSpec

Rights = dict[tuple[str, str], list[str]]
"""(function, permission) → what a resource's name must start with; one of them is enough."""

_OF_ROLE = {
    "read": permission_proxy.GET,
    "create": permission_proxy.CREATE,
    "delete": permission_proxy.DELETE,
}
"""The permission that each kind of grant on objects is about. See ``ensure_access``, deploy.sh."""

_STARTS_WITH = re.compile(r'resource\.name\.startsWith\("([^"]+)"\)')


def rights(specs: Mapping[str, FunctionSpec], settings: Settings) -> Rights:
    """Return the rights on objects and topics that a deployment grants its functions."""
    granted: Rights = {}
    for fact in deployment(specs, settings, {}):
        match fact:
            case ("objects", function, _, kind, condition):
                granted[function, _OF_ROLE[kind]] = prefixes(condition)
            case ("publish", function, _, topic):
                granted.setdefault((function, permission_proxy.PUBLISH), []).append(
                    settings.topic(topic)
                )
    return granted


def allows(granted: Rights, operation: Operation, bucket: str) -> bool:
    """Return whether an operation is granted; names may be listed in the whole bucket."""
    if operation.permission in {permission_proxy.LIST, permission_proxy.BUCKET}:
        return operation.resource == f"projects/_/buckets/{bucket}"
    expected = granted.get((operation.function, operation.permission), [])
    if operation.permission == permission_proxy.PUBLISH:
        return operation.resource in expected
    return operation.resource.startswith(tuple(expected))


def only_what_is_granted(specs: Mapping[str, FunctionSpec], settings: Settings) -> Policy:
    """Return the policy that answers 403 to whatever is not granted."""
    granted = rights(specs, settings)

    def policy(operation: Operation) -> Denial | None:
        return None if allows(granted, operation, settings.bucket) else Denial(403)

    return policy


def prefixes(condition: str) -> list[str]:
    """Return the prefixes of a condition, which holds nothing else than their alternatives."""
    prefixes = _STARTS_WITH.findall(condition)
    alternatives = " || ".join(f'resource.name.startsWith("{prefix}")' for prefix in prefixes)
    if condition != alternatives:
        raise ValueError(f"{condition!r} is more than a choice of prefixes")
    return prefixes
