"""Cloud Functions (v2), the Cloud Run services behind them, and the build of a function."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from rehearsal.eventarc import check_agent, make_trigger
from rehearsal.images import make_repository
from rehearsal.projects import holds, known
from rehearsal.pubsub import camel
from rehearsal.server import RefusedError, invalid, route
from rehearsal.world import NUMBER, PROJECT, REGION, World, serial_of

if TYPE_CHECKING:
    from rehearsal.server import Call

_PARENT = "/cloudfunctions/v2/projects/{project}/locations/{region}"
_PREFIX = f"projects/{PROJECT}/locations/{REGION}/functions/"
RUNTIMES = {
    "python310": ("DEPRECATED", "2026-10-04"),
    "python311": ("GA", "2027-10-24"),
    "python312": ("GA", "2028-10-02"),
    "python313": ("GA", "2029-10-10"),
}
"""https://cloud.google.com/functions/docs/runtime-support#python: stage, end of support."""

BUILD_ROLES = (
    "roles/artifactregistry.writer",
    "roles/logging.logWriter",
    "roles/storage.objectViewer",
)
"""https://cloud.google.com/functions/docs/securing/build-custom-sa: what a build does."""


@route("GET", _PARENT + "/runtimes", "cloudfunctions.runtimes.list")
def list_runtimes(world: World, call: Call) -> Any:
    return {
        "runtimes": [
            {"name": name, "stage": stage, "environment": "GEN_2", "displayName": name}
            for name, (stage, _) in RUNTIMES.items()
        ]
    }


@route("POST", _PARENT + r"/functions:generateUploadUrl", "cloudfunctions.functions.sourceCodeSet")
def generate_upload_url(world: World, call: Call) -> Any:
    number = world.next()
    bucket = f"gcf-v2-uploads-{NUMBER}-{REGION}"
    return {
        "uploadUrl": f"{world.address}/upload/{number}.zip",
        "storageSource": {"bucket": bucket, "object": f"{number}.zip"},
    }


@route("PUT", "/upload/{name}")
def upload(world: World, call: Call) -> Any:
    world.uploads[call.part["name"]] = call.body
    return b""


@route("GET", _PARENT + "/functions", "cloudfunctions.functions.list")
def list_functions(world: World, call: Call) -> Any:
    return {"functions": [v for k, v in world.resources.items() if k.startswith(_PREFIX)]}


@route(
    "GET",
    "/cloudfunctions/v1/projects/{project}/locations/{region}/functions",
    "cloudfunctions.functions.list",
)
def list_first_generation(world: World, call: Call) -> Any:
    return {"functions": []}


@route("GET", "/cloudfunctions/v1/projects/{project}/locations", "cloudfunctions.locations.list")
@route("GET", "/cloudfunctions/v2/projects/{project}/locations", "cloudfunctions.locations.list")
def list_locations(world: World, call: Call) -> Any:
    return {"locations": [{"name": f"projects/{PROJECT}/locations/{REGION}", "locationId": REGION}]}


@route("GET", _PARENT + "/functions/{name}", "cloudfunctions.functions.get")
def get_function(world: World, call: Call) -> Any:
    return known(world, _PREFIX + call.part["name"])


@route("POST", _PARENT + "/functions", "cloudfunctions.functions.create")
def create_function(world: World, call: Call) -> Any:
    name = call.query["functionId"]
    if _PREFIX + name in world.resources:
        raise RefusedError(409, "ALREADY_EXISTS", f"Could not create Cloud Run service {name}.")
    # https://cloud.google.com/run/quotas and /run/docs/deploying: a service's name
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?", name):
        raise invalid(f"Invalid resource name {name}: at most 49 of [a-z0-9-].")
    _check(world, call)
    function = copy.deepcopy(call.body)
    function |= {"name": _PREFIX + name, "environment": "GEN_2", "state": "DEPLOYING"}
    # What is asked for is recorded before it is built: labels too.
    world.resources[_PREFIX + name] = function
    return _build(world, name, function)


@route("PATCH", _PARENT + "/functions/{name}", "cloudfunctions.functions.update")
def update_function(world: World, call: Call) -> Any:
    name = call.part["name"]
    function = known(world, _PREFIX + name)
    _check(world, call)
    for path in call.query["updateMask"].split(","):
        _put(function, [camel(word) for word in path.split(".")], call.body)
    return _build(world, name, function)


def _put(target: dict[str, Any], path: list[str], source: dict[str, Any]) -> None:
    head, *rest = path
    if rest:
        _put(target.setdefault(head, {}), rest, source.get(head, {}))
    elif head in source:
        target[head] = copy.deepcopy(source[head])
    else:
        target.pop(head, None)


def _check(world: World, call: Call) -> None:
    """Refuse what is wrong with a request before anything is recorded."""
    body = call.body
    # https://cloud.google.com/functions/docs/reference/iam/roles#additional-configuration
    world.require(call, "iam.serviceAccounts.actAs")
    service, build, event = (
        body.get(key, {}) for key in ("serviceConfig", "buildConfig", "eventTrigger")
    )
    build_account = build.get("serviceAccount", "").rpartition("/")[2]
    for email in (
        service.get("serviceAccountEmail"),
        event.get("serviceAccountEmail"),
        build_account,
    ):
        if email and not world.knows_account(email):
            # https://cloud.google.com/functions/docs/troubleshooting
            raise RefusedError(
                404,
                "NOT_FOUND",
                f"Service account projects/-/serviceAccounts/{email} was not found. Please verify"
                " that the caller has been granted the 'iam.serviceAccounts.actAs' permission.",
            )
    if build and build.get("runtime") not in RUNTIMES:
        raise invalid(f"runtime {build.get('runtime')} is not supported")
    source = build.get("source", {}).get("storageSource", {}).get("object")
    if source and source not in world.uploads:
        raise invalid(f"no source {source}")
    if event:
        check_agent(world)
        known(world, event["pubsubTopic"])


def _build(world: World, name: str, function: dict[str, Any]) -> Any:
    problem = _problem(world, name, function)
    if problem is None:
        _serve(world, name, function)
        return _operation(world, function=function)
    function["state"] = "FAILED"
    function["stateMessages"] = [{"severity": "ERROR", "type": "BuildError", "message": problem}]
    return _operation(world, problem=problem)


def _problem(world: World, name: str, function: dict[str, Any]) -> str | None:
    build = function["buildConfig"]
    account = build.get("serviceAccount", "").rpartition("/")[2]
    # Each is asked for every time: rights become known side by side, not one after the other.
    held = [holds(world, f"projects/{PROJECT}", account, role) for role in BUILD_ROLES]
    if not all(held):
        # https://cloud.google.com/functions/docs/troubleshooting#build-service-account
        return (
            "Build failed with status: FAILURE. Could not build the function due to a missing"
            f" permission on the build service account {account}."
        )
    if world.failing_builds[name] > 0:
        world.failing_builds[name] -= 1
        return f"Build failed with status: FAILURE. Build error: pip timed out for {name}."
    return None


def _serve(world: World, name: str, function: dict[str, Any]) -> None:
    function["state"] = "ACTIVE"
    function.pop("stateMessages", None)
    service = f"projects/{PROJECT}/locations/{REGION}/services/{name}"
    world.resources.setdefault(service, {"name": service})
    make_repository(world)
    revision = world.next()
    function["serviceConfig"] |= {"service": service, "revision": f"{name}-{revision}"}
    # https://cloud.google.com/functions/docs/configuring/env-var: set by the platform
    function["serviceConfig"].setdefault("environmentVariables", {})["LOG_EXECUTION_ID"] = "true"
    event = function.get("eventTrigger")
    if event is None:
        return
    trigger = event.get("trigger", "").rpartition("/")[2] or f"{name}-{serial_of(name)}"
    event |= {"trigger": f"projects/{PROJECT}/locations/{REGION}/triggers/{trigger}"}
    event |= {"triggerRegion": REGION}
    held = world.resources.get(event["trigger"])
    if held and held["transport"]["pubsub"]["topic"] != event["pubsubTopic"]:
        # Another topic is another trigger: the one before it is deleted with its subscription.
        del world.resources[held["transport"]["pubsub"]["subscription"]]
        world.policies.pop(held["transport"]["pubsub"]["subscription"], None)
        del world.resources[event["trigger"]]
        held = None
    if held is None:
        make_trigger(world, trigger, name, event["pubsubTopic"], event["serviceAccountEmail"])


def _operation(
    world: World, function: dict[str, Any] | None = None, problem: str | None = None
) -> Any:
    name = f"projects/{PROJECT}/locations/{REGION}/operations/operation-{world.next()}"
    metadata = {"@type": "type.googleapis.com/google.cloud.functions.v2.OperationMetadata"}
    operation: dict[str, Any] = {"name": name, "metadata": metadata, "done": True}
    if problem:
        operation["error"] = {"code": 3, "message": problem}
    else:
        kind = "type.googleapis.com/google.cloud.functions.v2.Function"
        operation["response"] = {"@type": kind, **copy.deepcopy(function or {})}
    world.operations[name] = operation
    return {"name": name, "metadata": metadata, "done": False}


@route("GET", _PARENT + "/operations/{name}", "cloudfunctions.operations.get")
def get_operation(world: World, call: Call) -> Any:
    """https://cloud.google.com/functions/docs/reference/rest/v2/projects.locations.operations."""
    return world.operations[f"projects/{PROJECT}/locations/{REGION}/operations/{call.part['name']}"]


@route("DELETE", _PARENT + "/functions/{name}", "cloudfunctions.functions.delete")
def delete_function(world: World, call: Call) -> Any:
    function = known(world, _PREFIX + call.part["name"])
    trigger = function.get("eventTrigger", {}).get("trigger")
    if trigger in world.resources:
        subscription = world.resources.pop(trigger)["transport"]["pubsub"]["subscription"]
        world.resources.pop(subscription, None)
        world.policies.pop(subscription, None)
    service = function["serviceConfig"].get("service", "")
    world.resources.pop(service, None)
    world.policies.pop(service, None)
    del world.resources[function["name"]]
    return _operation(world)


# --- Cloud Run (https://cloud.google.com/run/docs/reference/rest/v1/projects.locations.services) --

_SERVICE = "/run/v[12]/projects/{project}/locations/{region}/services/{name}"


def _service(call: Call) -> str:
    return f"projects/{PROJECT}/locations/{REGION}/services/{call.part['name']}"


@route("GET", _SERVICE + ":getIamPolicy", "run.services.getIamPolicy")
def get_service_policy(world: World, call: Call) -> Any:
    known(world, _service(call))
    return world.policy(_service(call), int(call.query.get("options.requestedPolicyVersion", 1)))


@route("POST", _SERVICE + ":setIamPolicy", "run.services.setIamPolicy")
def set_service_policy(world: World, call: Call) -> Any:
    known(world, _service(call))
    return world.set_policy(_service(call), call.body["policy"])
