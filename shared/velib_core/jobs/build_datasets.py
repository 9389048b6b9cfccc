"""A daily → its observations table, forecast log, the evaluation tables it affects, the aliases.

The evaluation table of a day reads the day before it for the features of the hindcast, and an
hour into the next one for the truth: a daily has a part in three. The forecast log unites the
forecasts that were published in the day. The manifest of the exports is written last, and starts
the monitoring of closed days: once, however many views a day changes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from velib_core.errors import ModelError
from velib_core.events.job import JobResult
from velib_core.features.stack import lookback_bins
from velib_core.jobs.recipes import views as recipe
from velib_core.lake.artefact import JSON, PARQUET, Artefact, json_bytes
from velib_core.lake.keys import Daily, Events, ExportsManifest, ForecastLog, Perf
from velib_core.lake.readable import UnreadableObjectError
from velib_core.logs import log
from velib_core.model import registry
from velib_core.model.readers import (
    calibration_before,
    load_calibration,
    load_profiles,
)
from velib_core.tables import day_rows, history, parquet, snapshot, views
from velib_core.tables.snapshot import SCHEMA
from velib_core.tables.views import Hindcast
from velib_core.timeline.bins import Bin, day_after, first_bin, horizon_bins

if TYPE_CHECKING:
    from velib_core.events.network import Network
    from velib_core.lake.bucket import Lake
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day, HorizonMinutes

MANIFEST_VERSION = "1.0"


def run(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Make all views that the daily of ``day`` has a part in."""
    layout = network.layout
    result = JobResult("build_datasets")
    _update_events(network, day, result, force=force)
    _update_latest_alias(network.lake, layout, Events, result)
    _update_forecast_log(network.lake, layout, day, result)
    for issued in (day_after(day, -1), day, day_after(day)):
        _update_perf(network, issued, result, force=force)
    _update_latest_alias(network.lake, layout, Perf, result)
    _update_manifest(network, result, force=force)
    return result


def run_for_profile(network: Network, day: Day) -> JobResult:
    """Make the evaluation table of the day after a refreshed profile: its hindcast reads it."""
    result = JobResult("build_datasets")
    _update_perf(network, day_after(day), result, force=False)
    _update_latest_alias(network.lake, network.layout, Perf, result)
    _update_manifest(network, result)
    return result


def run_for_model(network: Network, horizon: HorizonMinutes) -> JobResult:
    """Make the evaluation tables of the days that a new live model has not learnt from.

    Where the pointer is damaged or gone, that is the newest model that is registered.
    """
    result = JobResult("build_datasets")
    layout = network.layout
    model = next(registry.usable(network.lake, network.layout, horizon), None)
    if model is None:
        return result
    for day in history.dailies(network.lake, layout):
        if day > model.learnt_through:
            _update_perf(network, day, result, force=False)
    _update_latest_alias(network.lake, layout, Perf, result)
    _update_manifest(network, result)
    return result


def _update_events(network: Network, day: Day, result: JobResult, *, force: bool) -> None:
    layout = network.layout
    name = layout.name(Events(day))

    def make(current: Entry | None) -> Artefact | None:
        daily = network.lake.stat(layout.name(Daily(day)))
        if daily is None:
            return None
        fingerprint = recipe.events_fingerprint(network.settings, daily)
        if current and current.fingerprint == fingerprint and not force:
            return None
        try:
            data = network.lake.read_up_to(daily, snapshot.DAY_LIMITS.file_bytes)
            rows = parquet.read(data, snapshot.DAY_LIMITS, SCHEMA.names)
            rows = day_rows.checked(rows.select(SCHEMA.names), SCHEMA)
        except (parquet.ParquetError, UnreadableObjectError, pa.ArrowException, KeyError) as error:
            log("ERROR", f"{daily.name} is left out: {error}")
            return None
        view = views.observations_table(
            rows,
            penury_bikes=network.settings.penury_bikes,
            saturation_docks=network.settings.saturation_docks,
        )
        result.counts["events"] = view.num_rows
        return _parquet(view, fingerprint)

    result.outputs[name] = network.lake.update(name, make, force=force)


def _update_perf(network: Network, day: Day, result: JobResult, *, force: bool) -> None:
    layout = network.layout
    name = layout.name(Perf(day))
    horizons = [horizon_bins(minutes) for minutes in network.settings.horizons]
    rows = 0

    def make(current: Entry | None) -> Artefact | None:
        nonlocal rows
        inputs = recipe.perf_inputs(network, day)
        if inputs is None:
            return None
        fingerprint = inputs.fingerprint(network.settings)
        if current and current.fingerprint == fingerprint and not force:
            return None
        panel = history.DailyHistory(network.lake, inputs.dailies)
        lookback = max(horizons)
        past = panel.window(
            Bin(first_bin(day) - lookback_bins(lookback)), Bin(first_bin(day_after(day)) + lookback)
        )
        found = {h: _hindcast(network, inputs, h, past, day) for h in inputs.models}
        hindcasts = {horizon_bins(h): made for h, made in found.items() if made is not None}
        view = views.evaluation_table(past, day, horizons, hindcasts)
        rows = view.num_rows
        return _parquet(view, fingerprint)

    outcome = network.lake.update(name, make, force=force)
    result.add(JobResult(result.job, {name: outcome}, {"perf": rows} if rows else {}))


def _hindcast(
    network: Network,
    inputs: recipe.PerfInputs,
    horizon: HorizonMinutes,
    past: Panel,
    day: Day,
) -> Hindcast | None:
    """Return what the newest usable model would have forecast; damaged models are named."""
    from velib_core.model.inference import hindcast_day  # noqa: PLC0415 -- only where there is a model
    from velib_core.model.pack import from_blobs  # noqa: PLC0415

    lake, layout = network.lake, network.layout
    for model in recipe.models_before(network, horizon, day):
        try:
            pack = from_blobs(registry.load(lake, layout, model), horizon_bins(horizon))
        except ModelError as error:
            log("ERROR", f"model {model.version} of h{horizon} is left out: {error}")
            continue
        profiles = load_profiles(lake, network.settings, inputs.profile)
        blend_weight = load_calibration(lake, pack, calibration_before(lake, layout, model, day))
        said, crps = hindcast_day(pack, past, day, profiles, blend_weight)
        return Hindcast(model.version, said.median, said.rounded, said.mean, crps)
    return None


def _update_forecast_log(lake: Lake, layout: Layout, day: Day, result: JobResult) -> None:
    """Unite the day's published forecasts; a day without any gets no forecast log.

    Forecasts whose partition expired stay: the day's log is then their only copy.
    """

    def make(current: Entry | None) -> Artefact | None:
        below = lake.entries(layout.forecast_log_day(day))
        partitions = recipe.forecast_log_partitions(layout, day, below)
        fingerprint = recipe.forecast_log_fingerprint(partitions)
        if not partitions or (current and current.fingerprint == fingerprint):
            return None
        with concurrent.futures.ThreadPoolExecutor(history.READERS) as pool:
            tables = list(pool.map(functools.partial(_partition, lake), partitions))
        united = pa.concat_tables(tables)
        if current:
            united = views.with_expired(united, _partition(lake, current, views.VIEW_LIMITS))
        result.counts["served"] = united.num_rows
        return _parquet(united, fingerprint)

    result.outputs[layout.name(ForecastLog(day))] = lake.update(layout.name(ForecastLog(day)), make)


def _partition(lake: Lake, entry: Entry, limits: parquet.Limits = snapshot.LIMITS) -> pa.Table:
    """Return the rows of a part of the forecast log; none, and an error, if unreadable."""
    schema = views.FORECAST_LOG_SCHEMA
    try:
        table = parquet.read(lake.read_up_to(entry, limits.file_bytes), limits, schema.names)
        return day_rows.checked(table.select(schema.names), schema)
    except (parquet.ParquetError, UnreadableObjectError, pa.ArrowException, KeyError) as error:
        log("ERROR", f"{entry.name} is left out: {error}")
        return schema.empty_table()


def _update_latest_alias(
    lake: Lake, layout: Layout, kind: type[Events | Perf], result: JobResult
) -> None:
    """Make the undated view the copy of the newest day's."""
    name = layout.name(kind(None))

    def make(current: Entry | None) -> Artefact | None:
        found = recipe.newest_view(lake, layout, kind)
        if found is None:
            return None
        _, newest = found
        fingerprint = recipe.latest_alias_fingerprint(newest)
        if current and current.fingerprint == fingerprint:
            return None
        try:
            return Artefact(lake.read(newest), PARQUET, fingerprint)
        except UnreadableObjectError as error:
            log("ERROR", f"{name} stays what it is: {error}")
            return None

    result.outputs[name] = lake.update(name, make)


def _update_manifest(network: Network, result: JobResult, *, force: bool = False) -> None:
    """List the views of all days, with their checksums."""
    name = network.layout.name(ExportsManifest())

    def make(current: Entry | None) -> Artefact | None:
        listed = recipe.manifest_inputs(network.lake, network.layout)
        fingerprint = recipe.manifest_fingerprint(listed)
        if not listed or (current and current.fingerprint == fingerprint and not force):
            return None
        checksums = {entry.name: entry.crc32c for entry in listed}
        document = {"schema_version": MANIFEST_VERSION, "checksums": checksums}
        return Artefact(json_bytes(document), JSON, fingerprint)

    result.outputs[name] = network.lake.update(name, make, force=force)


def _parquet(view: pa.Table, fingerprint: str) -> Artefact:
    sink = io.BytesIO()
    pq.write_table(view, sink, compression="zstd", row_group_size=1 << 16)
    return Artefact(sink.getvalue(), PARQUET, fingerprint)
