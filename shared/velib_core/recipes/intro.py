"""What the intro page is made from: documents of families, forecasts and live models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from velib_core.lake.bucket import fingerprint_of
from velib_core.lake.keys import Forecast, ModelFile, Monitoring
from velib_core.model.registry import POINTER
from velib_core.monitoring.documents import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_core.lake.keys import Key
    from velib_core.lake.readable import Entry, ReadableNetwork
    from velib_core.settings.network import Settings

JOB = "build_monitoring_intro"
FOLDER = "intro"

DOCUMENTS = {
    "overview_kpis": Monitoring("network/overview", "kpis.json"),
    "health_kpis": Monitoring("data/health", "kpis.json"),
    "freshness": Monitoring("data/freshness", "freshness.json"),
    "drift_summary": Monitoring("data/drift", "summary.json"),
}
"""Documents of the page by name: the family, then the document."""


def expected_fingerprint(settings: Settings, entries: Iterable[Entry]) -> str:
    """Return the fingerprint of a page made from these documents."""
    limits = settings.monitoring
    reported = (sorted(limits.of("intro").items()), limits.drift_psi_medium, limits.drift_psi_high)
    return fingerprint_of(f"{JOB} 1 {settings.tz} {reported}", entries)


def is_stale(network: ReadableNetwork) -> bool:
    """Return whether the page was made from other documents than the current ones."""
    found = list(resolve_inputs(network).values())
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    stale = manifest is None or manifest.fingerprint != expected_fingerprint(
        network.settings, found
    )
    return bool(found) and stale


def sources(settings: Settings) -> dict[str, Key]:
    """Return the documents of the page by name."""
    keys: dict[str, Key] = dict(DOCUMENTS)
    for horizon in settings.horizons:
        keys[f"model_h{horizon}"] = ModelFile(horizon, None, POINTER)
        keys[f"forecast_h{horizon}_latest"] = Forecast(horizon)
    return keys


def resolve_inputs(network: ReadableNetwork) -> dict[str, Entry]:
    """Return those of the sources that there are."""
    layout = network.layout
    stats = {
        name: network.lake.stat(layout.name(key)) for name, key in sources(network.settings).items()
    }
    return {name: entry for name, entry in stats.items() if entry is not None}
