"""Run any job by name outside a function.

``JOB=compact_daily DAY=2025-11-01 python -m velib_core.launcher`` runs the same code as the
function, for a Cloud Run job or for a person at a terminal. Environment:

* ``JOB`` — the name of the job; ``ingest`` when unset.
* ``DAY`` or ``DAY_OFFSET`` — the UTC day, or its distance from today (−1, yesterday, when unset).
* ``MONTH`` — for `compact_monthly`: ``YYYY-MM``, last month when unset.
* ``FROM``, ``TO``, ``STAGE`` — for `reconcile`: what to look at.
* ``STEPS``, ``CONTINUE_ON_ERROR`` — for `monitoring_pipeline`: see there.
* ``HORIZON_MIN`` — for `train_model`: one horizon; every one of the settings when unset.
* ``FORCE=1`` — make again what is up to date.
* ``DRY_RUN=1`` — say what would be read and written, and write nothing.
* ``GCS_LOCK=gs://bucket/object`` — hold this lease while the job runs.

Exit codes: 0 done, 1 failed, 2 a setting is wrong, 75 the lease is held by another.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from velib_core import logs
from velib_core import monitoring_pipeline as pipeline
from velib_core.errors import PermanentError, TransientError
from velib_core.events.dry_run import DryPublisher
from velib_core.events.handler import peak_mib
from velib_core.events.messages import ReplayRequested
from velib_core.events.publisher import Publisher
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.dry_run import DryLake
from velib_core.lake.layout import month_of, parse_month
from velib_core.lake.lease import LeaseBusyError, lease
from velib_core.settings.env import SettingsError
from velib_core.settings.network import Settings, bucket_and_folder
from velib_core.timeline.bins import Day, HorizonMinutes, day_after, horizon_bins, parse_day, today

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from velib_core.jobs.result import JobResult
    from velib_core.lake.keys import Month

T = TypeVar("T")

DONE, FAILED, WRONG_SETTING, BUSY = 0, 1, 2, os.EX_TEMPFAIL


class _Launch:
    """One launch: the environment, read with errors that name the variable, and its connections."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.settings = Settings.from_env(environ)
        self.dry = self.flag("DRY_RUN")
        lake = connect(self.settings)
        self.lake: Lake = DryLake(lake.bucket) if self.dry else lake
        self.publisher = (DryPublisher if self.dry else Publisher)(self.settings)

    def flag(self, name: str) -> bool:
        value = self.environ.get(name, "0")
        if value not in {"0", "1", ""}:
            raise SettingsError(name, value, "1 or 0")
        return value == "1"

    def day(self) -> Day:
        if raw := self.environ.get("DAY"):
            return self._parse("DAY", raw, parse_day, "a day, YYYY-MM-DD")
        offset = self._parse("DAY_OFFSET", self.environ.get("DAY_OFFSET", "-1"), int, "whole days")
        return day_after(today(), offset)

    def optional_day(self, name: str) -> Day | None:
        raw = self.environ.get(name)
        return self._parse(name, raw, parse_day, "a day, YYYY-MM-DD") if raw else None

    def month(self) -> Month:
        if raw := self.environ.get("MONTH"):
            return self._parse("MONTH", raw, parse_month, "a month, YYYY-MM")
        return month_of(day_after(month_of(today()), -1))

    def horizons(self) -> tuple[HorizonMinutes, ...]:
        raw = self.environ.get("HORIZON_MIN")
        if not raw:
            return self.settings.horizons

        def parse(text: str) -> HorizonMinutes:
            minutes = HorizonMinutes(int(text))
            horizon_bins(minutes)
            return minutes

        return (self._parse("HORIZON_MIN", raw, parse, "minutes, a positive multiple of 5"),)

    def _parse(self, name: str, raw: str, parse: Callable[[str], T], expected: str) -> T:
        try:
            return parse(raw)
        except (ValueError, OverflowError):
            raise SettingsError(name, raw, expected) from None


def _job(name: str) -> Any:  # noqa: ANN401 -- a job's module, imported when it is its turn
    return importlib.import_module(f"velib_core.jobs.{name}")


def _ingest(launch: _Launch) -> JobResult:
    job = _job("ingest")
    return job.run(launch.lake, launch.settings, job.Feeds(launch.settings))  # type: ignore[no-any-return]


def _for_a_day(name: str) -> Callable[[_Launch], JobResult]:
    def run(launch: _Launch) -> JobResult:
        force = launch.flag("FORCE")
        return _job(name).run(launch.lake, launch.settings, launch.day(), force=force)  # type: ignore[no-any-return]

    return run


def _compact_monthly(launch: _Launch) -> JobResult:
    force = launch.flag("FORCE")
    return _job("compact_monthly").run(launch.lake, launch.settings, launch.month(), force=force)  # type: ignore[no-any-return]


def _export_training_base(launch: _Launch) -> JobResult:
    last = launch.optional_day("DAY")
    return _job("export_training_base").run(launch.lake, launch.settings, last=last)  # type: ignore[no-any-return]


def _reconcile(launch: _Launch) -> JobResult:
    first, last = launch.optional_day("FROM"), launch.optional_day("TO")
    request = ReplayRequested(
        first=first,
        last=last or first,
        stage=launch.environ.get("STAGE") or None,
        force=launch.flag("FORCE"),
        dry_run=launch.dry,
    )
    return _job("reconcile").run(launch.lake, launch.settings, launch.publisher, request)  # type: ignore[no-any-return]


def _build_serving_forecast(launch: _Launch) -> JobResult:
    job = _job("build_serving_forecast")
    return job.run(launch.lake, launch.settings, job.WarmState())  # type: ignore[no-any-return]


def _family(name: str) -> Callable[[_Launch], JobResult]:
    """Return what runs one step of the monitoring pipeline."""

    def run(launch: _Launch) -> JobResult:
        return pipeline.run(_pipeline_run(launch), [name], continue_on_error=False)

    return run


def _pipeline_run(launch: _Launch) -> pipeline.Run:
    return pipeline.Run(
        launch.lake,
        launch.settings,
        launch.publisher,
        launch.day(),
        force=launch.flag("FORCE"),
    )


def _monitoring_pipeline(launch: _Launch) -> JobResult:
    steps = pipeline.parse_steps(launch.environ.get("STEPS", ""))
    tolerant = launch.flag("CONTINUE_ON_ERROR")
    return pipeline.run(_pipeline_run(launch), steps, continue_on_error=tolerant)


def _train_model(launch: _Launch) -> JobResult:
    """Train the horizon that HORIZON_MIN names, else every one of the settings."""
    job, last = _job("train_model"), launch.optional_day("DAY")
    combined: JobResult | None = None
    for horizon in launch.horizons():
        result = job.run(launch.lake, launch.settings, horizon, last=last)
        if combined is None:
            combined = result
        else:
            combined.outputs |= result.outputs
    return combined or job.JobResult("train_model")


JOBS: Mapping[str, Callable[[_Launch], JobResult]] = {
    "ingest": _ingest,
    "compact_daily": _for_a_day("compact_daily"),
    "compact_monthly": _compact_monthly,
    "build_datasets": _for_a_day("build_datasets"),
    "refresh_profiles": _for_a_day("refresh_profiles"),
    "export_training_base": _export_training_base,
    "train_model": _train_model,
    "build_serving_forecast": _build_serving_forecast,
    "reconcile": _reconcile,
    "build_data_freshness": _family("data_freshness"),
    "build_data_health": _family("data_health"),
    "build_data_drift": _family("data_drift"),
    "build_model_performance": _family("model_performance"),
    "build_model_explainability": _family("model_explainability"),
    "build_network_overview": _family("network_overview"),
    "build_network_stations": _family("network_stations"),
    "build_network_dynamics": _family("network_dynamics"),
    "build_monitoring_intro": _family("intro"),
    "monitoring_pipeline": _monitoring_pipeline,
    "monitoring": _monitoring_pipeline,
}
"""Every job that can be launched."""


def launch(environ: Mapping[str, str]) -> int:
    """Run the job that an environment names; return the exit code."""
    started = time.monotonic()
    name = environ.get("JOB") or "ingest"
    if name not in JOBS:
        logs.log("ERROR", str(SettingsError("JOB", name, f"one of {', '.join(JOBS)}")))
        return WRONG_SETTING
    try:
        run = _Launch(environ)
        with logs.context(job=name), _held(run):
            result = JOBS[name](run)
    except (SettingsError, LeaseBusyError) as error:
        logs.log("ERROR", str(error))
        return BUSY if isinstance(error, LeaseBusyError) else WRONG_SETTING
    except (PermanentError, TransientError) as error:
        logs.log("ERROR", f"failed: {error}", error=type(error).__name__)
        return FAILED
    duration = round(time.monotonic() - started, 3)
    logs.log("INFO", "done", **result.summary(), duration_s=duration, peak_mib=peak_mib())
    return DONE


@contextlib.contextmanager
def _held(run: _Launch) -> Iterator[None]:
    """Hold the lease that GCS_LOCK names, if any; a dry run takes none."""
    address = run.environ.get("GCS_LOCK", "")
    if not address or run.dry:
        yield
        return
    bucket, name = bucket_and_folder(address)
    if not address.startswith("gs://") or not name or bucket != run.settings.bucket:
        expected = f"gs://{run.settings.bucket}/NAME"
        raise SettingsError("GCS_LOCK", address, expected)
    with lease(run.lake, name):
        yield


if __name__ == "__main__":
    sys.exit(launch(os.environ))
