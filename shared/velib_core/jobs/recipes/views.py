"""What the views of a day are made from: dailies, profiles, models, logged forecasts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.lake.fingerprints import fingerprint_of
from velib_core.lake.keys import (
    Daily,
    Events,
    ForecastLog,
    ForecastLogPartition,
    Perf,
    Profile,
)
from velib_core.lake.layout import ForeignNameError
from velib_core.model import registry
from velib_core.model.readers import calibration_before, profile_before
from velib_core.timeline.bins import Day, HorizonMinutes, day_after, day_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from velib_core.lake.keys import DayKey
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import Entry, ReadableLake, ReadableNetwork
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings


def events_fingerprint(settings: Settings, daily: Entry) -> str:
    """Return the fingerprint of an up-to-date observations table of a daily."""
    bounds = f"penury={settings.penury_bikes} saturation={settings.saturation_docks}"
    return fingerprint_of(f"events 2 {bounds}", [daily])


@dataclasses.dataclass(frozen=True)
class PerfInputs:
    """What the evaluation table of a day is made from.

    ``dailies`` are those of the day before (the look-back), its own and the next (the truth),
    where they exist; ``models`` the model of each horizon that had not seen the day, with the
    calibration and the profile that end before it.
    """

    dailies: dict[Day, Entry]
    models: dict[HorizonMinutes, ModelVersion]
    calibrations: dict[HorizonMinutes, Entry]
    profile: Entry | None

    def fingerprint(self, settings: Settings) -> str:
        """Return the fingerprint of an evaluation table made from these."""
        horizons = ",".join(map(str, settings.horizons))
        folders = ",".join(f"h{h}={model.folder}" for h, model in sorted(self.models.items()))
        entries = [*self.dailies.values(), *self.calibrations.values()]
        entries += [self.profile] if self.profile and self.models else []
        return fingerprint_of(f"perf 3 horizons={horizons} models={folders}", entries)


def perf_inputs(network: ReadableNetwork, day: Day) -> PerfInputs | None:
    """Return the inputs of a day's evaluation table; ``None`` without its daily.

    A model hindcasts only days that it was not trained on, and only once what it reads of the
    day before is there: it would say something else later.
    """
    layout = network.layout
    days = (day_after(day, -1), day, day_after(day))
    stats = {d: network.lake.stat(layout.name(Daily(d))) for d in days}
    dailies = {d: entry for d, entry in stats.items() if entry is not None}
    if day not in dailies:
        return None
    profile = profile_before(network.lake, layout, day)
    models: dict[HorizonMinutes, ModelVersion] = {}
    calibrations: dict[HorizonMinutes, Entry] = {}
    yesterday = days[0]
    known = profile is not None and layout.by_day(Profile, [profile.name]).keys() == {yesterday}
    if yesterday not in dailies or known:
        for horizon in network.settings.horizons:
            model = next(models_before(network, horizon, day), None)
            if model is not None:
                models[horizon] = model
                calibration = calibration_before(network.lake, layout, model, day)
                calibrations |= {horizon: calibration} if calibration else {}
    return PerfInputs(dailies, models, calibrations, profile)


def models_before(
    network: ReadableNetwork, horizon: HorizonMinutes, day: Day
) -> Iterator[ModelVersion]:
    """Yield the models that have learnt from nothing of a day or after it, the newest first."""
    for model in reversed(registry.versions(network.lake, network.layout, horizon)):
        if model.learnt_through < day:
            yield model


def forecast_log_partitions(layout: Layout, day: Day, entries: Iterable[Entry]) -> list[Entry]:
    """Return which objects are partitions of a day's forecast log; others are named in the log."""
    found = []
    for entry in entries:
        try:
            key = layout.key(entry.name)
        except ForeignNameError:
            key = None
        if isinstance(key, ForecastLogPartition) and day_of(key.bin) == day:
            found.append(entry)
        else:
            logs.log("WARNING", f"ignored: {entry.name} is no partition of the forecast log")
    return found


def forecast_log_fingerprint(partitions: Sequence[Entry]) -> str:
    """Return the fingerprint of a day's forecast log that has all its partitions."""
    return fingerprint_of("ledger 1", partitions)


def newest_view(
    lake: ReadableLake, layout: Layout, kind: type[Events | Perf]
) -> tuple[Day, Entry] | None:
    """Return the newest dated view of a kind: the undated one is the copy of it."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    dated = layout.by_day(kind, entries)
    return (max(dated), entries[dated[max(dated)]]) if dated else None


def manifest_inputs(lake: ReadableLake, layout: Layout) -> list[Entry]:
    """Return the views of all days, which the manifest of the exports lists."""
    entries = {entry.name: entry for entry in lake.entries(f"{layout.exports}/")}
    kinds: tuple[type[DayKey], ...] = (Events, Perf, ForecastLog)
    return [entries[name] for kind in kinds for name in layout.by_day(kind, entries).values()]


def manifest_fingerprint(listed: Iterable[Entry]) -> str:
    """Return the fingerprint of a manifest that lists these views."""
    return fingerprint_of("exports manifest 1", listed)


def latest_alias_fingerprint(newest: Entry) -> str:
    """Return the fingerprint that the undated copy of a view must carry."""
    return fingerprint_of("rolling 1", [newest])
