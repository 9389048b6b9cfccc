"""Run any job by name outside a function.

``JOB=compact_daily DAY=2025-11-01 python -m velib_core.launcher`` runs the same code as the
function, for a Cloud Run job or for a person at a terminal. Environment:

* ``JOB`` — the name of the job; there is none by default, since `ingest` polls the live feed.
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
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from google.auth.exceptions import GoogleAuthError

from velib_core import logs
from velib_core import monitoring_pipeline as pipeline
from velib_core.errors import PermanentError, TransientError
from velib_core.events.dry_run import DryPublisher
from velib_core.events.handler import peak_mib
from velib_core.events.messages import ReplayRequested
from velib_core.events.network import Network
from velib_core.events.publisher import Publisher
from velib_core.lake.bucket import connect
from velib_core.lake.dry_run import DryLake
from velib_core.lake.layout import month_of, parse_month
from velib_core.lake.lease import LeaseBusyError, lease
from velib_core.settings.env import SettingsError, as_flag
from velib_core.settings.network import Settings, bucket_and_folder
from velib_core.timeline.bins import Day, HorizonMinutes, day_after, horizon_bins, parse_day, today

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from velib_core.events.job import Job
    from velib_core.lake.keys import Month

T = TypeVar("T")

DONE, FAILED, WRONG_SETTING, BUSY = 0, 1, 2, os.EX_TEMPFAIL


class _Launch:
    """One launch: the environment, read with errors that name the variable, and its settings."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.settings = Settings.from_env(environ)
        self.dry = self.flag("DRY_RUN")

    def network(self) -> Network:
        """Open the network; of a dry run one that writes and publishes nothing."""
        lake, publisher = connect(self.settings), Publisher(self.settings)
        if self.dry:
            lake, publisher = DryLake(lake.bucket), DryPublisher(self.settings)
        return Network(self.settings, lake, publisher)

    def flag(self, name: str) -> bool:
        return as_flag(name, self.environ.get(name, ""))

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

    def replay(self) -> ReplayRequested:
        first, last = self.optional_day("FROM"), self.optional_day("TO")
        stage = self.environ.get("STAGE") or None
        force = self.flag("FORCE")
        return ReplayRequested(first, last or first, stage, force=force, dry_run=self.dry)

    def _parse(self, name: str, raw: str, parse: Callable[[str], T], expected: str) -> T:
        try:
            return parse(raw)
        except (ValueError, OverflowError):
            raise SettingsError(name, raw, expected) from None


STEPS = {
    "build_data_freshness": "data_freshness",
    "build_data_health": "data_health",
    "build_data_drift": "data_drift",
    "build_model_performance": "model_performance",
    "build_model_explainability": "model_explainability",
    "build_network_overview": "network_overview",
    "build_network_stations": "network_stations",
    "build_network_dynamics": "network_dynamics",
    "build_monitoring_intro": "intro",
    "compact_daily": "compact_daily",
    "build_datasets": "datasets",
}
"""The jobs that are steps of the monitoring pipeline too."""

JOBS = (
    "ingest",
    "compact_monthly",
    "refresh_profiles",
    "export_training_base",
    "train_model",
    "build_serving_forecast",
    "reconcile",
    *STEPS,
    "monitoring_pipeline",
    "monitoring",
)
"""Every job that can be launched."""


def job_of(name: str, launch: _Launch) -> Job:
    """Return a job, bound to what the environment says that it is about; only it is imported.

    Raises `SettingsError` where there is none of the name, or a variable is wrong.
    """
    match name:
        case "ingest":
            from velib_core.feeds.poll import Feeds
            from velib_core.jobs import ingest

            return partial(ingest.run, feeds=Feeds(launch.settings))
        case "compact_monthly":
            from velib_core.jobs import compact_monthly

            return partial(compact_monthly.run, month=launch.month(), force=launch.flag("FORCE"))
        case "refresh_profiles":
            from velib_core.jobs import refresh_profiles

            return partial(refresh_profiles.run, day=launch.day(), force=launch.flag("FORCE"))
        case "export_training_base":
            from velib_core.jobs import export_training_base

            return partial(export_training_base.run, last=launch.optional_day("DAY"))
        case "train_model":
            from velib_core.jobs import train_model

            horizons, last = launch.horizons(), launch.optional_day("DAY")
            return partial(train_model.run_for_horizons, horizons=horizons, last=last)
        case "build_serving_forecast":
            from velib_core.jobs import build_serving_forecast

            return partial(build_serving_forecast.run, warm=build_serving_forecast.WarmState())
        case "reconcile":
            from velib_core.jobs import reconcile

            return partial(reconcile.run, request=launch.replay())
        case "monitoring_pipeline" | "monitoring":
            steps = pipeline.parse_steps(launch.environ.get("STEPS", ""))
            tolerant, force = launch.flag("CONTINUE_ON_ERROR"), launch.flag("FORCE")
            day = launch.day()
            return partial(
                pipeline.run, steps=steps, day=day, force=force, continue_on_error=tolerant
            )
        case _ if name in STEPS:
            return pipeline.job_of(STEPS[name], launch.day(), force=launch.flag("FORCE"))
        case _:
            raise SettingsError("JOB", name, f"one of {', '.join(JOBS)}")


def launch(environ: Mapping[str, str]) -> int:
    """Run the job that an environment names; return the exit code."""
    started = time.monotonic()
    name = environ.get("JOB", "")
    try:
        asked = _Launch(environ)
        job, network = job_of(name, asked), asked.network()
        with logs.context(job=name), _held(asked, network):
            result = job(network)
    except (SettingsError, LeaseBusyError) as error:
        logs.log("ERROR", str(error))
        return BUSY if isinstance(error, LeaseBusyError) else WRONG_SETTING
    except (PermanentError, TransientError) as error:
        logs.log("ERROR", f"failed: {error}", error=type(error).__name__)
        return FAILED
    except GoogleAuthError as error:
        way_out = "run `gcloud auth application-default login`"
        logs.log("ERROR", f"no access to Google Cloud: {way_out} ({error})")
        return FAILED
    if result.outputs and set(result.outputs.values()) == {"absent"}:
        missing = ", ".join(result.outputs)
        text = f"nothing was written: no input to make {missing} from; DAY or MONTH names another"
        logs.log("WARNING", text, job=name)
    duration = round(time.monotonic() - started, 3)
    logs.log("INFO", "done", **result.summary(), duration_s=duration, peak_mib=peak_mib())
    return DONE


@contextlib.contextmanager
def _held(asked: _Launch, network: Network) -> Iterator[None]:
    """Hold the lease that GCS_LOCK names, if any; a dry run takes none."""
    address = asked.environ.get("GCS_LOCK", "")
    if not address or asked.dry:
        yield
        return
    bucket, name = bucket_and_folder(address)
    if not address.startswith("gs://") or not name or bucket != asked.settings.bucket:
        expected = f"gs://{asked.settings.bucket}/NAME"
        raise SettingsError("GCS_LOCK", address, expected)
    with lease(network.lake, name):
        yield


if __name__ == "__main__":
    sys.exit(launch(os.environ))
