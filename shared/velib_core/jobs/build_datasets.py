"""A daily changed: make its events view, the perf views it has a part in, and the rolling copies.

The perf view of a day looks an hour into the next one for the truth, so a daily makes the perf
views of its own day and of the day before. They are written last.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from velib_core import datasets
from velib_core import lake as store
from velib_core.grid import BINS_PER_DAY, Bin, day_after, first_bin, horizon_bins
from velib_core.jobs.result import JobResult
from velib_core.layout import Daily, Events, Layout, Perf
from velib_core.panel import build_panel

if TYPE_CHECKING:
    import pyarrow as pa

    from velib_core.grid import Day
    from velib_core.lake import Artefact, Entry, Lake
    from velib_core.settings import Settings


def run(lake: Lake, settings: Settings, day: Day, *, force: bool = False) -> JobResult:
    """Make all views that the daily of ``day`` has a part in."""
    layout = Layout(settings)
    result = JobResult("build_datasets")
    _publish_events(lake, settings, day, result, force=force)
    _publish_rolling(lake, layout, Events, result)
    for issued in (day_after(day, -1), day):
        _publish_perf(lake, settings, issued, result, force=force)
    _publish_rolling(lake, layout, Perf, result)
    return result


def events_fingerprint(settings: Settings, daily: Entry) -> str:
    """Return the fingerprint that the events view of a daily must carry to be up to date."""
    bounds = f"penury={settings.penury_bikes} saturation={settings.saturation_docks}"
    return store.fingerprint(f"events 1 {bounds}", [daily])


def perf_inputs(lake: Lake, layout: Layout, day: Day) -> list[Entry]:
    """Return the dailies that the perf view of a day is made from: its own and the next one.

    Empty where the day itself has none.
    """
    daily = lake.stat(layout.name(Daily(day)))
    after = lake.stat(layout.name(Daily(day_after(day))))
    return [entry for entry in (daily, after) if entry] if daily else []


def perf_fingerprint(settings: Settings, inputs: list[Entry]) -> str:
    """Return the fingerprint that a perf view made from these inputs must carry."""
    horizons = ",".join(map(str, settings.horizons))
    return store.fingerprint(f"perf 1 horizons={horizons}", inputs)


def _publish_events(
    lake: Lake, settings: Settings, day: Day, result: JobResult, *, force: bool
) -> None:
    layout = Layout(settings)
    name = layout.name(Events(day))

    def make(current: Entry | None) -> Artefact | None:
        daily = lake.stat(layout.name(Daily(day)))
        if daily is None:
            return None
        mark = events_fingerprint(settings, daily)
        if current and current.fingerprint == mark and not force:
            return None
        view = datasets.events_view(
            _table(lake, daily),
            penury_bikes=settings.penury_bikes,
            saturation_docks=settings.saturation_docks,
        )
        result.counts["events"] = view.num_rows
        return _parquet(view, mark)

    result.outputs[name] = lake.publish(name, make, force=force)


def _publish_perf(
    lake: Lake, settings: Settings, day: Day, result: JobResult, *, force: bool
) -> None:
    layout = Layout(settings)
    name = layout.name(Perf(day))
    horizons = [horizon_bins(minutes) for minutes in settings.horizons]

    def make(current: Entry | None) -> Artefact | None:
        inputs = perf_inputs(lake, layout, day)
        mark = perf_fingerprint(settings, inputs)
        if not inputs or (current and current.fingerprint == mark and not force):
            return None
        start = first_bin(day)
        stop = Bin(start + BINS_PER_DAY + max(horizons))
        tables = (_table(lake, entry) for entry in inputs)
        panel = build_panel(tables, start, stop, variables=("bikes", "capacity"))
        view = datasets.perf_view(panel, day, horizons, {})
        result.counts["perf"] = result.counts.get("perf", 0) + view.num_rows
        return _parquet(view, mark)

    result.outputs[name] = lake.publish(name, make, force=force)


def _publish_rolling(
    lake: Lake, layout: Layout, kind: type[Events | Perf], result: JobResult
) -> None:
    """Make the undated view the copy of the newest day's."""
    name = layout.name(kind(None))

    def make(current: Entry | None) -> Artefact | None:
        entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
        dated = layout.by_day(kind, entries)
        if not dated:
            return None
        newest = entries[dated[max(dated)]]
        mark = store.fingerprint("rolling 1", [newest])
        if current and current.fingerprint == mark:
            return None
        return store.Artefact(lake.read(newest), store.PARQUET, mark)

    result.outputs[name] = lake.publish(name, make)


def _table(lake: Lake, entry: Entry) -> pa.Table:
    return pq.read_table(io.BytesIO(lake.read(entry)))


def _parquet(view: pa.Table, mark: str) -> Artefact:
    sink = io.BytesIO()
    pq.write_table(view, sink, compression="zstd", row_group_size=1 << 16)
    return store.Artefact(sink.getvalue(), store.PARQUET, mark)
