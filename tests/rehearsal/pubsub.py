"""Pub/Sub: topics, subscriptions and who may use them (v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehearsal.projects import known
from rehearsal.server import RefusedError, invalid, route
from rehearsal.world import PROJECT, World

if TYPE_CHECKING:
    from rehearsal.server import Call

WEEK = "604800s"


def _name(call: Call) -> str:
    return f"projects/{PROJECT}/{call.part['kind']}/{call.part['name']}"


@route("GET", r"/pubsub/v1/projects/{project}/topics", "pubsub.topics.list")
def list_topics(world: World, call: Call) -> Any:
    return {"topics": _of(world, "topics")}


@route("GET", r"/pubsub/v1/projects/{project}/subscriptions", "pubsub.subscriptions.list")
def list_subscriptions(world: World, call: Call) -> Any:
    return {"subscriptions": _of(world, "subscriptions")}


def _of(world: World, kind: str) -> list[dict[str, Any]]:
    prefix = f"projects/{PROJECT}/{kind}/"
    return [v for k, v in world.resources.items() if k.startswith(prefix)]


@route("GET", r"/pubsub/v1/projects/{project}/(?P<kind>topics)/{name}", "pubsub.topics.get")
@route(
    "GET",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}",
    "pubsub.subscriptions.get",
)
def get_one(world: World, call: Call) -> Any:
    return known(world, _name(call))


@route("PUT", r"/pubsub/v1/projects/{project}/(?P<kind>topics)/{name}", "pubsub.topics.create")
def create_topic(world: World, call: Call) -> Any:
    _new(world, call)
    world.resources[_name(call)] = {**call.body, "name": _name(call)}
    return world.resources[_name(call)]


def _new(world: World, call: Call) -> None:
    if _name(call) in world.resources:
        message = f"Resource already exists in the project (resource={call.part['name']})."
        raise RefusedError(409, "ALREADY_EXISTS", message)


@route(
    "PUT",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}",
    "pubsub.subscriptions.create",
)
def create_subscription(world: World, call: Call) -> Any:
    """https://cloud.google.com/pubsub/docs/subscription-properties has the defaults."""
    _new(world, call)
    known(world, call.body["topic"])
    _check(world, call.body)
    world.resources[_name(call)] = {
        "ackDeadlineSeconds": 10,
        "messageRetentionDuration": WEEK,
        "expirationPolicy": {"ttl": "2678400s"},
        "state": "ACTIVE",
        **call.body,
        "name": _name(call),
    }
    return world.resources[_name(call)]


@route(
    "PATCH",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}",
    "pubsub.subscriptions.update",
)
def update_subscription(world: World, call: Call) -> Any:
    held = known(world, _name(call))
    wanted = call.body["subscription"]
    _check(world, wanted)
    for path in call.body["updateMask"].split(","):
        field = camel(path)
        if field in wanted:
            held[field] = wanted[field]
        else:
            held.pop(field, None)
    return held


def camel(path: str) -> str:
    """Return a field's name in JSON: masks of gcloud have it in words with underscores."""
    head, *rest = path.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _check(world: World, wanted: dict[str, Any]) -> None:
    """https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions."""
    if not 10 <= wanted.get("ackDeadlineSeconds", 10) <= 600:
        raise invalid("ackDeadlineSeconds has to be 10…600")
    letters = wanted.get("deadLetterPolicy", {})
    if letters:
        known(world, letters["deadLetterTopic"])
        if not 5 <= letters.get("maxDeliveryAttempts", 5) <= 100:
            raise invalid("maxDeliveryAttempts has to be 5…100")


@route("DELETE", r"/pubsub/v1/projects/{project}/(?P<kind>topics)/{name}", "pubsub.topics.delete")
@route(
    "DELETE",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}",
    "pubsub.subscriptions.delete",
)
def delete_one(world: World, call: Call) -> Any:
    known(world, _name(call))
    del world.resources[_name(call)]
    world.policies.pop(_name(call), None)
    return {}


@route(
    "GET",
    r"/pubsub/v1/projects/{project}/(?P<kind>topics)/{name}:getIamPolicy",
    "pubsub.topics.getIamPolicy",
)
@route(
    "GET",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}:getIamPolicy",
    "pubsub.subscriptions.getIamPolicy",
)
def get_policy(world: World, call: Call) -> Any:
    known(world, _name(call))
    return world.policy(_name(call), int(call.query.get("options.requestedPolicyVersion", 1)))


@route(
    "POST",
    r"/pubsub/v1/projects/{project}/(?P<kind>topics)/{name}:setIamPolicy",
    "pubsub.topics.setIamPolicy",
)
@route(
    "POST",
    r"/pubsub/v1/projects/{project}/(?P<kind>subscriptions)/{name}:setIamPolicy",
    "pubsub.subscriptions.setIamPolicy",
)
def set_policy(world: World, call: Call) -> Any:
    known(world, _name(call))
    return world.set_policy(_name(call), call.body["policy"])


@route(
    "POST",
    r"/pubsub/v1/projects/{project}/topics/{name}:publish",
    "pubsub.topics.publish",
)
def publish(world: World, call: Call) -> Any:
    known(world, f"projects/{PROJECT}/topics/{call.part['name']}")
    return {"messageIds": [str(world.next()) for _ in call.body["messages"]]}


@route(
    "POST",
    r"/pubsub/v1/projects/{project}/subscriptions/{name}:pull",
    "pubsub.subscriptions.consume",
)
def pull(world: World, call: Call) -> Any:
    known(world, f"projects/{PROJECT}/subscriptions/{call.part['name']}")
    return {}
