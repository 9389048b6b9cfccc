"""A trained model as a value, and as named byte blobs without pickle.

``model.ubj`` is XGBoost's binary JSON, ``statics.npz`` plain arrays, ``pack.json`` the rest with
the SHA-256 of both. Whatever does not hold together raises `ModelError`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zoneinfo
from typing import TYPE_CHECKING, Any

import numpy as np

from velib_core.errors import ModelError
from velib_core.features.spatial_features import KNN15, STATIC_FEATURES, StaticFeatures
from velib_core.features.stack import FEATURES, features_hash8
from velib_core.model.blending import Calibration, calibration_from_json
from velib_core.model.change_distribution import MAX_CHANGE, ChangeClasses
from velib_core.tables import npz
from velib_core.tables.npz import ArraysError
from velib_core.timeline.bins import HorizonBins

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xgboost as xgb

FORMAT = 1
MAX_BLOB_BYTES = 64 << 20
"""A model of 1,500 stations takes about 5 MiB."""

_MALFORMED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OSError,  # of a zone whose name is a path
    OverflowError,
    RecursionError,
)

BOOSTER, STATIC_FEATURES_FILE, PACK = "model.ubj", "statics.npz", "pack.json"


@dataclasses.dataclass(frozen=True)
class ModelPack:
    """All that a forecast needs of its training.

    ``model`` gives the probability of each class of change from the ``feat_cols`` in order;
    ``calibration`` is as of its tuning days; ``tz`` the zone of its
    local-time features; ``about`` what describes it for people: data window, rows, metrics,
    library versions.
    """

    model: xgb.Booster
    feat_cols: tuple[str, ...]
    horizon_bins: HorizonBins
    classes: ChangeClasses
    static_features: StaticFeatures
    calibration: Calibration
    tz: str
    about: Mapping[str, Any]


def to_blobs(pack: ModelPack) -> dict[str, bytes]:
    """Return the pack as named blobs; equal packs give equal bytes."""
    arrays = io.BytesIO()
    np.savez(
        arrays,
        ids=pack.static_features.ids,
        columns=pack.static_features.columns,
        neighbours=pack.static_features.neighbours,
        class_lows=pack.classes.lows,
        class_shares=pack.classes.shares,
    )
    blobs = {BOOSTER: bytes(pack.model.save_raw("ubj")), STATIC_FEATURES_FILE: arrays.getvalue()}
    document = {
        "format": FORMAT,
        "feat_cols": list(pack.feat_cols),
        "features_hash8": features_hash8(pack.feat_cols),
        "horizon_bins": pack.horizon_bins,
        "tz": pack.tz,
        "calibration": pack.calibration.as_json(),
        "about": dict(pack.about),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in blobs.items()},
    }
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False)
    return blobs | {PACK: text.encode()}


def from_blobs(blobs: Mapping[str, bytes], horizon: HorizonBins | None = None) -> ModelPack:
    """Rebuild a pack.

    Parameters
    ----------
    blobs
        What `to_blobs` returned; other names are ignored.
    horizon
        The horizon it must be for; any when ``None``.

    Raises
    ------
    ModelError
        Where a blob is missing, truncated, altered or foreign, the pack needs a feature that this
        version does not compute, or it is for another horizon.

    """
    for name in (BOOSTER, STATIC_FEATURES_FILE, PACK):
        if name not in blobs:
            raise ModelError(f"model pack: {name} is missing, got {sorted(blobs)}")
        if len(blobs[name]) > MAX_BLOB_BYTES:
            raise ModelError(f"model pack: {name} has {len(blobs[name])} bytes")
    try:
        document = json.loads(blobs[PACK])
        made = document["format"]
        if made != FORMAT:
            raise ModelError(f"model pack: format {made!r}, expected {FORMAT}")
        for name in (BOOSTER, STATIC_FEATURES_FILE):
            expected = document["sha256"][name]
            found = hashlib.sha256(blobs[name]).hexdigest()
            if found != expected:
                raise ModelError(f"model pack: {name} has SHA-256 {found}, expected {expected}")
        bins = HorizonBins(int(document["horizon_bins"]))
        names = tuple(map(str, document["feat_cols"]))
        classes, static_features = _read_arrays(blobs[STATIC_FEATURES_FILE])
        calibration = calibration_from_json(document["calibration"])
        tz, about = str(document["tz"]), dict(document["about"])
        zoneinfo.ZoneInfo(tz)
    except _MALFORMED as error:
        raise ModelError(f"model pack: {PACK} is no model's: {error!r}") from error
    if horizon is not None and bins != horizon:
        raise ModelError(f"model pack: made for {bins} bins ahead, asked for {horizon}")
    unknown = [name for n, name in enumerate(names) if name not in FEATURES or name in names[:n]]
    if unknown:
        raise ModelError(
            f"model pack: features {unknown} are not computed by this version, or named twice"
        )
    booster = _read_booster(blobs[BOOSTER], len(names), len(classes.lows))
    return ModelPack(booster, names, bins, classes, static_features, calibration, tz, about)


def _read_arrays(data: bytes) -> tuple[ChangeClasses, StaticFeatures]:
    try:
        arrays = npz.read(data, MAX_BLOB_BYTES)
        classes = ChangeClasses(arrays["class_lows"], arrays["class_shares"])
        static_features = StaticFeatures(arrays["ids"], arrays["columns"], arrays["neighbours"])
        len(classes.lows), len(static_features.ids)
    except (ArraysError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"model pack: {STATIC_FEATURES_FILE} cannot be read: {error!r}") from error
    count = len(static_features.ids)
    shapes = (static_features.columns.shape, static_features.neighbours.shape, classes.shares.shape)
    expected = (
        (count, len(STATIC_FEATURES)),
        (count, KNN15),
        (len(classes.lows), 2 * MAX_CHANGE + 1),
    )
    if shapes != expected:
        raise ModelError(
            f"model pack: {STATIC_FEATURES_FILE} has shapes {shapes}, expected {expected}"
        )
    _check_values(classes, static_features)
    return classes, static_features


def _check_values(classes: ChangeClasses, static_features: StaticFeatures) -> None:
    """Raise `ModelError` for arrays of other types than ours, and for what cannot be."""
    ids, columns, neighbours = vars(static_features).values()
    lows, shares = classes.lows, classes.shares
    kinds = [array.dtype.kind for array in (ids, columns, neighbours, lows, shares)]
    if kinds != ["U", "f", "i", "i", "f"]:
        raise ModelError(f"model pack: {STATIC_FEATURES_FILE} has arrays of types {kinds}")
    rising = all((array[1:] > array[:-1]).all() for array in (ids, lows))
    inside = ((neighbours >= -1) & (neighbours < len(ids))).all() and (
        abs(lows) <= MAX_CHANGE
    ).all()
    if not rising or not inside or not np.isfinite(shares).all():
        raise ModelError(f"model pack: {STATIC_FEATURES_FILE} has values out of order or range")


def _read_booster(data: bytes, features: int, classes: int) -> xgb.Booster:
    import xgboost as xgb  # noqa: PLC0415 -- loaded only where a model is

    try:
        booster = xgb.Booster({"nthread": 1})
        booster.load_model(bytearray(data))
    except (xgb.core.XGBoostError, ValueError) as error:
        raise ModelError(f"model pack: {BOOSTER} is no booster: {str(error)[:200]}") from error
    if booster.num_features() != features:
        raise ModelError(
            f"model pack: {BOOSTER} takes {booster.num_features()} features, expected {features}"
        )
    config = json.loads(booster.save_config())
    found = int(config["learner"]["learner_model_param"]["num_class"])
    if found != classes:
        raise ModelError(f"model pack: {BOOSTER} has {found} classes, expected {classes}")
    return booster
