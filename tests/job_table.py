"""Every job on a lake where all is made: what happens first, and what it then has to do."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
from typing import TYPE_CHECKING, Any

import network
from present import present
from velib_core.events.messages import ReplayRequested, TrainRequested
from velib_core.feeds.open_meteo import Weather
from velib_core.feeds.poll import Feeds
from velib_core.jobs import (
    build_data_freshness,
    build_datasets,
    build_monitoring_intro,
    build_network_overview,
    build_serving_forecast,
    close_day,
    compact_daily,
    compact_monthly,
    export_training_base,
    ingest,
    reconcile,
    refresh_profiles,
    train_model,
)
from velib_core.jobs.recipes.families import FAMILIES
from velib_core.lake.artefact import PARQUET, Artefact, is_same
from velib_core.lake.keys import Daily, Key, Monitoring, ServingManifest, Snapshot
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.tables import snapshot
from velib_core.timeline.bins import Bin, Day, HorizonMinutes, day_after, first_bin
from velib_local.simulation.feed_server import FeedServer
from velib_local.simulation.feed_state import FeedState, StationInformation, StationStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

HORIZONS = (HorizonMinutes(15), HorizonMinutes(60))
DAYS = [day_after(network.FIRST_DAY, n) for n in range(7)]
"""The first month ends with the second of them; models are trained on the first four."""

TODAY = day_after(DAYS[-1])
LATE = DAYS[4]
"""The day of which more comes to be known when everything is made already."""

POLLED = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
"""When the ingested feed was made: by the clock of this machine, so its stamp is accepted."""

EVERY = 3
NEWEST = Bin(first_bin(TODAY) + 60)


@dataclasses.dataclass(frozen=True)
class Job:
    """A job on the made lake.

    ``before`` is what happens in the lake first, ``seal`` the object that is written last and
    says that all is there, ``stage`` what reconcile calls the job.
    """

    work: Callable[..., Any]
    before: Callable[..., Any] = lambda _lake, _settings: None
    seal: Key | None = None
    stage: str | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])


def snapshots_come(lake: Lake, settings: Settings, day: Day = LATE, offset: Any = 1) -> None:
    """Snapshots of a day come late, between those that are there; a station was in them twice."""
    for bin_ in map(Bin, range(first_bin(day) + offset, first_bin(day) + 288, 24)):
        rows, _ = snapshot.validate(network.snapshot_table(bin_), bin_)
        reported = snapshot.with_repeats(rows, {"1000": 1})
        network.put(lake, Layout(settings).name(Snapshot(bin_)), snapshot.to_bytes(reported))


def a_day_changes(lake: Lake, settings: Settings) -> None:
    snapshots_come(lake, settings)
    compact_daily.run(network.of(lake, settings), LATE)


def profiles_change(lake: Lake, settings: Settings) -> None:
    a_day_changes(lake, settings)
    refresh_profiles.run(network.of(lake, settings), LATE)


def profiles_change_that_views_of_later_days_follow(lake: Lake, settings: Settings) -> None:
    """What reconcile asks for is then of the day that changed alone."""
    profiles_change(lake, settings)
    build_datasets.run(network.of(lake, settings), DAYS[-1])


def a_model_goes_live(lake: Lake, settings: Settings) -> None:
    """The model of an hour is trained again, on the same days."""
    before = present(registry.live(lake, Layout(settings), HORIZONS[1])).folder
    better = dataclasses.replace(settings, train_rounds=17)
    train_model.run(network.of(lake, better), HORIZONS[1], last=DAYS[3])
    assert present(registry.live(lake, Layout(settings), HORIZONS[1])).folder != before


def views_change(lake: Lake, settings: Settings) -> None:
    profiles_change(lake, settings)
    for day in DAYS:
        build_datasets.run(network.of(lake, settings), day)


def a_snapshot_comes(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, [Bin(NEWEST + 1)])


def monitoring_changes(lake: Lake, settings: Settings) -> None:
    inspect_project(network.of(lake, settings))


def compact(net: Any) -> JobResult:
    return compact_daily.run(net, LATE)


def first_snapshots_come(lake: Lake, settings: Settings) -> None:
    """Snapshots of a day come late, when the others are gone already."""
    snapshots_come(lake, settings, DAYS[0])


def compact_first(net: Any) -> JobResult:
    return compact_daily.run(net, DAYS[0])


def compact_month(net: Any) -> JobResult:
    return compact_monthly.run_for_day(net, DAYS[1])


def months_change(lake: Lake, settings: Settings) -> None:
    """The last day of one month changes, and the next month is over."""
    snapshots_come(lake, settings, DAYS[1])
    compact_daily.run(network.of(lake, settings), DAYS[1])


def refresh(net: Any) -> JobResult:
    return refresh_profiles.run(net, LATE)


def calibrate(net: Any) -> JobResult:
    return refresh_profiles.run_for_model(net, HORIZONS[1])


def export(net: Any) -> JobResult:
    return build_datasets.run(net, LATE)


def hindcast(net: Any) -> JobResult:
    return build_datasets.run_for_model(net, HORIZONS[1])


def serve(net: Any) -> JobResult:
    warm = build_serving_forecast.WarmState()
    return build_serving_forecast.run(net, warm, Bin(NEWEST + 1))


def inspect_project(net: Network) -> JobResult:
    warm = build_network_overview.WarmState()
    return build_network_overview.run_for_days(net, warm)


def see_age(net: Any) -> JobResult:
    return build_data_freshness.run(net, Bin(NEWEST + 1))


def show(net: Any) -> JobResult:
    return build_monitoring_intro.run(net, build_monitoring_intro.WarmState())


def ask(net: Any) -> JobResult:
    request = TrainRequested(None, 3)
    return export_training_base.on_request(net, request)


def close(net: Any) -> JobResult:
    return close_day.run(net, close_day.WarmState(), first_bin(day_after(TODAY)))


def a_day_begins(lake: Lake, settings: Settings) -> None:
    network.upload(lake, settings, [first_bin(day_after(TODAY))])


def reconcile_day(net: Any) -> JobResult:
    return reconcile.run(net, ReplayRequested(LATE))


def train(net: Any) -> JobResult:
    return train_model.run(net, HORIZONS[1], last=DAYS[3])


def look(net: Any) -> JobResult:
    """Ingest a feed of two stations, of which one has a count that cannot be."""
    places = StationInformation(["1", "2"], ["A", "B"], [48.8, 48.9], [2.3, 2.4], [20, 30])
    counts = StationStatus(["1", "2"], [3, 4], mechanical=[3, 4], ebike=[0, -1])
    with FeedServer() as server:
        server.show(FeedState(POLLED, POLLED, places, counts, Weather(11.0, 0.5, 3.0)))
        at = {
            "gbfs_url": f"{server.base_url}/gbfs/2/gbfs.json",
            "weather_url": f"{server.base_url}/v1/forecast",
        }
        settings = dataclasses.replace(net.settings, **at)
        return ingest.run(dataclasses.replace(net, settings=settings), Feeds(settings))


def monitored(run: Any, folder: str, stage: str, before: Any = views_change) -> Job:
    return Job(run, before, Monitoring(folder, "manifest.json"), stage)


def run_of(job: Any) -> Any:
    return importlib.import_module(f"velib_core.jobs.{job}").run


JOBS = {
    "compact_daily": Job(compact, snapshots_come, Daily(LATE), "compact_daily"),
    # What it leaves is left to the bucket's lifecycle: reconcile does not look for it.
    "compact_daily that deletes": Job(
        compact_first, first_snapshots_come, changes={"delete_after_compact": True}
    ),
    "compact_monthly": Job(compact_month, months_change, stage="compact_monthly"),
    "refresh_profiles": Job(refresh, a_day_changes, stage="refresh_profiles"),
    "refresh_profiles for a model": Job(calibrate, a_model_goes_live, stage="refresh_profiles"),
    "build_datasets": Job(
        export, profiles_change_that_views_of_later_days_follow, stage="build_datasets"
    ),
    "build_datasets for a model": Job(hindcast, a_model_goes_live, stage="build_datasets"),
    "build_serving_forecast": Job(
        serve, a_snapshot_comes, ServingManifest(), "build_serving_forecast"
    ),
    **{
        family.job: monitored(
            importlib.import_module(f"velib_core.jobs.{family.job}").run, family.folder, family.job
        )
        for family in FAMILIES
    },
    "build_network_overview": monitored(
        inspect_project, "network/overview", "build_network_overview"
    ),
    "build_data_freshness": monitored(
        see_age, "data/freshness", "build_data_freshness", a_snapshot_comes
    ),
    "build_monitoring_intro": monitored(
        show, "intro", "build_monitoring_intro", monitoring_changes
    ),
    "export_training_base": Job(ask),
    "ingest": Job(look),
    "close_day": Job(close, a_day_begins),
    "reconcile": Job(reconcile_day, a_day_changes),
    "train_model": Job(train, changes={"train_rounds": 17}),
}


def make_all(lake: Lake, settings: Settings) -> None:
    """Make a lake of seven closed days in two months, with models, and a morning."""
    for day in DAYS:
        bins = [Bin(first_bin(day) + n) for n in range(0, 288, EVERY)]
        if day not in {DAYS[1], *DAYS[4:]}:  # its snapshots are not needed again
            tables = [snapshot.validate(network.snapshot_table(bin_), bin_)[0] for bin_ in bins]
            daily = compact_daily.to_bytes(compact_daily.assemble(tables))
            network.put(lake, Layout(settings).name(Daily(day)), daily)
            bins = []
        network.upload(lake, settings, bins[:24])
        if day > DAYS[4]:
            serving = build_serving_forecast.run(
                network.of(lake, settings), build_serving_forecast.WarmState()
            )
            assert serving.counts["h60_forecasts"]
        network.upload(lake, settings, bins[24:])
        compact_daily.run(network.of(lake, settings), day)
        refresh_profiles.run(network.of(lake, settings), day)
        if day == DAYS[3]:
            for horizon in HORIZONS:
                train_model.run(network.of(lake, settings), horizon)
                assert registry.live(lake, Layout(settings), horizon)
                refresh_profiles.run_for_model(network.of(lake, settings), horizon)
    for day in DAYS:
        build_datasets.run(network.of(lake, settings), day)
        compact_monthly.run_for_day(network.of(lake, settings), day)
    network.upload(lake, settings, [Bin(first_bin(TODAY) + n) for n in range(0, 61, EVERY)])
    build_serving_forecast.run(network.of(lake, settings), build_serving_forecast.WarmState())


def kept(lake: Lake) -> dict[str, Artefact]:
    """Return every object with what it was made from."""
    return {
        entry.name: Artefact(lake.read(entry), PARQUET, present(entry.fingerprint))
        for entry in lake.entries("")
    }


def restore(lake: Lake, objects: Any) -> None:
    """Make a lake hold these objects and no others."""
    held = {entry.name: entry for entry in lake.entries("")}
    for name in held.keys() - objects.keys():
        lake.delete(held[name])
    for name, artefact in objects.items():
        current = held.get(name)
        if current is None or not is_same(current, artefact):
            generation = current.generation if current else 0
            lake.write(name, artefact, expected_generation=generation)


def before_job(
    job: Job, lake: Lake, settings: Settings, made: dict[object, dict[str, Artefact]]
) -> dict[str, Artefact]:
    """Return the objects of a complete lake in which that happened which the job follows."""
    if job.before not in made:
        job.before(lake, settings)
        made[job.before] = kept(lake)
    return made[job.before]
