"""A daily → station profiles and the calibration of each live model.

``profiles/profiles_D.npz`` is the profile of the days before it and of day D: a chain, in which a
changed day makes the later ones again. Before it the calibration of each live model is carried on
by the day, ``profiles/h{H}/{folder}/calibration_D.json``. Both are read from the next day on.
A young network then asks for training: its first model does not wait for the weekly schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.errors import ModelError
from velib_core.events.job import JobResult
from velib_core.events.messages import TrainRequested
from velib_core.features.profiles import (
    profile_lookback,
    to_bytes,
    update_with_day,
)
from velib_core.jobs.recipes import profiles as recipe
from velib_core.jobs.recipes import training
from velib_core.lake.artefact import JSON, Artefact, Outcome, json_bytes
from velib_core.lake.keys import CalibrationOf, Profile
from velib_core.lake.listed import ListedLake
from velib_core.lake.readable import ReadableNetwork
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
from velib_core.timeline.bins import Bin, day_after, first_bin, horizon_bins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.events.network import Network
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.model.pack import ModelPack
    from velib_core.model.registry import ModelVersion
    from velib_core.timeline.bins import Day, HorizonMinutes

_BINARY = "application/octet-stream"


def run(network: Network, day: Day, *, force: bool = False) -> JobResult:
    """Refresh the profile of a day, and those of later days that rest on it.

    Publishes `TrainRequested` at the end of each day of a young network. A repeated event asks
    again; the training finds that nothing changed.
    """
    layout = network.layout
    result = JobResult("refresh_profiles")
    dailies = history.dailies(network.lake, layout)
    models = _live_models(network)
    versions = [model for model, _ in models]
    listed = ListedLake(network.lake, [f"{layout.profiles}/"])
    before = ReadableNetwork(network.settings, listed)
    rewritten = True
    for closed in [d for d in dailies if d >= day]:
        if not rewritten and recipe.is_up_to_date(before, dailies, closed, versions):
            continue
        made = JobResult("refresh_profiles")
        for model, pack in models:
            _update_calibration(network, dailies, closed, model, pack, made)
        name = layout.name(Profile(closed))
        made.outputs[name] = _update_profile(network, dailies, closed, force=force)
        result.outputs |= made.outputs
        rewritten = "written" in made.outputs.values()
    if training.is_asked_for_by(day, dailies):
        network.publisher.publish(TrainRequested())
        result.published.append("train")
    return result


def run_for_model(network: Network, horizon: HorizonMinutes) -> JobResult:
    """Calibrate a new live model on the days since those that it has learnt from."""
    result = JobResult("refresh_profiles")
    dailies = history.dailies(network.lake, network.layout)
    for model, pack in _live_models(network):
        for day in dailies if model.horizon == horizon else ():
            _update_calibration(network, dailies, day, model, pack, result)
    return result


def _update_profile(
    network: Network, dailies: Mapping[Day, Entry], day: Day, *, force: bool
) -> Outcome:
    layout = network.layout

    def make(current: Entry | None) -> Artefact | None:
        inputs = recipe.profile_inputs(network.lake, layout, dailies, day)
        fingerprint = recipe.profile_fingerprint(network.settings, inputs)
        if current and current.fingerprint == fingerprint and not force:
            return None
        before = load_profiles(
            network.lake, network.settings, profile_before(network.lake, layout, day)
        )
        lookback = profile_lookback(before.horizons)
        start, stop = Bin(first_bin(day) - lookback), first_bin(day_after(day))
        panel = _history(network.lake, dailies, day).window(start, stop)
        return Artefact(to_bytes(update_with_day(before, panel, day)), _BINARY, fingerprint)

    return network.lake.update(layout.name(Profile(day)), make, force=force)


def _update_calibration(
    network: Network,
    dailies: Mapping[Day, Entry],
    day: Day,
    model: ModelVersion,
    pack: ModelPack,
    result: JobResult,
) -> None:
    """Carry a model's calibration on by a day; days that it has learnt from are left out."""
    from velib_core.model.rows import Walk  # noqa: PLC0415 -- only where there is a model
    from velib_core.model.training import calibrate_day  # noqa: PLC0415

    if day <= model.learnt_through:
        return
    layout = network.layout
    name = layout.name(CalibrationOf(model.horizon, model.folder, day))

    def make(current: Entry | None) -> Artefact | None:
        inputs = recipe.calibration_inputs(network.lake, layout, dailies, day, model)
        fingerprint = recipe.calibration_fingerprint(model, inputs)
        if current and current.fingerprint == fingerprint:
            return None
        lake = network.lake
        held = load_calibration(lake, pack, calibration_before(lake, layout, model, day))
        profile = profile_before(lake, layout, day)
        profiles = load_profiles(lake, network.settings, profile)
        walk = Walk(_history(lake, dailies, day), pack.horizon_bins, pack.tz, profiles)
        carried = calibrate_day(pack, held, next(walk.over([day])))
        return Artefact(json_bytes(carried.as_json()), JSON, fingerprint)

    result.outputs[name] = network.lake.update(name, make)


def _history(lake: ReadableLake, dailies: Mapping[Day, Entry], day: Day) -> history.DailyHistory:
    days = (day_after(day, -1), day)
    return history.DailyHistory(lake, {d: dailies[d] for d in days if d in dailies})


def _live_models(network: Network) -> list[tuple[ModelVersion, ModelPack]]:
    found = []
    for horizon in network.settings.horizons:
        try:
            model = registry.live(network.lake, network.layout, horizon)
            if model is not None:
                files = registry.load(network.lake, network.layout, model)
                found.append((model, from_blobs(files, horizon_bins(horizon))))
        except ModelError as error:
            log("ERROR", f"no calibration of h{horizon}: {error}")
    return found
