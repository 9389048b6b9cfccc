"""``velib demo`` and ``velib replay``: a city through the real chain on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from velib_core.settings.env import as_network, as_zone
from velib_core.settings.network import Settings
from velib_core.timeline.bins import BINS_PER_DAY, Day, parse_day
from velib_local.mirror import MIRROR
from velib_local.records import RECORDS

from velib_cli.run_notes import claim_folder, keep_command, keep_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from velib_local.emulator.run import ChainReport
    from velib_local.emulator.servers import PubSubKind
    from velib_local.simulation.feed_server import FeedState

DEMO_START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
"""A Monday: the commute shows at once."""

DEMO_MORNING = dt.timedelta(hours=7, minutes=30)
"""The demo ends in the morning after its last day: half past eight in Paris, on the way to work."""

QUICK_TRAINING = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30"}
"""Enough to be better than persistence on a simulated city, in seconds."""

SNAPSHOT_EVERY = dt.timedelta(minutes=5)

PAGE = "report.html"
"""The network page that a demo leaves next to its objects."""


class _DayType(click.ParamType[Day]):
    name = "YYYY-MM-DD"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Day:
        try:
            return parse_day(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DAY = _DayType()

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_pubsub_option = click.option(
    "--pubsub",
    type=click.Choice(["embedded", "google"]),
    default="embedded",
    show_default=True,
    help="The Pub/Sub that comes with this, or Google's emulator of the Cloud SDK.",
)


_train_option = click.option(
    "--train-every",
    type=click.IntRange(1, 366),
    default=7,
    show_default=True,
    help="Train each time so many more days are over, as the weekly schedule does. A network of 3"
    " to 13 closed days trains at the end of each day all the same.",
)


@click.command()
@click.option(
    "--days",
    type=click.IntRange(1, 60),
    default=4,
    show_default=True,
    help="Days to simulate, and the morning after. All but the last day are collected before the"
    " other functions are deployed. Forecasts have numbers once models are trained.",
)
@click.option(
    "--stations",
    type=click.IntRange(2, 50_000),
    default=200,
    show_default=True,
    help="Stations of the city; Paris has 1,500.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same city.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="out/demo, or out/live",
    help="Folder that receives every object under its own name.",
)
@click.option(
    "--live",
    is_flag=True,
    help="Poll a real feed instead, every five minutes until Ctrl-C: GBFS_URL, or else Vélib'.",
)
@_train_option
@_pubsub_option
@_json_option
def demo(
    days: int,
    stations: int,
    seed: int,
    out: Path | None,
    live: bool,
    train_every: int,
    pubsub: PubSubKind,
    as_json: bool,
) -> None:
    """Run a simulated city through the real chain on this machine.

    Starts an object store, Pub/Sub and a bike-share network that is simulated for some days. The
    first days are collected by ingestion alone. Then all functions are there: they close those
    days, train models, forecast each snapshot of the last day and of the morning after, and leave
    every object that was made below --out, with the network page, report.html. On a terminal it
    opens the page.

    With --live it follows a real feed as time goes by, keeps objects and page after each snapshot,
    and goes on where an earlier live run in --out was interrupted.
    """
    if live:
        _follow(out or Path("out/live"), days, train_every, pubsub, as_json)
        return
    from velib_local.simulation.city import City  # noqa: PLC0415

    city = City(stations=stations, seed=seed, start=DEMO_START)
    count = (days * dt.timedelta(days=1) + DEMO_MORNING) // SNAPSHOT_EVERY + 1
    past = (days - 1) * dt.timedelta(days=1) // SNAPSHOT_EVERY

    def states() -> Iterator[FeedState]:
        for n in range(count):
            city.advance(DEMO_START + n * SNAPSHOT_EVERY)
            yield city.state()

    run = _Run(
        states(),
        count,
        out or Path("out/demo"),
        pubsub,
        weather=True,
        ends=False,
        train_every=train_every,
        env=QUICK_TRAINING,
        page=True,
        collect_first=past,
    )
    _run_chain(run, as_json)


@click.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Parquet or CSV of recorded observations: ts_utc, station_id, bikes, capacity, …",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that receives every object under its own name.",
)
@click.option(
    "--tz", help="IANA time zone of the city, as in America/Chicago; by default of its places."
)
@click.option("--local-times", is_flag=True, help="Times without a zone are those of --tz.")
@click.option("--name", help="Name of the network, as in chicago; else VELIB_NETWORK.")
@click.option("--from", "first", type=DAY, help="First UTC day to replay.")
@click.option("--to", "last", type=DAY, help="Last UTC day to replay.")
@_train_option
@_pubsub_option
@_json_option
def replay(
    source: Path,
    out: Path,
    tz: str | None,
    local_times: bool,
    name: str | None,
    first: Day | None,
    last: Day | None,
    train_every: int,
    pubsub: PubSubKind,
    as_json: bool,
) -> None:
    """Feed recorded observations through the real chain.

    Runs on a local cloud; nothing needs an account. Every object that the functions made is left
    as a plain file below --out, under the name it has in the bucket.
    """
    from velib_local.simulation.observations import Observations, RecordingError  # noqa: PLC0415
    from velib_local.simulation.recording import Recording  # noqa: PLC0415

    named = _named(tz, name)
    try:
        observations = Observations(source, _local_zone(tz, local_times=local_times))
        understood = observations.understood(tz or "")
        recording = Recording(observations, from_day=first, to_day=last)
    except RecordingError as error:
        raise click.ClickException(str(error)) from error
    for line in understood.lines():
        click.echo(line, err=True)
    if "MON_TZ" not in os.environ:
        named = {"MON_TZ": understood.tz} | named
    horizons = Settings.from_env({**os.environ, "GCS_BUCKET_ROOT": MIRROR}).horizons
    for minutes in understood.unevaluable(horizons):
        step = understood.step_min
        click.echo(
            f"{minutes} min ahead cannot be evaluated: observations are {step} min apart", err=True
        )
    claim_folder(out, source, understood)
    run = _Run(
        recording.snapshots(),
        len(recording),
        out,
        pubsub,
        weather=recording.has_weather,
        ends=True,
        train_every=train_every,
        env=named,
    )
    _run_chain(run, as_json)


def _local_zone(tz: str | None, *, local_times: bool) -> str:
    if local_times and not tz:
        raise click.UsageError("--local-times needs --tz, the zone that the times are of")
    return tz or "" if local_times else ""


def _named(tz: str | None, name: str | None) -> dict[str, str]:
    """Return the settings that name a city's zone and network; refuse what is neither."""
    env = {"MON_TZ": as_zone("--tz", tz)} if tz else {}
    return env | ({"VELIB_NETWORK": as_network("--name", name)} if name else {})


@dataclasses.dataclass(frozen=True)
class _Run:
    """What to feed the chain with, and where its objects go."""

    states: Iterable[FeedState]
    count: int
    out: Path
    pubsub: PubSubKind
    weather: bool
    ends: bool
    train_every: int
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    page: bool = False
    collect_first: int = 0


def _run_chain(run: _Run, as_json: bool) -> None:
    """Feed a local cloud to the end, leave its objects as files, and say what was made."""
    from velib_local.emulator import run as chain  # noqa: PLC0415
    from velib_local.emulator.cloud import local_cloud  # noqa: PLC0415
    from velib_local.simulation.feed_server import FeedServer  # noqa: PLC0415

    out = run.out
    if out.exists() and any(out.iterdir()) and not (out / RECORDS).is_dir():
        raise click.UsageError(f"--out {out} is not empty and not a folder of an earlier run")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FeedServer())
        weather = {"METEO_DISABLE": "0" if run.weather else "1"}
        env = server.environment() | weather | dict(run.env)
        first = [chain.INGEST] if run.collect_first else None
        cloud = stack.enter_context(
            local_cloud(env, first=first, kind=run.pubsub, logs=out / RECORDS)
        )
        with _progress("snapshots", run.count) as advanced:
            report = chain.run(
                cloud,
                server,
                run.states,
                advanced,
                ends=run.ends,
                train_every_days=run.train_every,
                collect_first=run.collect_first,
            )
        chain.keep(cloud, report, out)
        keep_settings(cloud.settings, out)
        keep_command(click.get_current_context(), out)
    if run.page:
        _write_page(out)
    _conclude(report, out, as_json)
    if run.page and not as_json:
        _show_page(out)
    if report.dead_letters:
        raise SystemExit(1)


def _follow(out: Path, days: int, train_every: int, pubsub: PubSubKind, as_json: bool) -> None:
    """Follow the real feed, and keep the page as new as the snapshots."""
    from velib_local.emulator.live import follow_feed  # noqa: PLC0415

    with _progress("snapshots", days * BINS_PER_DAY) as advanced:

        def kept(report: ChainReport) -> None:
            _write_page(out)
            if report.snapshots == 1 and not as_json:
                _show_page(out)
            advanced()

        report = follow_feed(out, days * BINS_PER_DAY, pubsub, train_every, kept)
    if report:
        _conclude(report, out, as_json)


def _conclude(report: ChainReport, out: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print_report(report, out)


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error; yield the function that moves it on by one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _write_page(out: Path) -> None:
    from velib_cli.commands.report import report_folder  # noqa: PLC0415 -- slow to import

    report_folder(out, out / PAGE)


def _show_page(out: Path) -> None:
    page = out / PAGE
    click.echo(f"The network page is {page}")
    if sys.stdout.isatty():
        click.launch(str(page))


def _print_report(report: ChainReport, out: Path) -> None:
    console = Console()
    objects = Table("folder", "objects", "MiB", title="What was made")
    for folder, number in sorted(report.objects.items()):
        objects.add_row(folder, str(number), f"{report.sizes[folder] / 2**20:.1f}")
    stages = Table(
        "function", "events", "failed", "lost races", "median s", "slowest s", title="Who made it"
    )
    for stage in report.stages:
        stages.add_row(
            stage.function,
            str(stage.deliveries),
            str(stage.failures),
            str(stage.lost_races),
            f"{stage.median_s:.3f}",
            f"{stage.slowest_s:.2f}",
        )
    console.print(objects, stages)
    days = f"{report.days[0]} … {report.days[-1]}" if report.days else "no day"
    console.print(
        f"{report.snapshots} snapshots of {days} in {report.seconds:.0f} s, "
        f"{report.dead_letters} messages dead-lettered."
    )
    console.print(f"Every object is a file below {out}; try: velib status --dir {out}")
