"""What the intro page is made from: documents of families, forecasts and live models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.fingerprints import dated_bin, dated_fingerprint, fingerprint_of
from velib_core.lake.keys import Forecast, ModelFile, Monitoring
from velib_core.model.registry import POINTER
from velib_core.monitoring.documents import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from velib_core.lake.keys import Key
    from velib_core.lake.readable import Entry, ReadableNetwork
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import Bin

JOB = "build_monitoring_intro"
FOLDER = "intro"

DOCUMENTS = {
    "overview_kpis": Monitoring("network/overview", "kpis.json"),
    "health_kpis": Monitoring("data/health", "kpis.json"),
    "freshness": Monitoring("data/freshness", "freshness.json"),
    "drift_summary": Monitoring("data/drift", "summary.json"),
}
"""Documents of the page by name: the family, then the document."""


PATIENCE_BINS = 2
"""How far a document may be behind the newest before the page no longer waits for it."""


def expected_fingerprint(settings: Settings, found: Mapping[str, Entry]) -> str:
    """Return the fingerprint of a page made from these documents: its snapshot comes first."""
    limits = settings.monitoring
    values = (sorted(limits.of("intro").items()), limits.drift_psi_medium, limits.drift_psi_high)
    content = f"{JOB} 1 {settings.tz} {values}"
    snapshot = complete_snapshot(found)
    if snapshot is None:
        return fingerprint_of(content, found.values())
    return dated_fingerprint(snapshot, content, found.values())


def is_stale(network: ReadableNetwork) -> bool:
    """Return whether the page was made from other documents than the current ones."""
    found = resolve_inputs(network)
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    expected = expected_fingerprint(network.settings, found)
    return bool(found) and (manifest is None or manifest.fingerprint != expected)


def complete_snapshot(found: Mapping[str, Entry]) -> Bin | None:
    """Return the newest snapshot that every document which follows snapshots has reached.

    A document that is `PATIENCE_BINS` behind the newest has died, and nobody waits for it.
    """
    reached = _reached(found)
    return min((bin_ for bin_ in reached if bin_ > max(reached) - PATIENCE_BINS), default=None)


def is_awaited(network: ReadableNetwork, found: Mapping[str, Entry]) -> bool:
    """Return whether a document is on its way that will wake the page for the same snapshot.

    Several documents follow each snapshot, in any order. The last of them makes the page.
    """
    complete = complete_snapshot(found)
    if complete is None or complete == max(_reached(found)):
        return False
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    made = dated_bin(manifest.fingerprint) if manifest else None
    return made is not None and made >= complete


def _reached(found: Mapping[str, Entry]) -> list[Bin]:
    bins = map(dated_bin, (entry.fingerprint for entry in found.values()))
    return [bin_ for bin_ in bins if bin_ is not None]


def sources(settings: Settings) -> dict[str, Key]:
    """Return the documents of the page by name."""
    keys: dict[str, Key] = dict(DOCUMENTS)
    for horizon in settings.horizons:
        keys[f"model_h{horizon}"] = ModelFile(horizon, None, POINTER)
        keys[f"forecast_h{horizon}_latest"] = Forecast(horizon)
    return keys


def follows_snapshots(name: str) -> bool:
    """Return whether a source is made anew from each snapshot."""
    return name.startswith(("overview", "freshness", "forecast"))


def resolve_following(network: ReadableNetwork) -> dict[str, Entry]:
    """Return those of the sources that there are and that follow snapshots."""
    keys = sources(network.settings)
    return _found(network, {name: keys[name] for name in keys if follows_snapshots(name)})


def resolve_inputs(
    network: ReadableNetwork, following: Mapping[str, Entry] | None = None
) -> dict[str, Entry]:
    """Return those of the sources that there are; of some, ``following`` may be known."""
    known = resolve_following(network) if following is None else following
    keys = sources(network.settings)
    others = _found(network, {name: keys[name] for name in keys if not follows_snapshots(name)})
    found = {**known, **others}
    return {name: found[name] for name in keys if name in found}


def _found(network: ReadableNetwork, keys: Mapping[str, Key]) -> dict[str, Entry]:
    stats = {name: network.lake.stat(network.layout.name(key)) for name, key in keys.items()}
    return {name: entry for name, entry in stats.items() if entry is not None}
