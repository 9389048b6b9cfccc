"""Whether the tables of a lake can be read: snapshots, dailies, exports, forecast log, profiles."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_core.errors import PermanentError
from velib_core.lake.artefact import crc32c, json_value
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    Events,
    ExportsManifest,
    ForecastLog,
    ForecastLogPartition,
    Monthly,
    Perf,
    Profile,
    Snapshot,
    TrainingBase,
)
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.tables import parquet, snapshot
from velib_core.tables.views import VIEW_LIMITS

from velib_cli.lake_checks import Finding, content_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from velib_core.lake.keys import Key
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.settings.network import Settings

    from velib_cli.lake_checks import Place

_MONTH_LIMITS = parquet.Limits(
    **{limit: 31 * most for limit, most in dataclasses.asdict(VIEW_LIMITS).items()}
)
"""Of what holds many days, of which the footer alone is looked at."""

_TABLES: Mapping[type, tuple[str, str | None]] = {
    Snapshot: ("snapshots", None),
    Daily: ("days", "compact_daily"),
    Monthly: ("days", "compact_monthly"),
    Events: ("days", "build_datasets"),
    Perf: ("days", "build_datasets"),
    ForecastLog: ("forecast log", "build_datasets"),
    ForecastLogPartition: ("forecast log", None),
    ExportsManifest: ("documents", "build_datasets"),
    Profile: ("profiles", "refresh_profiles"),
    CalibrationOf: ("profiles", "refresh_profiles"),
    TrainingBase: ("models", "export_training_base"),
}
"""What is looked at: its subject, and the stage that makes it again.

Of what was observed or published there is one copy, and no stage makes it again.
"""


def check_tables(lake: ReadableLake, settings: Settings, place: Place) -> Iterator[Finding]:
    """Return the tables and archives that are unreadable, or not what was written.

    Only objects that somebody else changed are read. In a bucket they have no fingerprint, and
    only the newest day of the snapshots and of the forecast log is looked at. In a folder they
    differ from the checksums that the run recorded.
    """
    layout = Layout(settings)
    for entry in _suspects(lake, layout, place):
        try:
            key = layout.key(entry.name)
        except ForeignNameError:
            continue
        if type(key) not in _TABLES:
            continue
        subject, command = _TABLES[type(key)][0], _fixing(key, place)
        data = content_of(lake, entry)
        if not _is_readable(key, data):
            text = f"{entry.name} is unreadable"
            yield Finding(subject, "unreadable", entry.name, text, command)
        elif crc32c(data) != entry.crc32c:
            text = f"{entry.name} is not what was written"
            yield Finding(subject, "changed", entry.name, text, command)


def _suspects(lake: ReadableLake, layout: Layout, place: Place) -> Iterator[Entry]:
    by_day = [layout.bronze, layout.forecast_log]
    folders = [layout.daily, layout.monthly, layout.exports, layout.profiles, layout.models]
    if place.deployed:
        newest = [days[-1] for folder in by_day if (days := lake.folders(f"{folder}/"))]
        for prefix in [*newest, *(f"{folder}/" for folder in folders)]:
            yield from (entry for entry in lake.entries(prefix) if entry.fingerprint is None)
        return
    for folder in [*by_day, *folders]:
        for entry in lake.entries(f"{folder}/"):
            if entry.fingerprint is None or crc32c(content_of(lake, entry)) != entry.crc32c:
                yield entry


def _fixing(key: Key, place: Place) -> str | None:
    """Return the command that makes a table again."""
    if isinstance(key, Daily):
        return place.publish("day-closed", f'{{"day": "{key.day}", "force": true}}')
    if isinstance(key, TrainingBase):
        return place.publish("train", "{}")
    stage = _TABLES[type(key)][1]
    return place.again(stage) if stage else place.remake


def _is_readable(key: Key, data: bytes) -> bool:
    from velib_core.features import profiles  # noqa: PLC0415 -- only where one was changed
    from velib_core.model.readers import calibration_from_bytes  # noqa: PLC0415

    try:
        match key:
            case Snapshot(bin_):
                snapshot.from_bytes(data, bin_)
            case Monthly() | TrainingBase():
                parquet.check(data, _MONTH_LIMITS)
            case Profile():
                profiles.from_bytes(data)
            case CalibrationOf():
                calibration_from_bytes(data)
            case ExportsManifest():
                return isinstance(json_value(data), dict)
            case _:
                parquet.read(data, VIEW_LIMITS)
    except (PermanentError, ValueError, RecursionError):
        return False
    return True
