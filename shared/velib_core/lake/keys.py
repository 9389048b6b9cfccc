"""What an object of the lake is, without its name: the keys that `velib_core.lake.layout` names."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from velib_core.timeline.bins import Bin, Day, HorizonMinutes

Month = NewType("Month", dt.date)
"""A calendar month, as its first day."""


@dataclasses.dataclass(frozen=True, order=True)
class Snapshot:
    """The snapshot of one bin."""

    bin: Bin


@dataclasses.dataclass(frozen=True, order=True)
class Daily:
    """All snapshots of one UTC day."""

    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class Monthly:
    """All dailies of one month."""

    month: Month


@dataclasses.dataclass(frozen=True, order=True)
class Events:
    """The observations table of a day; ``None`` is the latest alias."""

    day: Day | None


@dataclasses.dataclass(frozen=True, order=True)
class Perf:
    """The evaluation table of a day; ``None`` is the latest alias."""

    day: Day | None


@dataclasses.dataclass(frozen=True, order=True)
class TrainingBase:
    """The training export whose last day this is."""

    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class Profile:
    """What stations usually do, by the days up to and with this one."""

    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class CalibrationOf:
    """The blend weights of a model from its hindcasts up to and including this day."""

    horizon: HorizonMinutes
    folder: str
    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class ModelFile:
    """A file of one trained model, or (``folder`` is ``None``) of the pointer to the live one.

    The folder is named by the newest observation that the model was trained on and by its
    content, as in ``20251128-235500Z-1f2e3d4c``.
    """

    horizon: HorizonMinutes
    folder: str | None
    file: str


@dataclasses.dataclass(frozen=True, order=True)
class Monitoring:
    """A document of a monitoring family, as in ``data/health`` and ``kpis.json``."""

    family: str
    document: str


@dataclasses.dataclass(frozen=True, order=True)
class FreshnessCopy:
    """The freshness document at its earlier name."""


@dataclasses.dataclass(frozen=True, order=True)
class OverviewDay:
    """The sums of a closed day that the network overview compares with."""

    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class Forecast:
    """The forecast of one horizon, where the API reads it or (``alias``) at its earlier name."""

    horizon: HorizonMinutes
    alias: bool = False


@dataclasses.dataclass(frozen=True, order=True)
class ForecastBundle:
    """The forecasts of all horizons in one document, with the stations' names and places."""


@dataclasses.dataclass(frozen=True, order=True)
class ServingManifest:
    """The document that says that all horizons were forecast from one snapshot."""


@dataclasses.dataclass(frozen=True, order=True)
class ForecastLogPartition:
    """One forecast as published: a partition of the forecast log, never changed.

    ``bin`` is the snapshot's that it was made from, ``mark`` eight hex digits of what else it
    was made from: a model that goes live between two snapshots publishes a page of its own.
    """

    bin: Bin
    horizon: HorizonMinutes
    fingerprint: str


@dataclasses.dataclass(frozen=True, order=True)
class ForecastLog:
    """All forecasts that were published in one UTC day."""

    day: Day


@dataclasses.dataclass(frozen=True, order=True)
class ExportsManifest:
    """The list of the views of all days, written when those of a day are complete."""


DayKey = Daily | Events | Perf | Profile | ForecastLog | OverviewDay
"""The kinds of object that there is one of for a day."""


@dataclasses.dataclass(frozen=True, order=True)
class GbfsDocument:
    """A forecast as a GBFS document: that of a horizon, as in ``station_status.json``."""

    horizon: HorizonMinutes
    file: str


Key = (
    Snapshot
    | Daily
    | Monthly
    | Events
    | Perf
    | TrainingBase
    | Profile
    | CalibrationOf
    | ModelFile
    | Forecast
    | ForecastBundle
    | ServingManifest
    | GbfsDocument
    | ForecastLogPartition
    | ForecastLog
    | ExportsManifest
    | Monitoring
    | FreshnessCopy
    | OverviewDay
)
