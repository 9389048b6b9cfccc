"""The ``velib`` command: what a person types to see the suite at work and to look after it."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from velib_core.errors import PermanentError, TransientError

LAZY = {
    "backtest": "velib_cli.commands.backtest",
    "demo": "velib_cli.commands.run",
    "models": "velib_cli.commands.models",
    "replay": "velib_cli.commands.run",
    "report": "velib_cli.commands.report",
    "rollback": "velib_cli.commands.models",
    "store": "velib_cli.commands.store",
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


_settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of settings that the network was deployed with.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="velib-forecast")
def cli() -> None:
    """Vélib' Forecast: a bike-share feed into a lake, forecasts and monitoring, by events.

    Start with `velib demo`: it runs the whole cloud on this machine, a few minutes long, and opens
    a page of what it made. Then `velib status --dir out/demo`. Each command explains itself, as in
    `velib status --help`.

    \b
    A folder that demo or replay left:  report, status, models, store  (--dir)
    A deployed network:                 doctor, report, status, models, rollback  (--bucket)
    Your own recording:                 replay, backtest  (--source)
    """  # noqa: D301 -- a backspace tells click to leave these lines as they are


@cli.command(short_help="Show what is there, how fresh, what is missing.")
@click.option("--bucket", help="gs://BUCKET[/FOLDER] of a deployed network.")
@click.option("--project", help="Project of the deployed network; its dead letters are there.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that demo or replay left.",
)
@_settings_option
@_json_option
def status(
    bucket: str | None,
    project: str | None,
    folder: Path | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Show what is there, how fresh, what is missing or stale, and what was given up.

    Snapshots and days, live models, standing alerts, quarantine and dead letters. Changes
    nothing. Exits with 1 where something needs attention.
    """
    from velib_cli.dead_letters import dead_lettered, waiting  # noqa: PLC0415
    from velib_cli.status import inspect_lake, rows  # noqa: PLC0415
    from velib_cli.targets import open_lake  # noqa: PLC0415

    lake, settings = open_lake(bucket, folder, project, settings_file)
    with Console(stderr=True).status(f"Looking at {bucket or folder}"):
        dead_letters = dead_lettered(folder) if folder is not None else waiting(settings)
        state = inspect_lake(
            lake, settings, dt.datetime.now(dt.UTC), dead_letters, live=folder is None
        )
    if as_json:
        click.echo(json.dumps(state.as_json(), indent=2))
    else:
        table = Table(title=f"Network {state.network}", show_header=False)
        for what, reported in rows(state):
            table.add_row(what, escape(reported))
        Console().print(table)
        verdict = [f"- {escape(line)}" for line in state.attention]
        Console().print("\n".join(["Needs attention:", *verdict] if verdict else ["All is well."]))
    if not state.healthy:
        raise SystemExit(1)


@cli.command(short_help="Check a deployment, and say how to mend it.")
@click.option("--bucket", help="gs://BUCKET[/FOLDER] of a deployed network.")
@click.option("--project", help="Its project: topics, rights and functions are looked at too.")
@click.option("--region", help="Its region, as in europe-west1.")
@_settings_option
@_json_option
def doctor(
    bucket: str | None,
    project: str | None,
    region: str | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Check a deployment from the outside, and say what to type where something is wrong.

    Settings, feeds, clock, bucket, newest snapshot, and everything that deploy.sh makes, held to
    its plan. Without --bucket settings are read from the environment, as the functions read
    them. Changes nothing. Exits with 1 where a check failed.
    """
    from velib_cli.doctor import examine  # noqa: PLC0415

    checks = []
    for check in examine(os.environ, bucket, project, region, settings_file):
        checks.append(check)
        if not as_json:
            click.echo(f"{check.result:<8}{check.name:<26}{check.detail}")
            if check.fix_command:
                click.echo(f"{'':<8}{click.style('fix it with:', bold=True)} {check.fix_command}")
    if as_json:
        click.echo(json.dumps([check.as_json() for check in checks], indent=2))
    if any(check.result == "failed" for check in checks):
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
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {reported}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
