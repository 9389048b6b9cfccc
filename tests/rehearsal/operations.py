"""Cloud Scheduler, Cloud Monitoring and Logging: what runs and who looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehearsal.projects import known
from rehearsal.server import RefusedError, route
from rehearsal.world import PROJECT, REGION, World

if TYPE_CHECKING:
    from rehearsal.server import Call

_JOBS = "/cloudscheduler/v1/projects/{project}/locations/{region}/jobs"
_JOB = f"projects/{PROJECT}/locations/{REGION}/jobs/"


@route("GET", _JOBS, "cloudscheduler.jobs.list")
def list_jobs(world: World, call: Call) -> Any:
    return {"jobs": [v for k, v in world.resources.items() if k.startswith(_JOB)]}


@route("GET", _JOBS + "/{name}", "cloudscheduler.jobs.get")
def get_job(world: World, call: Call) -> Any:
    return known(world, _JOB + call.part["name"])


@route("POST", _JOBS, "cloudscheduler.jobs.create")
def create_job(world: World, call: Call) -> Any:
    name = call.body["name"]
    if name in world.resources:
        raise RefusedError(409, "ALREADY_EXISTS", f"Job {name} already exists.")
    known(world, call.body["pubsubTarget"]["topicName"])
    world.resources[name] = {**call.body, "state": "ENABLED"}
    return world.resources[name]


@route("PATCH", _JOBS + "/{name}", "cloudscheduler.jobs.update")
def update_job(world: World, call: Call) -> Any:
    job = known(world, _JOB + call.part["name"])
    job.update(call.body)
    return job


@route("POST", _JOBS + "/{name}:resume", "cloudscheduler.jobs.enable")
def resume_job(world: World, call: Call) -> Any:
    job = known(world, _JOB + call.part["name"])
    job["state"] = "ENABLED"
    return job


@route("POST", _JOBS + "/{name}:run", "cloudscheduler.jobs.run")
def run_job(world: World, call: Call) -> Any:
    return known(world, _JOB + call.part["name"])


@route("DELETE", _JOBS + "/{name}", "cloudscheduler.jobs.delete")
def delete_job(world: World, call: Call) -> Any:
    del world.resources[known(world, _JOB + call.part["name"])["name"]]
    return {}


# --- Monitoring (https://cloud.google.com/monitoring/api/ref_v3/rest) -----------------------------


@route(
    "GET",
    r"/monitoring/v3/projects/{project}/(?P<kind>alertPolicies)",
    "monitoring.alertPolicies.list",
)
@route(
    "GET",
    r"/monitoring/v3/projects/{project}/(?P<kind>notificationChannels)",
    "monitoring.notificationChannels.list",
)
@route(
    "GET", r"/monitoring/v1/projects/{project}/(?P<kind>dashboards)", "monitoring.dashboards.list"
)
def list_monitoring(world: World, call: Call) -> Any:
    kind = call.part["kind"]
    prefix = f"projects/{PROJECT}/{kind}/"
    return {kind: [v for k, v in world.resources.items() if k.startswith(prefix)]}


@route(
    "POST",
    r"/monitoring/v3/projects/{project}/(?P<kind>alertPolicies)",
    "monitoring.alertPolicies.create",
)
@route(
    "POST",
    r"/monitoring/v3/projects/{project}/(?P<kind>notificationChannels)",
    "monitoring.notificationChannels.create",
)
@route(
    "POST",
    r"/monitoring/v1/projects/{project}/(?P<kind>dashboards)",
    "monitoring.dashboards.create",
)
def create_monitoring(world: World, call: Call) -> Any:
    kind, body = call.part["kind"], dict(call.body)
    for channel in body.get("notificationChannels", []):
        known(world, channel)
    number = world.next()
    name = body.get("name") or f"projects/{PROJECT}/{kind}/{number}"
    if name in world.resources:
        raise RefusedError(409, "ALREADY_EXISTS", f"{name} already exists")
    world.resources[name] = {**body, "name": name, "etag": str(number)}
    return world.resources[name]


_KINDS = "alertPolicies|dashboards|notificationChannels"
_MONITORING = rf"/monitoring/v[13]/(?P<name>projects/[^/]+/({_KINDS})/[^/]+)"


@route("GET", _MONITORING)
def get_monitoring(world: World, call: Call) -> Any:
    world.require(call, f"monitoring.{call.part['name'].split('/')[2]}.get")
    return known(world, call.part["name"])


@route("PATCH", _MONITORING)
def update_monitoring(world: World, call: Call) -> Any:
    world.require(call, f"monitoring.{call.part['name'].split('/')[2]}.update")
    held = known(world, call.part["name"])
    held.update(call.body)
    return held


@route("DELETE", _MONITORING)
def delete_monitoring(world: World, call: Call) -> Any:
    world.require(call, f"monitoring.{call.part['name'].split('/')[2]}.delete")
    del world.resources[known(world, call.part["name"])["name"]]
    return {}


@route("POST", "/logging/v2/entries:list", "logging.logEntries.list")
def list_log_entries(world: World, call: Call) -> Any:
    """https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list."""
    return {"entries": []}
