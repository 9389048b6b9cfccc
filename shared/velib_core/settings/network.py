"""Environment → one frozen, typed, validated `Settings`.

Every variable the suite reads is a field here, or in `velib_core.settings.monitoring`, with its
names, its default and its meaning; the table in the README is printed from these fields.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from velib_core.settings.env import (
    SettingsError,
    as_flag,
    as_horizons,
    as_network,
    as_prefix,
    as_text,
    as_url,
    as_zone,
    count_between,
    number_between,
    read,
    setting,
    variables,
)
from velib_core.settings.monitoring import MonitoringSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.timeline.bins import HorizonMinutes


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one deployment for one network, from the environment.

    Object prefixes are ``gs://BUCKET/FOLDER`` in one bucket; ``{root}`` in a default stands for
    `root`.
    """

    network: str = setting(
        "VELIB_NETWORK", "velib", as_network, "Name of the bike-share network; topics start with it"
    )
    project: str = setting(
        "GOOGLE_CLOUD_PROJECT GCP_PROJECT", "", as_text, "Project that owns the topics"
    )
    root: str = setting(
        "GCS_BUCKET_ROOT", "", as_prefix, "Where the network's objects live: gs://BUCKET[/FOLDER]"
    )
    raw_prefix: str = setting("GCS_RAW_PREFIX", "{root}/bronze", as_prefix, "Snapshots as ingested")
    daily_prefix: str = setting("GCS_DAILY_PREFIX", "{root}/daily", as_prefix, "One file a UTC day")
    monthly_prefix: str = setting(
        "GCS_MONTHLY_PREFIX", "{root}/monthly", as_prefix, "One file a month"
    )
    exports_prefix: str = setting(
        "GCS_EXPORTS_PREFIX",
        "{root}/exports",
        as_prefix,
        "Observations, evaluations, training base",
    )
    profiles_prefix: str = setting(
        "GCS_PROFILES_PREFIX",
        "{root}/profiles",
        as_prefix,
        "Station profiles, one file per closed day",
    )
    models_prefix: str = setting("GCS_MODELS_PREFIX", "{root}/models", as_prefix, "Models")
    serving_prefix: str = setting(
        "SERVING_FORECAST_PREFIX GCS_FORECAST_PREFIX",
        "{root}/serving/forecast",
        as_prefix,
        "Published forecasts",
    )
    forecast_log_prefix: str = setting(
        "GCS_LEDGER_PREFIX", "{root}/ledger", as_prefix, "Every forecast as it was published"
    )
    monitoring_prefix: str = setting(
        "GCS_MONITORING_PREFIX",
        "{root}/monitoring",
        as_prefix,
        "Monitoring documents; /monitoring is appended when missing",
    )
    quarantine_prefix: str = setting(
        "GCS_QUARANTINE_PREFIX", "{root}/quarantine", as_prefix, "What could not be read, and why"
    )
    gbfs_url: str = setting("GBFS_URL", "", as_url, "GBFS discovery file (gbfs.json)")
    status_url: str = setting(
        "VELIB_STATUS_URL",
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/station_status.json",
        as_url,
        "station_status feed, used when GBFS_URL is empty",
    )
    info_url: str = setting(
        "VELIB_INFO_URL",
        "https://velib-metropole-opendata.smovengo.cloud/opendata/Velib_Metropole/station_information.json",
        as_url,
        "station_information feed, used when GBFS_URL is empty",
    )
    weather_url: str = setting(
        "OPENMETEO_URL", "https://api.open-meteo.com/v1/forecast", as_url, "Open-Meteo forecast API"
    )
    weather_lat: float = setting(
        "OPENMETEO_LAT", "48.8566", number_between(-90, 90), "Latitude of the weather, degrees"
    )
    weather_lon: float = setting(
        "OPENMETEO_LON", "2.3522", number_between(-180, 180), "Longitude of the weather, degrees"
    )
    weather_disabled: bool = setting("METEO_DISABLE", "0", as_flag, "1 ingests without weather")
    tz: str = setting("MON_TZ TZ_APP", "Europe/Paris", as_zone, "Zone of business hours and days")
    horizons: tuple[HorizonMinutes, ...] = setting(
        "FORECAST_HORIZONS MON_HORIZONS PERF_HORIZONS", "15,60", as_horizons, "Forecast horizons"
    )
    penury_bikes: int = setting(
        "MON_PENURY_THRESH PENURY_THRESH",
        "2",
        count_between(0, 1000),
        "A station is short of bikes at or below this many (and 10% of its capacity)",
    )
    saturation_docks: int = setting(
        "MON_SATURATION_THRESH SATURATION_THRESH",
        "2",
        count_between(0, 1000),
        "A station is short of docks at or below this many (and 10% of its capacity)",
    )
    delete_after_compact: bool = setting(
        "DELETE_AFTER_COMPACT",
        "0",
        as_flag,
        "1 deletes a day's snapshots once its daily was read back and verified",
    )
    late_data_wait_s: float = setting(
        "LATE_DATA_WAIT_S",
        "10",
        number_between(0, 300),
        "Seconds without another late snapshot before a closed day is compacted again",
    )
    lookback_days: int = setting(
        "LOOKBACK_DAYS", "28", count_between(1, 3660), "Days of history that a model is trained on"
    )
    train_max_rows: int = setting(
        "TRAIN_MAX_ROWS",
        "300000",
        count_between(1000, 100_000_000),
        "Most rows to learn from; beyond it only one bin in so many is used",
    )
    train_rounds: int = setting(
        "TRAIN_ROUNDS",
        "240",
        count_between(1, 10_000),
        "Most boosting rounds; fewer when it stops early",
    )
    monitoring: MonitoringSettings = dataclasses.field(default_factory=MonitoringSettings.defaults)

    def __post_init__(self) -> None:
        """Hold every prefix to one bucket, and the prefixes apart; clusters to the exports."""
        prefixes = {f: getattr(self, f) for f in _prefix_fields()}
        for field, value in prefixes.items():
            if bucket_and_folder(value)[0] != self.bucket:
                raise SettingsError(field, value, f"a prefix in the bucket of {self.root}")
        for field, value in prefixes.items():
            for other, outer in prefixes.items():
                if field != other and (value + "/").startswith(outer + "/"):
                    raise SettingsError(field, value, f"a prefix apart from {other} = {outer}")
        clusters, exports = self.monitoring.performance_clusters, f"{self.exports_prefix}/"
        if clusters and not clusters.startswith(exports):
            raise SettingsError("PERF_CLUSTERS_CSV", clusters, f"an object below {exports}")

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
        values = read(cls, env)
        if not values["monitoring_prefix"].endswith("/monitoring"):
            values["monitoring_prefix"] += "/monitoring"
        monitoring = MonitoringSettings(**read(MonitoringSettings, env, values["root"]))
        return cls(**values, monitoring=monitoring)


def bucket_and_folder(prefix: str) -> tuple[str, str]:
    """Split ``gs://BUCKET/FOLDER`` into bucket and folder (``""`` for the bucket's root)."""
    bucket, _, folder = prefix.removeprefix("gs://").partition("/")
    return bucket, folder


def _prefix_fields() -> list[str]:
    return [f.name for f in dataclasses.fields(Settings) if f.name.endswith("_prefix")]


def all_variables() -> list[dataclasses.Field[Any]]:
    """Return every field that is read from the environment, with its names and meaning."""
    return [*variables(Settings), *variables(MonitoringSettings)]
