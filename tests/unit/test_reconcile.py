import network
import pytest
from velib_core.events import DayClosed, ReplayRequested
from velib_core.grid import day_after
from velib_core.jobs import (
    build_datasets,
    build_serving_forecast,
    compact_daily,
    compact_monthly,
    reconcile,
    refresh_profiles,
)
from velib_core.layout import (
    Daily,
    Events,
    Forecast,
    Layout,
    Monthly,
    Perf,
    Profile,
    Snapshot,
    month_of,
)

DAY = network.FIRST_DAY
NEXT, AFTER = day_after(DAY), day_after(DAY, 2)


@pytest.fixture
def healthy(lake, settings):
    """A lake of two closed days, the second the last of its month, with all that follows."""
    network.upload(lake, settings, network.bins_of_days(2, every=48))
    for day in (DAY, NEXT):
        compact_daily.run(lake, settings, day)
    for day in (DAY, NEXT):
        refresh_profiles.run(lake, settings, day)
        build_datasets.run(lake, settings, day)
        compact_monthly.run_for_day(lake, settings, day)
    build_serving_forecast.run(lake, settings, build_serving_forecast.WarmState())
    return lake


def repairs(lake, settings, request=ReplayRequested()) -> list[str]:  # noqa: B008
    return [str(repair).split(":")[0] for repair in reconcile.plan(lake, settings, request)]


def notice(settings, day) -> str:
    return f"finalized {Layout(settings).name(Daily(day))}"


def test_a_healthy_lake_needs_nothing(healthy, settings):
    assert repairs(healthy, settings) == []


@pytest.mark.parametrize(
    ("key", "day"),
    [
        (Events(DAY), DAY),
        (Perf(DAY), DAY),
        (Perf(NEXT), NEXT),
        (Profile(DAY), DAY),
        (Monthly(month_of(DAY)), NEXT),
    ],
)
def test_a_missing_artefact_is_asked_for_and_nothing_else(healthy, settings, key, day):
    healthy.delete(healthy.stat(Layout(settings).name(key)))
    assert repairs(healthy, settings) == [notice(settings, day)]


def test_a_forecast_older_than_the_newest_snapshot_is_asked_for_again(healthy, settings):
    later = network.Bin(network.bins_of_days(2)[-1] + 1)
    network.upload(healthy, settings, [later])
    name = Layout(settings).name(Snapshot(later))
    assert repairs(healthy, settings) == [f"finalized {name}"]
    build_serving_forecast.run(healthy, settings, build_serving_forecast.WarmState(), later)
    assert repairs(healthy, settings) == []
    healthy.delete(healthy.stat(Layout(settings).name(Forecast(15, alias=True))))
    assert repairs(healthy, settings) == [f"finalized {name}"]


def test_a_missing_daily_is_closed_again(healthy, settings):
    healthy.delete(healthy.stat(Layout(settings).name(Daily(DAY))))
    assert f"day-closed {DAY}" in repairs(healthy, settings)


def test_a_snapshot_that_no_daily_has_seen_is_found(healthy, settings):
    network.upload(healthy, settings, [network.Bin(network.bins_of_days(1)[0] + 5)])
    assert repairs(healthy, settings) == [f"day-closed {DAY}"]


def test_the_day_under_way_is_not_closed(healthy, settings):
    assert f"day-closed {AFTER}" not in repairs(healthy, settings, ReplayRequested(force=True))


def test_force_replays_the_days_and_the_stage_that_are_asked_for(healthy, settings):
    everything = ReplayRequested(DAY, DAY, "compact_daily", force=True)
    assert repairs(healthy, settings, everything) == [f"day-closed {DAY}"]
    views = ReplayRequested(DAY, NEXT, "build_datasets", force=True)
    assert repairs(healthy, settings, views) == [notice(settings, DAY), notice(settings, NEXT)]


def test_messages_are_published_once_each_and_none_in_a_dry_run(healthy, settings):
    layout = Layout(settings)
    for key in (Events(NEXT), Monthly(month_of(DAY))):
        healthy.delete(healthy.stat(layout.name(key)))
    publisher = network.PublisherLog()
    reconcile.run(healthy, settings, publisher, ReplayRequested(dry_run=True))
    assert publisher.messages == publisher.notified == []
    reconcile.run(healthy, settings, publisher, ReplayRequested())
    assert publisher.notified == [("daily", layout.name(Daily(NEXT)), False)]
    request = ReplayRequested(DAY, DAY, "compact_daily", force=True)
    reconcile.run(healthy, settings, publisher, request)
    assert publisher.messages == [DayClosed(DAY, force=True)]


def test_an_unknown_stage_is_refused_with_the_known_ones(lake, settings):
    with pytest.raises(reconcile.UnknownStageError, match="build_datasets"):
        reconcile.plan(lake, settings, ReplayRequested(stage="everything"))
