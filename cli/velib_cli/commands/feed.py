"""``velib feed``: what ingestion understands of a feed, before anything is deployed."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import time
import zoneinfo
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from velib_core.errors import PermanentError

from velib_cli.feed_check import FeedCheck, UnusableFeedError, describe, to_parquet
from velib_cli.options import json_option


class _Instant(click.ParamType[dt.datetime]):
    name = "INSTANT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        try:
            found = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no instant, as in 2025-11-03T12:07:50Z", param, ctx)
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _zone(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    try:
        return zoneinfo.ZoneInfo(name).key if name else ""
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(f"{name!r} is no IANA zone, as in Europe/Paris") from error


@click.command(short_help="Show what ingestion understands of a feed.")
@click.argument("url")
@click.argument("information_url", required=False, default="")
@click.option(
    "--watch",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Read again every so many seconds until Ctrl-C, and say what changed.",
)
@click.option("--at", type=_Instant(), help="The clock, instead of this machine's; UTC.")
@click.option("--tz", callback=_zone, default="", help="Zone of the network; found by default.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Parquet file that receives the snapshot that ingestion would write, without weather.",
)
@json_option
def feed(
    url: str,
    information_url: str,
    watch: int | None,
    at: dt.datetime | None,
    tz: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Read a GBFS feed as ingestion would, and show what it understands.

    URL is the discovery file (gbfs.json), or that of station_status with INFORMATION_URL for
    station_information. Nothing is stored. Shows stations, bikes and docks, how old the reports
    are, each kind of defect, what forecasts will lack, and the settings to deploy with.

    Exit code 1 where the feed could not be ingested.
    """
    try:
        check = FeedCheck(url, information_url, at, tz)
    except PermanentError as error:
        raise click.UsageError(str(error)) from error
    good = _read_once(check, out, as_json=as_json)
    if watch is not None:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(watch)
                good = _read_once(check, out, as_json=as_json)
    if not good:
        raise SystemExit(1)


def _read_once(check: FeedCheck, out: Path | None, *, as_json: bool) -> bool:
    """Read and show the feed; return whether it could be ingested."""
    warnings = io.StringIO()
    try:
        with contextlib.redirect_stderr(warnings):
            checked = check.read()
    except UnusableFeedError as error:
        if as_json:
            click.echo(json.dumps({"usable": False, "error": str(error)}))
        else:
            click.echo(f"Error: this feed cannot be ingested: {error}", err=True)
        return False
    found = describe(checked)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(to_parquet(checked))
    if as_json:
        click.echo(json.dumps({"usable": True, **found}, indent=1))
    else:
        _show(found, warnings.getvalue(), out)
    return True


def _show(found: dict[str, Any], warnings: str, out: Path | None) -> None:
    console = Console()
    table = Table("what", "understood", title="The feed, as ingestion reads it", show_header=False)
    for what, text in _lines(found):
        table.add_row(what, escape(text))
    console.print(table)
    if found["defects"]:
        defects = Table("defect", "count", "example", title="Defects")
        for kind in found["defects"]:
            name = kind["field"] + (" (record refused)" if kind["refused"] else "")
            defects.add_row(escape(name), str(kind["count"]), escape(kind["example"]))
        console.print(defects)
    for name, consequence in found["lacks"].items():
        console.print(f"No {name}: {consequence}.")
    for line in warnings.splitlines():
        with contextlib.suppress(ValueError):
            console.print(escape(json.loads(line)["message"]))
    console.print("Settings to deploy with:")
    for name, value in found["settings"].items():
        console.print(f"  {name}={value}", highlight=False, soft_wrap=True)
    if out is not None:
        console.print(f"The snapshot is in {out}", soft_wrap=True)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    def number(name: str) -> str:
        return "unknown" if found[name] is None else f"{found[name]:,}"

    of = found["stations"]
    ages = found["report_age_min"]
    kinds = f"{number('mechanical')} mechanical, {number('ebike')} electric"
    return [
        ("version", found["version"] or "not said"),
        ("dialect", ", ".join(found["dialect"]) or "plain"),
        ("stations", f"{of:,} of {found['records']:,} records, {found['stations_closed']} closed"),
        ("bikes", f"{number('bikes')} ({kinds}; split known at {found['known']['mechanical']})"),
        (
            "free docks",
            f"{number('docks_available')}, known at {found['known']['docks_available']}",
        ),
        ("capacity", f"{number('capacity')}, known at {found['known']['capacity']}"),
        ("places, names", f"{found['known']['lat']}, {found['known']['name']}"),
        (
            "report ages",
            "unknown"
            if ages is None
            else "median {median} min, 95% {p95} min, oldest {most} min".format(**ages),
        ),
        ("stamp", found["last_updated"] or "none"),
        ("clock", found["polled"]),
        *([("since the last read", found["since_last_read"])] if found["since_last_read"] else []),
        ("observed at", f"{found['observed_at']} by {found['observed_by']}, bin {found['bin']}"),
    ]
