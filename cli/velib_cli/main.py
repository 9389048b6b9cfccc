"""The ``velib`` command: what a person types to see the suite at work and to look after it."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from velib_core.errors import PermanentError, TransientError

from velib_cli.options import bucket_option, folder_option, json_option, settings_option

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from velib_cli.doctor import Check
    from velib_cli.status import LakeStatus

LAZY = {
    "backtest": ("backtest", "Evaluate forecasts on the last days of a recording."),
    "demo": ("run", "Run a simulated city through the real chain on this machine."),
    "feed": ("feed", "Show what ingestion understands of a feed."),
    "models": ("models", "List the models, their accuracy, and which is live."),
    "query": ("query", "Ask a question of the lake in SQL."),
    "replay": ("run", "Feed recorded observations through the real chain."),
    "report": ("report", "Write the network page: one HTML file that works offline."),
    "rollback": ("models", "Make an earlier model the live one, from the next snapshot on."),
    "store": ("store", "Serve what a run left as a bucket, to run functions by hand."),
}
"""Commands whose modules are heavy: the module, imported when the command is called, and the
command's own first line, so that a list of the commands imports none."""


class _Commands(click.Group):
    """The commands, the heavy ones imported only when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:
            import importlib  # noqa: PLC0415

            module = importlib.import_module(f"velib_cli.commands.{LAZY[cmd_name][0]}")
            command = getattr(module, cmd_name)
            return command if isinstance(command, click.Command) else None
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        lines = {name: line for name, (_, line) in LAZY.items()}
        lines |= {name: command.short_help or "" for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="velib-forecast")
def cli() -> None:
    """Vélib' Forecast: a bike-share feed into a lake, forecasts and monitoring, by events.

    Start with `velib demo`: it runs the whole cloud on this machine, a few minutes long, and opens
    a page of what it made. Then `velib status --dir out/demo`. Each command explains itself, as in
    `velib status --help`.

    \b
    A city of your own:                 feed  (URL)
    A folder that demo or replay left:  report, status, models, store  (--dir)
    A deployed network:                 doctor, report, status, models, rollback  (--bucket)
    Your own recording:                 replay, backtest  (--source)
    """  # noqa: D301 -- a backspace tells click to leave these lines as they are


@cli.command(short_help="Show what is there, how fresh, what is missing.")
@bucket_option
@click.option("--project", help="Project of the deployed network; its dead letters are there.")
@folder_option
@settings_option
@json_option
def status(
    bucket: str | None,
    project: str | None,
    folder: Path | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Say in one sentence whether a network is well, and what to type where it is not.

    Then what there is: snapshots and days, live models, standing alerts, quarantine and dead
    letters. Documents, models and the forecast log are compared with what was written. Changes
    nothing. Exits with 1 where something needs attention.
    """
    from velib_cli.status_text import advice, rows, sentence  # noqa: PLC0415

    state = _inspect(bucket, project, folder, settings_file)
    if as_json:
        click.echo(json.dumps(state.as_json(), indent=2))
    else:
        click.echo(click.style(sentence(state), bold=True))
        for line in advice(state):
            click.echo(line)
        table = Table(title=f"Network {escape(state.network)}, {state.tz}", show_header=False)
        for what, reported in rows(state):
            table.add_row(what, escape(reported))
        Console().print(table)
    if not state.healthy:
        raise SystemExit(1)


def _inspect(
    bucket: str | None, project: str | None, folder: Path | None, settings_file: Path | None
) -> LakeStatus:
    from velib_cli.dead_letters import dead_lettered, waiting  # noqa: PLC0415
    from velib_cli.run_notes import command_that_made  # noqa: PLC0415
    from velib_cli.status import inspect_lake  # noqa: PLC0415
    from velib_cli.targets import open_lake  # noqa: PLC0415

    lake, settings = open_lake(bucket, folder, project, settings_file)
    with Console(stderr=True).status(f"Looking at {escape(str(bucket or folder))}"):
        dead_letters = dead_lettered(folder) if folder is not None else waiting(settings)
        now = dt.datetime.now(dt.UTC)
        place = f"--dir {folder}" if folder is not None else None
        remake = command_that_made(folder) if folder is not None else None
        live = folder is None
        return inspect_lake(
            lake, settings, now, dead_letters, live=live, place=place, remake=remake
        )


@cli.command(short_help="Check a deployment or a folder, and say how to fix it.")
@bucket_option
@click.option("--project", help="Its project: topics, rights and functions are looked at too.")
@click.option("--region", help="Its region, as in europe-west1.")
@folder_option
@settings_option
@json_option
def doctor(
    bucket: str | None,
    project: str | None,
    region: str | None,
    folder: Path | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Check a deployment from the outside, and say what to type where something is wrong.

    Settings, feeds, clock, bucket, newest snapshot, and everything that deploy.sh makes, held to
    its plan. Without --bucket settings are read from the environment, as the functions read
    them. With --dir the contents of a folder are checked. Changes nothing. Exits with 1 where a
    check failed.
    """
    from velib_cli.doctor import examine, examine_contents  # noqa: PLC0415
    from velib_cli.printed import harmless  # noqa: PLC0415

    if folder is not None:
        found: Iterable[Check] = examine_contents(_inspect(bucket, project, folder, settings_file))
    else:
        found = examine(os.environ, bucket, project, region, settings_file)
    shown = []
    for check in found:
        shown.append(check)
        if not as_json:
            click.echo(f"{check.result:<8}{check.name:<26}{harmless(check.detail)}")
            if check.fix_command:
                fix = harmless(check.fix_command)
                click.echo(f"{'':<8}{click.style('fix it with:', bold=True)} {fix}")
    if as_json:
        click.echo(json.dumps([check.as_json() for check in shown], indent=2))
    if any(check.result == "failed" for check in shown):
        raise SystemExit(1)


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


def _fail(reported: str) -> NoReturn:
    from velib_cli.printed import harmless  # noqa: PLC0415

    lines = "\n".join(map(harmless, reported.splitlines()))
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {lines}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
