"""What all monitoring documents share: their head, their manifest, their alerts, clean numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from velib_core.tables.views import STOCKOUT_SHARE
from velib_core.timeline.bins import iso_z

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

Documents = dict[str, Any]
"""JSON-ready objects by name in a family's ``latest/`` folder, in the order to be written."""

DECIMALS = 6
"""Fractions are published to a millionth."""

MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class RunMetadata:
    """One run of a family.

    Attributes
    ----------
    generated_at
        When the documents are made (aware, or naive UTC).
    tz
        IANA zone of local days and hours.
    latest_prefix, exports_prefix
        ``gs://`` prefixes of the family's ``latest`` folder and of the exports.
    inputs
        What the documents are made from: generation (or checksum) by object name.

    """

    generated_at: dt.datetime
    tz: str
    latest_prefix: str
    exports_prefix: str
    inputs: Mapping[str, int | str] = dataclasses.field(default_factory=dict)

    def head(self, version: str) -> dict[str, Any]:
        """Return the keys that every document starts with."""
        return {"schema_version": version, "generated_at": iso_z(self.generated_at)}


@dataclasses.dataclass(frozen=True)
class StockoutBounds:
    """The thresholds behind the stockout flags of the observations table.

    Penury is bikes ≤ min(``penury``, ``capacity_share`` · capacity), saturation free docks ≤
    min(``saturation``, ``capacity_share`` · capacity).
    """

    penury: int = 2
    saturation: int = 2
    capacity_share: float = STOCKOUT_SHARE


@dataclasses.dataclass(frozen=True)
class Alert:
    """A value beyond its threshold, and the document (in the family's folder) that holds it."""

    level: Literal["high", "medium"]
    code: str
    text: str
    artefact: str
    value: float | None
    threshold: float


@dataclasses.dataclass(frozen=True)
class Status:
    """Whether a family could be computed: ``ok``, ``partial`` or ``no_data``, and why."""

    status: Literal["ok", "partial", "no_data"]
    reason: str | None = None


OK = Status("ok")


def status_of_days(seen: int, wanted: int) -> Status:
    """Return the status of a window of so many local days, of which some have observations."""
    if not seen:
        return Status("no_data", "no observation in the window")
    if seen < wanted:
        return Status("partial", f"{seen} of {wanted} local days have observations")
    return OK


def partly(status: Status, reasons: Sequence[str]) -> Status:
    """Return the status with further reasons why it is partial; no data stays no data."""
    if status.status == "no_data" or not reasons:
        return status
    return Status("partial", "; ".join(filter(None, (status.reason, *reasons))))


def with_manifest(
    documents: Mapping[str, Any],
    run_metadata: RunMetadata,
    version: str,
    *,
    status: Status,
    window_days: int | None,
    windows: Mapping[str, Any],
    thresholds: Sequence[Any] = (),
    alerts: Sequence[Alert] = (),
    extra: Mapping[str, Any] | None = None,
) -> Documents:
    """Return a family's documents clean and in order, its manifest last.

    ``window_days`` is ``None`` for a family without a window; ``thresholds`` are dataclasses
    whose fields the manifest echoes.
    """
    manifest = {
        **run_metadata.head(version),
        "status": status.status,
        "reason": status.reason,
        "latest_prefix": run_metadata.latest_prefix,
        "window_days": window_days,
        "windows": windows,
        "tz": run_metadata.tz,
        "thresholds": {k: v for t in thresholds for k, v in dataclasses.asdict(t).items()},
        "sources": {"exports_prefix": run_metadata.exports_prefix},
        "inputs": dict(run_metadata.inputs),
        "artifacts": list(documents),
        "alerts": [dataclasses.asdict(alert) for alert in alerts],
        **(extra or {}),
    }
    return {name: clean(document) for name, document in [*documents.items(), (MANIFEST, manifest)]}


def repeat_at_root(documents: Mapping[str, Any], folder: str) -> Documents:
    """Return the documents with those of a sub-folder repeated without it.

    Readers that name no horizon look there.
    """
    start = f"{folder}/"
    again = {k.removeprefix(start): v for k, v in documents.items() if k.startswith(start)}
    return {**documents, **again}


def alerts_of(documents: Documents) -> list[dict[str, Any]]:
    """Return the alerts of a family's documents, as its manifest lists them."""
    alerts: list[dict[str, Any]] = documents[MANIFEST]["alerts"]
    return alerts


def clean(value: Any) -> Any:  # noqa: ANN401 -- any value in, any JSON value out
    """Return a value as plain JSON: no NaN or infinity (null), no NumPy, `DECIMALS` places."""
    if isinstance(value, dict):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return clean(value.tolist())
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0 if math.isfinite(value) else None
    return value


def with_values(rows: Iterable[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    """Return the rows in which each of the keys has a value.

    Readers of the contract draw null as 0, so a row without data is left out.
    """
    return [row for row in rows if all(row[key] is not None for key in keys)]


def ratio(part: float, total: float) -> float | None:
    """Return part / whole, null where the whole is 0."""
    return float(part) / float(total) if total else None


def percent(part: float, total: float) -> float | None:
    """Return 100 · part / whole, null where the whole is 0."""
    return 100.0 * float(part) / float(total) if total else None


def clock(minute: int) -> str:
    """Return a minute of the day as ``HH:MM``."""
    return f"{minute // 60:02d}:{minute % 60:02d}"
