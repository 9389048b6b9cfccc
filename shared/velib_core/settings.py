"""Environment → one frozen, typed, validated `Settings`.

Every variable the suite reads is a field here, with its names, its default and its meaning; the
table in the README is printed from these fields.
"""

from __future__ import annotations

import dataclasses
import os
import re
import zoneinfo
from typing import TYPE_CHECKING, Any

from velib_core.errors import InvalidValueError
from velib_core.grid import HorizonMinutes, horizon_bins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SettingsError(InvalidValueError):
    """A setting is missing or malformed."""


_PREFIX = re.compile(r"gs://([a-z0-9](?:[a-z0-9._-]{0,220}[a-z0-9])?)((?:/[^/]+)*)/?")
_NETWORK = re.compile(r"[a-z][a-z0-9-]{0,23}")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _text(name: str, raw: str) -> str:
    del name
    return raw.strip()


def _network(name: str, raw: str) -> str:
    if not _NETWORK.fullmatch(raw):
        raise SettingsError(name, raw, "lower-case letters, digits and dashes, as in 'velib'")
    return raw


def _prefix(name: str, raw: str) -> str:
    match = _PREFIX.fullmatch(raw)
    if not match or any(part in {".", ".."} for part in raw.split("/")):
        raise SettingsError(name, raw, "gs://BUCKET or gs://BUCKET/FOLDER")
    return f"gs://{match[1]}{match[2]}"


def _url(name: str, raw: str) -> str:
    if raw and not raw.startswith(("https://", "http://")):
        raise SettingsError(name, raw, "an http:// or https:// address")
    return raw


def _flag(name: str, raw: str) -> bool:
    value = raw.strip().lower()
    if value not in _TRUE | _FALSE:
        raise SettingsError(name, raw, "1 or 0")
    return value in _TRUE


def _number(low: float, high: float) -> Callable[[str, str], float]:
    def parse(name: str, raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise SettingsError(name, raw, f"a number between {low:g} and {high:g}")
        return value

    return parse


def _count(low: int, high: int) -> Callable[[str, str], int]:
    def parse(name: str, raw: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", raw.strip()) or not low <= int(raw) <= high:
            raise SettingsError(name, raw, f"a whole number between {low} and {high}")
        return int(raw)

    return parse


def _zone(name: str, raw: str) -> str:
    try:
        zoneinfo.ZoneInfo(raw)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(name, raw, "an IANA time zone, as in 'Europe/Paris'") from None
    return raw


def _horizons(name: str, raw: str) -> tuple[HorizonMinutes, ...]:
    expected = "minutes that are multiples of 5, as in '15,60'"
    try:
        horizons = tuple(sorted({HorizonMinutes(int(part)) for part in raw.split(",")}))
        for horizon in horizons:
            horizon_bins(horizon)
    except ValueError:
        raise SettingsError(name, raw, expected) from None
    if horizons[-1] > 24 * 60:
        raise SettingsError(name, raw, expected + " of at most a day")
    return horizons


def _setting(names: str, default: str, parse: Callable[[str, str], Any], about: str) -> Any:  # noqa: ANN401 -- each field states its own type
    """Declare a field read from the first of ``names`` that is set, else from ``default``."""
    return dataclasses.field(
        metadata={"names": names.split(), "default": default, "parse": parse, "about": about}
    )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What one deployment for one network is told by its environment.

    Object prefixes are ``gs://BUCKET/FOLDER`` in one bucket; ``{root}`` in a default stands for
    `root`.
    """

    network: str = _setting(
        "VELIB_NETWORK", "velib", _network, "Name of the bike-share network; topics start with it"
    )
    project: str = _setting(
        "GOOGLE_CLOUD_PROJECT GCP_PROJECT", "", _text, "Project that owns the topics"
    )
    root: str = _setting(
        "GCS_BUCKET_ROOT", "", _prefix, "Where the network's objects live: gs://BUCKET[/FOLDER]"
    )
    raw_prefix: str = _setting("GCS_RAW_PREFIX", "{root}/bronze", _prefix, "Snapshots as ingested")
    daily_prefix: str = _setting("GCS_DAILY_PREFIX", "{root}/daily", _prefix, "One file a UTC day")
    monthly_prefix: str = _setting(
        "GCS_MONTHLY_PREFIX", "{root}/monthly", _prefix, "One file a month"
    )
    exports_prefix: str = _setting(
        "GCS_EXPORTS_PREFIX", "{root}/exports", _prefix, "Events and perf views, training base"
    )
    profiles_prefix: str = _setting(
        "GCS_PROFILES_PREFIX",
        "{root}/profiles",
        _prefix,
        "What stations usually do, one file a closed day",
    )
    models_prefix: str = _setting("GCS_MODELS_PREFIX", "{root}/models", _prefix, "Models")
    serving_prefix: str = _setting(
        "SERVING_FORECAST_PREFIX GCS_FORECAST_PREFIX",
        "{root}/serving/forecast",
        _prefix,
        "Published forecasts",
    )
    monitoring_prefix: str = _setting(
        "GCS_MONITORING_PREFIX",
        "{root}/monitoring",
        _prefix,
        "Monitoring documents; /monitoring is appended when missing",
    )
    quarantine_prefix: str = _setting(
        "GCS_QUARANTINE_PREFIX", "{root}/quarantine", _prefix, "What could not be read, and why"
    )
    gbfs_url: str = _setting("GBFS_URL", "", _url, "GBFS discovery file (gbfs.json)")
    status_url: str = _setting(
        "VELIB_STATUS_URL",
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/station_status.json",
        _url,
        "station_status feed, used when GBFS_URL is empty",
    )
    info_url: str = _setting(
        "VELIB_INFO_URL",
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/station_information.json",
        _url,
        "station_information feed, used when GBFS_URL is empty",
    )
    weather_url: str = _setting(
        "OPENMETEO_URL", "https://api.open-meteo.com/v1/forecast", _url, "Open-Meteo forecast API"
    )
    weather_lat: float = _setting(
        "OPENMETEO_LAT", "48.8566", _number(-90, 90), "Latitude of the weather, degrees"
    )
    weather_lon: float = _setting(
        "OPENMETEO_LON", "2.3522", _number(-180, 180), "Longitude of the weather, degrees"
    )
    weather_disabled: bool = _setting("METEO_DISABLE", "0", _flag, "1 ingests without weather")
    tz: str = _setting("MON_TZ TZ_APP", "Europe/Paris", _zone, "Zone of business hours and days")
    horizons: tuple[HorizonMinutes, ...] = _setting(
        "MON_HORIZONS PERF_HORIZONS FORECAST_HORIZONS", "15,60", _horizons, "Forecast horizons"
    )
    penury_bikes: int = _setting(
        "MON_PENURY_THRESH PENURY_THRESH",
        "2",
        _count(0, 1000),
        "A station is short of bikes at or below this many (and 10% of its capacity)",
    )
    saturation_docks: int = _setting(
        "MON_SATURATION_THRESH SATURATION_THRESH",
        "2",
        _count(0, 1000),
        "A station is short of docks at or below this many (and 10% of its capacity)",
    )
    delete_after_compact: bool = _setting(
        "DELETE_AFTER_COMPACT",
        "0",
        _flag,
        "1 deletes a day's snapshots once its daily was read back and verified",
    )
    lookback_days: int = _setting(
        "LOOKBACK_DAYS", "28", _count(1, 3660), "Days of history that a model is trained on"
    )
    train_max_rows: int = _setting(
        "TRAIN_MAX_ROWS",
        "300000",
        _count(1000, 100_000_000),
        "Most rows to learn from; beyond it only one bin in so many is used",
    )
    train_rounds: int = _setting(
        "TRAIN_ROUNDS", "120", _count(1, 10_000), "Most boosting rounds; fewer when it stops early"
    )

    def __post_init__(self) -> None:
        """Hold every prefix to one bucket, and the prefixes apart from one another."""
        prefixes = {f: getattr(self, f) for f in _prefix_fields()}
        for field, value in prefixes.items():
            if bucket_and_folder(value)[0] != self.bucket:
                raise SettingsError(field, value, f"a prefix in the bucket of {self.root}")
        for field, value in prefixes.items():
            for other, outer in prefixes.items():
                if field != other and (value + "/").startswith(outer + "/"):
                    raise SettingsError(field, value, f"a prefix apart from {other} = {outer}")

    @property
    def bucket(self) -> str:
        """The bucket that holds everything."""
        return bucket_and_folder(self.root)[0]

    def topic(self, name: str) -> str:
        """Return the full name of a topic of this network, as in ``projects/P/topics/velib-tick``.

        Raises `SettingsError` where no project is set.
        """
        if not self.project:
            raise SettingsError("GOOGLE_CLOUD_PROJECT", self.project, "the project of the topics")
        return f"projects/{self.project}/topics/{self.network}-{name}"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment; raise `SettingsError` naming the variable that is wrong."""
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            meta = field.metadata
            name = next((n for n in meta["names"] if env.get(n, "") != ""), meta["names"][0])
            raw = env.get(name, "") or meta["default"].replace("{root}", values.get("root", ""))
            values[field.name] = meta["parse"](name, raw)
        if not values["monitoring_prefix"].endswith("/monitoring"):
            values["monitoring_prefix"] += "/monitoring"
        return cls(**values)


def bucket_and_folder(prefix: str) -> tuple[str, str]:
    """Split ``gs://BUCKET/FOLDER`` into bucket and folder (``""`` for the bucket's root)."""
    bucket, _, folder = prefix.removeprefix("gs://").partition("/")
    return bucket, folder


def _prefix_fields() -> list[str]:
    return [f.name for f in dataclasses.fields(Settings) if f.name.endswith("_prefix")]
