"""What a job reports: which artefacts it made, which were fresh already, and how many rows."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from velib_core.lake.bucket import Outcome


@dataclasses.dataclass
class JobResult:
    """The outcome of one run.

    ``outputs`` maps object names to ``written`` or ``fresh``; ``counts`` holds the job's own
    figures, as rows in and out or objects quarantined; ``published`` the messages sent.
    """

    job: str
    outputs: dict[str, Outcome] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    published: list[str] = dataclasses.field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """Return the fields of the job's summary line."""
        return {
            "job": self.job,
            "written": [name for name, outcome in self.outputs.items() if outcome == "written"],
            "fresh": sum(outcome == "fresh" for outcome in self.outputs.values()),
            "published": self.published,
            **self.counts,
        }
