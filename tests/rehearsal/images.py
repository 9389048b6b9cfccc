"""Artifact Registry: the repository of the functions' images, and what is deleted of it (v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rehearsal.projects import known
from rehearsal.server import route
from rehearsal.world import PROJECT, REGION, World

if TYPE_CHECKING:
    from rehearsal.server import Call

REPOSITORY = f"projects/{PROJECT}/locations/{REGION}/repositories/gcf-artifacts"
_REPOSITORY = "/artifactregistry/v1/projects/{project}/locations/{region}/repositories/{name}"


def make_repository(world: World) -> None:
    """The platform makes it with the first function, without clean-up.

    https://cloud.google.com/functions/docs/building#image_registry.
    """
    world.resources.setdefault(REPOSITORY, {"name": REPOSITORY, "format": "DOCKER"})


@route("GET", _REPOSITORY, "artifactregistry.repositories.get")
def get_repository(world: World, call: Call) -> Any:
    return known(world, REPOSITORY.rpartition("/")[0] + f"/{call.part['name']}")


@route("PATCH", _REPOSITORY, "artifactregistry.repositories.update")
def update_repository(world: World, call: Call) -> Any:
    """https://cloud.google.com/artifact-registry/docs/repositories/cleanup-policy."""
    repository = get_repository(world, call)
    repository.update({k: v for k, v in call.body.items() if k != "name"})
    for policy in repository.get("cleanupPolicies", {}).values():
        condition = policy.get("condition") or {}
        if "olderThan" in condition:  # a duration as the API returns it
            condition["olderThan"] = f"{float(condition['olderThan'].rstrip('s')):g}s"
    return repository
