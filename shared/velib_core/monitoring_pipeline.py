"""Every monitoring family one after another, by the same jobs that the functions run.

For a Cloud Run job or a person at a terminal: ``JOB=monitoring_pipeline python -m
velib_core.launcher``. Environment, beside that of the launcher and the settings:

* ``STEPS`` — which steps, with commas, in the order in which they are to run; all when unset.
* ``CONTINUE_ON_ERROR=1`` — run the other steps after one failed; the run fails in the end.

``compact_daily`` and ``datasets`` can be asked for too; they are not among all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.errors import PermanentError, TransientError
from velib_core.jobs.result import JobResult
from velib_core.settings.env import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_core.events.publisher import Publisher
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day


class StepsFailedError(PermanentError):
    """Steps that failed, the first of them first; the others were run."""


def _job(name: str) -> Any:  # noqa: ANN401 -- a job's module, imported when it is its turn
    return importlib.import_module(f"velib_core.jobs.{name}")


class Run:
    """One run: where to read and write, and what to make again."""

    def __init__(
        self, lake: Lake, settings: Settings, publisher: Publisher, day: Day, *, force: bool
    ) -> None:
        self.lake, self.settings, self.publisher = lake, settings, publisher
        self.day, self.force = day, force

    def family(self, name: str) -> JobResult:
        """Run a job that tells nobody of alerts."""
        result: JobResult = _job(name).run(self.lake, self.settings, force=self.force)
        return result

    def telling(self, name: str) -> JobResult:
        """Run a job whose alerts are published."""
        job = _job(name)
        result: JobResult = job.run(self.lake, self.settings, self.publisher, force=self.force)
        return result

    def overview(self) -> JobResult:
        """Sum up the closed days that are not yet, and tell the network as it is."""
        job = _job("build_network_overview")
        warm = job.WarmState()
        result = JobResult("build_network_overview")
        for day in job.days_to_sum(self.lake, self.settings):
            result.outputs |= job.sum_day(self.lake, self.settings, day).outputs
        reported = job.run(self.lake, self.settings, warm, force=self.force)
        result.outputs |= reported.outputs
        return result

    def of_day(self, name: str) -> JobResult:
        """Run a job of a day."""
        result: JobResult = _job(name).run(self.lake, self.settings, self.day, force=self.force)
        return result


STEPS: Mapping[str, Callable[[Run], JobResult]] = {
    "data_freshness": lambda run: run.family("build_data_freshness"),
    "data_health": lambda run: run.telling("build_data_health"),
    "data_drift": lambda run: run.telling("build_data_drift"),
    "model_performance": lambda run: run.telling("build_model_performance"),
    "model_explainability": lambda run: run.family("build_model_explainability"),
    "network_overview": lambda run: run.overview(),
    "network_dynamics": lambda run: run.family("build_network_dynamics"),
    "network_stations": lambda run: run.family("build_network_stations"),
    "intro": lambda run: run.telling("build_monitoring_intro"),
}
"""The steps in the order in which all are run."""

ON_REQUEST: Mapping[str, Callable[[Run], JobResult]] = {
    "compact_daily": lambda run: run.of_day("compact_daily"),
    "datasets": lambda run: run.of_day("build_datasets"),
}

ALIASES: Mapping[str, tuple[str, ...]] = {
    "freshness": ("data_freshness",),
    "health": ("data_health",),
    "drift": ("data_drift",),
    "perf": ("model_performance",),
    "explain": ("model_explainability",),
    "network": ("network_overview", "network_dynamics", "network_stations"),
    "monitoring_intro": ("intro",),
}
"""Short names of steps, and of several."""


def parse_steps(text: str) -> list[str]:
    """Return the steps that a list with commas names, each once; all for an empty one.

    Raises `SettingsError` for a step that does not exist.
    """
    known = {**STEPS, **ON_REQUEST}
    wanted: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name = part.removeprefix("build_")
        for step in ALIASES.get(name, (name,)):
            if step not in known:
                expected = ", ".join([*ALIASES, *known])
                raise SettingsError("STEPS", part, f"among {expected}")
            wanted[step] = None
    return list(wanted) or list(STEPS)


def run(run_: Run, steps: Sequence[str], *, continue_on_error: bool) -> JobResult:
    """Run steps in the order given.

    Raises
    ------
    StepsFailedError
        At the end, where ``continue_on_error`` and steps failed.
    velib_core.errors.PermanentError, velib_core.errors.TransientError
        That of the first step that fails, otherwise.

    """
    result, failed = JobResult("monitoring_pipeline"), []
    for step in steps:
        try:
            done = {**STEPS, **ON_REQUEST}[step](run_)
        except (PermanentError, TransientError) as error:
            if not continue_on_error:
                raise
            logs.log("ERROR", f"step {step} failed: {error}", error=type(error).__name__)
            failed.append(step)
            continue
        logs.log("INFO", f"step {step} done", **done.summary())
        result.outputs |= done.outputs
        result.published += done.published
    if failed:
        raise StepsFailedError(f"{len(failed)} of {len(steps)} steps failed: {', '.join(failed)}")
    return result
