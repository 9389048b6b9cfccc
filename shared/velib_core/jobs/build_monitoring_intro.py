"""The families' documents → ``monitoring/intro``: one page that says whether all is well."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from velib_core.jobs.family_update import MANIFEST, Plan, update_family
from velib_core.jobs.monitoring_family import run_metadata
from velib_core.lake.bucket import fingerprint_of
from velib_core.lake.keys import Forecast, ModelFile, Monitoring
from velib_core.model.registry import POINTER
from velib_core.monitoring import intro

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_core.events.job import JobResult
    from velib_core.events.network import Network
    from velib_core.jobs.family_update import Documents
    from velib_core.lake.keys import Key
    from velib_core.lake.readable import Entry, ReadableNetwork
    from velib_core.settings.network import Settings

JOB = "build_monitoring_intro"
FOLDER = "intro"

_FAMILIES = {
    "overview_kpis": Monitoring("network/overview", "kpis.json"),
    "health_kpis": Monitoring("data/health", "kpis.json"),
    "freshness": Monitoring("data/freshness", "freshness.json"),
    "drift_summary": Monitoring("data/drift", "summary.json"),
}
"""Documents of the page under the names it tells them by: the family, then what of it."""


def run(network: Network, *, force: bool = False) -> JobResult:
    """Bring the page up to date with the documents that it is made of."""

    def plan() -> Plan:
        found = _resolve_inputs(network)
        entries = list(found.values())
        return Plan(
            expected_fingerprint(network.settings, entries), entries, lambda: _make(network, found)
        )

    return update_family(network, FOLDER, JOB, plan, alerting=True, force=force)


def expected_fingerprint(settings: Settings, entries: Iterable[Entry]) -> str:
    """Return the fingerprint of a page made from these documents."""
    limits = settings.monitoring
    reported = (sorted(limits.of("intro").items()), limits.drift_psi_medium, limits.drift_psi_high)
    return fingerprint_of(f"{JOB} 1 {settings.tz} {reported}", entries)


def is_stale(network: ReadableNetwork) -> bool:
    """Tell whether the page was made from other documents than those there are."""
    found = list(_resolve_inputs(network).values())
    manifest = network.lake.stat(network.layout.name(Monitoring(FOLDER, MANIFEST)))
    stale = manifest is None or manifest.fingerprint != expected_fingerprint(
        network.settings, found
    )
    return bool(found) and stale


def _sources(settings: Settings) -> dict[str, Key]:
    keys: dict[str, Key] = dict(_FAMILIES)
    for horizon in settings.horizons:
        keys[f"model_h{horizon}"] = ModelFile(horizon, None, POINTER)
        keys[f"forecast_h{horizon}_latest"] = Forecast(horizon)
    return keys


def _resolve_inputs(network: ReadableNetwork) -> dict[str, Entry]:
    layout = network.layout
    stats = {
        name: network.lake.stat(layout.name(key))
        for name, key in _sources(network.settings).items()
    }
    return {name: entry for name, entry in stats.items() if entry is not None}


def _make(network: Network, found: dict[str, Entry]) -> Documents:
    layout, limits = network.layout, network.settings.monitoring
    read = {name: json.loads(network.lake.read(entry)) for name, entry in found.items()}
    now = _instant(read)
    names = {name: layout.name(key) for name, key in _sources(network.settings).items()}
    return intro.build(
        intro.IntroSources(
            **{name.partition("_")[0]: read.get(name) for name in _FAMILIES},
            models={h: read.get(f"model_h{h}") for h in network.settings.horizons},
            forecasts={h: read.get(f"forecast_h{h}_latest") for h in network.settings.horizons},
            uris={name: f"gs://{network.settings.bucket}/{name_}" for name, name_ in names.items()},
        ),
        horizons=network.settings.horizons,
        now=now,
        run_metadata=run_metadata(network.settings, FOLDER, now, found.values()),
        thresholds=intro.IntroThresholds(
            **limits.of("intro"), psi_ok=limits.drift_psi_medium, psi_warn=limits.drift_psi_high
        ),
    )


def _instant(read: dict[str, dict[str, Any]]) -> dt.datetime:
    """Return the newest instant that any source tells: ages are counted from there."""
    stamps = [
        document[key]
        for document in read.values()
        for key in ("generated_at", "now_utc", "snapshot_ts_utc")
        if isinstance(document.get(key), str)
    ]
    known = [dt.datetime.fromisoformat(stamp) for stamp in stamps]
    aware = [stamp if stamp.tzinfo else stamp.replace(tzinfo=dt.UTC) for stamp in known]
    return max(aware, default=dt.datetime.now(dt.UTC))
