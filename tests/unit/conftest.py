"""A lake where all is made, once for all tests that disturb jobs on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import job_table
import pytest

if TYPE_CHECKING:
    from velib_core.lake.artefact import Artefact
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings that train in a second."""
    return dataclasses.replace(
        settings, horizons=job_table.HORIZONS, train_rounds=16, train_max_rows=4000
    )


@pytest.fixture(scope="session")
def made() -> dict[object, dict[str, Artefact]]:
    """The objects of lakes by what happened in them: each is made for one test, kept for all."""
    return {}


@pytest.fixture
def complete(lake: Lake, quick: Settings, made: dict[object, dict[str, Artefact]]) -> Lake:
    """A lake of seven closed days in two months, with models, and a morning; all is made."""
    if "whole" in made:
        job_table.restore(lake, made["whole"])
    else:
        job_table.make_all(lake, quick)
        made["whole"] = job_table.kept(lake)
    return lake
