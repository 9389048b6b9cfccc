"""Where a network is deployed, and what its parts are called there."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a network is deployed, under which settings, and who is alerted."""

    project: str
    region: str
    bucket: str
    network: str = "velib"
    only: str | None = None
    file: Path | None = None
    alerts: str | None = None

    def command(self) -> str:
        """Return the command that deploys all of it, to be typed into a shell."""
        words = ["./deploy.sh", "--project", self.project or "PROJECT", "--region", self.region]
        words += ["--bucket", self.bucket, "--network", self.network]
        words += ["--settings", str(self.file)] if self.file else []
        return shlex.join([*words, *(["--alerts", self.alerts] if self.alerts else [])])

    def service(self, function: str) -> str:
        """Return the name of a function, of its service and of its schedule."""
        return f"{self.network}-{function.replace('_', '-')}"

    def topic(self, name: str) -> str:
        """Return the name of a topic in the project."""
        return f"{self.network}-{name}"

    def email(self, account: str) -> str:
        """Return the address of a service account of the project."""
        return f"{account}@{self.project}.iam.gserviceaccount.com"
