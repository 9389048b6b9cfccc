"""``velib backtest``."""

from __future__ import annotations

import json
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from velib_core.timeline.bins import Day, HorizonMinutes, horizon_bins, parse_day

from velib_cli.backtest.backtest import BacktestError, BacktestResult, run_backtest

if TYPE_CHECKING:
    from collections.abc import Mapping


def _day(_context: click.Context, _parameter: click.Parameter, text: str) -> Day:
    try:
        return parse_day(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _horizons(
    _context: click.Context, _parameter: click.Parameter, text: str
) -> tuple[HorizonMinutes, ...]:
    try:
        found = tuple(sorted({HorizonMinutes(int(part)) for part in text.split(",")}))
        for minutes in found:
            horizon_bins(minutes)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r}: minutes that are multiples of 5, as in 15,60"
        ) from error
    return found


def _zone(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    try:
        return name and zoneinfo.ZoneInfo(name).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(f"{name!r} is no IANA zone, as in Europe/Paris") from error


@click.command(short_help="Evaluate forecasts on the last days of a recording.")
@click.option(
    "--source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Parquet or CSV of recorded observations: ts_utc, station_id, bikes, capacity, …",
)
@click.option(
    "--test-from",
    metavar="YYYY-MM-DD",
    callback=_day,
    required=True,
    help="First UTC day to forecast.",
)
@click.option(
    "--horizons", callback=_horizons, default="15,60", show_default=True, help="Minutes ahead."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/backtest"),
    show_default=True,
    help="Folder that receives predictions, metrics and plots.",
)
@click.option(
    "--tz",
    callback=_zone,
    default=None,
    help="Time zone of the network; by default that of the place nearest to its stations.",
)
@click.option("--local-times", is_flag=True, help="Times without a zone are those of --tz.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON for programs.")
def backtest(
    source: Path,
    test_from: Day,
    horizons: tuple[HorizonMinutes, ...],
    out: Path,
    tz: str | None,
    local_times: bool,
    as_json: bool,
) -> None:
    """Train on a recording's past and evaluate the forecasts of its last days.

    Trains on what comes before --test-from, forecasts every bin from it on as serving would have,
    and leaves predictions, metrics and a page of plots below --out.
    """
    if local_times and not tz:
        raise click.UsageError("--local-times needs --tz, the zone that the times are of")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=1.0)
            result = run_backtest(
                source,
                test_from,
                horizons,
                out,
                tz,
                lambda what, share: bar.update(task, description=what, completed=share),
                local_times=local_times,
                opened=lambda line: click.echo(line, err=True),
            )
    except (BacktestError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(result.metrics, indent=1))
    else:
        _show(result)


def verdict(errors: Mapping[str, Any]) -> str:
    """Return whether training would have made a model with these errors the live one.

    The first model of a network is promoted where its mean absolute error is below that of
    persistence; a later one must not be worse than the live model either.
    """
    mae, persistence = errors["mae"], errors["mae_persistence"]
    against = f"{mae:.4f} bikes against {persistence:.4f} of persistence"
    return f"would go live: {against}" if mae < persistence else f"would be refused: {against}"


def _show(result: BacktestResult) -> None:
    table = Table(title=f"{result.metrics['source']} from {result.metrics['test_from']}")
    for heading in (
        "horizon",
        "rows",
        "MAE",
        "persistence",
        "lift",
        "RMSE of mean",
        "persistence",
        "lift",
    ):
        table.add_column(heading, justify="right")
    for minutes, metrics in result.metrics["horizons"].items():
        of_all = metrics["overall"]
        lifts = [
            "–" if of_all[name] is None else f"{of_all[name]:+.2%}"
            for name in ("mae_lift", "rmse_lift")
        ]
        table.add_row(
            f"{minutes} min",
            f"{of_all['n']:,}",
            f"{of_all['mae']:.4f}",
            f"{of_all['mae_persistence']:.4f}",
            lifts[0],
            f"{of_all['rmse']:.4f}",
            f"{of_all['rmse_persistence']:.4f}",
            lifts[1],
        )
    console = Console()
    console.print(table)
    for minutes, metrics in result.metrics["horizons"].items():
        console.print(f"{minutes} min: {verdict(metrics['overall'])}")
    console.print(f"Predictions, metrics.json and report.html are in {result.out}")
