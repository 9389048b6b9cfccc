"""Service Usage, Resource Manager and IAM: what is on, who there is, who may do what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rehearsal.server import RefusedError, invalid, not_found, route
from rehearsal.world import NUMBER, PROJECT, World

if TYPE_CHECKING:
    from rehearsal.server import Call

ALWAYS_ON = ("cloudresourcemanager", "serviceusage", "storage")


def _service(world: World, api: str) -> dict[str, Any]:
    on = api in world.enabled or api in ALWAYS_ON
    return {
        "name": f"projects/{NUMBER}/services/{api}.googleapis.com",
        "config": {"name": f"{api}.googleapis.com"},
        "state": "ENABLED" if on else "DISABLED",
    }


@route("GET", "/serviceusage/v1/projects/{project}/services", "serviceusage.services.list")
def list_services(world: World, call: Call) -> Any:
    return {"services": [_service(world, api) for api in sorted({*world.enabled, *ALWAYS_ON})]}


@route("GET", r"/serviceusage/v1/projects/{project}/services/{api}", "serviceusage.services.get")
def get_service(world: World, call: Call) -> Any:
    return _service(world, call.part["api"].removesuffix(".googleapis.com"))


@route(
    "POST",
    r"/serviceusage/v1/projects/{project}/services:batchEnable",
    "serviceusage.services.enable",
)
def enable_services(world: World, call: Call) -> Any:
    ids = call.body["serviceIds"]
    if len(ids) > 20:
        # https://cloud.google.com/service-usage/docs/reference/rest/v1/services/batchEnable
        raise invalid("at most 20 services may be enabled at once")
    return _enable(world, ids)


@route(
    "POST",
    r"/serviceusage/v1/projects/{project}/services/{api}:enable",
    "serviceusage.services.enable",
)
def enable_service(world: World, call: Call) -> Any:
    return _enable(world, [call.part["api"]])


def _enable(world: World, ids: list[str]) -> Any:
    if not world.billing:
        # https://cloud.google.com/service-usage/docs/troubleshooting: APIs that cost need it
        raise RefusedError(
            400,
            "FAILED_PRECONDITION",
            f"Billing account for project '{NUMBER}' is not found. Billing must be enabled for"
            f" activation of service(s) '{','.join(ids)}' to proceed.",
        )
    for name in ids:
        api = name.removesuffix(".googleapis.com")
        if api not in world.enabled and api not in ALWAYS_ON:
            world.enabled.add(api)
            world.new(f"api {api}")
    return {"name": "operations/acat.p2-enable", "done": True, "response": {}}


@route(
    "POST",
    r"/serviceusage/v1beta1/projects/{project}/services/{api}:generateServiceIdentity",
    "serviceusage.services.enable",
)
def create_agent(world: World, call: Call) -> Any:
    """https://cloud.google.com/iam/docs/create-service-agents."""
    api = call.part["api"].removesuffix(".googleapis.com")
    email = f"service-{NUMBER}@gcp-sa-{api}.iam.gserviceaccount.com"
    make_agent(world, email)
    # The agent's role comes with it: https://cloud.google.com/iam/docs/service-agents
    bind_agent(world, email, f"roles/{api}.serviceAgent")
    response = {"@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity"}
    return {
        "name": "operations/finished.DONE_OPERATION",
        "done": True,
        "response": {**response, "email": email, "uniqueId": "1"},
    }


def make_agent(world: World, email: str) -> None:
    name = f"projects/{PROJECT}/serviceAccounts/{email}"
    if name not in world.resources:
        world.resources[name] = {"email": email, "agent": True}
        world.new(name)


def bind_agent(world: World, email: str, role: str) -> None:
    policy = world.policies[f"projects/{PROJECT}"]
    member = f"serviceAccount:{email}"
    binding = {"role": role, "members": [member]}
    if binding not in policy["bindings"]:
        policy["bindings"].append(binding)
        world.new(f"{member} {role}")


def holds(world: World, resource: str, email: str, role: str) -> bool:
    """Return whether an account holds a role on a resource, and the platform knows it by now."""
    member = f"serviceAccount:{email}"
    held = any(
        binding["role"] == role and member in binding["members"]
        for binding in world.policies.get(resource, {"bindings": []})["bindings"]
    )
    return held and not world.unseen_yet(f"{member} {role}")


@route("GET", r"/cloudresourcemanager/v[13]/projects/{project}", "resourcemanager.projects.get")
def get_project(world: World, call: Call) -> Any:
    return {
        "projectId": PROJECT,
        "projectNumber": NUMBER,
        "name": PROJECT,
        "lifecycleState": "ACTIVE",
    }


@route(
    "POST",
    r"/cloudresourcemanager/v1/projects/{project}:getIamPolicy",
    "resourcemanager.projects.getIamPolicy",
)
def get_project_policy(world: World, call: Call) -> Any:
    version = call.body.get("options", {}).get("requestedPolicyVersion", 1)
    return world.policy(f"projects/{PROJECT}", version)


@route(
    "POST",
    r"/cloudresourcemanager/v1/projects/{project}:setIamPolicy",
    "resourcemanager.projects.setIamPolicy",
)
def set_project_policy(world: World, call: Call) -> Any:
    before = {
        (b["role"], m)
        for b in world.policy(f"projects/{PROJECT}")["bindings"]
        for m in b["members"]
    }
    done = world.set_policy(f"projects/{PROJECT}", call.body["policy"])
    for binding in done["bindings"]:
        for member in binding["members"]:
            if (binding["role"], member) not in before:
                world.new(f"{member} {binding['role']}")
    return done


# --- accounts and roles (https://cloud.google.com/iam/docs/reference/rest) ------------------------

_ACCOUNTS = "/iam/v1/projects/{project}/serviceAccounts"


@route("GET", _ACCOUNTS, "iam.serviceAccounts.list")
def list_accounts(world: World, call: Call) -> Any:
    prefix = f"projects/{PROJECT}/serviceAccounts/"
    found = [v for k, v in world.resources.items() if k.startswith(prefix) and "agent" not in v]
    return {"accounts": found}


@route("GET", _ACCOUNTS + "/{email}", "iam.serviceAccounts.get")
def get_account(world: World, call: Call) -> Any:
    return _account(world, call)


def _account(world: World, call: Call) -> dict[str, Any]:
    name = f"projects/{PROJECT}/serviceAccounts/{call.part['email']}"
    if name not in world.resources:
        raise RefusedError(404, "NOT_FOUND", f"Unknown service account: {call.part['email']}")
    return world.resources[name]


@route("POST", _ACCOUNTS, "iam.serviceAccounts.create")
def create_account(world: World, call: Call) -> Any:
    account_id = call.body["accountId"]
    # https://cloud.google.com/iam/docs/service-accounts-create: 6 to 30 of [a-z0-9-]
    if not re.fullmatch(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", account_id):
        raise invalid(f"Invalid service account ID ({account_id}).")
    email = f"{account_id}@{PROJECT}.iam.gserviceaccount.com"
    name = f"projects/{PROJECT}/serviceAccounts/{email}"
    if name in world.resources:
        raise RefusedError(
            409, "ALREADY_EXISTS", f"Service account {account_id} already exists within project"
        )
    there = sum("agent" not in v for k, v in world.resources.items() if "/serviceAccounts/" in k)
    if there >= world.quotas.get("accounts", 100):
        # https://cloud.google.com/iam/quotas: 100 service accounts in a project
        raise RefusedError(
            429, "RESOURCE_EXHAUSTED", "Maximum number of service accounts on project reached."
        )
    world.resources[name] = {
        "name": name,
        "email": email,
        "projectId": PROJECT,
        "uniqueId": str(world.next()),
        **call.body.get("serviceAccount", {}),
    }
    world.new(name)
    return world.resources[name]


@route("DELETE", _ACCOUNTS + "/{email}", "iam.serviceAccounts.delete")
def delete_account(world: World, call: Call) -> Any:
    """Bindings of a deleted account stay, under another name.

    https://cloud.google.com/iam/docs/allow-policies#handle-deleted-members.
    """
    account = _account(world, call)
    del world.resources[account["name"]]
    member = f"serviceAccount:{account['email']}"
    gone = f"deleted:{member}?uid={account['uniqueId']}"
    for policy in world.policies.values():
        for binding in policy.get("bindings", []):
            binding["members"] = sorted(gone if m == member else m for m in binding["members"])
    return {}


@route("POST", _ACCOUNTS + "/{email}:enable", "iam.serviceAccounts.enable")
def enable_account(world: World, call: Call) -> Any:
    _account(world, call).pop("disabled", None)
    return {}


_ROLES = "/iam/v1/projects/{project}/roles"


@route("GET", _ROLES + "/{role}", "iam.roles.get")
def get_role(world: World, call: Call) -> Any:
    name = f"projects/{PROJECT}/roles/{call.part['role']}"
    if name not in world.resources:
        raise RefusedError(404, "NOT_FOUND", f"The role named {name} was not found.")
    return world.resources[name]


@route("POST", _ROLES, "iam.roles.create")
def create_role(world: World, call: Call) -> Any:
    name = f"projects/{PROJECT}/roles/{call.body['roleId']}"
    if name in world.resources:
        # Also one that was deleted in the last days:
        # https://cloud.google.com/iam/docs/creating-custom-roles#deleting-custom-role
        raise RefusedError(409, "ALREADY_EXISTS", f"A role named {name} already exists.")
    world.resources[name] = {**call.body.get("role", {}), "name": name, "etag": "BwAA"}
    return world.resources[name]


@route("POST", "/iam/v1/permissions:queryTestablePermissions")
def list_permissions(world: World, call: Call) -> Any:
    """https://cloud.google.com/iam/docs/reference/rest/v1/permissions/queryTestablePermissions."""
    return {"permissions": [{"name": "storage.objects.delete", "stage": "GA"}]}


@route("PATCH", _ROLES + "/{role}", "iam.roles.update")
def update_role(world: World, call: Call) -> Any:
    role = get_role(world, call)
    role.update({k: v for k, v in call.body.items() if k != "name"})
    return role


@route("POST", _ROLES + "/{role}:undelete", "iam.roles.undelete")
def undelete_role(world: World, call: Call) -> Any:
    get_role(world, call).pop("deleted", None)
    return get_role(world, call)


def known(world: World, name: str) -> dict[str, Any]:
    """Return a resource; refuse a name that is of none."""
    if name not in world.resources:
        raise not_found(name)
    return world.resources[name]
