"""The dailies of a window of days → one Parquet to train on, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.events.job import JobResult
from velib_core.events.messages import TrainRequested
from velib_core.lake.artefact import PARQUET, Artefact
from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.keys import Daily, TrainingBase
from velib_core.tables import snapshot
from velib_core.tables.history import NoHistoryError

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.timeline.bins import Day

RECIPE = "export_training_base 1"


def run(network: Network, *, last: Day | None = None, window_days: int | None = None) -> JobResult:
    """Export the ``window_days`` days that end with ``last`` (by default the newest daily).

    Raises `NoHistoryError` where no daily lies in the window.
    """
    layout = network.layout
    span = window_days or network.settings.lookback_days
    result = JobResult("export_training_base")
    newest = last or newest_daily(network.lake, layout)
    name = layout.name(TrainingBase(newest))

    def make(current: Entry | None) -> Artefact | None:
        parts = window(network.lake, layout, newest, span)
        fingerprint = fingerprint_of(RECIPE, parts)
        if current and current.fingerprint == fingerprint:
            return None
        result.counts["days"] = len(parts)
        data = snapshot.concatenate((part.name, network.lake.read(part)) for part in parts)
        return Artefact(data, PARQUET, fingerprint)

    result.outputs[name] = network.lake.update(name, make)
    return result


def on_request(network: Network, request: TrainRequested) -> JobResult:
    """Export the base, then ask for one training a horizon; a request of those is not ours."""
    if request.horizon is not None:
        return JobResult("export_training_base")
    result = run(network, window_days=request.window_days)
    for horizon in network.settings.horizons:
        network.publisher.publish(TrainRequested(horizon, request.window_days))
        result.published.append(f"train h{horizon}")
    return result


def newest_daily(lake: ReadableLake, layout: Layout) -> Day:
    """Return the newest day that is compacted; raise `NoHistoryError` where none is."""
    names = [entry.name for entry in lake.entries(f"{layout.daily}/")]
    days = layout.by_day(Daily, names)
    if not days:
        raise NoHistoryError(f"no day is compacted under {layout.daily}/ yet")
    return max(days)


def window(lake: ReadableLake, layout: Layout, last: Day, days: int) -> list[Entry]:
    """Return the dailies of the days ``last − days + 1 … last``, in order.

    Raises `NoHistoryError` where there is none.
    """
    entries = {entry.name: entry for entry in lake.entries(f"{layout.daily}/")}
    parts = [
        entries[name]
        for day, name in sorted(layout.by_day(Daily, entries).items())
        if 0 <= (last - day).days < days
    ]
    if not parts:
        raise NoHistoryError(f"no day is compacted among the {days} that end on {last}")
    return parts
