"""The families' documents → ``monitoring/intro``: one page that says whether all is well."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.jobs.family_update import Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata
from velib_core.jobs.recipes import intro as recipe
from velib_core.lake.artefact import json_value
from velib_core.lake.readable import MAX_DOCUMENT_BYTES, UnreadableObjectError
from velib_core.monitoring import intro
from velib_core.tables.snapshots_index import end_of_observations
from velib_core.timeline.bins import bin_start

if TYPE_CHECKING:
    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import NotDue
    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.monitoring.documents import Documents


@dataclasses.dataclass
class WarmState:
    """What an instance keeps between events: the documents as read last, most change seldom."""

    documents: dict[str, tuple[Entry, bytes]] = dataclasses.field(default_factory=dict)

    def read(self, lake: ReadableLake, entry: Entry) -> bytes:
        """Return the bytes of an entry, from the store where they are new."""
        known = self.documents.get(entry.name)
        if known is None or known[0] != entry:
            data = lake.read_up_to(entry, MAX_DOCUMENT_BYTES)
            known = self.documents[entry.name] = (entry, data)
        return known[1]


def run(network: Network, warm: WarmState, *, force: bool = False) -> JobResult:
    """Bring the page up to date with the documents that it is made of.

    Where some follow the newest snapshot already and others do not yet, those make the page.
    """

    def plan() -> Plan | NotDue:
        following = recipe.resolve_following(network)
        if not force and recipe.is_awaited(network, following):
            return "awaited"
        found = recipe.resolve_inputs(network, following)
        return Plan(
            recipe.expected_fingerprint(network.settings, found),
            list(found.values()),
            lambda: _make(network, warm, found),
        )

    names = [intro.DOCUMENT]
    return update_family(
        network, recipe.FOLDER, recipe.JOB, plan, alerting=True, force=force, names=names
    )


def _make(network: Network, warm: WarmState, found: dict[str, Entry]) -> Documents:
    layout, limits = network.layout, network.settings.monitoring
    read = _read(network.lake, warm, found)
    now = _instant(read)
    names = {name: layout.name(key) for name, key in recipe.sources(network.settings).items()}
    return intro.build(
        intro.IntroSources(
            **{name.partition("_")[0]: read.get(name) for name in recipe.DOCUMENTS},
            models={h: read.get(f"model_h{h}") for h in network.settings.horizons},
            forecasts={h: read.get(f"forecast_h{h}_latest") for h in network.settings.horizons},
            uris={name: f"gs://{network.settings.bucket}/{name_}" for name, name_ in names.items()},
        ),
        horizons=network.settings.horizons,
        now=now,
        run_metadata=run_metadata(network.settings, recipe.FOLDER, now, found.values()),
        thresholds=intro.IntroThresholds(
            **limits.of("intro"), psi_ok=limits.drift_psi_medium, psi_warn=limits.drift_psi_high
        ),
    )


def _read(lake: ReadableLake, warm: WarmState, found: dict[str, Entry]) -> dict[str, Any]:
    """Return the documents by name; one that is none is named in the log, and missing."""
    read: dict[str, Any] = {}
    for name, entry in found.items():
        try:
            document = json_value(warm.read(lake, entry))
        except (ValueError, RecursionError, UnreadableObjectError) as error:
            logs.log_once("ERROR", f"{entry.name} is left out: {error!r:.300}")
            continue
        if isinstance(document, dict):
            read[name] = document
        else:
            logs.log_once("ERROR", f"{entry.name} is left out: it is no JSON object")
    return read


def _instant(read: dict[str, dict[str, Any]]) -> dt.datetime:
    """Return the instant that ages are counted from: that of the newest snapshot.

    The end of a closed day may lie after it, where a recording breaks off in the middle of a
    day; what was fresh then must not look old because of that. It counts where no source follows
    snapshots.
    """
    follow = [read[name] for name in read if recipe.follows_snapshots(name)]
    keys = ("snapshot_ts_utc", "now_utc", "generated_at")
    latest = bin_start(end_of_observations())
    known = [
        stamp
        for document in follow or read.values()
        for key in keys
        if (stamp := intro.instant_of(document.get(key))) is not None and stamp <= latest
    ]
    return max(known, default=dt.datetime.now(dt.UTC))
