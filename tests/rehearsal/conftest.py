"""Fixtures: the real gcloud, and a project that some functions were deployed to once."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

from rehearsal.rehearsal import NAMES, deployer_permissions, preloaded, rehearse
from rehearsal.world import OWNER, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def gcloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The folder of a gcloud that is loaded once; skips loudly where there is no SDK."""
    with preloaded(tmp_path_factory.mktemp("gcloud")) as folder:
        yield folder


@pytest.fixture(scope="session")
def deployed_once(gcloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A project after its first deployment with a deployer's role, and the commands it took."""
    world = World(callers={OWNER: deployer_permissions()})
    with rehearse(tmp_path_factory.mktemp("first"), gcloud, world, NAMES) as rehearsal:
        rehearsal.deploy()
        return copy.deepcopy(rehearsal.world), rehearsal.commands()


@pytest.fixture
def rehearsal(gcloud: Any, deployed_once: Any, tmp_path: Path) -> Iterator[Any]:
    """A copy of the project that was deployed to once, with a checkout of its own."""
    world = copy.deepcopy(deployed_once[0])
    world.calls.clear()
    world.callers.clear()
    with rehearse(tmp_path, gcloud, world, NAMES) as copied:
        yield copied
