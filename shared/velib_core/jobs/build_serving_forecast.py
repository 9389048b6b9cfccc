"""A snapshot or a model is new → the forecast of every station, at once.

Only the newest snapshot is forecast from: an event about one that a newer has overtaken is
answered at once, and an older forecast never replaces a newer one. Where no model is usable the
document says so, station by station, instead of passing off an older forecast as fresh.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from velib_core.errors import InvalidValueError, ModelError
from velib_core.events.job import JobResult
from velib_core.features.stack import lookback_bins
from velib_core.feeds import gbfs_documents as gbfs
from velib_core.lake.artefact import JSON, PARQUET, Artefact, InputChangedError, json_bytes
from velib_core.lake.fingerprints import dated_bin, dated_fingerprint
from velib_core.lake.keys import (
    Forecast,
    ForecastBundle,
    ForecastLogPartition,
    GbfsDocument,
    Profile,
    ServingManifest,
)
from velib_core.logs import log_once
from velib_core.model import registry
from velib_core.model.inference import STALE_AFTER_MINUTES, no_forecast, predict
from velib_core.model.pack import from_blobs
from velib_core.model.readers import (
    calibration_before,
    listed_profile_before,
    load_calibration,
    load_profiles,
)
from velib_core.tables import history, snapshot, views
from velib_core.tables.panel import build_panel
from velib_core.tables.snapshots_index import (
    end_of_observations,
    is_overtaken,
    recent_snapshots,
)
from velib_core.timeline.bins import (
    BIN_SECONDS,
    BINS_PER_HOUR,
    Bin,
    bin_start,
    day_after,
    day_of,
    first_bin,
    horizon_bins,
    iso_z,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from velib_core.events.network import Network
    from velib_core.features.profiles import Profiles
    from velib_core.features.stack import SharedColumns
    from velib_core.lake.artefact import Outcome
    from velib_core.lake.readable import Entry
    from velib_core.model.pack import ModelPack
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.tables.panel import Panel
    from velib_core.timeline.bins import HorizonMinutes

RECIPE = "build_serving_forecast 1"
SCHEMA_VERSION = "1.0"
CACHE = "no-cache, max-age=0"
NO_MODEL = "no_model"

PUBLIC = "https://storage.googleapis.com"
"""Where a bucket's objects are read by who has no account, if the bucket lets them."""


@dataclasses.dataclass
class WarmState:
    """What an instance keeps between events: parsed snapshots, loaded models, the profiles.

    ``lasting`` has the hour and digest of the GBFS documents that this instance found or wrote
    last: one that was deleted since is back within the hour. ``older_profile`` is what there was
    in an hour in which yesterday's profile was missing.
    """

    snapshots: history.SnapshotReader = dataclasses.field(default_factory=history.SnapshotReader)
    packs: dict[str, ModelPack] = dataclasses.field(default_factory=dict)
    profiles: tuple[str, Profiles] | None = None
    lasting: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)
    older_profile: tuple[int, Entry | None] | None = None


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What a forecast is made from: the newest bin, the recent snapshots, the profiles."""

    newest: Bin
    snapshots: dict[Bin, Entry]
    profile: Entry | None

    def fingerprint(self, model: ModelVersion | None, calibration: Entry | None = None) -> str:
        """Return the fingerprint of a forecast: its bin first, so that they sort by age."""
        others = [entry for entry in (self.profile, calibration) if entry is not None]
        entries = [*self.snapshots.values(), *others]
        recipe = f"{RECIPE} model={model.folder if model else None}"
        return dated_fingerprint(self.newest, recipe, entries)


def run(
    network: Network, warm: WarmState, arrived: Bin | None = None, *, force: bool = False
) -> JobResult:
    """Publish the forecasts from the newest snapshot, if that is the one that arrived.

    ``arrived`` is the bin of the snapshot that the event is about; ``None`` asks for the newest,
    whichever it is. With ``force`` documents made from the same inputs are made again.
    """
    layout = network.layout
    result = JobResult("build_serving_forecast")
    inputs = _find_inputs(network, warm, arrived)
    if inputs is None:
        result.counts["overtaken"] = int(arrived is not None)
        return result
    serving = _Serving(network, warm, inputs, force=force)
    fingerprints = [
        _update_horizon(serving, horizon, result) for horizon in network.settings.horizons
    ]
    content = dated_fingerprint(inputs.newest, " ".join(fingerprints), [])
    for key, make in ((ForecastBundle(), serving.bundle), (ServingManifest(), serving.manifest)):
        name = layout.name(key)
        result.outputs[name] = _update_unless_older(serving, name, content, make)
    return result


def _update_horizon(serving: _Serving, horizon: HorizonMinutes, result: JobResult) -> str:
    """Publish one horizon under both names, the API's first; return its fingerprint."""
    lake, layout = serving.network.lake, serving.network.layout
    model, pack = _usable_model(serving, horizon)
    calibration = None
    if model is not None:
        today = day_of(serving.inputs.newest)
        calibration = calibration_before(lake, layout, model, today)
    fingerprint = serving.inputs.fingerprint(model, calibration)

    @functools.cache
    def content() -> bytes:
        table = serving.forecast(horizon, pack, calibration)
        version = model.version if model and pack else None
        if version is not None:
            _record(serving, horizon, table, version, fingerprint)
        made = serving.document(horizon, table, version)
        # Before the forecast: a job that is killed between the two does both again.
        result.outputs.update(_update_gbfs(serving, horizon, made, fingerprint))
        serving.made[horizon] = made
        return json_bytes(made)

    for key in (Forecast(horizon), Forecast(horizon, alias=True)):
        name = layout.name(key)
        result.outputs[name] = _update_unless_older(serving, name, fingerprint, content)
    if horizon in serving.made:
        rows = serving.made[horizon]["data"]
        result.counts[f"h{horizon}_stations"] = len(rows)
        result.counts[f"h{horizon}_forecasts"] = sum(row["bikes_pred"] is not None for row in rows)
    return fingerprint


def _update_gbfs(
    serving: _Serving, horizon: HorizonMinutes, forecast: dict[str, Any], fingerprint: str
) -> dict[str, Outcome]:
    """Publish a new forecast as GBFS too, and once a day what seldom changes.

    The discovery file comes last, when what it names is there.
    """
    network = serving.network
    files = (gbfs.STATUS, gbfs.INFORMATION, gbfs.SYSTEM, gbfs.DISCOVERY)
    names = {file: network.layout.name(GbfsDocument(horizon, file)) for file in files}
    addresses = {file: f"{PUBLIC}/{network.settings.bucket}/{name}" for file, name in names.items()}
    settings = network.settings
    system = gbfs.system_information(settings.network, settings.tz, horizon, serving.since)
    documents = {
        gbfs.INFORMATION: serving.information,
        gbfs.SYSTEM: json_bytes(system),
        gbfs.DISCOVERY: json_bytes(gbfs.discovery(addresses, serving.since)),
    }
    status = names[gbfs.STATUS]
    outcomes = {
        status: _update_unless_older(
            serving, status, fingerprint, lambda: json_bytes(gbfs.station_status(forecast))
        )
    }
    hour = serving.inputs.newest // BINS_PER_HOUR
    for file, content in documents.items():
        artefact = Artefact(content, JSON, hashlib.sha256(content).hexdigest())
        name, known = names[file], (hour, artefact.fingerprint)
        if serving.warm.lasting.get(name) == known and not serving.force:
            outcomes[name] = "fresh"
            continue
        make = functools.partial(_unless_same, artefact)
        outcomes[name] = network.lake.update(name, make, cache=CACHE)
        serving.warm.lasting[name] = known
    return outcomes


def _unless_same(artefact: Artefact, current: Entry | None) -> Artefact | None:
    return None if current and current.fingerprint == artefact.fingerprint else artefact


def _record(
    serving: _Serving, horizon: HorizonMinutes, table: pa.Table, version: str, fingerprint: str
) -> None:
    """Write a forecast to the forecast log before it is published: none goes unrecorded.

    A page is named by what the forecast was made from, so entering it twice changes nothing.
    """
    newest = serving.inputs.newest
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:8]
    name = serving.network.layout.name(ForecastLogPartition(newest, horizon, digest))
    partition = views.forecast_log_partition(table, newest, version)
    artefact = Artefact(snapshot.to_bytes(partition), PARQUET, fingerprint)
    serving.network.lake.create(name, artefact)


def _update_unless_older(
    serving: _Serving, name: str, fingerprint: str, content: Callable[[], bytes]
) -> Outcome:
    """Publish a document unless the live one is of a newer snapshot, or made from the same.

    Forced, one made from the same is published again.

    One that says it is of a snapshot that nobody can have observed yet is of none.
    """
    ours = dated_bin(fingerprint) or 0

    def make(current: Entry | None) -> Artefact | None:
        live = current.fingerprint if current else None
        if live == fingerprint and not serving.force:
            return None
        if ours < (dated_bin(live) or 0) < end_of_observations():
            return None
        return Artefact(content(), JSON, fingerprint)

    return serving.network.lake.update(name, make, cache=CACHE)


class _Serving:
    """The network as of the newest snapshot; its panel is laid out only if a forecast is due."""

    def __init__(
        self, network: Network, warm: WarmState, inputs: _Inputs, *, force: bool = False
    ) -> None:
        self.network, self.warm, self.inputs, self.force = network, warm, inputs, force
        self.made: dict[HorizonMinutes, dict[str, Any]] = {}
        self.columns: SharedColumns = {}

    @functools.cached_property
    def tables(self) -> list[pa.Table]:
        return list(self.warm.snapshots.tables(self.network.lake, self.inputs.snapshots))

    @functools.cached_property
    def panel(self) -> Panel:
        newest = self.inputs.newest
        start = Bin(newest - _history_bins(self.network.settings) + 1)
        return build_panel(self.tables, start, Bin(newest + 1))

    @functools.cached_property
    def observed(self) -> dt.datetime:
        """When the newest snapshot was made, by the feed's clock (aware, UTC)."""
        stamp: dt.datetime = pc.max(self.tables[-1]["ts_utc"].cast(pa.timestamp("s"))).as_py()
        return stamp.replace(tzinfo=dt.UTC)

    @functools.cached_property
    def profiles(self) -> Profiles:
        entry = self.inputs.profile
        key = entry.crc32c if entry else ""
        if self.warm.profiles is None or self.warm.profiles[0] != key:
            self.warm.profiles = (
                key,
                load_profiles(self.network.lake, self.network.settings, entry),
            )
        return self.warm.profiles[1]

    def forecast(
        self, horizon: HorizonMinutes, pack: ModelPack | None, calibration: Entry | None
    ) -> pa.Table:
        """Return the forecast of every station, or the reason for none."""
        at = self.inputs.newest
        if pack is None:
            return no_forecast(self.panel, horizon_bins(horizon), at, NO_MODEL)
        blend_weight = load_calibration(self.network.lake, pack, calibration)
        return predict(pack, self.panel, self.profiles, at, blend_weight, shared=self.columns)

    def document(
        self, horizon: HorizonMinutes, table: pa.Table, version: str | None
    ) -> dict[str, Any]:
        """Return the forecast document of one horizon."""
        generated = iso_z(self.observed)
        return {
            "schema_version": SCHEMA_VERSION,
            "generated_at": generated,
            "horizon_min": horizon,
            "model_version": version,
            "data": _rows(table, generated, version),
        }

    @functools.cached_property
    def since(self) -> str:
        """When the day of the newest snapshot began: whichever comes first, it says the same."""
        return iso_z(bin_start(first_bin(day_of(self.inputs.newest))))

    @functools.cached_property
    def information(self) -> bytes:
        """The GBFS ``station_information``, which all horizons share."""
        return json_bytes(gbfs.station_information(self.places, self.since))

    @functools.cached_property
    def places(self) -> list[dict[str, Any]]:
        """Return name, place (degrees) and capacity of each station, ``None`` where unknown."""
        stations = self.panel.stations
        return [
            {"station_id": station, "name": name or None}
            | {"lat": _known(lat), "lon": _known(lon), "capacity": _known(capacity)}
            for station, name, lat, lon, capacity in zip(
                stations.ids.tolist(),
                stations.names.tolist(),
                stations.lat.tolist(),
                stations.lon.tolist(),
                stations.capacity.tolist(),
                strict=True,
            )
        ]

    def bundle(self) -> bytes:
        """Return the document of all forecasts, each row with its station's name and place.

        Raises `velib_core.lake.bucket.InputChangedError` where one is of another snapshot by now.
        """
        generated = iso_z(self.observed)
        about = {
            place["station_id"]: {key: place[key] for key in ("name", "lat", "lon")}
            for place in self.places
        }
        data = {}
        for horizon in self.network.settings.horizons:
            found = self.made.get(horizon) or self._published(horizon)
            if found["generated_at"] != generated:
                raise InputChangedError(f"h{horizon} is of {found['generated_at']} by now")
            data[str(horizon)] = [
                row | about.get(row["station_id"], {}) | {"capacity": row["capacity_bin"]}
                for row in found["data"]
            ]
        return json_bytes(
            {
                "schema_version": SCHEMA_VERSION,
                "generated_at": generated,
                "horizons": list(self.network.settings.horizons),
                "data": data,
            }
        )

    def _published(self, horizon: HorizonMinutes) -> dict[str, Any]:
        name = self.network.layout.name(Forecast(horizon))
        document = self.network.lake.fetch_json(name)
        try:
            known = [(str(row["station_id"]), row["capacity_bin"], row) for row in document["data"]]
            rows = [row | {"station_id": s, "capacity_bin": c} for s, c, row in known]
            return {"generated_at": document["generated_at"], "data": rows}
        except (KeyError, TypeError) as error:
            raise InvalidValueError(name, document, "a forecast") from error

    def manifest(self) -> bytes:
        """Return what says that the forecasts of all horizons are of one snapshot."""
        return json_bytes(
            {
                "schema_version": SCHEMA_VERSION,
                "generated_at": iso_z(self.observed),
                "latest_prefix": f"{self.network.settings.serving_prefix}/latest",
                "horizons": list(self.network.settings.horizons),
                "snapshot": iso_z(bin_start(self.inputs.newest)),
            }
        )


def _find_inputs(network: Network, warm: WarmState, arrived: Bin | None) -> _Inputs | None:
    """Return what is newest, or ``None`` where what arrived is not, or nothing ever did."""
    layout = network.layout
    if is_overtaken(network.lake, arrived, warm.snapshots):
        return None
    lookback = _history_bins(network.settings)
    entries = recent_snapshots(network.lake, layout, arrived, lambda _: lookback, warm.snapshots)
    if not entries:
        return None
    newest = max(entries)
    return _Inputs(newest, entries, _profile(network, warm, newest))


def _profile(network: Network, warm: WarmState, newest: Bin) -> Entry | None:
    """Return the newest profile of a day before; where it is not yesterday's, as of this hour."""
    day, hour = day_of(newest), newest // BINS_PER_HOUR
    yesterday = network.lake.stat(network.layout.name(Profile(day_after(day, -1))))
    if yesterday is not None:
        return yesterday
    if warm.older_profile is None or warm.older_profile[0] != hour:
        warm.older_profile = hour, listed_profile_before(network.lake, network.layout, day)
    return warm.older_profile[1]


def _usable_model(
    serving: _Serving, horizon: HorizonMinutes
) -> tuple[ModelVersion | None, ModelPack | None]:
    """Return the live model, or the last good one where the live one is damaged."""
    packs = serving.warm.packs
    for model in registry.usable(serving.network.lake, serving.network.layout, horizon):
        key = f"h{horizon}/{model.folder}"
        if key not in packs:
            try:
                files = registry.load(serving.network.lake, serving.network.layout, model)
                pack = from_blobs(files, horizon_bins(horizon))
            except ModelError as error:
                log_once("ERROR", f"model {model.version} of h{horizon} cannot be used: {error}")
                continue
            for old in [k for k in packs if k.startswith(f"h{horizon}/")]:
                del packs[old]
            packs[key] = pack
        return model, packs[key]
    return None, None


def _rows(table: pa.Table, generated: str, version: str | None) -> list[dict[str, Any]]:
    """Return the rows of the contract, followed by additional keys."""
    stamped = table
    for column in ("tbin_latest", "target_ts_utc"):
        text = pc.strftime(table[column].cast(pa.timestamp("s")), format="%Y-%m-%dT%H:%M:%SZ")
        stamped = stamped.set_column(stamped.schema.get_field_index(column), column, text)
    rows = []
    for row in stamped.to_pylist():
        age = row.pop("age_min")
        row |= {"age_min": None if age is None else round(age, 1)}
        for key in ("bikes_pred", "bikes_mean", "p_bike", "p_dock"):
            row[key] = None if row[key] is None else round(row[key], 3)
        rows.append(row | {"pred_ts_utc": generated, "model_version": version})
    return rows


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _history_bins(settings: Settings) -> int:
    longest = max(horizon_bins(minutes) for minutes in settings.horizons)
    return lookback_bins(longest) + STALE_AFTER_MINUTES * 60 // BIN_SECONDS + 1
