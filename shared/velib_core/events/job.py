"""What a job is, and what it reports: the artefacts it made, those that were fresh, its figures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.lake.artefact import Outcome


class Job(Protocol):
    """A job, bound to what it is about: called with a network, it does its work there.

    The function ``run`` of each module of `velib_core.jobs` becomes one with `functools.partial`,
    by whoever knows what it is about: an event's function, the launcher, the monitoring pipeline.
    """

    def __call__(self, network: Network, /) -> JobResult:
        """Do the work, once more without harm where it was done already."""


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

    def add(self, other: JobResult) -> None:
        """Add the outcome of a part: outputs and messages added, counts summed."""
        self.outputs |= other.outputs
        self.published += other.published
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def summary(self) -> dict[str, object]:
        """Return the fields of the job's summary line."""
        return {
            "job": self.job,
            "written": [name for name, outcome in self.outputs.items() if outcome == "written"],
            "fresh": sum(outcome == "fresh" for outcome in self.outputs.values()),
            "published": self.published,
            **self.counts,
        }
