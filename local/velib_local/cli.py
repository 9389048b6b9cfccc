"""The ``velib`` command: what a person types to see the suite at work and to look after it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from velib_core.errors import PermanentError, TransientError
from velib_core.grid import Day, parse_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from velib_local.chain import ChainReport
    from velib_local.cloud import PubSubKind
    from velib_local.feed_server import FeedServer, FeedState

DEMO_START = dt.datetime(2025, 11, 3, tzinfo=dt.UTC)
"""A Monday: the commute shows at once."""

QUICK_TRAINING = {"TRAIN_MAX_ROWS": "40000", "TRAIN_ROUNDS": "30"}
"""Enough to beat persistence on a simulated city, in seconds."""

SNAPSHOT_EVERY = dt.timedelta(minutes=5)

PAGE = "report.html"
"""The network page that a demo leaves beside its objects."""

LAZY = {
    "backtest": "velib_local.backtest_command",
    "models": "velib_local.model_commands",
    "report": "velib_local.report_command",
    "rollback": "velib_local.model_commands",
    "store": "velib_local.store_command",
}
"""Commands whose modules are heavy; imported when they are called."""


class _Commands(click.Group):
    """The commands, the heavy ones imported only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:
            import importlib  # noqa: PLC0415

            command = getattr(importlib.import_module(LAZY[cmd_name]), cmd_name)
            return command if isinstance(command, click.Command) else None
        return super().get_command(ctx, cmd_name)


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


def _train_option(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--train-every",
        type=click.IntRange(1, 366),
        default=default,
        show_default=True,
        help="Train each time so many more days are over.",
    )


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="velib-forecast")
def cli() -> None:
    """Vélib' Forecast: a bike-share feed into a lake, forecasts and monitoring, by events.

    Start with `velib demo`: it runs the whole cloud on this machine and shows what it makes.
    Then `velib status --dir out/demo`. Each command explains itself: `velib status --help`.
    """


@cli.command()
@click.option(
    "--days",
    type=click.IntRange(1, 60),
    default=4,
    show_default=True,
    help="Days to simulate. Forecasts have numbers from the third night on.",
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
    default=Path("out/demo"),
    show_default=True,
    help="Folder that receives every object under its own name.",
)
@_train_option(3)
@_pubsub_option
@_json_option
def demo(
    days: int,
    stations: int,
    seed: int,
    out: Path,
    train_every: int,
    pubsub: PubSubKind,
    as_json: bool,
) -> None:
    """Run a simulated city through the real chain on this machine.

    Starts an object store, Pub/Sub and every function, simulates a bike-share network for some
    days, trains models on the way, forecasts from then on, and leaves every object that was made
    below --out, with the network page, report.html, beside them. On a terminal it opens the page.
    """
    from velib_local.city import City  # noqa: PLC0415

    city = City(stations=stations, seed=seed, start=DEMO_START)
    count = days * (dt.timedelta(days=1) // SNAPSHOT_EVERY) + 1

    def states() -> Iterator[FeedState]:
        for n in range(count):
            city.advance(DEMO_START + n * SNAPSHOT_EVERY)
            yield city.state()

    run = _Run(
        states(),
        count,
        out,
        pubsub,
        weather=True,
        ends=False,
        train_every=train_every,
        env=QUICK_TRAINING,
        page=True,
    )
    _run_chain(run, as_json)


@cli.command()
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Parquet of recorded observations: ts_utc, station_id, bikes, capacity, …",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that receives every object under its own name.",
)
@click.option("--from", "first", type=DAY, help="First UTC day to replay.")
@click.option("--to", "last", type=DAY, help="Last UTC day to replay.")
@_train_option(7)
@_pubsub_option
@_json_option
def replay(
    source: Path,
    out: Path,
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
    from velib_local.recording import Recording  # noqa: PLC0415

    recording = Recording(source, from_day=first, to_day=last)
    run = _Run(
        recording.snapshots(),
        len(recording),
        out,
        pubsub,
        weather=recording.has_weather,
        ends=True,
        train_every=train_every,
    )
    _run_chain(run, as_json)


@cli.command()
@click.option("--bucket", help="gs://BUCKET[/FOLDER] of a deployed network.")
@click.option("--project", help="Project of the deployed network; its dead letters are there.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that demo or replay left.",
)
@_json_option
def status(bucket: str | None, project: str | None, folder: Path | None, as_json: bool) -> None:
    """Show what is there, how fresh, what is missing or stale, and what was given up.

    Snapshots and days, live models, standing alerts, quarantine and dead letters. Changes
    nothing. Exits with 1 where something needs attention.
    """
    from velib_local.dead_letters import given_up, waiting  # noqa: PLC0415
    from velib_local.folder_lake import open_lake  # noqa: PLC0415
    from velib_local.status import look, rows  # noqa: PLC0415

    lake, settings = open_lake(bucket, folder, project)
    dead_letters = given_up(folder) if folder is not None else waiting(settings)
    state = look(lake, settings, dt.datetime.now(dt.UTC), dead_letters, live=folder is None)
    if as_json:
        click.echo(json.dumps(state.as_json(), indent=2))
    else:
        table = Table(title=f"Network {state.network}", show_header=False)
        for what, told in rows(state):
            table.add_row(what, escape(told))
        Console().print(table)
        verdict = [f"- {escape(line)}" for line in state.attention]
        Console().print("\n".join(["Needs attention:", *verdict] if verdict else ["All is well."]))
    if not state.healthy:
        raise SystemExit(1)


@cli.command()
@_json_option
def doctor(as_json: bool) -> None:
    """Check settings, bucket, rights, topics and feeds, and say what to do.

    Reads the same environment as the functions. Exits with 1 where a check failed.
    """
    from velib_local.doctor import examine  # noqa: PLC0415

    checks = examine(os.environ)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        table = Table("check", "result", "detail")
        for check in checks:
            table.add_row(check.name, check.result, check.detail)
        Console().print(table)
    if any(check.result == "failed" for check in checks):
        raise SystemExit(1)


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


def _run_chain(run: _Run, as_json: bool) -> None:
    """Feed a local cloud to the end, leave its objects as files, and say what was made."""
    from velib_local import chain  # noqa: PLC0415
    from velib_local.cloud import local_cloud  # noqa: PLC0415
    from velib_local.feed_server import FeedServer  # noqa: PLC0415

    out = run.out
    if out.exists() and any(out.iterdir()) and not (out / chain.RECORDS).is_dir():
        raise click.UsageError(f"--out {out} is not empty and not a folder of an earlier run")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(FeedServer())
        env = _feed_env(server, weather=run.weather) | dict(run.env)
        cloud = stack.enter_context(local_cloud(env, kind=run.pubsub, logs=out / chain.RECORDS))
        with _progress("snapshots", run.count) as advanced:
            report = chain.run(
                cloud,
                server,
                run.states,
                advanced,
                ends=run.ends,
                train_every_days=run.train_every,
            )
        chain.keep(cloud, report, out)
    if run.page:
        _write_page(out)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print_report(report, out)
        if run.page:
            _show_page(out)
    if report.dead_letters:
        raise SystemExit(1)


def _feed_env(server: FeedServer, *, weather: bool) -> dict[str, str]:
    return {
        "GBFS_URL": f"{server.base_url}/gbfs/2/gbfs.json",
        "OPENMETEO_URL": f"{server.base_url}/v1/forecast",
        "METEO_DISABLE": "0" if weather else "1",
    }


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
    from velib_local.report_command import report_folder  # noqa: PLC0415 -- slow to import

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
    stages = Table("function", "events", "failed", "median s", "slowest s", title="Who made it")
    for stage in report.stages:
        stages.add_row(
            stage.function,
            str(stage.deliveries),
            str(stage.failures),
            f"{stage.median_s:.3f}",
            f"{stage.slowest_s:.2f}",
        )
    console.print(objects, stages)
    days = f"{report.days[0]} … {report.days[-1]}" if report.days else "no day"
    console.print(
        f"{report.snapshots} snapshots of {days} in {report.seconds:.0f} s, "
        f"{report.dead_letters} messages given up."
    )
    console.print(f"Every object is a file below {out}; try: velib status --dir {out}")


def main(argv: list[str] | None = None) -> Any:  # noqa: ANN401 -- what click returns
    """Run the command; known failures are one line and exit code 1.

    A terminated command stops every server that it started, as an interrupted one does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return cli.main(args=argv, prog_name="velib")
    except (PermanentError, TransientError, RuntimeError) as error:
        _fail(str(error))
    except Exception as error:
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 -- 0.2 s of every start

        if not isinstance(error, GoogleAuthError):
            raise
        _fail(f"no access to Google Cloud: run `gcloud auth application-default login` ({error})")


def _fail(told: str) -> NoReturn:
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {told}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
