"""Threads that wait for each other sleep, wherever a model is trained or asked."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

LOADED = "; import xgboost, sklearn.cluster"


def wait_policies(imported: str, **env: Any) -> list[str]:
    """Return the wait policy of each OpenMP runtime that is loaded after an import."""
    clean = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", f"import {imported}{LOADED}"],
        env=clean | {"OMP_DISPLAY_ENV": "true"} | env,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.strip() for line in done.stderr.splitlines()]
    return [line for line in lines if "OMP_WAIT_POLICY" in line]


@pytest.mark.parametrize("imported", ["velib_core.model.training", "velib_core.forecast"])
def test_threads_sleep_while_they_wait(imported: str) -> None:
    said = wait_policies(imported)
    assert said
    assert set(said) == {"OMP_WAIT_POLICY = 'PASSIVE'"}


def test_the_environment_may_say_otherwise() -> None:
    said = wait_policies("velib_core.model.training", OMP_WAIT_POLICY="ACTIVE")
    assert set(said) == {"OMP_WAIT_POLICY = 'ACTIVE'"}
