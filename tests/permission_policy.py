"""What each function's account may do, read from the very conditions that deployment grants.

A local cloud with `only_what_is_granted` refuses what Google Cloud would refuse.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import permission_proxy
from permission_proxy import Denial
from velib_deploy.commands import DELETER
from velib_deploy.function_specs import deployment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from permission_proxy import Operation, Policy
    from velib_core.settings.network import Settings
    from velib_deploy.function_specs import FunctionSpec

Rights = dict[tuple[str, str], list[str]]
"""(function, permission) → what a resource's name must start with; one of them is enough.

Buckets and topics have exactly that name.
"""

LISTING = (permission_proxy.LIST, permission_proxy.BUCKET)
"""What a function may do with the bucket as a whole: a listing has no object to look at."""

_OF_ROLE = {
    "read": permission_proxy.GET,
    "create": permission_proxy.CREATE,
    "delete": permission_proxy.DELETE,
}
"""The permission that each kind of grant on objects is about. See ``ensure_access``, deploy.sh."""

_OF_BINDING = {
    "storage.objectViewer": (permission_proxy.GET,),
    "storage.objectCreator": (permission_proxy.CREATE,),
    DELETER: (permission_proxy.DELETE,),
    "storage.legacyBucketReader": LISTING,
    "pubsub.publisher": (permission_proxy.PUBLISH,),
}
"""The permissions of the roles that functions hold."""

_STARTS_WITH = re.compile(r'resource\.name\.startsWith\("([^"]+)"\)')


def rights(specs: Mapping[str, FunctionSpec], settings: Settings) -> Rights:
    """Return the rights on objects and topics that a deployment grants its functions."""
    granted: Rights = {}
    for fact in deployment(specs, settings, {}):
        match fact:
            case ("function", function, *_):
                bucket = f"projects/_/buckets/{settings.bucket}"
                granted |= {(function, permission): [bucket] for permission in LISTING}
            case ("objects", function, _, kind, condition):
                granted[function, _OF_ROLE[kind]] = prefixes(condition)
            case ("publish", function, _, topic):
                granted.setdefault((function, permission_proxy.PUBLISH), []).append(
                    settings.topic(topic)
                )
    return granted


def rights_in(policies: Mapping[str, Any], accounts: Mapping[str, str]) -> Rights:
    """Return the rights that the policies of a project give to functions.

    ``policies`` are by the resource's name, ``accounts`` are the functions by their account's id.
    """
    granted: Rights = {}
    for resource, role, member, condition in _bindings(policies):
        function = accounts.get(member.removeprefix("serviceAccount:").partition("@")[0])
        if function is None:
            continue
        names = prefixes(condition) if condition else [resource]
        for permission in _OF_BINDING.get(role.removeprefix("roles/").rpartition("/")[2], ()):
            granted.setdefault((function, permission), []).extend(names)
    return granted


def _bindings(policies: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str | None]]:
    for name, policy in policies.items():
        resource = f"projects/_/{name}" if name.startswith("buckets/") else name
        for binding in policy["bindings"]:
            for member in binding["members"]:
                condition = binding.get("condition", {}).get("expression")
                yield resource, binding["role"], member, condition


def allows(granted: Rights, operation: Operation) -> bool:
    """Return whether an operation is granted."""
    expected = granted.get((operation.function, operation.permission), [])
    if operation.permission in {*LISTING, permission_proxy.PUBLISH}:
        return operation.resource in expected
    return operation.resource.startswith(tuple(expected))


def only_what_is_granted(specs: Mapping[str, FunctionSpec], settings: Settings) -> Policy:
    """Return the policy that answers 403 to whatever is not granted."""
    granted = rights(specs, settings)

    def policy(operation: Operation) -> Denial | None:
        return None if allows(granted, operation) else Denial(403)

    return policy


def prefixes(condition: str) -> list[str]:
    """Return the prefixes of a condition, which holds nothing else than their alternatives."""
    prefixes = _STARTS_WITH.findall(condition)
    alternatives = " || ".join(f'resource.name.startsWith("{prefix}")' for prefix in prefixes)
    if condition != alternatives:
        raise ValueError(f"{condition!r} is more than a choice of prefixes")
    return prefixes
