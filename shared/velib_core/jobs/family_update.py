"""Write a family of monitoring documents together, its manifest last."""

from __future__ import annotations

import concurrent.futures
import contextvars
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from google.api_core.exceptions import PreconditionFailed

from velib_core import logs
from velib_core.events.job import JobResult
from velib_core.lake.artefact import (
    JSON,
    Artefact,
    InputChangedError,
    RaceLostError,
    crc32c,
    is_same,
    json_bytes,
    json_value,
)
from velib_core.lake.bucket import RACES
from velib_core.lake.keys import Monitoring
from velib_core.lake.readable import UnreadableObjectError
from velib_core.monitoring.documents import MANIFEST, Documents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from velib_core.events.network import Network
    from velib_core.lake.artefact import Outcome
    from velib_core.lake.bucket import Lake
    from velib_core.lake.readable import Entry, ReadableLake

CACHE = "no-cache, max-age=0"


WRITERS = 8

MAX_MANIFEST_BYTES = 1 << 20
"""Of a manifest that is there already, whose alerts are read; ours have some KiB."""

MOST_ALERTS = 100
"""More than a family has kinds of."""


class Plan(NamedTuple):
    """What a family is to be made from, its fingerprint, and how to make it."""

    fingerprint: str
    inputs: Sequence[Entry]
    make: Callable[[], Documents]


NotDue = Literal["overtaken", "awaited"]
"""Why nothing is to be made: a newer snapshot has overtaken the one that the event is about (or
there is none at all), or something else will ask for the same a moment later."""


def update_family(
    network: Network,
    folder: str,
    job: str,
    plan: Callable[[], Plan | NotDue],
    *,
    alerting: bool = False,
    force: bool = False,
    names: Sequence[str] = (),
    copies: Mapping[str, str] | None = None,
) -> JobResult:
    """Bring a family up to date, its manifest last.

    A document whose bytes are there already is not written again.

    Parameters
    ----------
    folder
        Of the family, below the monitoring prefix.
    plan
        Looks up the inputs afresh; what it returns is made only where it is due.
    alerting
        Whether its manifest has alerts; changes of them are published.
    names
        Of its documents, where they are always the same few: looked up by name, they cost less
        than a listing.
    copies
        Object names that repeat a document, by the document.

    Raises `RaceLostError` after too many lost races.

    """
    layout, result = network.layout, JobResult(job)
    manifest = layout.name(Monitoring(folder, MANIFEST))
    below = manifest.removesuffix(MANIFEST)
    lost = False
    for _ in range(RACES):
        live = _live(network.lake, below, names)
        due = plan()
        if not isinstance(due, Plan):
            result.counts[due] = 1
            return result
        held = live.get(manifest)
        # After a lost race some documents may be of the attempt that lost: all are looked at.
        if held and held.fingerprint == due.fingerprint and not force and not lost:
            result.outputs[manifest] = "fresh"
            return result
        try:
            documents = due.make()
            last = documents.pop(MANIFEST)
            blobs = {name: json_bytes(document) for name, document in documents.items()}
            targets = {layout.name(Monitoring(folder, name)): data for name, data in blobs.items()}
            for name, target in (copies or {}).items():
                targets[target] = blobs[name]
                repeated = network.lake.stat(target)
                live |= {target: repeated} if repeated else {}
            outcomes = _write_changed(network.lake, targets, due.fingerprint, live)
            if alerting:
                _publish_alerts(network, folder, last, held, result)
            last["checksums"] = {name: crc32c(data) for name, data in blobs.items()}
            artefact = Artefact(json_bytes(last), JSON, due.fingerprint)
            outcomes[manifest] = "fresh" if held and is_same(held, artefact) else "written"
            if outcomes[manifest] == "written":
                _write(network.lake, manifest, artefact, held)
        except (InputChangedError, PreconditionFailed):
            lost = True
            continue
        result.outputs |= outcomes
        result.counts["inputs"] = len(due.inputs)
        return result
    raise RaceLostError(f"{below} was replaced by others {RACES} times in a row")


def _live(lake: ReadableLake, below: str, names: Sequence[str]) -> dict[str, Entry]:
    """Return the objects of a family that there are, by object name."""
    if not names:
        return {entry.name: entry for entry in lake.entries(below)}
    found = (lake.stat(below + name) for name in (*names, MANIFEST))
    return {entry.name: entry for entry in found if entry is not None}


def _write_changed(
    lake: Lake, targets: Mapping[str, bytes], fingerprint: str, live: Mapping[str, Entry]
) -> dict[str, Outcome]:
    """Write the objects whose bytes are new, side by side, each against the generation noted."""

    def write(item: tuple[str, bytes]) -> tuple[str, Outcome]:
        name, data = item
        current = live.get(name)
        if current and current.crc32c == crc32c(data):
            return name, "fresh"
        _write(lake, name, Artefact(data, JSON, fingerprint), current)
        return name, "written"

    # Each thread knows which event it works for: its log lines and objects say so.
    event = contextvars.copy_context()
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        return dict(pool.map(lambda item: event.copy().run(write, item), targets.items()))


def _write(lake: Lake, name: str, artefact: Artefact, current: Entry | None) -> None:
    generation = current.generation if current else 0
    lake.write(name, artefact, expected_generation=generation, cache=CACHE)


def _publish_alerts(
    network: Network,
    folder: str,
    manifest: Mapping[str, Any],
    held: Entry | None,
    result: JobResult,
) -> None:
    """Publish the alerts that the manifest on its way raises or clears against the live one."""
    before = {_identity(alert): alert for alert in _alerts_in(network.lake, held)}
    after = {_identity(alert): alert for alert in manifest["alerts"]}
    changes = [("raised", after[key]) for key in after if key not in before]
    changes += [("cleared", before[key]) for key in before if key not in after]
    for state, alert in changes:
        body = {
            **alert,
            "network": network.settings.network,
            "family": folder,
            "state": state,
            "generated_at": manifest["generated_at"],
        }
        network.publisher.publish_alert(body)
        logs.log("WARNING" if state == "raised" else "INFO", f"alert {state}: {alert['text']}")
        result.published.append(f"alert {state} {folder} {alert['code']}")


def _alerts_in(lake: ReadableLake, manifest: Entry | None) -> list[dict[str, Any]]:
    """Return the alerts of a live manifest; none where it cannot be read as one."""
    if manifest is None:
        return []
    try:
        held = json_value(lake.read_up_to(manifest, MAX_MANIFEST_BYTES))
        alerts = held["alerts"][:MOST_ALERTS]
        return [dict(alert) for alert in alerts if {"code", "artefact", "text"} <= set(alert)]
    except (ValueError, KeyError, TypeError, RecursionError, UnreadableObjectError):
        return []


def _identity(alert: Mapping[str, Any]) -> tuple[str, str]:
    return str(alert["artefact"]), str(alert["code"])
