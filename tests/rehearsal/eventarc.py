"""Eventarc: triggers, and the Pub/Sub subscription that each makes (v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehearsal.projects import holds, known
from rehearsal.server import RefusedError, invalid, not_found, route
from rehearsal.world import NUMBER, PROJECT, REGION, World, serial_of

if TYPE_CHECKING:
    from rehearsal.server import Call

_PARENT = "/eventarc/v1/projects/{project}/locations/{region}"
_PREFIX = f"projects/{PROJECT}/locations/{REGION}/triggers/"


def make_trigger(world: World, name: str, service: str, topic: str, account: str) -> dict[str, Any]:
    """Add a trigger and its subscription.

    The subscription keeps messages for one day
    (https://cloud.google.com/eventarc/docs/retry-events) and waits 10 to 600 s between attempts.
    """
    if sum(key.startswith(_PREFIX) for key in world.resources) >= world.quotas.get("triggers", 500):
        # https://cloud.google.com/eventarc/quotas: 500 triggers a location
        raise RefusedError(429, "RESOURCE_EXHAUSTED", "Quota of triggers exceeded.")
    tail = f"eventarc-{REGION}-{name}-sub-{serial_of(name) % 1000}"
    subscription = f"projects/{PROJECT}/subscriptions/{tail}"
    world.resources[subscription] = {
        "name": subscription,
        "topic": topic,
        "pushConfig": {"pushEndpoint": f"https://{service}.a.run.app?__GCP_CloudEventsMode=CUSTOM"},
        "ackDeadlineSeconds": 10,
        "messageRetentionDuration": "86400s",
        "expirationPolicy": {},
        "retryPolicy": {"minimumBackoff": "10s", "maximumBackoff": "600s"},
        "state": "ACTIVE",
    }
    world.resources[_PREFIX + name] = {
        "name": _PREFIX + name,
        "uid": str(world.next()),
        "eventFilters": [
            {"attribute": "type", "value": "google.cloud.pubsub.topic.v1.messagePublished"}
        ],
        "serviceAccount": account,
        "destination": {"cloudRun": {"service": service, "region": REGION}},
        "transport": {"pubsub": {"topic": topic, "subscription": subscription}},
    }
    return world.resources[_PREFIX + name]


def check_agent(world: World) -> None:
    """Refuse a trigger while Eventarc's own account has no rights, or has them since just now.

    https://cloud.google.com/eventarc/docs/troubleshooting#pd-ea-sa.
    """
    agent = f"service-{NUMBER}@gcp-sa-eventarc.iam.gserviceaccount.com"
    if not holds(world, f"projects/{PROJECT}", agent, "roles/eventarc.serviceAgent"):
        raise RefusedError(
            400,
            "FAILED_PRECONDITION",
            "Invalid resource state for '': Permission denied while using the Eventarc Service"
            " Agent. If you recently started to use Eventarc, it may take a few minutes before all"
            " necessary permissions are propagated to the Service Agent.",
        )


@route("GET", _PARENT + "/triggers", "eventarc.triggers.list")
def list_triggers(world: World, call: Call) -> Any:
    return {"triggers": [v for k, v in world.resources.items() if k.startswith(_PREFIX)]}


@route("GET", _PARENT + "/triggers/{name}", "eventarc.triggers.get")
def get_trigger(world: World, call: Call) -> Any:
    return known(world, _PREFIX + call.part["name"])


@route("POST", _PARENT + "/triggers", "eventarc.triggers.create")
def create_trigger(world: World, call: Call) -> Any:
    name, body = call.query["triggerId"], call.body
    if _PREFIX + name in world.resources:
        raise RefusedError(409, "ALREADY_EXISTS", f"Resource '{_PREFIX + name}' already exists")
    if len(name) > 63:
        raise invalid(f"trigger {name}: at most 63 characters")
    check_agent(world)
    run = body["destination"].get("cloudRun") or body["destination"]["cloudRunService"]
    if f"projects/{PROJECT}/locations/{REGION}/services/{run['service']}" not in world.resources:
        raise not_found(f"Cloud Run service {run['service']}")
    topic = body["transport"]["pubsub"]["topic"]
    if topic not in world.resources:
        raise not_found(topic)
    account = body["serviceAccount"].rpartition("/")[2]
    if not world.knows_account(account):
        raise not_found(f"service account {account}")
    return _done(world, make_trigger(world, name, run["service"], topic, account))


def _done(world: World, response: dict[str, Any]) -> Any:
    name = f"projects/{PROJECT}/locations/{REGION}/operations/operation-{world.next()}"
    world.operations[name] = {"name": name, "done": True, "response": response}
    return world.operations[name]


@route("GET", _PARENT + "/operations/{name}", "eventarc.operations.get")
def get_operation(world: World, call: Call) -> Any:
    return world.operations[f"projects/{PROJECT}/locations/{REGION}/operations/{call.part['name']}"]


@route("DELETE", _PARENT + "/triggers/{name}", "eventarc.triggers.delete")
def delete_trigger(world: World, call: Call) -> Any:
    trigger = known(world, _PREFIX + call.part["name"])
    subscription = trigger["transport"]["pubsub"]["subscription"]
    world.resources.pop(subscription, None)
    world.policies.pop(subscription, None)
    del world.resources[trigger["name"]]
    return _done(world, {})
