"""Compute the observations and evaluation tables (pure: tables and panels in, tables out).

The *observations table* holds a day's observations with occupancy and stockout flags. The
*evaluation table* joins each observation with the observation one horizon later, the persistence
baseline and the hindcast of the model.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from velib_core.tables.defect_counts import counts_of, with_counts
from velib_core.tables.panel import free_docks as free_docks_of
from velib_core.tables.service import free_docks, in_service
from velib_core.tables.snapshot import DAY_LIMITS, STAMP, repeats_of, with_repeats
from velib_core.timeline.bins import (
    BIN_MINUTES,
    BINS_PER_DAY,
    BINS_PER_HOUR,
    Bin,
    bin_start,
    first_bin,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import Day, HorizonBins

STOCKOUT_SHARE = 0.1
"""A stockout bound is never more than this share of the capacity, so that a station of ten docks
is not short at two bikes."""

STATUS_CODES = {"OK": 0, "CLOSED": 1}
"""A fixed encoding, the same in every file."""

EVENTS_SCHEMA = pa.schema(
    [
        ("tbin_utc", STAMP),
        ("station_id", pa.string()),
        ("bikes", pa.int64()),
        ("capacity", pa.int64()),
        ("mechanical", pa.int64()),
        ("ebike", pa.int64()),
        ("status", pa.string()),
        ("status_code", pa.int64()),
        ("lat", pa.float64()),
        ("lon", pa.float64()),
        ("name", pa.string()),
        ("temp_C", pa.float64()),
        ("precip_mm", pa.float64()),
        ("wind_mps", pa.float64()),
        ("occ_ratio", pa.float64()),
        ("is_penury", pa.int8()),
        ("is_saturation", pa.int8()),
        ("h", pa.int8()),
        ("min", pa.int8()),
        ("ts_utc", STAMP),
        ("last_reported_utc", STAMP),
        ("docks_available", pa.int64()),
        ("is_installed", pa.int8()),
        ("is_renting", pa.int8()),
        ("is_returning", pa.int8()),
    ]
)

PERF_SCHEMA = pa.schema(
    [
        ("tbin_utc", STAMP),
        ("station_id", pa.string()),
        ("horizon_bins", pa.int64()),
        ("y_true", pa.int64()),
        ("y_baseline_persist", pa.int64()),
        ("y_pred_int", pa.int64()),
        ("bikes", pa.int64()),
        ("capacity", pa.int64()),
        ("occ_ratio", pa.float64()),
        ("h", pa.int8()),
        ("min", pa.int8()),
        ("y_pred", pa.float64()),
        ("y_mean", pa.float64()),
        ("model_version", pa.string()),
        ("crps", pa.float64()),
        ("docks", pa.int64()),
    ]
)

VIEW_LIMITS = dataclasses.replace(DAY_LIMITS, rows=8 * DAY_LIMITS.rows)
"""Of a day's views, which have each observation once a horizon."""

FORECAST_LOG_SCHEMA = pa.schema(
    [
        ("tbin_utc", STAMP),
        ("target_tbin_utc", STAMP),
        ("station_id", pa.string()),
        ("horizon_bins", pa.int64()),
        ("y_pred", pa.float64()),
        ("y_pred_int", pa.int64()),
        ("y_mean", pa.float64()),
        ("p_bike", pa.float64()),
        ("p_dock", pa.float64()),
        ("model_version", pa.string()),
    ]
)


COLUMN_TYPES = pa.unify_schemas([EVENTS_SCHEMA, PERF_SCHEMA, FORECAST_LOG_SCHEMA])
"""The type of each column of any view: where two have a column, it is the same."""


@dataclasses.dataclass(frozen=True)
class Hindcast:
    """What a model forecasts on a day that is over: ``float32[288, S]``, NaN for no forecast.

    ``crps`` is the score of the whole distribution, in bikes, NaN where no truth is known.
    """

    version: str
    median: NDArray[np.float32]
    rounded: NDArray[np.float32]
    mean: NDArray[np.float32]
    crps: NDArray[np.float32]


HINDCAST_COLUMNS = {"median": "y_pred", "rounded": "y_pred_int", "mean": "y_mean", "crps": "crps"}
"""The public name of each number of a hindcast in the evaluation table."""


def observations_table(daily: pa.Table, *, penury_bikes: int, saturation_docks: int) -> pa.Table:
    """Return the events of a day, in `EVENTS_SCHEMA` and the daily's order.

    ``is_penury`` is 1 where bikes ≤ min(``penury_bikes``, 10% of capacity), ``is_saturation``
    where free docks ≤ min(``saturation_docks``, 10% of capacity); both are null where the station
    is out of service, and so is ``is_saturation`` where free docks are unknown. Where the
    capacity is unknown, the bounds alone count. ``occ_ratio`` is bikes / capacity, null where the
    capacity is 0 or unknown. ``h`` and ``min`` are the UTC clock of the bin. The daily's counts of
    repeated rows and of the feed's defects are carried along.
    """
    capacity = pc.cast(daily["capacity"], pa.float64())
    positive = pc.if_else(pc.greater(capacity, 0), capacity, None)
    known_share = pc.coalesce(pc.multiply(capacity, STOCKOUT_SHARE), math.inf)
    share = pc.if_else(in_service(daily), known_share, pa.scalar(None, pa.float64()))
    derived = {
        "status_code": pc.fill_null(_status_code(daily["status"]), -1),
        "occ_ratio": pc.divide(pc.cast(daily["bikes"], pa.float64()), positive),
        "is_penury": _at_most(daily["bikes"], share, penury_bikes),
        "is_saturation": _at_most(free_docks(daily), share, saturation_docks),
        "h": pc.hour(daily["tbin_utc"]),
        "min": pc.minute(daily["tbin_utc"]),
    }
    columns = [derived.get(name) for name in EVENTS_SCHEMA.names]
    view = pa.table(
        [
            (daily[field.name] if column is None else column).cast(field.type)
            for field, column in zip(EVENTS_SCHEMA, columns, strict=True)
        ],
        schema=EVENTS_SCHEMA,
    )
    return with_counts(with_repeats(view, repeats_of(daily)), counts_of(daily))


def _status_code(status: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.index_in(status, value_set=pa.array(list(STATUS_CODES)))


def _at_most(count: pa.ChunkedArray, share: pa.ChunkedArray, bound: int) -> pa.ChunkedArray:
    limit = pc.min_element_wise(share, float(bound), skip_nulls=False)
    return pc.cast(pc.less_equal(pc.cast(count, pa.float64()), limit), pa.int8())


def forecast_log_partition(forecast: pa.Table, published: Bin, version: str) -> pa.Table:
    """Return one publication in `FORECAST_LOG_SCHEMA`, without stations that have no forecast.

    Parameters
    ----------
    forecast
        What `velib_core.model.inference.predict` said, of one horizon.
    published
        The bin of the snapshot that was newest: the lead that a user had counts from it.
    version
        Of the model.

    """
    reported = forecast.filter(pc.is_valid(forecast["bikes_pred_int"]))
    rows = reported.num_rows
    columns = {
        "tbin_utc": pa.repeat(pa.scalar(bin_start(published).replace(tzinfo=None), STAMP), rows),
        "target_tbin_utc": reported["target_ts_utc"],
        "station_id": reported["station_id"],
        "horizon_bins": pc.divide(reported["horizon_min"], BIN_MINUTES),
        "y_pred": reported["bikes_pred"],
        "y_pred_int": reported["bikes_pred_int"],
        "y_mean": reported["bikes_mean"],
        "p_bike": reported["p_bike"],
        "p_dock": reported["p_dock"],
        "model_version": pa.repeat(version, rows),
    }
    return pa.table(
        [columns[f.name].cast(f.type) for f in FORECAST_LOG_SCHEMA], schema=FORECAST_LOG_SCHEMA
    )


def with_expired(partitions: pa.Table, forecast_log: pa.Table) -> pa.Table:
    """Return the forecasts of a day's partitions, and those of its log whose partition is gone.

    Both are in `FORECAST_LOG_SCHEMA`. A partition is named by the bin of its publication and its
    horizon; the partitions' own rows stay in their order where none is gone.
    """
    keys = ["tbin_utc", "horizon_bins"]
    gone = forecast_log.join(partitions.select(keys), keys, join_type="left anti").select(
        partitions.schema.names
    )
    if not gone.num_rows:
        return partitions
    united = pa.concat_tables([gone.cast(partitions.schema), partitions])
    return united.sort_by([(key, "ascending") for key in (*keys, "station_id")])


def evaluation_table(
    panel: Panel,
    day: Day,
    horizons: Sequence[HorizonBins],
    hindcasts: Mapping[HorizonBins, Hindcast],
) -> pa.Table:
    """Join each observation of a day with the observation one horizon later.

    Parameters
    ----------
    panel
        History that holds the day and, for the truth of its last bins, what follows it.
    day
        The UTC day whose bins are the issue bins.
    horizons
        In bins; each observation makes one row a horizon.
    hindcasts
        By horizon; predictions are null where there is none.

    Returns
    -------
    pa.Table
        In `PERF_SCHEMA`, sorted by bin, station and horizon. ``y_true`` is null where nothing
        was observed at exactly bin + horizon.

    """
    ordered = sorted(horizons)
    start = first_bin(day)
    wide = panel.window(start, Bin(start + BINS_PER_DAY + max(ordered)))
    bikes, capacity = wide["bikes"], wide["capacity"][:BINS_PER_DAY]
    t, s = np.nonzero(np.isfinite(bikes[:BINS_PER_DAY]))
    truth = np.stack([bikes[t + h, s] for h in ordered], axis=1)
    nothing = np.full(len(t), np.nan, np.float32)
    forecasts = {
        column: np.stack(
            [getattr(hindcasts[h], field)[t, s] if h in hindcasts else nothing for h in ordered],
            axis=1,
        ).ravel()
        for field, column in HINDCAST_COLUMNS.items()
    }
    repeats = len(ordered)
    now = np.repeat(bikes[t, s], repeats)
    docks = np.repeat(capacity[t, s], repeats)
    free = np.repeat(free_docks_of(wide)[:BINS_PER_DAY][t, s], repeats)
    offsets = np.repeat(t, repeats)
    versions = [hindcasts[h].version if h in hindcasts else None for h in ordered]
    predicted = np.isfinite(forecasts["y_pred_int"])
    version = pa.array(versions * len(t), pa.string())
    values = {
        "tbin_utc": _stamps(start, offsets),
        "station_id": pa.array(wide.stations.ids[np.repeat(s, repeats)].tolist(), pa.string()),
        "horizon_bins": pa.array(np.tile(np.array(ordered, np.int64), len(t))),
        "y_true": _rounded(truth.ravel()),
        "y_baseline_persist": _rounded(now),
        "y_pred_int": _rounded(forecasts["y_pred_int"]),
        "bikes": _rounded(now),
        "capacity": _rounded(docks),
        "occ_ratio": _real(np.divide(now, docks, out=np.full_like(now, np.nan), where=docks > 0)),
        "h": pa.array((offsets // BINS_PER_HOUR).astype(np.int8)),
        "min": pa.array((offsets % BINS_PER_HOUR * BIN_MINUTES).astype(np.int8)),
        "y_pred": _real(forecasts["y_pred"]),
        "y_mean": _real(forecasts["y_mean"]),
        "model_version": pc.if_else(pa.array(predicted), version, None),
        "crps": _real(forecasts["crps"]),
        "docks": _rounded(free),
    }
    return pa.table([values[name] for name in PERF_SCHEMA.names], schema=PERF_SCHEMA)


def _stamps(start: Bin, offsets: NDArray[np.int64]) -> pa.Array:
    base = np.datetime64(bin_start(start).replace(tzinfo=None), "ns")
    return pa.array(base + offsets * np.timedelta64(BIN_MINUTES, "m"), STAMP)


def _rounded(values: NDArray[np.float32]) -> pa.Array:
    known = np.isfinite(values)
    return pa.array(np.where(known, values, 0).astype(np.int64), mask=~known)


def _real(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values.astype(np.float64), mask=~np.isfinite(values))
