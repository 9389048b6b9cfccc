"""The Google Cloud SDK's own parser, which needs no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest


def lint(lines: Any, folder: Any) -> Any:
    """Parse commands; return each that is refused, and why. Skips where there is no SDK."""
    if shutil.which("gcloud") is None:
        pytest.skip("the Google Cloud SDK is not installed")
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": line} for line in lines]), "utf-8")
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=dict(os.environ) | {"CLOUDSDK_CONFIG": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == len(set(lines))
    return [
        (verdict["command_string"], verdict["error_message"])
        for verdict in verdicts
        if not verdict["success"]
    ]
