"""Cloud Storage: buckets, their policies and notifications (JSON API, v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehearsal.projects import make_agent
from rehearsal.server import RefusedError, not_found, route
from rehearsal.world import NUMBER, World

if TYPE_CHECKING:
    from rehearsal.server import Call

AGENT = f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"


def _bucket(world: World, call: Call) -> dict[str, Any]:
    name = f"buckets/{call.part['bucket']}"
    if call.part["bucket"] in world.taken:
        # https://cloud.google.com/storage/docs/troubleshooting#access-permission
        text = f"{call.caller} does not have storage.buckets.get access to the bucket."
        raise RefusedError(403, "PERMISSION_DENIED", text, "forbidden")
    if name not in world.resources:
        raise RefusedError(404, "NOT_FOUND", "The specified bucket does not exist.", "notFound")
    return world.resources[name]


@route("POST", "/storage/v1/b", "storage.buckets.create")
def create_bucket(world: World, call: Call) -> Any:
    name = call.body["name"]
    if f"buckets/{name}" in world.resources:
        raise RefusedError(
            409,
            "ALREADY_EXISTS",
            "Your previous request to create the named bucket succeeded and you already own it.",
            "conflict",
        )
    # https://cloud.google.com/storage/docs/soft-delete: seven days by default
    world.resources[f"buckets/{name}"] = {
        "kind": "storage#bucket",
        "id": name,
        "projectNumber": NUMBER,
        "metageneration": "1",
        "storageClass": "STANDARD",
        "timeCreated": "2025-11-01T00:00:00Z",
        "updated": "2025-11-01T00:00:00Z",
        "etag": "CAE=",
        "softDeletePolicy": {"retentionDurationSeconds": "604800"},
        **call.body,
    }
    return world.resources[f"buckets/{name}"]


@route("GET", "/storage/v1/b/{bucket}", "storage.buckets.get")
def get_bucket(world: World, call: Call) -> Any:
    return _bucket(world, call)


@route("GET", "/storage/v1/b", "storage.buckets.list")
def list_buckets(world: World, call: Call) -> Any:
    return {"items": [v for k, v in world.resources.items() if k.startswith("buckets/")]}


@route("PATCH", "/storage/v1/b/{bucket}", "storage.buckets.update")
def patch_bucket(world: World, call: Call) -> Any:
    bucket = _bucket(world, call)
    for key, value in call.body.items():
        if key != "name":
            bucket[key] = value
    return bucket


@route("GET", "/storage/v1/b/{bucket}/iam", "storage.buckets.getIamPolicy")
def get_bucket_policy(world: World, call: Call) -> Any:
    _bucket(world, call)
    version = int(call.query.get("optionsRequestedPolicyVersion", 1))
    return {"kind": "storage#policy", **world.policy(f"buckets/{call.part['bucket']}", version)}


@route("PUT", "/storage/v1/b/{bucket}/iam", "storage.buckets.setIamPolicy")
def set_bucket_policy(world: World, call: Call) -> Any:
    bucket = _bucket(world, call)
    conditional = any("condition" in b for b in call.body.get("bindings", []))
    uniform = bucket.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled")
    if conditional and not uniform:
        # https://cloud.google.com/storage/docs/access-control/iam#conditions
        raise RefusedError(
            412, "FAILED_PRECONDITION", "Conditions need uniform access.", "conditionNotMet"
        )
    return world.set_policy(f"buckets/{call.part['bucket']}", call.body, race=412)


@route("GET", "/storage/v1/b/{bucket}/iam/testPermissions")
def test_permissions(world: World, call: Call) -> Any:
    _bucket(world, call)
    return {"kind": "storage#testIamPermissionsResponse", "permissions": call.query["permissions"]}


@route("GET", "/storage/v1/projects/{project}/serviceAccount", "resourcemanager.projects.get")
def get_agent(world: World, call: Call) -> Any:
    """https://cloud.google.com/storage/docs/getting-service-agent: asking for it makes it."""
    make_agent(world, AGENT)
    return {"kind": "storage#serviceAccount", "email_address": AGENT}


_NOTIFICATIONS = "/storage/v1/b/{bucket}/notificationConfigs"


@route("GET", _NOTIFICATIONS, "storage.buckets.get")
def list_notifications(world: World, call: Call) -> Any:
    _bucket(world, call)
    return {"items": list(_notifications(world, call.part["bucket"]).values())}


def _notifications(world: World, bucket: str) -> dict[str, Any]:
    prefix = f"notifications/{bucket}/"
    return {k: v for k, v in world.resources.items() if k.startswith(prefix)}


@route("POST", _NOTIFICATIONS, "storage.buckets.update")
def create_notification(world: World, call: Call) -> Any:
    bucket = call.part["bucket"]
    _bucket(world, call)
    topic = call.body["topic"].removeprefix("//pubsub.googleapis.com/")
    if topic not in world.resources:
        raise not_found(topic)
    publishers = [
        member
        for binding in world.policies.get(topic, {"bindings": []})["bindings"]
        if binding["role"] == "roles/pubsub.publisher"
        for member in binding["members"]
    ]
    if f"serviceAccount:{AGENT}" not in publishers:
        # https://cloud.google.com/storage/docs/reporting-changes#required-roles
        raise RefusedError(
            403,
            "PERMISSION_DENIED",
            f"The service account '{AGENT}' does not have permission to publish messages to the"
            f" Cloud Pub/Sub topic '{call.body['topic']}', or that topic does not exist.",
            "forbidden",
        )
    types = call.body.get("event_types", [])
    there = [
        v for v in _notifications(world, bucket).values() if set(v["event_types"]) & set(types)
    ]
    if len(there) >= 10:
        # https://cloud.google.com/storage/docs/pubsub-notifications#limitations
        raise RefusedError(
            400,
            "INVALID_ARGUMENT",
            "Notification limit of 10 for an event type reached.",
            "invalid",
        )
    used = {int(v["id"]) for v in _notifications(world, bucket).values()}
    number = next(n for n in range(1, 100) if n not in used)
    world.resources[f"notifications/{bucket}/{number}"] = {
        "kind": "storage#notification",
        "id": str(number),
        "etag": str(number),
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{bucket}/notificationConfigs/{number}",
        **call.body,
    }
    return world.resources[f"notifications/{bucket}/{number}"]


@route("GET", _NOTIFICATIONS + "/{number}", "storage.buckets.get")
def get_notification(world: World, call: Call) -> Any:
    name = f"notifications/{call.part['bucket']}/{call.part['number']}"
    if name not in world.resources:
        raise RefusedError(404, "NOT_FOUND", "Not Found", "notFound")
    return world.resources[name]


@route("DELETE", _NOTIFICATIONS + "/{number}", "storage.buckets.update")
def delete_notification(world: World, call: Call) -> Any:
    get_notification(world, call)
    del world.resources[f"notifications/{call.part['bucket']}/{call.part['number']}"]
    return b""
