"""What the profile of a day and the calibrations of models are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.keys import CalibrationOf, Profile
from velib_core.model.readers import calibration_before, profile_before
from velib_core.timeline.bins import day_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake, ReadableNetwork
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day

RECIPE = "refresh_profiles 3"
CALIBRATION_RECIPE = "calibration 4"


def is_up_to_date(
    network: ReadableNetwork,
    dailies: Mapping[Day, Entry],
    day: Day,
    models: Iterable[ModelVersion],
) -> bool:
    """Return whether a day's profile and calibrations are made from all that there is."""
    layout = network.layout
    profile = network.lake.stat(layout.name(Profile(day)))
    inputs = profile_inputs(network.lake, layout, dailies, day)
    if profile is None or profile.fingerprint != profile_fingerprint(network.settings, inputs):
        return False
    for model in models:
        if day > model.learnt_through:
            held = network.lake.stat(layout.name(CalibrationOf(model.horizon, model.folder, day)))
            inputs = calibration_inputs(network.lake, layout, dailies, day, model)
            if held is None or held.fingerprint != calibration_fingerprint(model, inputs):
                return False
    return True


def profile_inputs(
    lake: ReadableLake, layout: Layout, dailies: Mapping[Day, Entry], day: Day
) -> list[Entry]:
    """Return what the profile of a day is made from: that before it, its daily and the last."""
    entries = [profile_before(lake, layout, day), dailies.get(day_after(day, -1)), dailies.get(day)]
    return [entry for entry in entries if entry is not None]


def profile_fingerprint(settings: Settings, inputs: Sequence[Entry]) -> str:
    """Return the fingerprint that a profile made from these inputs must carry."""
    horizons = ",".join(map(str, settings.horizons))
    return fingerprint_of(f"{RECIPE} tz={settings.tz} horizons={horizons}", inputs)


def calibration_inputs(
    lake: ReadableLake, layout: Layout, dailies: Mapping[Day, Entry], day: Day, model: ModelVersion
) -> list[Entry]:
    """Return what a model's calibration of a day is made from."""
    entries = [
        calibration_before(lake, layout, model, day),
        profile_before(lake, layout, day),
        dailies.get(day_after(day, -1)),
        dailies.get(day),
    ]
    return [entry for entry in entries if entry is not None]


def calibration_fingerprint(model: ModelVersion, inputs: Sequence[Entry]) -> str:
    """Return the fingerprint that a calibration made from these inputs must carry."""
    return fingerprint_of(f"{CALIBRATION_RECIPE} {model.folder}", inputs)
