"""The backtest's page of plots: one self-contained HTML file."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import HorizonMinutes

Figure = dict[str, Any]
"""A Plotly figure: ``data`` and ``layout``."""

BLUE, GREY, RED = "#1f6fb4", "#9aa0a6", "#c0392b"


def report_page(
    metrics: Mapping[str, Any],
    tables: Mapping[HorizonMinutes, pa.Table],
    panel: Panel,
    tz: str,
) -> str:
    """Return the page: metrics in figures, for each horizon, with the charting library inside."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 -- megabytes, only for this page

    names = dict(zip(panel.stations.ids.tolist(), panel.stations.names.tolist(), strict=True))
    sections = []
    for minutes, table in tables.items():
        of = metrics["horizons"][str(minutes)]
        figures = [
            _lift_figure("MAE lift by local hour", of["by_hour"]),
            _lift_figure("MAE lift by station size", of["by_station_size"]),
            _lift_figure("MAE lift by UTC day", of["by_day"]),
            _reliability_figure(of),
            _worst_stations(table, names),
            _week(table, names, tz),
        ]
        overall = of["overall"]
        lifts = " and ".join(
            f"{label} {overall[name]:+.2%}"
            for label, name in (("MAE", "mae_lift"), ("RMSE", "rmse_lift"))
            if overall[name] is not None
        )
        sections.append(
            f"<h2>{minutes} minutes ahead</h2><p>{overall['n']:,} forecasts; lift over "
            f"persistence: {lifts}. Brier score {of['p_bike']['brier']:.5f} for a bike "
            f"(persistence {of['p_bike']['brier_persistence']:.5f})"
            + (
                f", {of['p_dock']['brier']:.5f} for a dock "
                f"({of['p_dock']['brier_persistence']:.5f})"
                if of["p_dock"]
                else ""
            )
            + ".</p>"
            + "".join(_div(f"h{minutes}-{i}", figure) for i, figure in enumerate(figures))
        )
    title = html.escape(f"Backtest of {metrics['source']} from {metrics['test_from']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>body{{font:16px system-ui;margin:2rem auto;"
        "max-width:1100px;color:#222}.figure{height:380px}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>{title}</h1>"
        f"<p>Times are local ({html.escape(tz)}). A lift above zero is an error smaller than that "
        "of “no change”.</p>" + "".join(sections) + "</body></html>"
    )


def _div(name: str, figure: Figure) -> str:
    text = json.dumps(figure).replace("</", "<\\/")
    return (
        f'<div class="figure" id="{name}"></div><script>(f=>Plotly.newPlot("{name}",f.data,'
        f"f.layout,{{responsive:true,displaylogo:false}}))({text})</script>"
    )


def _lift_figure(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Figure:
    lifts = [group["mae_lift"] for group in groups.values()]
    return {
        "data": [
            {
                "type": "bar",
                "x": list(groups),
                "y": lifts,
                "marker": {"color": [RED if (lift or 0) < 0 else BLUE for lift in lifts]},
            }
        ],
        "layout": _layout(title, "", "lift", {"yaxis": {"tickformat": ".1%", "title": "lift"}}),
    }


def _reliability_figure(of: Mapping[str, Any]) -> Figure:
    lines: list[dict[str, Any]] = [
        {
            "x": [point["stated"] for point in of[name]["reliability"]],
            "y": [point["observed"] for point in of[name]["reliability"]],
            "text": [f"{point['n']:,} forecasts" for point in of[name]["reliability"]],
            "mode": "lines+markers",
            "name": label,
        }
        for name, label in (("p_bike", "a bike"), ("p_dock", "a dock"))
        if of[name]
    ]
    ideal = {"x": [0, 1], "y": [0, 1], "mode": "lines", "name": "ideal", "line": {"color": GREY}}
    return {
        "data": [ideal, *lines],
        "layout": _layout("Calibration", "probability stated", "share that came true"),
    }


def _worst_stations(table: pa.Table, names: Mapping[str, str]) -> Figure:
    lost = pc.subtract(
        pc.abs(pc.subtract(table["y_true"], table["y_pred_int"])),
        pc.abs(pc.subtract(table["y_true"], table["y_base"])),
    )
    by_station = (
        pa.table({"station": table["station_id"], "lost": lost})
        .group_by("station")
        .aggregate([("lost", "mean")])
        .sort_by([("lost_mean", "descending"), ("station", "ascending")])
        .slice(0, 15)
    )
    labels = [names.get(s) or s for s in by_station["station"].to_pylist()]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": labels[::-1],
                "x": by_station["lost_mean"].to_pylist()[::-1],
                "marker": {"color": GREY},
            }
        ],
        "layout": _layout(
            "Stations that do worst against persistence",
            "absolute error beyond persistence's, bikes",
            "",
            {"yaxis": {"automargin": True}},
        ),
    }


def _week(table: pa.Table, names: Mapping[str, str], tz: str) -> Figure:
    """Return the busiest station's first week: what was forecast and what came."""
    moved = pc.abs(pc.subtract(table["y_true"], table["y_base"]))
    busiest = (
        pa.table({"station": table["station_id"], "moved": moved})
        .group_by("station")
        .aggregate([("moved", "sum")])
        .sort_by([("moved_sum", "descending"), ("station", "ascending")])["station"][0]
    )
    rows = table.filter(pc.equal(table["station_id"], busiest))
    stamps = rows["target_ts_utc"].cast(pa.timestamp("us"))
    first = stamps[0].as_py()
    week = np.asarray([(s - first).days < 7 for s in stamps.to_pylist()], bool)
    rows = rows.filter(pa.array(week))
    local = pc.local_timestamp(
        pc.assume_timezone(rows["target_ts_utc"], "UTC").cast(pa.timestamp("ns", tz))
    )
    x = [stamp.isoformat() for stamp in local.cast(pa.timestamp("us")).to_pylist()]
    series = (("y_true", "came", GREY), ("y_pred_int", "forecast", BLUE), ("y_mean", "mean", RED))
    return {
        "data": [
            {
                "x": x,
                "y": [round(value, 2) for value in rows[name].to_pylist()],
                "name": label,
                "mode": "lines",
                "line": {"color": color, "width": 1},
            }
            for name, label, color in series
        ],
        "layout": _layout(
            f"A week of forecasts at {names.get(busiest.as_py()) or busiest.as_py()}", "", "bikes"
        ),
    }


def _layout(title: str, x: str, y: str, more: Figure | None = None) -> Figure:
    base: Figure = {
        "title": {"text": title},
        "xaxis": {"title": x, "type": "-"},
        "yaxis": {"title": y},
        "template": "none",
        "margin": {"t": 50, "r": 20},
    }
    return base | (more or {})
