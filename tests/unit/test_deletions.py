"""One object of each kind is deleted from a lake where all is made.

The hourly check makes again whatever has its inputs, and asks for no more then; of the rest
`velib status` says which it is, with the command that restores it.
"""

from __future__ import annotations

import datetime as dt
import importlib
from typing import TYPE_CHECKING, Any

import job_table
import network
import pytest
from job_table import DAYS, HORIZONS, NEWEST
from present import present
from velib_cli.dead_letters import DeadLetters
from velib_cli.status import inspect_lake
from velib_core.events.messages import DayClosed, ReplayRequested
from velib_core.jobs import (
    build_data_freshness,
    build_datasets,
    build_monitoring_intro,
    build_network_overview,
    build_serving_forecast,
    compact_daily,
    compact_monthly,
    reconcile,
    refresh_profiles,
    train_model,
)
from velib_core.jobs.recipes.families import FAMILIES
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    ForecastLog,
    Key,
    ModelFile,
    Monitoring,
    Monthly,
    OverviewDay,
    Perf,
    Profile,
    ServingManifest,
    Snapshot,
)
from velib_core.lake.layout import Layout, month_of
from velib_core.model import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.jobs.reconcile import Fix
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

H = HORIZONS[1]
KINDS: dict[str, Any] = {
    "daily": lambda _: Daily(DAYS[-1]),
    "monthly": lambda _: Monthly(month_of(DAYS[0])),
    "profile": lambda _: Profile(DAYS[4]),
    "calibration": lambda model: CalibrationOf(H, model.folder, DAYS[-1]),
    "observations": lambda _: Events(DAYS[2]),
    "newest observations": lambda _: Events(None),
    "evaluations": lambda _: Perf(DAYS[-1]),
    "forecast log": lambda _: ForecastLog(DAYS[-1]),
    "manifest of the exports": lambda _: ExportsManifest(),
    "forecast": lambda _: Forecast(H, alias=True),
    "manifest of the forecasts": lambda _: ServingManifest(),
    "sums of a day": lambda _: OverviewDay(DAYS[3]),
    "manifest of a family": lambda _: Monitoring("data/health", "manifest.json"),
}
"""What the hourly check makes again, as the key of an object; the live model is known."""

SAMPLE = ("daily", "newest observations")


@pytest.fixture
def up_to_date(complete: Lake, quick: Settings, made: Any) -> Iterator[Lake]:
    """A lake in which nothing is asked for any more."""
    if "up_to_date" not in made:
        bring_up_to_date(complete, quick)
        made["up_to_date"] = job_table.kept(complete)
    job_table.restore(complete, made["up_to_date"])
    yield complete
    job_table.restore(complete, made["whole"])


def bring_up_to_date(lake: Lake, settings: Settings) -> None:
    """Do what the hourly check asks for until it asks for nothing."""
    for _ in range(4):
        plan = reconcile.plan(network.of(lake, settings), ReplayRequested())
        if not plan:
            return
        for fix in plan:
            react(lake, settings, fix)
    raise AssertionError([str(fix) for fix in plan])


def react(lake: Lake, settings: Settings, fix: Fix) -> None:
    """Run the functions that a published fix starts, and those that these start."""
    net = network.of(lake, settings)
    key = (
        fix.subject
        if isinstance(fix.subject, DayClosed)
        else Layout(settings).key(fix.subject.name)
    )
    match key:
        case DayClosed(day):
            compact_daily.run(net, day)
            react_to_daily(net, day)
        case Daily(day):
            react_to_daily(net, day)
        case Snapshot(bin_):
            build_serving_forecast.run(net, build_serving_forecast.WarmState(), bin_)
            build_data_freshness.run(net, bin_)
            build_network_overview.run(net, build_network_overview.WarmState(), bin_)
        case ExportsManifest():
            for family in FAMILIES:
                importlib.import_module(f"velib_core.jobs.{family.job}").run(net)
            build_network_overview.run_for_days(net, build_network_overview.WarmState())
        case _:
            build_monitoring_intro.run(net, build_monitoring_intro.WarmState())


def react_to_daily(net: Any, day: Any) -> None:
    compact_monthly.run_for_day(net, day)
    refresh_profiles.run(net, day)
    build_datasets.run(net, day)


def delete(lake: Lake, settings: Settings, key: Key) -> str:
    name = Layout(settings).name(key)
    lake.delete(present(lake.stat(name)))
    return name


def findings(lake: Lake, settings: Settings) -> dict[str, str | None]:
    """Return what status says of the lake, each with its command."""
    nobody = DeadLetters(None)
    state = inspect_lake(lake, settings, dt.datetime.now(dt.UTC), nobody, live=True)
    return {finding.text: finding.command for finding in state.findings}


def live(lake: Lake, settings: Settings) -> registry.ModelVersion:
    return present(registry.live(lake, Layout(settings), H))


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[] if k in SAMPLE else pytest.mark.slow) for k in KINDS]
)
def test_what_is_deleted_is_made_again(up_to_date: Lake, quick: Settings, kind: str) -> None:
    before, said = network.contents(up_to_date), findings(up_to_date, quick)
    delete(up_to_date, quick, KINDS[kind](live(up_to_date, quick)))
    fresh = {t: c for t, c in findings(up_to_date, quick).items() if t not in said}
    assert fresh
    assert all("publish" in present(command) for command in fresh.values()), fresh
    bring_up_to_date(up_to_date, quick)
    assert network.contents(up_to_date) == before


def test_a_file_of_the_live_model_comes_back_when_it_is_trained_again(
    up_to_date: Lake, quick: Settings
) -> None:
    before = network.contents(up_to_date)
    model = live(up_to_date, quick)
    name = delete(up_to_date, quick, ModelFile(H, model.folder, "model.ubj"))
    [command] = [c for t, c in findings(up_to_date, quick).items() if "model.ubj is missing" in t]
    assert f'{{"horizon_min": {H}}}' in present(command)
    train_model.run(network.of(up_to_date, quick), H, last=DAYS[3])
    assert up_to_date.stat(name)
    assert network.contents(up_to_date) == before


def test_the_record_of_the_live_model_is_read_in_the_pointer_and_comes_back(
    up_to_date: Lake, quick: Settings
) -> None:
    before = network.contents(up_to_date)
    model = live(up_to_date, quick)
    for file in (ModelFile(H, model.folder, registry.RECORD), ModelFile(H, None, "latest.joblib")):
        name = delete(up_to_date, quick, file)
        assert reconcile.plan(network.of(up_to_date, quick), ReplayRequested()) == []
        command = present(findings(up_to_date, quick)[f"{name} is missing"])
        assert command.endswith(
            f"rollback --bucket {quick.root} --horizon {H} --to {model.version}"
        )
        registry.promote(up_to_date, Layout(quick), model)
        assert network.contents(up_to_date) == before


def test_a_forecast_outlives_the_snapshot_that_it_was_made_from(
    up_to_date: Lake, quick: Settings
) -> None:
    delete(up_to_date, quick, Snapshot(NEWEST))
    bring_up_to_date(up_to_date, quick)


def test_a_daily_that_nothing_can_make_again_is_named_with_what_restores_it(
    up_to_date: Lake, quick: Settings
) -> None:
    name = delete(up_to_date, quick, Daily(DAYS[1]))
    for entry in list(up_to_date.entries(Layout(quick).bronze_day(DAYS[1]))):
        up_to_date.delete(entry)
    command = findings(up_to_date, quick)[f"{name} is missing, and its snapshots are deleted"]
    assert command == f"gcloud storage restore {quick.root}/{name}"
