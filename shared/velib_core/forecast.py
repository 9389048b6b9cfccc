"""Forecasting on pandas frames: the names that other programs know, over the same core.

Thin adapters: a frame of snapshot rows goes on the grid, the feature stack or the model does the
work, and a frame comes back. Frames hold the snapshot columns (``tbin_utc`` naive UTC,
``station_id``, ``bikes``, ``capacity``, …) in any order of rows.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from velib_core.errors import InvalidValueError
from velib_core.features.cal_features import (
    CALENDAR_FEATURES,
    LOCAL_CALENDAR_FEATURES,
    calendar_features,
)
from velib_core.features.spatial_features import (
    KNN5,
    KNN_FEATURES,
    STATIC_FEATURES,
    fit_static_features,
)
from velib_core.features.stack import CONTRACT_FEATURES, feature_rows
from velib_core.model.change_distribution import ceiling
from velib_core.model.inference import (
    FORECAST_COLUMNS,
    blend_with_persistence,
    class_probabilities,
    predict,
)
from velib_core.model.rows import Walk
from velib_core.model.training import TrainingOptions, train_on
from velib_core.tables.panel import Panel, bins_of, build_panel
from velib_core.timeline.bins import (
    BINS_PER_DAY,
    Bin,
    HorizonBins,
    day_after,
    day_of,
    first_bin,
    horizon_minutes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from velib_core.features.profiles import Profiles
    from velib_core.model.pack import ModelPack
    from velib_core.timeline.bins import Day

SPATIAL = (*STATIC_FEATURES[2:], *KNN_FEATURES)
"""The contract's features that need more than the station's own rows."""

PREDICTION_INPUTS = ("station_id", "tbin_latest", "capacity_bin")

Frame = tuple["pd.DataFrame", "pd.DataFrame", "pd.Series[Any]", list[str]]
"""``(full_df, X, y, feat_cols)``: all columns, the features, the target, the features' names."""


class FrameError(InvalidValueError):
    """A frame that lacks a column or holds what it must not."""


def add_time_features(frame: pd.DataFrame, tz: str = "Europe/Paris") -> pd.DataFrame:
    """Return the frame with the calendar features of its ``tbin_utc`` added.

    ``float32`` each; the ``paris_*`` ones and those of days off are in the zone ``tz``.
    """
    _need(frame, ("tbin_utc",))
    columns = calendar_features(bins_of(pa.chunked_array([_stamps(frame["tbin_utc"])])), tz)
    wanted = (*CALENDAR_FEATURES, *LOCAL_CALENDAR_FEATURES)
    return frame.assign(**{name: columns[name] for name in wanted})


def build_training_frame(
    frame: pd.DataFrame, horizon_bins: HorizonBins, tz: str = "Europe/Paris"
) -> Frame:
    """Return the contract's features that need no other station, and the target.

    Rows are the observations whose bikes exactly ``horizon_bins`` later (``y_nb``) are known, in
    order of bin, then station; ``X`` is ``float32``, NaN where unknown.
    """
    return _training_frame(
        frame, horizon_bins, tz, [n for n in CONTRACT_FEATURES if n not in SPATIAL]
    )


def build_training_frame_spatial(
    frame: pd.DataFrame, horizon_bins: HorizonBins, tz: str = "Europe/Paris"
) -> Frame:
    """Return all 53 features of the contract, and the target; as `build_training_frame`."""
    return _training_frame(frame, horizon_bins, tz, list(CONTRACT_FEATURES))


def build_station_static(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``station_id`` and the static features of each station, by the newest position."""
    import pandas as pd  # noqa: PLC0415 -- the functions of the chain do without it

    static_features = fit_static_features(_panel(frame).stations)
    columns = dict(zip(STATIC_FEATURES, static_features.columns.T, strict=True))
    return pd.DataFrame({"station_id": static_features.ids.astype(object)} | columns)


def compute_knn_map(frame: pd.DataFrame, k: int = KNN5) -> dict[str, list[str]]:
    """Return each station's ``k`` nearest others (at most 15), nearest first."""
    static_features = fit_static_features(_panel(frame).stations)
    return {
        station: static_features.ids[nearest[nearest >= 0]].tolist()
        for station, nearest in zip(
            static_features.ids.tolist(), static_features.neighbours[:, :k], strict=True
        )
    }


def train_model(
    frame: pd.DataFrame,
    horizon_bins: HorizonBins,
    lookback_days: int = 28,
    tz: str = "Europe/Paris",
    options: TrainingOptions | None = None,
) -> ModelPack:
    """Train one horizon on the last ``lookback_days`` UTC days of a frame of snapshot rows.

    Raises ``ValueError`` where there is too little to learn from.
    """
    panel = _panel(frame)
    last = day_of(Bin(panel.stop - 1))
    first = max(day_of(panel.start), day_after(last, 1 - lookback_days))
    days = _days(first, day_after(last))
    return train_on(panel, panel.stations, days, horizon_bins, tz, options).pack


def predict_from_features_df(
    pack: ModelPack, features: pd.DataFrame, model_version: str | None = None
) -> pd.DataFrame:
    """Forecast from feature rows.

    ``features`` holds ``station_id``, ``tbin_latest`` (naive UTC), ``capacity_bin`` and every
    column of ``pack.feat_cols``: a missing one is an error, never a zero. The result has the
    columns of `predict_latest_offline`, one row for each given; a capacity below the bikes that
    are there is raised to them.
    """
    _need(features, (*PREDICTION_INPUTS, *pack.feat_cols))
    rows = features[list(pack.feat_cols)].to_numpy(np.float32)
    capacity, bikes, docks = (
        features[name].astype("float32").to_numpy()
        for name in ("capacity_bin", "bikes", "free_docks")
    )
    known = np.isfinite(bikes) & (capacity > 0)
    found = blend_with_persistence(
        pack,
        pack.calibration,
        class_probabilities(pack, rows[known]),
        bikes[known],
        capacity[known],
        docks[known],
    )
    columns = {name: np.full(len(rows), np.nan, np.float32) for name in FORECAST_COLUMNS.values()}
    for column, values in zip(columns.values(), found, strict=True):
        column[known] = values
    columns["capacity_bin"] = ceiling(bikes, capacity)
    given = features[list(PREDICTION_INPUTS)].assign(**columns)
    return _prediction_frame(given, pack.horizon_bins, model_version)


def predict_latest_offline(
    pack: ModelPack,
    frame: pd.DataFrame,
    profiles: Profiles | None = None,
    model_version: str | None = None,
) -> pd.DataFrame:
    """Forecast every station of a frame of snapshot rows from its newest bin.

    Profiles are built from the frame's own earlier days unless given. Columns: ``station_id``
    str, ``tbin_latest``, ``horizon_min`` int16, ``bikes_pred`` float32, ``bikes_pred_int`` Int16,
    ``bikes_mean``, ``p_bike``, ``p_dock`` float32, ``capacity_bin`` Int64, ``pred_ts_utc``,
    ``target_ts_utc`` (naive UTC), ``model_version``. Null where no forecast can be honest.
    """
    panel = _panel(frame)
    at = Bin(panel.stop - 1)
    table = predict(pack, panel, profiles or _past_profiles(panel, at, pack), at)
    return _prediction_frame(table.to_pandas(), pack.horizon_bins, model_version)


def _past_profiles(panel: Panel, at: Bin, pack: ModelPack) -> Profiles:
    walk = Walk(panel, pack.horizon_bins, pack.tz)
    for _ in walk.over(_days(day_of(panel.start), day_of(at))):
        pass
    return walk.profiles


def _days(start: Day, stop: Day) -> list[Day]:
    """Return the days ``[start, stop)``."""
    return [day_after(start, n) for n in range((stop - start).days)]


def _training_frame(frame: pd.DataFrame, horizon: HorizonBins, tz: str, names: list[str]) -> Frame:
    import pandas as pd  # noqa: PLC0415

    panel = _panel(frame)
    last = day_of(Bin(panel.stop - 1))
    static_features = fit_static_features(panel.stations)
    blocks = []
    for past in Walk(panel, horizon, tz).over(_days(day_of(panel.start), day_after(last))):
        start = first_bin(past.day)
        at = np.arange(start, start + BINS_PER_DAY)
        now, later = (
            past.panel.window(Bin(start + ahead), Bin(start + ahead + BINS_PER_DAY))["bikes"]
            for ahead in (0, horizon)
        )
        keep = ~np.isnan(now) & ~np.isnan(later)
        t, s = np.nonzero(keep)
        features = feature_rows(
            past.panel, at, horizon, static_features, past.profiles, tuple(names)
        )
        block = pd.DataFrame(features[:, keep].T, columns=names)
        block.insert(0, "tbin_utc", (at[t] * 300).astype("datetime64[s]").astype("datetime64[ns]"))
        block.insert(1, "station_id", panel.stations.ids[s].astype(object))
        block["bikes"], block["y_nb"] = now[keep], later[keep]
        blocks.append(block)
    full = pd.concat(blocks, ignore_index=True)
    return full, full[names], full["y_nb"], names


def _panel(frame: pd.DataFrame) -> Panel:
    """Lay a frame on the grid; of rows that share a station and a bin the newest wins."""
    _need(frame, ("tbin_utc", "station_id", "bikes"))
    order = [name for name in ("tbin_utc", "ts_utc", "station_id") if name in frame.columns]
    rows = frame.dropna(subset=["station_id", "bikes"]).sort_values(order, kind="stable")
    if rows.empty:
        raise FrameError("frame", "no row", "rows with a station and bikes")
    table = pa.Table.from_pandas(rows.astype({"station_id": str}), preserve_index=False)
    bins = bins_of(table["tbin_utc"])
    return build_panel([table], Bin(int(bins[0])), Bin(int(bins[-1]) + 1))


def _prediction_frame(
    rows: pd.DataFrame, horizon: HorizonBins, model_version: str | None
) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415

    minutes = int(horizon_minutes(horizon))
    now = pd.Timestamp(dt.datetime.now(dt.UTC).replace(tzinfo=None)).as_unit("ns")
    latest = pd.to_datetime(rows["tbin_latest"])
    columns: Mapping[str, Any] = {
        "station_id": rows["station_id"].astype(str),
        "tbin_latest": latest,
        "horizon_min": np.int16(minutes),
        "bikes_pred": rows["bikes_pred"].astype("float32"),
        "bikes_pred_int": rows["bikes_pred_int"].astype("Int16"),
        "bikes_mean": rows["bikes_mean"].astype("float32"),
        "p_bike": rows["p_bike"].astype("float32"),
        "p_dock": rows["p_dock"].astype("float32"),
        "capacity_bin": rows["capacity_bin"].astype("Int64"),
        "pred_ts_utc": now,
        "target_ts_utc": latest + pd.Timedelta(minutes=minutes),
        "model_version": model_version,
    }
    return pd.DataFrame(columns, index=rows.index)


def _need(frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise FrameError("frame", missing, "these columns to be there")


def _stamps(series: pd.Series[Any]) -> pa.Array:
    return pa.array(series.to_numpy("datetime64[us]"))
