"""The profiles and blends that jobs read: the newest before a day."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import ModelError
from velib_core.features.profiles import (
    MAX_BYTES,
    ProfileError,
    Profiles,
    empty_profiles,
    from_bytes,
    with_horizons,
)
from velib_core.lake.keys import CalibrationOf, Profile
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.lake.readable import UnreadableObjectError
from velib_core.model.blending import Calibration, calibration_from_json
from velib_core.timeline.bins import day_after, horizon_bins

if TYPE_CHECKING:
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.model.pack import ModelPack
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day

MOST_TRIED = 7
"""Of profiles that cannot be read; each costs a second."""

MAX_CALIBRATION_BYTES = 1 << 20
"""Ours have some KiB."""


def profile_before(lake: ReadableLake, layout: Layout, day: Day) -> Entry | None:
    """Return the newest profile that ends before a day.

    That is the day before's, as a rule: one look, and no listing.
    """
    yesterday = lake.stat(layout.name(Profile(day_after(day, -1))))
    return yesterday or listed_profile_before(lake, layout, day)


def listed_profile_before(lake: ReadableLake, layout: Layout, day: Day) -> Entry | None:
    """Return the newest profile that ends before a day, out of a listing of all."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.profiles}/profiles_")}
    days = {d: name for d, name in layout.by_day(Profile, entries).items() if d < day}
    return entries[days[max(days)]] if days else None


def load_profiles(lake: ReadableLake, settings: Settings, entry: Entry | None) -> Profiles:
    """Read a profile; that of a network without a past where there is none.

    It has all horizons of the settings. One that cannot be read is named in the log, and the one
    before it is read, `MOST_TRIED` in all.
    """
    layout = Layout(settings)
    horizons = [horizon_bins(minutes) for minutes in settings.horizons]
    for _ in range(MOST_TRIED):
        if entry is None:
            break
        try:
            profiles = _profile_of(layout, entry, lake.read_up_to(entry, MAX_BYTES))
            return with_horizons(profiles, horizons)
        except (ProfileError, UnreadableObjectError) as error:
            logs.log_once("ERROR", f"{entry.name} is left out: {error}")
        key = layout.key(entry.name)
        entry = profile_before(lake, layout, key.day) if isinstance(key, Profile) else None
    return empty_profiles(settings.tz, horizons)


def _profile_of(layout: Layout, entry: Entry, data: bytes) -> Profiles:
    """Read a profile; raise `ProfileError` for one that holds days after its own."""
    profiles = from_bytes(data)
    key = layout.key(entry.name)
    if isinstance(key, Profile) and profiles.through is not None and profiles.through > key.day:
        raise ProfileError("through", str(profiles.through), f"{key.day} or before")
    return profiles


def calibration_before(
    lake: ReadableLake, layout: Layout, model: ModelVersion, day: Day
) -> Entry | None:
    """Return a model's newest calibration that ends before a day; found as `profile_before`."""
    name = layout.name(CalibrationOf(model.horizon, model.folder, day_after(day, -1)))
    yesterday = lake.stat(name)
    if yesterday is not None:
        return yesterday
    prefix = layout.calibrations(model.horizon, model.folder)
    found = None
    for entry in lake.entries(prefix):
        try:
            through = layout.key(entry.name)
        except ForeignNameError as error:
            logs.log_once("WARNING", f"ignored: {error}")
            continue
        if isinstance(through, CalibrationOf) and through.day < day:
            found = entry
    return found


def load_calibration(lake: ReadableLake, pack: ModelPack, entry: Entry | None) -> Calibration:
    """Read a calibration; that of the model's training where there is none since.

    One that cannot be read is named in the log; that of the training is used.
    """
    if entry is None:
        return pack.calibration
    try:
        return calibration_from_bytes(lake.read_up_to(entry, MAX_CALIBRATION_BYTES))
    except (ModelError, UnreadableObjectError) as error:
        logs.log_once("ERROR", f"{entry.name} is left out: {error!r}")
        return pack.calibration


def calibration_from_bytes(data: bytes) -> Calibration:
    """Read a calibration out of its object; raise `ModelError` for whatever is none."""
    try:
        return calibration_from_json(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"calibration: {error!r}") from error
