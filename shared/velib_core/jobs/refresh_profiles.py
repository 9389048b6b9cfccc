"""A daily changed → what stations usually do, and how far each live model is to be trusted.

``profiles/profiles_D.npz`` is the profile of the days before it and of day D: a chain, in which a
changed day makes the later ones again. Before it the calibration of each live model is carried on
by the day, ``profiles/h{H}/{folder}/calibration_D.json``. Both are read from the next day on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.errors import ModelError
from velib_core.features.profiles import (
    profile_lookback,
    to_bytes,
    update_with_day,
)
from velib_core.jobs.result import JobResult
from velib_core.lake.bucket import JSON, Artefact, Outcome, fingerprint_of, json_bytes
from velib_core.lake.keys import CalibrationOf, Profile
from velib_core.lake.layout import Layout
from velib_core.lake.listed import ListedLake
from velib_core.logs import log
from velib_core.model import registry
from velib_core.model.pack import from_blobs
from velib_core.model.readers import (
    calibration_before,
    load_calibration,
    load_profiles,
    profile_before,
)
from velib_core.tables import history
from velib_core.timeline.bins import Bin, day_after, first_bin, horizon_bins, parse_day

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from velib_core.lake.bucket import Entry, Lake
    from velib_core.model.pack import ModelPack
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Day, HorizonMinutes

RECIPE = "refresh_profiles 2"
_BINARY = "application/octet-stream"


def run(lake: Lake, settings: Settings, day: Day, *, force: bool = False) -> JobResult:
    """Refresh the profile of a day, and those of later days that rest on it."""
    layout = Layout(settings)
    result = JobResult("refresh_profiles")
    dailies = history.dailies(lake, layout)
    models = _live_models(lake, settings)
    versions = [model for model, _ in models]
    before = ListedLake(lake, [f"{layout.profiles}/"])
    rewritten = True
    for closed in [d for d in dailies if d >= day]:
        if not rewritten and is_up_to_date(before, settings, dailies, closed, versions):
            continue
        made = JobResult("refresh_profiles")
        for model, pack in models:
            _publish_calibration(lake, settings, dailies, closed, model, pack, made)
        name = layout.name(Profile(closed))
        made.outputs[name] = _publish_profile(lake, settings, dailies, closed, force=force)
        result.outputs |= made.outputs
        rewritten = "written" in made.outputs.values()
    return result


def is_up_to_date(
    lake: Lake,
    settings: Settings,
    dailies: Mapping[Day, Entry],
    day: Day,
    models: Iterable[ModelVersion],
) -> bool:
    """Tell whether a day's profile and calibrations are made from all that there is."""
    layout = Layout(settings)
    profile = lake.stat(layout.name(Profile(day)))
    inputs = profile_inputs(lake, layout, dailies, day)
    if profile is None or profile.fingerprint != profile_fingerprint(settings, inputs):
        return False
    for model in models:
        if day > _trained_through(model):
            held = lake.stat(layout.name(CalibrationOf(model.horizon, model.folder, day)))
            inputs = _calibration_inputs(lake, layout, dailies, day, model)
            if held is None or held.fingerprint != _calibration_fingerprint(model, inputs):
                return False
    return True


def run_for_model(lake: Lake, settings: Settings, horizon: HorizonMinutes) -> JobResult:
    """Calibrate a new live model on the days since its training window."""
    result = JobResult("refresh_profiles")
    dailies = history.dailies(lake, Layout(settings))
    for model, pack in _live_models(lake, settings):
        for day in dailies if model.horizon == horizon else ():
            _publish_calibration(lake, settings, dailies, day, model, pack, result)
    return result


def profile_inputs(
    lake: Lake, layout: Layout, dailies: Mapping[Day, Entry], day: Day
) -> list[Entry]:
    """Return what the profile of a day is made from: that before it, its daily and the last."""
    entries = [profile_before(lake, layout, day), dailies.get(day_after(day, -1)), dailies.get(day)]
    return [entry for entry in entries if entry is not None]


def profile_fingerprint(settings: Settings, inputs: Sequence[Entry]) -> str:
    """Return the fingerprint that a profile made from these inputs must carry."""
    horizons = ",".join(map(str, settings.horizons))
    return fingerprint_of(f"{RECIPE} tz={settings.tz} horizons={horizons}", inputs)


def _publish_profile(
    lake: Lake, settings: Settings, dailies: Mapping[Day, Entry], day: Day, *, force: bool
) -> Outcome:
    layout = Layout(settings)

    def make(current: Entry | None) -> Artefact | None:
        inputs = profile_inputs(lake, layout, dailies, day)
        fingerprint = profile_fingerprint(settings, inputs)
        if current and current.fingerprint == fingerprint and not force:
            return None
        before = load_profiles(lake, settings, profile_before(lake, layout, day))
        lookback = profile_lookback(before.horizons)
        panel = _history(lake, dailies, day)(
            Bin(first_bin(day) - lookback), first_bin(day_after(day))
        )
        return Artefact(to_bytes(update_with_day(before, panel, day)), _BINARY, fingerprint)

    return lake.publish(layout.name(Profile(day)), make, force=force)


def _publish_calibration(
    lake: Lake,
    settings: Settings,
    dailies: Mapping[Day, Entry],
    day: Day,
    model: ModelVersion,
    pack: ModelPack,
    result: JobResult,
) -> None:
    """Carry a model's calibration on by a day; days that it was trained on are left out."""
    from velib_core.model.training import calibrate_day  # noqa: PLC0415 -- loads the training libraries

    if day <= _trained_through(model):
        return
    layout = Layout(settings)
    name = layout.name(CalibrationOf(model.horizon, model.folder, day))

    def make(current: Entry | None) -> Artefact | None:
        inputs = _calibration_inputs(lake, layout, dailies, day, model)
        fingerprint = _calibration_fingerprint(model, inputs)
        if current and current.fingerprint == fingerprint:
            return None
        held = calibration_before(lake, layout, model, day)
        profile = profile_before(lake, layout, day)
        carried = calibrate_day(
            pack,
            load_calibration(lake, pack, held),
            _history(lake, dailies, day),
            day,
            load_profiles(lake, settings, profile),
        )
        return Artefact(json_bytes(carried.as_json()), JSON, fingerprint)

    result.outputs[name] = lake.publish(name, make)


def _calibration_inputs(
    lake: Lake, layout: Layout, dailies: Mapping[Day, Entry], day: Day, model: ModelVersion
) -> list[Entry]:
    """Return what a model's calibration of a day is made from."""
    entries = [
        calibration_before(lake, layout, model, day),
        profile_before(lake, layout, day),
        dailies.get(day_after(day, -1)),
        dailies.get(day),
    ]
    return [entry for entry in entries if entry is not None]


def _calibration_fingerprint(model: ModelVersion, inputs: Sequence[Entry]) -> str:
    return fingerprint_of(f"{RECIPE} {model.folder}", inputs)


def _trained_through(model: ModelVersion) -> Day:
    return parse_day(str(model.record["end_date"]))


def _history(lake: Lake, dailies: Mapping[Day, Entry], day: Day) -> history.DailyHistory:
    near = (day_after(day, -1), day)
    return history.DailyHistory(lake, {d: dailies[d] for d in near if d in dailies})


def _live_models(lake: Lake, settings: Settings) -> list[tuple[ModelVersion, ModelPack]]:
    found = []
    for horizon in settings.horizons:
        try:
            model = registry.live(lake, settings, horizon)
            if model is not None:
                files = registry.load(lake, settings, model)
                found.append((model, from_blobs(files, horizon_bins(horizon))))
        except ModelError as error:
            log("ERROR", f"no calibration of h{horizon}: {error}")
    return found
