"""Find what is missing or stale, and publish the messages that make it again.

Run every hour it heals whatever a lost message left undone in the newest days, once a day in all
days, and says when snapshots have stopped coming; with days, a stage and ``force`` it replays. It
changes no artefact itself: it only repeats the facts that others react to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import traceback
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import (
    InvalidValueError,
    ModelError,
    PermanentError,
    TransientError,
    shorten,
)
from velib_core.events.job import JobResult
from velib_core.events.messages import DayClosed, ReplayRequested
from velib_core.events.topics import TOPICS
from velib_core.jobs.recipes import freshness, intro, overview, profiles, views
from velib_core.jobs.recipes.closed_days import closed_days
from velib_core.jobs.recipes.daily import is_stale as is_daily_stale
from velib_core.jobs.recipes.families import FAMILIES
from velib_core.jobs.recipes.monthly import is_stale as is_monthly_stale
from velib_core.lake.fingerprints import dated_bin
from velib_core.lake.keys import (
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    ForecastLog,
    Monitoring,
    Monthly,
    Perf,
    ServingManifest,
)
from velib_core.lake.layout import Layout, month_of
from velib_core.lake.listed import ListedLake
from velib_core.lake.readable import ReadableNetwork
from velib_core.model import registry
from velib_core.monitoring.documents import MANIFEST
from velib_core.tables import history
from velib_core.tables.snapshots_index import end_of_observations, newest_snapshot, observed_days
from velib_core.timeline import clock
from velib_core.timeline.bins import bin_start, day_of, iso_z

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from velib_core.events.network import Network
    from velib_core.jobs.recipes.closed_days import Family
    from velib_core.lake.keys import Key
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.model.registry import ModelVersion
    from velib_core.timeline.bins import Day


RECENT_DAYS = 3
"""Closed days that the hourly run looks at, those with snapshots counted."""

COMPLETE_RUN_HOUR = 3
"""The hour (UTC) whose scheduled run looks at every day."""


class UnknownStageError(InvalidValueError):
    """A stage that reconcile does not know."""


class StagesFailedError(PermanentError):
    """Stages that could not be looked at; the next hourly run looks at them again."""


class StagesUnavailableError(TransientError):
    """Stages of which some could not be looked at for now; the request is delivered again."""


@dataclasses.dataclass(frozen=True)
class Fix:
    """One message to publish: a closed day, or the notification of an object, and its reason."""

    subject: DayClosed | Entry
    reason: str

    def __str__(self) -> str:
        """Return the fix as a line of a plan."""
        match self.subject:
            case DayClosed(day):
                return f"day-closed {day}: {self.reason}"
            case entry:
                return f"finalized {entry.name}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class _Scope:
    """What is looked at: the lake, the days asked for, and whether to replay what is fresh."""

    network: ReadableNetwork
    request: ReplayRequested

    @property
    def lake(self) -> ReadableLake:
        return self.network.lake

    @property
    def layout(self) -> Layout:
        return self.network.layout

    def holds(self, day: Day) -> bool:
        first, last = self.request.first, self.request.last
        return (first is None or first <= day) and (last is None or day <= last)

    def dailies(self) -> dict[Day, Entry]:
        entries = {entry.name: entry for entry in self.lake.entries(f"{self.layout.daily}/")}
        found = self.layout.by_day(Daily, entries)
        return {day: entries[name] for day, name in sorted(found.items()) if self.holds(day)}


def run(network: Network, request: ReplayRequested) -> JobResult:
    """Publish what is needed in the scope of the request, each message once.

    The hourly run looks for silence first: whatever else is damaged, that alert is raised. A stage
    that fails stops no other.

    Raises
    ------
    UnknownStageError
        Where the stage is none of `STAGES`.
    StagesFailedError
        At the end, where stages failed; all that the others asked for is published by then.
    StagesUnavailableError
        Instead, where one of them failed for a reason that passes and no schedule asks again, or
        where a topic took no message.

    """
    result = JobResult("reconcile")
    failed: dict[str, Exception] = {}
    if dataclasses.replace(request, scheduled=False) == ReplayRequested():
        with _isolated("silence", failed):
            alert = silence(network, clock.now())
            result.counts["silent"] = alert is not None
            if alert:
                logs.log("WARNING", f"alert raised: {alert['text']}")
                network.publisher.publish_alert(alert)
    fixes = plan(network, request, failed)
    unsent: dict[str, Exception] = {}
    if request.dry_run:
        result.published += map(str, fixes)
    else:
        _publish(network, request, fixes, result, unsent)
    result.counts["repairs"] = len(result.published)
    if failed or unsent:
        both = failed | unsent
        reasons = "; ".join(f"{stage}: {shorten(error, 300)}" for stage, error in both.items())
        passing = any(isinstance(error, TransientError) for error in both.values())
        again = passing and (bool(unsent) or not request.scheduled)
        kind = StagesUnavailableError if again else StagesFailedError
        raise kind(f"{len(both)} stages failed, the others were gone through: {reasons}")
    return result


def _publish(
    network: Network,
    request: ReplayRequested,
    fixes: Iterable[Fix],
    result: JobResult,
    unsent: dict[str, Exception],
) -> None:
    """Publish the fixes; a topic that takes no message is not tried again, the others are.

    The first failure of each topic is added to ``unsent``.
    """
    for fix in fixes:
        match fix.subject:
            case DayClosed():
                topic = TOPICS[DayClosed]
            case entry:
                topic = network.layout.topic_of(entry.name)
        if (stage := f"topic {topic}") in unsent:
            continue
        with _isolated(stage, unsent):
            match fix.subject:
                case DayClosed() as message:
                    network.publisher.publish(message)
                case entry:
                    network.publisher.republish(topic, entry, force=request.force)
            result.published.append(str(fix))


@contextlib.contextmanager
def _isolated(stage: str, failed: dict[str, Exception]) -> Iterator[None]:
    """Note the failure of a stage, and go on; that of a bug is logged with its stack trace."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- one damaged object must not end the search
        failed[stage] = error
        if not isinstance(error, PermanentError | TransientError):
            trace = traceback.format_exc()
            logs.log("ERROR", f"stage {stage} failed: {error!r}", stack_trace=trace)


def silence(network: ReadableNetwork, now: dt.datetime) -> dict[str, object] | None:
    """Return the alert that no snapshot has come for too long by ``now``, or ``None``.

    What follows snapshots never runs while none comes, so the hourly run raises this alert. It
    repeats every hour until a snapshot comes. Where the store cannot say what there is, the
    alert says that.
    """
    newest, age = None, None
    limit = network.settings.monitoring.silence_max_min
    reported = "no snapshot has ever come"
    try:
        newest = newest_snapshot(network.lake, network.layout)
    except TransientError as error:
        reported = f"the newest snapshot is unknown: {error!s:.200}"
    if newest is not None:
        age = round((now - bin_start(newest.bin)).total_seconds() / 60, 1)
        reported = f"no snapshot for {age:.0f} minutes"
    if age is not None and age <= limit:
        return None
    return {
        "network": network.settings.network,
        "family": "feed",
        "state": "raised",
        "generated_at": iso_z(now),
        "level": "high",
        "code": "feed_silent",
        "text": reported,
        "artefact": newest.entry.name if newest else f"{network.layout.bronze}/",
        "value": age,
        "threshold": limit,
    }


def plan(
    network: ReadableNetwork,
    request: ReplayRequested,
    failed: dict[str, Exception] | None = None,
) -> list[Fix]:
    """Return the fixes in the order of the chain; equal messages once.

    Failures are added to ``failed`` by stage, and the other stages are gone through. Without it
    they are raised.
    """
    if request.stage is not None and request.stage not in STAGES:
        raise UnknownStageError("stage", request.stage, " or ".join(STAGES))
    listed = ReadableNetwork(network.settings, ListedLake(network.lake, _derived(network.layout)))
    scope = _Scope(listed, _with_days(listed, request))
    wanted = [request.stage] if request.stage else list(STAGES)
    fixes: dict[object, Fix] = {}
    for stage in wanted:
        with contextlib.nullcontext() if failed is None else _isolated(stage, failed):
            for fix in STAGES[stage](scope):
                fixes.setdefault(fix.subject, fix)
    return list(fixes.values())


def _with_days(network: ReadableNetwork, request: ReplayRequested) -> ReplayRequested:
    """Return the request with the days that the hourly run looks at; others as they are.

    Where the store does not list the snapshots these are all days: other stages have no need of
    snapshots.
    """
    if not request.scheduled or clock.now().hour == COMPLETE_RUN_HOUR:
        return request
    try:
        days = observed_days(network.lake, network.layout)[-RECENT_DAYS - 1 :]
    except TransientError:
        return request
    return dataclasses.replace(request, first=min(days, default=None))


def _derived(layout: Layout) -> list[str]:
    """Return the folders that are looked up by day and by model: small enough to list at once.

    Snapshots and the forecast log are not, and pass by a day at a time (`_by_day`). What is
    published is looked at once, and changes meanwhile.
    """
    folders = (layout.daily, layout.monthly, layout.exports, layout.profiles, layout.models)
    return [f"{folder}/" for folder in folders]


def _by_day(
    scope: _Scope, folder: str, prefix_of: Callable[[Day], str], days: Iterable[Day]
) -> Iterator[tuple[Day, list[Entry]]]:
    """Yield what lies in a folder of days, a day at a time.

    A store lists a thousand objects a call, several days of them, so all days are one listing.
    """
    wanted = {prefix_of(day): day for day in days if scope.holds(day)}
    if scope.request.first is not None:
        yield from ((day, list(scope.lake.entries(prefix))) for prefix, day in wanted.items())
        return

    def folder_of(entry: Entry) -> str:
        return f"{folder}/{entry.name[len(folder) + 1 :].partition('/')[0]}/"

    for prefix, entries in itertools.groupby(scope.lake.entries(f"{folder}/"), folder_of):
        if prefix in wanted:
            yield wanted[prefix], list(entries)


def _unclosed_days(scope: _Scope) -> Iterator[Fix]:
    dailies, layout = scope.dailies(), scope.layout
    over = observed_days(scope.lake, layout)[:-1]
    if scope.request.force:
        for day in filter(scope.holds, over):
            yield Fix(DayClosed(day, force=True), "forced")
        return
    for day, listing in _by_day(scope, layout.bronze, layout.bronze_day, over):
        if is_daily_stale(listing, dailies.get(day)):
            yield Fix(DayClosed(day), "stale" if day in dailies else "no daily")


def _incomplete_months(scope: _Scope) -> Iterator[Fix]:
    dailies = scope.dailies()
    for month in sorted({month_of(day) for day in dailies}):
        monthly = scope.lake.stat(scope.layout.name(Monthly(month)))
        stale = is_monthly_stale(scope.lake, scope.layout, month, monthly)
        if stale or (scope.request.force and monthly):
            newest = max(day for day in dailies if month_of(day) == month)
            yield Fix(dailies[newest], f"month {month:%Y-%m} is stale")


def _stale_views(scope: _Scope) -> Iterator[Fix]:
    asked = [*_stale_tables(scope), *_incomplete_forecast_logs(scope), *_old_copies(scope)]
    yield from asked or _old_manifest(scope)  # each of them makes the manifest again


def _stale_tables(scope: _Scope) -> Iterator[Fix]:
    settings = scope.network.settings
    exports = {entry.name: entry for entry in scope.lake.entries(f"{scope.layout.exports}/")}
    for day, daily in scope.dailies().items():
        events = exports.get(scope.layout.name(Events(day)))
        perf = exports.get(scope.layout.name(Perf(day)))
        inputs = views.perf_inputs(scope.network, day)
        if scope.request.force:
            yield Fix(daily, "forced")
        elif events is None or events.fingerprint != views.events_fingerprint(settings, daily):
            yield Fix(daily, "observations table missing or stale")
        elif perf is None or (inputs and perf.fingerprint != inputs.fingerprint(settings)):
            yield Fix(daily, "evaluation table missing or stale")


def _old_copies(scope: _Scope) -> Iterator[Fix]:
    dailies = scope.dailies()
    for kind in (Events, Perf):
        found = views.newest_view(scope.lake, scope.layout, kind)
        if found is None or found[0] != max(dailies, default=None):
            continue  # the newest is asked for already
        day, newest = found
        copy = scope.lake.stat(scope.layout.name(kind(None)))
        if copy is None or copy.fingerprint != views.latest_alias_fingerprint(newest):
            yield Fix(dailies[day], "the rolling view is not the newest day's")


def _old_manifest(scope: _Scope) -> Iterator[Fix]:
    listed, dailies = views.manifest_inputs(scope.lake, scope.layout), scope.dailies()
    held = scope.lake.stat(scope.layout.name(ExportsManifest()))
    stale = held is None or held.fingerprint != views.manifest_fingerprint(listed)
    if listed and dailies and stale:
        yield Fix(dailies[max(dailies)], "the manifest of the exports is missing or stale")


def _stale_profiles(scope: _Scope) -> Iterator[Fix]:
    dailies = history.dailies(scope.lake, scope.layout)
    models = list(_live_models(scope))
    for day, daily in scope.dailies().items():
        up_to_date = profiles.is_up_to_date(scope.network, dailies, day, models)
        if scope.request.force or not up_to_date:
            yield Fix(daily, "profile or calibration missing or stale")
            return  # the later ones rest on it and follow


def _live_models(scope: _Scope) -> Iterator[ModelVersion]:
    for horizon in scope.network.settings.horizons:
        try:
            model = registry.live(scope.lake, scope.layout, horizon)
        except ModelError as error:
            logs.log("ERROR", f"the pointer of h{horizon} is damaged: {error}")
            continue
        if model is not None:
            yield model


def _incomplete_forecast_logs(scope: _Scope) -> Iterator[Fix]:
    held = {entry.name: entry for entry in scope.lake.entries(f"{scope.layout.exports}/served_")}
    layout, dailies = scope.layout, scope.dailies()
    for day, below in _by_day(scope, layout.forecast_log, layout.forecast_log_day, dailies):
        forecast_log = held.get(layout.name(ForecastLog(day)))
        partitions = views.forecast_log_partitions(layout, day, below)
        fingerprint = views.forecast_log_fingerprint(partitions)
        if partitions and (forecast_log is None or forecast_log.fingerprint != fingerprint):
            yield Fix(dailies[day], "forecast log missing or without some of its partitions")


def _old_family(family: Family) -> Callable[[_Scope], Iterator[Fix]]:
    """Return the stage of a family that is made from the views of closed days."""

    def stage(scope: _Scope) -> Iterator[Fix]:
        manifest = scope.lake.stat(scope.layout.name(ExportsManifest()))
        days = closed_days(scope.network, family.view).files
        if manifest is None or not any(scope.holds(day) for day in days):
            return
        forced = scope.request.force
        if forced or family.is_stale(scope.network):
            yield Fix(manifest, f"{family.folder} missing or stale")

    return stage


def _old_overview(scope: _Scope) -> Iterator[Fix]:
    manifest = scope.lake.stat(scope.layout.name(ExportsManifest()))
    if manifest and any(scope.holds(day) for day in overview.days_to_sum(scope.network)):
        yield Fix(manifest, "the overview's sums of a day are missing or stale")
    stale = overview.is_stale(scope.network)
    yield from _behind_the_newest(scope, stale, "the overview is older than the newest snapshot")


def _old_freshness(scope: _Scope) -> Iterator[Fix]:
    stale = freshness.is_stale(scope.network)
    yield from _behind_the_newest(scope, stale, "the freshness is older than the newest snapshot")


def _behind_the_newest(scope: _Scope, stale: bool, reason: str) -> Iterator[Fix]:
    newest = newest_snapshot(scope.lake, scope.layout)
    if newest and scope.holds(day_of(newest.bin)) and (stale or scope.request.force):
        yield Fix(newest.entry, reason)


def _old_intro(scope: _Scope) -> Iterator[Fix]:
    stale = intro.is_stale(scope.network)
    manifest = scope.lake.stat(scope.layout.name(Monitoring("network/overview", MANIFEST)))
    if manifest and (stale or scope.request.force):
        yield Fix(manifest, "the intro is older than what it is made of")


def _old_forecasts(scope: _Scope) -> Iterator[Fix]:
    newest = newest_snapshot(scope.lake, scope.layout)
    if newest is None or not scope.holds(day_of(newest.bin)):
        return
    keys: list[Key] = [Forecast(horizon, alias=True) for horizon in scope.network.settings.horizons]
    for key in [*keys, ServingManifest()]:
        published = scope.lake.stat(scope.layout.name(key))
        fingerprint = (published.fingerprint or "") if published else ""
        # One of a later snapshot, which is gone, is followed by that of the next that comes.
        of = dated_bin(fingerprint)
        stale = of is None or not newest.bin <= of < end_of_observations()
        if scope.request.force or stale:
            yield Fix(newest.entry, "the forecast is older than the newest snapshot")


STAGES: Mapping[str, Callable[[_Scope], Iterator[Fix]]] = {
    "compact_daily": _unclosed_days,
    "compact_monthly": _incomplete_months,
    "refresh_profiles": _stale_profiles,
    "build_datasets": _stale_views,
    "build_serving_forecast": _old_forecasts,
    "build_data_freshness": _old_freshness,
    **{family.job: _old_family(family) for family in FAMILIES},
    "build_network_overview": _old_overview,
    "build_monitoring_intro": _old_intro,
}
"""What can be replayed, in the order of the chain."""
