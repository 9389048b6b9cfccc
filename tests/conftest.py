"""Fixtures on real servers: a lake on the local object server, in a bucket of its own."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from google.cloud import storage
from velib_core import logs
from velib_core.lake.bucket import Lake, connect
from velib_core.settings.network import Settings
from velib_local.emulator.object_store import object_store

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = "velib-test"
_BUCKETS = itertools.count(1)

hypothesis.settings.register_profile(
    "first-failure", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
)
"""Does not look for a smaller example of what failed."""


@pytest.fixture(scope="session")
def store_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The address of the session's object server."""
    with object_store(tmp_path_factory.mktemp("store") / "objects.log") as address:
        yield address


@pytest.fixture(autouse=True)
def nothing_logged_yet() -> None:
    """Each test is an instance of its own: what another one logged once, it logs too."""
    logs.log_once.cache_clear()


@pytest.fixture
def settings(store_address: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a network in a new bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", store_address)
    bucket = f"velib-test-{next(_BUCKETS)}"
    storage.Client(project=PROJECT).create_bucket(bucket)
    return Settings.from_env({"GCS_BUCKET_ROOT": f"gs://{bucket}", "GOOGLE_CLOUD_PROJECT": PROJECT})


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """An empty lake."""
    return connect(settings)


@pytest.fixture
def recordings() -> Path:
    """The folder of recorded networks; skips where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VELIB_RECORDINGS", default))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; name their folder with VELIB_RECORDINGS")
    return folder
