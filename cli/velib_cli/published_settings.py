"""Read settings from a lake: its zone, its horizons and the thresholds in its manifests.

Whoever looks at a folder, or at a bucket from another machine, has not the environment that it
was made with. What its documents were made with stands in their manifests.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from velib_core.errors import PermanentError
from velib_core.lake.keys import Monitoring, ServingManifest
from velib_core.lake.layout import Layout
from velib_core.monitoring.documents import MANIFEST
from velib_core.settings.env import SettingsError, as_horizons, as_zone, variables
from velib_core.settings.monitoring import MonitoringSettings
from velib_core.settings.network import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from velib_core.lake.readable import ReadableLake

_FAMILIES = {
    "data/health": "health",
    "data/drift": "drift",
    "model/performance": "performance",
    "model/explainability": "explain",
    "network/overview": "overview",
    "network/stations": "stations",
    "network/dynamics": "dynamics",
    "intro": "intro",
}
"""How the settings of each family start."""


def as_published(lake: ReadableLake, settings: Settings, given: Mapping[str, str]) -> Settings:
    """Return the settings with what the lake's documents say, where ``given`` sets it not.

    ``given`` is the file of settings of the deployment, by variable. Documents that are absent,
    unreadable or say nothing sensible change nothing.
    """
    layout = Layout(settings)
    manifests = {
        family: document
        for family in _FAMILIES
        if isinstance(document := _read(lake, layout.name(Monitoring(family, MANIFEST))), dict)
    }
    serving = _read(lake, layout.name(ServingManifest()))
    found: dict[str, Any] = {}
    for manifest in manifests.values():
        found |= dict(_network(manifest))
    if isinstance(serving, dict):
        found |= dict(_horizons(serving.get("horizons")))
    monitoring: dict[str, Any] = {}
    for family, manifest in manifests.items():
        monitoring |= dict(_of_family(settings.monitoring, _FAMILIES[family], manifest))
    return dataclasses.replace(
        settings,
        **_unless_given(Settings, found, given),
        monitoring=dataclasses.replace(
            settings.monitoring, **_unless_given(MonitoringSettings, monitoring, given)
        ),
    )


def _network(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        yield "tz", as_zone("tz", str(manifest.get("tz")))
    except SettingsError:
        return
    thresholds = manifest.get("thresholds")
    bounds = thresholds if isinstance(thresholds, dict) else {}
    for name, field in (("penury", "penury_bikes"), ("saturation", "saturation_docks")):
        if type(bounds.get(name)) is int:
            yield field, bounds[name]


def _horizons(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and value:
        try:
            yield "horizons", as_horizons("horizons", ",".join(map(str, value)))
        except SettingsError:
            return


def _of_family(
    now: MonitoringSettings, family: str, manifest: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a family's settings that its manifest states, of the field's own type.

    Not how far back it looks: a young network's window is shorter than the setting.
    """
    thresholds = manifest.get("thresholds")
    for name, value in thresholds.items() if isinstance(thresholds, dict) else ():
        field = f"{family}_{name}"
        kind = type(getattr(now, field, None))
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if (kind is bool and isinstance(value, bool)) or (kind in {int, float} and numeric):
            yield field, kind(value)
    for field, value in _horizons(manifest.get("horizons")):
        if hasattr(now, f"{family}_{field}"):
            yield f"{family}_{field}", value


def _unless_given(kind: type, found: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Leave out what a variable of the deployment's own settings sets."""
    names = {field.name: field.metadata["names"] for field in variables(kind)}
    return {
        field: value
        for field, value in found.items()
        if field in names and not any(given.get(name) for name in names[field])
    }


def _read(lake: ReadableLake, name: str) -> Any:  # noqa: ANN401 -- JSON is any value
    try:
        return lake.fetch_json(name)
    except PermanentError:
        return None
