"""Every object name, both ways: key → name and name → key. Nobody else builds or parses a name.

The names are those of the contract: a snapshot is
``bronze/date=2025-11-01/hour=08/2025-11-01T08-05.parquet``, a day ``daily/compact_2025-11-01
.parquet``, and so on, below the prefixes of the `Settings`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import re
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import shorten
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    DayKey,
    Events,
    ExportsManifest,
    Forecast,
    ForecastBundle,
    ForecastLog,
    ForecastLogPartition,
    FreshnessCopy,
    GbfsDocument,
    Key,
    ModelFile,
    Monitoring,
    Month,
    Monthly,
    OverviewDay,
    Perf,
    Profile,
    ServingManifest,
    Snapshot,
    TrainingBase,
)
from velib_core.settings.network import bucket_and_folder
from velib_core.timeline import clock
from velib_core.timeline.bins import (
    BIN_MINUTES,
    Day,
    HorizonMinutes,
    bin_of,
    bin_start,
    day_of,
    parse_day,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Bin


AHEAD = dt.timedelta(minutes=10)
"""How far this machine's clock may be behind that of others."""

MAX_NAME_BYTES = 1024
"""The longest object name that Cloud Storage takes, in UTF-8."""


class ForeignNameError(ValueError):
    """An object name that is none of ours; what that means is for whoever has the name to say."""

    def __init__(self, name: str) -> None:
        expected = "a name of this network's layout"
        super().__init__(f"object name: got {shorten(name)}, expected {expected}")


_DAY = r"(\d{4}-\d{2}-\d{2})"
_SNAPSHOT = re.compile(rf"/date={_DAY}/hour=(\d{{2}})/{_DAY}T(\d{{2}})-(\d{{2}})\.parquet")
_COMPACT = re.compile(rf"/compact_{_DAY}\.parquet")
_COMPACT_MONTH = re.compile(r"/compact_(\d{4}-\d{2})\.parquet")
_FORECAST_LOG_PARTITION = re.compile(
    rf"/date={_DAY}/hour=(\d{{2}})/{_DAY}T(\d{{2}})-(\d{{2}})_h(\d{{1,4}})_([0-9a-f]{{8}})\.parquet"
)
_FORECAST_LOG = re.compile(rf"/served_{_DAY}\.parquet")
_VIEW = re.compile(rf"/(events|perf)(?:_{_DAY})?\.parquet")
_TRAINING = re.compile(r"/velib_training_(\d{8})\.parquet")
_PROFILE = re.compile(rf"/profiles_{_DAY}\.npz")
_FOLDER = r"\d{8}-\d{6}Z-[0-9a-f]{8}"
_CALIBRATION = re.compile(rf"/h(\d{{1,4}})/({_FOLDER})/calibration_{_DAY}\.json")
_FORECAST = re.compile(r"/(?:latest/h(\d{1,4})/forecast|h(\d{1,4})/latest)\.json")
_GBFS = re.compile(r"/h(\d{1,4})/([a-z_]{1,40}\.json)")
_MODEL = re.compile(rf"/h(\d{{1,4}})/(?:({_FOLDER})/)?([a-z_]{{1,40}}\.[a-z]{{1,12}})")
_OVERVIEW_DAY = re.compile(rf"/network/overview/days/{_DAY}\.npz")
_MONITORING = re.compile(r"/((?:[a-z]+/)?[a-z]+)/latest/((?:[\w-]+/)?[\w-]+\.json)")


class Layout:
    """The names below one network's prefixes."""

    def __init__(self, settings: Settings) -> None:
        self.bronze = _folder(settings.raw_prefix)
        self.daily = _folder(settings.daily_prefix)
        self.monthly = _folder(settings.monthly_prefix)
        self.exports = _folder(settings.exports_prefix)
        self.profiles = _folder(settings.profiles_prefix)
        self.models = _folder(settings.models_prefix)
        self.serving = _folder(settings.serving_prefix)
        self.gbfs = "/".join(filter(None, (self.serving.rpartition("/")[0], "gbfs")))
        self.forecast_log = _folder(settings.forecast_log_prefix)
        self.monitoring = _folder(settings.monitoring_prefix)
        self.quarantine = _folder(settings.quarantine_prefix)

    def name(self, key: Key) -> str:  # noqa: C901, PLR0911, PLR0912 -- a table reads best as one match
        """Return the object name of a key."""
        match key:
            case Snapshot(bin_):
                return f"{self.bronze}/{_snapshot_file(bin_)}"
            case ForecastLogPartition(bin_, horizon, fingerprint):
                start = bin_start(bin_)
                hour = f"{self.forecast_log_day(day_of(bin_))}hour={start:%H}/"
                return f"{hour}{start:%Y-%m-%dT%H-%M}_h{horizon}_{fingerprint}.parquet"
            case ForecastLog(day):
                return f"{self.exports}/served_{day}.parquet"
            case ExportsManifest():
                return f"{self.exports}/manifest.json"
            case Daily(day):
                return f"{self.daily}/compact_{day}.parquet"
            case Monthly(month):
                return f"{self.monthly}/compact_{month:%Y-%m}.parquet"
            case Events(day):
                return f"{self.exports}/events{_dated(day)}.parquet"
            case Perf(day):
                return f"{self.exports}/perf{_dated(day)}.parquet"
            case TrainingBase(day):
                return f"{self.exports}/velib_training_{day:%Y%m%d}.parquet"
            case Profile(day):
                return f"{self.profiles}/profiles_{day}.npz"
            case CalibrationOf(horizon, folder, day):
                return f"{self.calibrations(horizon, folder)}{day}.json"
            case Forecast(horizon, alias=True):
                return f"{self.serving}/h{horizon}/latest.json"
            case Forecast(horizon):
                return f"{self.serving}/latest/h{horizon}/forecast.json"
            case ForecastBundle():
                return f"{self.serving}/latest_forecast.json"
            case ServingManifest():
                return f"{self.serving}/latest/manifest.json"
            case GbfsDocument(horizon, file):
                return f"{self.gbfs}/h{horizon}/{file}"
            case ModelFile(horizon, folder, file):
                return "/".join(filter(None, (self.models, f"h{horizon}", folder, file)))
            case Monitoring(family, document):
                return f"{self.monitoring}/{family}/latest/{document}"
            case FreshnessCopy():
                return f"{self.monitoring}/data/freshness/latest.json"
            case OverviewDay(day):
                return f"{self.monitoring}/network/overview/days/{day}.npz"

    def key(self, name: str) -> Key:
        """Return the key of an object name; raise `ForeignNameError` for any other name."""
        readers: dict[str, Callable[[str], Key | None]] = {
            self.bronze: _read_snapshot,
            self.daily: _read_daily,
            self.monthly: _read_monthly,
            self.exports: _read_export,
            self.profiles: _read_profile,
            self.models: _read_model,
            self.serving: _read_forecast,
            self.gbfs: _read_gbfs,
            self.forecast_log: _read_forecast_log_partition,
            self.monitoring: _read_monitoring,
        }
        for folder, read in readers.items():
            if name.startswith(folder + "/"):
                try:
                    key = read(name[len(folder) :])
                except ValueError:
                    key = None
                if key is not None and self.name(key) == name:
                    return key
        raise ForeignNameError(name)

    def topic_of(self, name: str) -> str:
        """Return the topic that carries the notifications about an object.

        Raises `ForeignNameError` for an object that nothing is notified about.
        """
        for topic, prefix in self.notified.items():
            if name.startswith(prefix):
                return topic
        raise ForeignNameError(name)

    @property
    def notified(self) -> dict[str, str]:
        """The prefix of the objects that are notified about, by topic.

        Of the exports, the monitoring and the forecasts only manifests are: they are written
        last, and their whole names keep everything else from starting a function. A bucket takes
        ten notifications an event type (cloud.google.com/storage/quotas), and these are ten.
        """
        folders = ("bronze", "daily", "profiles", "models")
        manifests = {
            family.rpartition("/")[2]: Monitoring(family, "manifest.json")
            for family in ("data/freshness", "network/overview", "data/health", "data/drift")
        }
        return {
            **{folder: f"{getattr(self, folder)}/" for folder in folders},
            "exports": self.name(ExportsManifest()),
            "serving": self.name(ServingManifest()),
            **{topic: self.name(key) for topic, key in manifests.items()},
        }

    def by_day(self, kind: type[DayKey], names: Iterable[str]) -> dict[Day, str]:
        """Return which of the names are of a kind that is made a day at a time, by day.

        Days that have not begun by the clock are left out: one of them would be the newest for
        ever.
        """
        found = {}
        last = day_of(bin_of(clock.now() + AHEAD))
        for name in names:
            key = self._known(name)
            if not isinstance(key, kind) or key.day is None:
                continue
            if key.day > last:
                logs.log_once("WARNING", f"ignored: {name} is of a day that has not begun")
                continue
            found[key.day] = name
        return found

    def days_of_folders(self, folders: Iterable[str]) -> list[Day]:
        """Return the days of ``…/date=YYYY-MM-DD/`` folders, in order; others are left out."""
        pattern = re.compile(rf"{re.escape(self.bronze)}/date={_DAY}/")
        days = []
        for match in filter(None, map(pattern.fullmatch, folders)):
            with contextlib.suppress(ValueError):
                days.append(parse_day(match[1]))
        return sorted(days)

    def _known(self, name: str) -> Key | None:
        try:
            return self.key(name)
        except ForeignNameError:
            return None

    def calibrations(self, horizon: HorizonMinutes, folder: str) -> str:
        """Return the prefix of a model's calibrations, one a day."""
        return f"{self.profiles}/h{horizon}/{folder}/calibration_"

    def bronze_day(self, day: Day) -> str:
        """Return the prefix of a day's snapshots."""
        return f"{self.bronze}/date={day}/"

    def forecast_log_day(self, day: Day) -> str:
        """Return the prefix of the forecasts published in a day."""
        return f"{self.forecast_log}/date={day}/"

    def bronze_hour(self, instant: dt.datetime) -> str:
        """Return the prefix of an hour's snapshots."""
        return f"{self.bronze}/{_hour(instant)}"

    def quarantined(self, name: str, digest: str) -> str:
        """Return where the bytes of an unreadable object go; its reason is at ``.json``.

        The digest of the content keeps two unreadable objects of one name apart. A name that would
        be too long for the store is cut; a digest of the whole name then keeps two of them apart.
        """
        target = f"{self.quarantine}/{name}.{digest}"
        excess = len(target.encode()) + len(".json") - MAX_NAME_BYTES
        if excess <= 0:
            return target
        name_digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        cut = name.encode()[: -excess - len(name_digest) - 1].decode(errors="ignore")
        return f"{self.quarantine}/{cut}~{name_digest}.{digest}"


LISTED_NAMES = 1024
"""Names of snapshots that are read once: each listing of a day has those of the one before."""


def month_of(day: Day) -> Month:
    """Return the month of a day."""
    return Month(day.replace(day=1))


def month_days(month: Month) -> list[Day]:
    """Return every day of a month, in order."""
    after = (month.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
    return [Day(month + dt.timedelta(days=n)) for n in range((after - month).days)]


def parse_month(text: str) -> Month:
    """Parse ``YYYY-MM``; raise ``ValueError`` for anything else."""
    if not re.fullmatch(r"\d{4}-\d{2}", text):
        raise ValueError(f"{text!r} is not a month, expected YYYY-MM")
    return Month(parse_day(f"{text}-01"))


def _folder(prefix: str) -> str:
    return bucket_and_folder(prefix)[1]


def _dated(day: Day | None) -> str:
    return "" if day is None else f"_{day}"


@functools.lru_cache(LISTED_NAMES)
def _snapshot_file(bin_: Bin) -> str:
    start = bin_start(bin_)
    return f"{_hour(start)}{start:%Y-%m-%dT%H-%M}.parquet"


def _hour(instant: dt.datetime) -> str:
    return f"date={instant:%Y-%m-%d}/hour={instant:%H}/"


@functools.lru_cache(LISTED_NAMES)
def _read_snapshot(rest: str) -> Key | None:
    match = _SNAPSHOT.fullmatch(rest)
    if not match or int(match[5]) % BIN_MINUTES or not parse_day(match[3]):
        return None
    return Snapshot(bin_of(dt.datetime.fromisoformat(f"{match[3]}T{match[4]}:{match[5]}:00+00:00")))


def _read_forecast_log_partition(rest: str) -> Key | None:
    match = _FORECAST_LOG_PARTITION.fullmatch(rest)
    if not match or int(match[5]) % BIN_MINUTES or not parse_day(match[3]):
        return None
    instant = dt.datetime.fromisoformat(f"{match[3]}T{match[4]}:{match[5]}:00+00:00")
    return ForecastLogPartition(bin_of(instant), HorizonMinutes(int(match[6])), match[7])


def _read_daily(rest: str) -> Key | None:
    match = _COMPACT.fullmatch(rest)
    return Daily(parse_day(match[1])) if match else None


def _read_monthly(rest: str) -> Key | None:
    match = _COMPACT_MONTH.fullmatch(rest)
    return Monthly(parse_month(match[1])) if match else None


def _read_export(rest: str) -> Key | None:
    if rest == "/manifest.json":
        return ExportsManifest()
    if match := _TRAINING.fullmatch(rest):
        return TrainingBase(Day(dt.datetime.strptime(match[1] + "Z", "%Y%m%d%z").date()))
    if match := _FORECAST_LOG.fullmatch(rest):
        return ForecastLog(parse_day(match[1]))
    if match := _VIEW.fullmatch(rest):
        day = parse_day(match[2]) if match[2] else None
        return Events(day) if match[1] == "events" else Perf(day)
    return None


def _read_profile(rest: str) -> Key | None:
    if match := _PROFILE.fullmatch(rest):
        return Profile(parse_day(match[1]))
    if match := _CALIBRATION.fullmatch(rest):
        return CalibrationOf(HorizonMinutes(int(match[1])), match[2], parse_day(match[3]))
    return None


def _read_forecast(rest: str) -> Key | None:
    if rest == "/latest/manifest.json":
        return ServingManifest()
    if rest == "/latest_forecast.json":
        return ForecastBundle()
    match = _FORECAST.fullmatch(rest)
    if not match:
        return None
    alias = match[2] is not None
    return Forecast(HorizonMinutes(int(match[2] if alias else match[1])), alias)


def _read_gbfs(rest: str) -> Key | None:
    match = _GBFS.fullmatch(rest)
    return GbfsDocument(HorizonMinutes(int(match[1])), match[2]) if match else None


def _read_model(rest: str) -> Key | None:
    match = _MODEL.fullmatch(rest)
    return ModelFile(HorizonMinutes(int(match[1])), match[2], match[3]) if match else None


def _read_monitoring(rest: str) -> Key | None:
    if rest == "/data/freshness/latest.json":
        return FreshnessCopy()
    if match := _OVERVIEW_DAY.fullmatch(rest):
        return OverviewDay(parse_day(match[1]))
    match = _MONITORING.fullmatch(rest)
    return Monitoring(match[1], match[2]) if match else None
