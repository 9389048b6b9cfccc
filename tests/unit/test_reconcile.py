from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import network
import pytest
from network import PublisherLog
from present import present
from velib_core import monitoring_pipeline as pipeline
from velib_core.errors import TransientError
from velib_core.events.messages import DayClosed, ReplayRequested
from velib_core.jobs import (
    build_datasets,
    build_serving_forecast,
    compact_daily,
    compact_monthly,
    reconcile,
    refresh_profiles,
)
from velib_core.lake.artefact import JSON, Artefact, StoreError
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import (
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    Key,
    Monitoring,
    Monthly,
    OverviewDay,
    Perf,
    Profile,
    Snapshot,
)
from velib_core.lake.layout import Layout, month_of
from velib_core.timeline.bins import Bin, Day, HorizonMinutes, bin_start, day_after, iso_z
from velib_core.timeline.clock import SIMULATED_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.readable import Entry
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
NEXT, AFTER = day_after(DAY), day_after(DAY, 2)


@pytest.fixture
def healthy(lake: Lake, settings: Settings) -> Lake:
    """A lake of two closed days, the second the last of its month, with all that follows."""
    network.upload(lake, settings, network.bins_of_days(2, every=48))
    for day in (DAY, NEXT):
        compact_daily.run(network.of(lake, settings), day)
    for day in (DAY, NEXT):
        refresh_profiles.run(network.of(lake, settings), day)
        build_datasets.run(network.of(lake, settings), day)
        compact_monthly.run_for_day(network.of(lake, settings), day)
    build_serving_forecast.run(network.of(lake, settings), build_serving_forecast.WarmState())
    monitor(lake, settings)
    return lake


def monitor(lake: Lake, settings: Settings) -> None:
    """Bring every monitoring family up to date."""
    pipeline.run(network.of(lake, settings), pipeline.STEPS, DAY)


def fixes(lake: Lake, settings: Settings, request: ReplayRequested | None = None) -> list[str]:
    plan = reconcile.plan(network.of(lake, settings), request or ReplayRequested())
    return [str(fix).split(":")[0] for fix in plan]


def notice(settings: Settings, day: Day) -> str:
    return f"finalized {Layout(settings).name(Daily(day))}"


def test_a_healthy_lake_needs_nothing(healthy: Lake, settings: Settings) -> None:
    assert fixes(healthy, settings) == []


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
def test_a_missing_artefact_is_asked_for_and_nothing_else(
    healthy: Lake, settings: Settings, key: Any, day: Any
) -> None:
    healthy.delete(present(healthy.stat(Layout(settings).name(key))))
    first, *others = fixes(healthy, settings)
    assert first == notice(settings, day)
    # What monitoring was made from is gone until then: that is asked for again, and no more.
    assert all(other.startswith("finalized exports/") for other in others)


def test_a_forecast_older_than_the_newest_snapshot_is_asked_for_again(
    healthy: Lake, settings: Settings
) -> None:
    later = Bin(network.bins_of_days(2)[-1] + 1)
    network.upload(healthy, settings, [later])
    name = Layout(settings).name(Snapshot(later))
    assert f"finalized {name}" in fixes(healthy, settings)
    build_serving_forecast.run(
        network.of(healthy, settings), build_serving_forecast.WarmState(), later
    )
    monitor(healthy, settings)
    assert fixes(healthy, settings) == []
    healthy.delete(
        present(healthy.stat(Layout(settings).name(Forecast(HorizonMinutes(15), alias=True))))
    )
    assert fixes(healthy, settings) == [f"finalized {name}"]


MANIFESTS: dict[str, Key] = {
    "data/health": ExportsManifest(),
    "data/drift": ExportsManifest(),
    "model/performance": ExportsManifest(),
    "model/explainability": ExportsManifest(),
    "network/stations": ExportsManifest(),
    "network/dynamics": ExportsManifest(),
    "network/overview": Snapshot(network.bins_of_days(2)[-1]),
    "data/freshness": Snapshot(network.bins_of_days(2)[-1]),
}


@pytest.mark.parametrize("family", MANIFESTS)
def test_a_family_without_its_manifest_is_asked_for_by_what_it_follows(
    healthy: Lake, settings: Settings, family: Any
) -> None:
    layout = Layout(settings)
    healthy.delete(present(healthy.stat(layout.name(Monitoring(family, "manifest.json")))))
    assert f"finalized {layout.name(MANIFESTS[family])}" in fixes(healthy, settings)


def test_an_intro_older_than_its_sources_is_asked_for_again(
    healthy: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    healthy.delete(present(healthy.stat(layout.name(Monitoring("data/drift", "summary.json")))))
    manifest = layout.name(Monitoring("network/overview", "manifest.json"))
    assert fixes(healthy, settings) == [f"finalized {manifest}"]


def test_a_day_that_the_overview_never_summed_is_asked_for(
    healthy: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    healthy.delete(present(healthy.stat(layout.name(OverviewDay(DAY)))))
    assert fixes(healthy, settings)[0] == f"finalized {layout.name(ExportsManifest())}"


@pytest.mark.parametrize("damage", ["deleted", "replaced"])
def test_a_manifest_of_the_exports_that_does_not_list_them_is_asked_for(
    healthy: Lake, settings: Settings, damage: str
) -> None:
    name = Layout(settings).name(ExportsManifest())
    entry = present(healthy.stat(name))
    if damage == "deleted":
        healthy.delete(entry)
    else:
        healthy.write(name, Artefact(b"{}", JSON, "other"), expected_generation=entry.generation)
    assert fixes(healthy, settings) == [notice(settings, NEXT)]


def test_a_missing_daily_is_closed_again(healthy: Lake, settings: Settings) -> None:
    healthy.delete(present(healthy.stat(Layout(settings).name(Daily(DAY)))))
    assert f"day-closed {DAY}" in fixes(healthy, settings)


def test_a_snapshot_that_no_daily_has_seen_is_found(healthy: Lake, settings: Settings) -> None:
    network.upload(healthy, settings, [Bin(network.bins_of_days(1)[0] + 5)])
    assert fixes(healthy, settings) == [f"day-closed {DAY}"]


@pytest.mark.parametrize(("hour", "found"), [(4, False), (3, True)])
def test_old_days_are_looked_at_once_a_day(
    lake: Lake,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hour: int,
    found: bool,
) -> None:
    clock = tmp_path / "clock"
    monkeypatch.setenv(SIMULATED_CLOCK, str(clock))
    clock.write_text(f"{day_after(DAY, 4)}T{hour:02}:17:00+00:00")
    network.upload(lake, settings, network.bins_of_days(4, every=144))
    asked = fixes(lake, settings, ReplayRequested(scheduled=True))
    days = [day_after(DAY, n) for n in range(0 if found else 1, 4)]
    assert [fix for fix in asked if "day-closed" in fix] == [f"day-closed {day}" for day in days]
    assert f"day-closed {DAY}" in fixes(lake, settings), "a request without days is of all days"


def test_the_day_under_way_is_not_closed(healthy: Lake, settings: Settings) -> None:
    assert f"day-closed {AFTER}" not in fixes(healthy, settings, ReplayRequested(force=True))


def test_force_replays_the_days_and_the_stage_that_are_asked_for(
    healthy: Lake, settings: Settings
) -> None:
    everything = ReplayRequested(DAY, DAY, "compact_daily", force=True)
    assert fixes(healthy, settings, everything) == [f"day-closed {DAY}"]
    views = ReplayRequested(DAY, NEXT, "build_datasets", force=True)
    assert fixes(healthy, settings, views) == [notice(settings, DAY), notice(settings, NEXT)]


def test_messages_are_published_once_each_and_none_in_a_dry_run(
    healthy: Lake, settings: Settings
) -> None:
    layout = Layout(settings)
    for key in (Events(NEXT), Monthly(month_of(DAY))):
        healthy.delete(present(healthy.stat(layout.name(key))))
    publisher = network.PublisherLog()
    reconcile.run(network.of(healthy, settings, publisher), ReplayRequested(dry_run=True))
    assert publisher.messages == publisher.notified == []
    reconcile.run(network.of(healthy, settings, publisher), ReplayRequested())
    assert publisher.notified[0] == ("daily", layout.name(Daily(NEXT)), False)
    assert len(set(publisher.notified)) == len(publisher.notified)
    request = ReplayRequested(DAY, DAY, "compact_daily", force=True)
    reconcile.run(network.of(healthy, settings, publisher), request)
    assert publisher.messages[-1] == DayClosed(DAY, force=True)
    assert alerts(publisher) == publisher.messages[:-1]


def alerts(publisher: PublisherLog) -> list[dict[str, Any]]:
    return [message for message in publisher.messages if isinstance(message, dict)]


def test_an_unknown_stage_is_refused_with_the_known_ones(lake: Lake, settings: Settings) -> None:
    with pytest.raises(reconcile.UnknownStageError, match="build_datasets"):
        reconcile.plan(network.of(lake, settings), ReplayRequested(stage="everything"))


def test_the_hourly_run_alerts_when_snapshots_stop_coming(lake: Lake, settings: Settings) -> None:
    publisher = network.PublisherLog()
    reconcile.run(network.of(lake, settings, publisher), ReplayRequested())
    (alert,) = alerts(publisher)
    assert (alert["code"], alert["value"], alert["artefact"]) == ("feed_silent", None, "bronze/")

    bins = network.bins_of_days(1, every=96)
    network.upload(lake, settings, bins)
    publisher = network.PublisherLog()
    reconcile.run(network.of(lake, settings, publisher), ReplayRequested())
    reconcile.run(network.of(lake, settings, publisher), ReplayRequested(dry_run=True))
    reconcile.run(network.of(lake, settings, publisher), ReplayRequested(stage="compact_daily"))
    (alert,) = alerts(publisher)
    assert alert["text"].startswith("no snapshot for ")
    assert alert["value"] > alert["threshold"] == 30
    assert alert["artefact"] == Layout(settings).name(
        Snapshot(network.bins_of_days(1, every=96)[-1])
    )


def test_silence_is_counted_from_the_newest_snapshot(lake: Lake, settings: Settings) -> None:
    bins = network.bins_of_days(1, every=96)
    network.upload(lake, settings, bins)
    then = bin_start(bins[-1])
    assert reconcile.silence(network.of(lake, settings), then + dt.timedelta(minutes=30)) is None
    alert = present(reconcile.silence(network.of(lake, settings), then + dt.timedelta(minutes=31)))
    assert (alert["value"], alert["generated_at"]) == (31.0, iso_z(then + dt.timedelta(minutes=31)))


def test_a_network_that_plays_other_days_is_not_silent_by_the_clock_of_this_machine(
    lake: Lake, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bins = network.bins_of_days(1, every=96)
    network.upload(lake, settings, bins)
    (tmp_path / "now").write_text(iso_z(bin_start(bins[-1]) + dt.timedelta(minutes=5)))
    monkeypatch.setenv(SIMULATED_CLOCK, str(tmp_path / "now"))
    publisher = network.PublisherLog()
    reconcile.run(network.of(lake, settings, publisher), ReplayRequested())
    assert alerts(publisher) == []


def test_one_stage_that_fails_stops_neither_the_alarm_nor_the_other_stages(
    healthy: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_scope: Any) -> None:
        raise KeyError("a damaged object")

    layout = Layout(settings)
    healthy.delete(present(healthy.stat(layout.name(Monthly(month_of(DAY))))))
    for stage in reconcile.STAGES:
        with monkeypatch.context() as patch:
            patch.setattr(reconcile, "STAGES", {**reconcile.STAGES, stage: broken})
            publisher = network.PublisherLog()
            with pytest.raises(reconcile.StagesFailedError, match=stage):
                reconcile.run(network.of(healthy, settings, publisher), ReplayRequested())
        assert [alert["code"] for alert in alerts(publisher)] == ["feed_silent"]
        assert bool(publisher.notified) == (stage != "compact_monthly")


def test_the_alarm_is_raised_where_no_stage_can_be_looked_at(
    healthy: Lake, settings: Settings
) -> None:
    class Unlisted(Lake):
        def entries(self, prefix: Any, *span: Any, **page: Any) -> Iterator[Entry]:
            if not prefix.startswith(Layout(settings).bronze):
                raise StoreError(prefix)
            return super().entries(prefix, *span, **page)

    # What an operator asks for is delivered again; the schedule asks again by itself.
    for scheduled, error in (
        (True, reconcile.StagesFailedError),
        (False, reconcile.StagesUnavailableError),
    ):
        publisher = network.PublisherLog()
        net = network.of(Unlisted(healthy.bucket), settings, publisher)
        with pytest.raises(error, match="compact_monthly"):
            reconcile.run(net, ReplayRequested(scheduled=scheduled))
        assert [alert["code"] for alert in alerts(publisher)] == ["feed_silent"]


def test_the_alarm_is_raised_where_the_store_does_not_list_the_snapshots(
    healthy: Lake, settings: Settings
) -> None:
    class Unlisted(Lake):
        def folders(self, prefix: str) -> list[str]:
            raise StoreError(f"{prefix}: 403")

    publisher = network.PublisherLog()
    net = network.of(Unlisted(healthy.bucket), settings, publisher)
    with pytest.raises(reconcile.StagesFailedError, match="compact_daily"):
        reconcile.run(net, ReplayRequested(scheduled=True))
    [alert] = alerts(publisher)
    assert (alert["code"], alert["value"]) == ("feed_silent", None)
    assert "403" in alert["text"]


@pytest.mark.parametrize("topic", ["daily", "exports"])
def test_a_topic_that_takes_no_message_costs_its_own_messages_only(
    healthy: Lake, settings: Settings, topic: str
) -> None:
    layout = Layout(settings)
    for key in (Profile(DAY), Monitoring("data/health", "manifest.json"), Monthly(month_of(DAY))):
        healthy.delete(present(healthy.stat(layout.name(key))))
    tried: list[str] = []

    class Refusing(PublisherLog):
        def republish(self, to: str, entry: Any, *, force: bool = False) -> None:
            tried.append(to)
            if to == topic:
                raise TransientError(f"publishing to {to} failed: 404")
            super().republish(to, entry, force=force)

    publisher = Refusing()
    with pytest.raises(reconcile.StagesUnavailableError, match=f"topic {topic}"):
        reconcile.run(network.of(healthy, settings, publisher), ReplayRequested(scheduled=True))
    assert tried.count(topic) == 1
    assert {to for to, _, _ in publisher.notified} == {"daily", "exports"} - {topic}


def test_a_folder_that_cannot_be_listed_is_asked_for_once(
    healthy: Lake, settings: Settings
) -> None:
    asked: list[str] = []

    class Unlisted(Lake):
        def entries(self, prefix: Any, *span: Any, **page: Any) -> Iterator[Entry]:
            asked.append(prefix)
            if prefix == f"{Layout(settings).daily}/":
                raise StoreError(prefix)
            return super().entries(prefix, *span, **page)

    net = network.of(Unlisted(healthy.bucket), settings)
    with pytest.raises(reconcile.StagesFailedError):
        reconcile.run(net, ReplayRequested(scheduled=True))
    assert asked.count(f"{Layout(settings).daily}/") == 1
