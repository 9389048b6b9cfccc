"""Every monitoring family one after another, by the same jobs that the functions run.

For a Cloud Run job or a person at a terminal: ``JOB=monitoring_pipeline python -m
velib_core.launcher``. Environment, in addition to that of the launcher and the settings:

* ``STEPS`` — which steps, with commas, in the order in which they are to run; all when unset.
* ``CONTINUE_ON_ERROR=1`` — run the other steps after one failed; the run fails in the end.

``compact_daily`` and ``datasets`` can be asked for too; they are not among all.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import PermanentError, TransientError
from velib_core.events.job import JobResult
from velib_core.settings.env import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from velib_core.events.job import Job
    from velib_core.events.network import Network
    from velib_core.timeline.bins import Day


class StepsFailedError(PermanentError):
    """Steps that failed, the first of them first; the others were run."""


STEPS = (
    "data_freshness",
    "data_health",
    "data_drift",
    "model_performance",
    "model_explainability",
    "network_overview",
    "network_dynamics",
    "network_stations",
    "intro",
)
"""The steps in the order in which all are run."""

ON_REQUEST = ("compact_daily", "datasets")

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
    known = (*STEPS, *ON_REQUEST)
    wanted: dict[str, None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name = part.removeprefix("build_")
        for step in ALIASES.get(name, (name,)):
            if step not in known:
                expected = ", ".join([*ALIASES, *known])
                raise SettingsError("STEPS", part, f"among {expected}")
            wanted[step] = None
    return list(wanted) or list(STEPS)


def job_of(step: str, day: Day, *, force: bool) -> Job:
    """Return the job of a step; only its module is imported. ``day`` is for steps of one day."""
    match step:
        case "data_freshness":
            from velib_core.jobs import build_data_freshness

            return partial(build_data_freshness.run, force=force)
        case "data_health":
            from velib_core.jobs import build_data_health

            return partial(build_data_health.run, force=force)
        case "data_drift":
            from velib_core.jobs import build_data_drift

            return partial(build_data_drift.run, force=force)
        case "model_performance":
            from velib_core.jobs import build_model_performance

            return partial(build_model_performance.run, force=force)
        case "model_explainability":
            from velib_core.jobs import build_model_explainability

            return partial(build_model_explainability.run, force=force)
        case "network_overview":
            from velib_core.jobs import build_network_overview

            return partial(
                build_network_overview.run_for_days,
                warm=build_network_overview.WarmState(),
                force=force,
            )
        case "network_dynamics":
            from velib_core.jobs import build_network_dynamics

            return partial(build_network_dynamics.run, force=force)
        case "network_stations":
            from velib_core.jobs import build_network_stations

            return partial(build_network_stations.run, force=force)
        case "intro":
            from velib_core.jobs import build_monitoring_intro

            return partial(
                build_monitoring_intro.run, warm=build_monitoring_intro.WarmState(), force=force
            )
        case "compact_daily":
            from velib_core.jobs import compact_daily

            return partial(compact_daily.run, day=day, force=force)
        case "datasets":
            from velib_core.jobs import build_datasets

            return partial(build_datasets.run, day=day, force=force)
        case _:
            raise SettingsError("STEPS", step, f"among {', '.join((*STEPS, *ON_REQUEST))}")


def run(
    network: Network,
    steps: Sequence[str],
    day: Day,
    *,
    force: bool = False,
    continue_on_error: bool = False,
) -> JobResult:
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
            done = job_of(step, day, force=force)(network)
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
