"""Whether what lies in a lake is what was written: documents, models, the forecast log."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

from velib_core.errors import ModelError, PermanentError
from velib_core.jobs.recipes.families import FAMILIES
from velib_core.lake.artefact import crc32c, json_value
from velib_core.lake.keys import (
    Forecast,
    ForecastLogPartition,
    ModelFile,
    Monitoring,
    ServingManifest,
)
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.model import registry
from velib_core.monitoring.documents import MANIFEST
from velib_core.timeline.bins import bin_of

from velib_cli.printed import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.readable import Entry, ReadableLake
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings
    from velib_core.timeline.bins import HorizonMinutes


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something to look at.

    ``subject`` is what it is about, as in ``models``; ``code`` names the kind of fault and
    ``about`` the object, the horizon or the number that it concerns, for whoever says it in other
    words; ``text`` says what is wrong, and ``command`` what to type, ``None`` where no command
    brings it back.
    """

    subject: str
    code: str
    about: str
    text: str
    command: str | None = None


@dataclasses.dataclass(frozen=True)
class Place:
    """How the commands that fix a lake name it: an option of ours, and its network.

    ``remake`` is the command that made a folder, and makes all of it again.
    """

    option: str
    network: str
    project: str
    deployed: bool
    remake: str | None = None

    def velib(self, command: str) -> str:
        """Return a command of ours on this lake."""
        verb, _, rest = command.partition(" ")
        return " ".join(filter(None, ("velib", verb, self.option, rest)))

    def publish(self, topic: str, message: str) -> str | None:
        """Return the command that publishes a message; in a folder nobody reacts to one."""
        if not self.deployed:
            return self.remake
        target = f"{self.network}-{topic} --project={self.project or 'PROJECT'}"
        return f"gcloud pubsub topics publish {target} --message='{message}'"

    def again(self, stage: str | None = None) -> str | None:
        """Return the command that makes a stage's artefacts again, or all that is missing."""
        return self.publish("replay", f'{{"stage": "{stage}", "force": true}}' if stage else "{}")


def content_of(lake: ReadableLake, entry: Entry) -> bytes:
    """Return an object's bytes; none of one that is too large to be read, which is unreadable."""
    try:
        return lake.read(entry)
    except PermanentError:
        return b""


def check_documents(lake: ReadableLake, settings: Settings, place: Place) -> Iterator[Finding]:
    """Return the monitoring documents that are unreadable, missing or not what their run wrote.

    Contents are compared by the checksums that each family's manifest holds. A bucket's listing
    has them; plain files are read.
    """
    layout = Layout(settings)
    found: dict[str, dict[str, Entry]] = {}
    for entry in lake.entries(f"{layout.monitoring}/"):
        try:
            key = layout.key(entry.name)
        except ForeignNameError:
            continue
        if isinstance(key, Monitoring):
            found.setdefault(key.family, {})[key.document] = entry
    for family, documents in sorted(found.items()):
        again = place.again(_STAGES.get(family))
        manifest = documents.pop(MANIFEST, None)
        if manifest is None:
            text = f"{family}: there is no {MANIFEST}"
            yield Finding("documents", "manifest_missing", family, text, again)
            continue
        content = _json(content_of(lake, manifest))
        if not isinstance(content, dict):
            text = f"{manifest.name} is unreadable"
            yield Finding("documents", "unreadable", manifest.name, text, again)
            continue
        for code, name, text in _differences(lake, family, content, documents, place):
            yield Finding("documents", code, name, text, again)


_STAGES = {family.folder: family.job for family in FAMILIES} | {
    "data/freshness": "build_data_freshness",
    "network/overview": "build_network_overview",
    "intro": "build_monitoring_intro",
}


def _differences(
    lake: ReadableLake,
    family: str,
    manifest: dict[str, Any],
    documents: dict[str, Entry],
    place: Place,
) -> Iterator[tuple[str, str, str]]:
    """Yield the code, the document's name and the words of each difference."""
    checksums = manifest.get("checksums")
    for name, checksum in (checksums if isinstance(checksums, dict) else {}).items():
        entry = documents.get(name)
        if entry is None:
            yield "missing", f"{family}/{name}", f"{family}: {name} is missing"
            continue
        known = entry.crc32c if place.deployed else crc32c(content_of(lake, entry))
        if known != checksum:
            if _json(content_of(lake, entry)) is None:
                yield "unreadable", entry.name, f"{entry.name} is unreadable"
            else:
                yield "edited", entry.name, f"{entry.name} is not what its manifest says"


def check_models(
    lake: ReadableLake, settings: Settings, horizon: HorizonMinutes, place: Place
) -> Iterator[Finding]:
    """Return whether the live model of a horizon is there, intact and as registered."""
    try:
        known = [model.version for model in registry.versions(lake, Layout(settings), horizon)]
    except (ModelError, PermanentError) as error:
        text = f"h{horizon}: a registered model is damaged: {error}"
        yield Finding("models", "registered_damaged", f"h{horizon}", text)
        known = []
    train = place.publish("train", f'{{"horizon_min": {horizon}}}')
    back = place.velib(f"rollback --horizon {horizon} --to {known[-1]}") if known else train
    try:
        live = registry.live(lake, Layout(settings), horizon)
    except ModelError as error:
        text = f"h{horizon}: the pointer is damaged: {error}"
        yield Finding("models", "pointer_damaged", f"h{horizon}", text, back)
        return
    if live is None:
        if known:
            text = f"h{horizon}: {counted(len(known), 'model')} registered, but none is live"
            text += ": latest.json is missing"
            yield Finding("models", "pointer_missing", f"h{horizon}", text, back)
        return
    yield from _lost_copies(lake, Layout(settings), live, place)
    try:
        registry.load(lake, Layout(settings), live)
    except (ModelError, PermanentError) as error:
        earlier = known[: known.index(live.version)] if live.version in known else []
        command = place.velib(f"rollback --horizon {horizon} --to {earlier[-1]}") if earlier else ""
        text = f"h{horizon}: {error}"
        yield Finding("models", "model_damaged", f"h{horizon}", text, command or train)


def _lost_copies(
    lake: ReadableLake, layout: Layout, live: ModelVersion, place: Place
) -> Iterator[Finding]:
    """Yield what becoming the live model writes and is gone: its record, its legacy export."""
    record, pack, copy = (
        layout.name(ModelFile(live.horizon, folder, file))
        for folder, file in (
            (live.folder, registry.RECORD),
            (live.folder, registry.OLD_PACK),
            (None, registry.OLD_POINTER),
        )
    )
    lost = [record] if lake.stat(record) is None else []
    if lake.stat(copy) is None and lake.stat(pack) is not None:
        lost.append(copy)
    command = place.velib(f"rollback --horizon {live.horizon} --to {live.version}")
    for name in lost:
        yield Finding("models", "missing", name, f"{name} is missing", command)


def check_forecasts(lake: ReadableLake, settings: Settings, place: Place) -> Iterator[Finding]:
    """Return forecasts that are unreadable, also as GBFS, or published but not logged."""
    layout = Layout(settings)
    again = place.again("build_serving_forecast")
    manifest = _fetched(lake, layout.name(ServingManifest()))
    if manifest is None and lake.stat(layout.name(ServingManifest())) is not None:
        name = layout.name(ServingManifest())
        yield Finding("forecasts", "unreadable", name, f"{name} is unreadable", again)
    for horizon in settings.horizons:
        name = layout.name(Forecast(horizon))
        if lake.stat(name) is None:
            if manifest is not None:
                yield Finding("forecasts", "missing", name, f"{name} is missing", again)
            continue
        forecast = _fetched(lake, name)
        if not isinstance(forecast, dict):
            yield Finding("forecasts", "unreadable", name, f"{name} is unreadable", again)
        elif forecast.get("model_version") and not _logged(lake, layout, horizon, manifest):
            text = f"the forecast log lacks the newest forecast of h{horizon}"
            text += ": what was published cannot be scored"
            yield Finding("forecast log", "unlogged", f"h{horizon}", text)
    for entry in lake.entries(f"{layout.gbfs}/"):
        if entry.name.endswith(".json") and not isinstance(_json(content_of(lake, entry)), dict):
            yield Finding(
                "forecasts", "unreadable", entry.name, f"{entry.name} is unreadable", again
            )


def _logged(lake: ReadableLake, layout: Layout, horizon: HorizonMinutes, manifest: object) -> bool:
    """Return whether the newest forecast of a horizon is in the log; true if that is unknown."""
    stamp = manifest.get("snapshot") if isinstance(manifest, dict) else None
    try:
        newest = bin_of(_instant(str(stamp)))
    except ValueError:
        return True
    name = layout.name(ForecastLogPartition(newest, horizon, "00000000"))
    return any(lake.entries(name.removesuffix("00000000.parquet")))


def _instant(stamp: str) -> dt.datetime:
    instant = dt.datetime.fromisoformat(stamp)
    return instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)


def _fetched(lake: ReadableLake, name: str) -> Any:  # noqa: ANN401 -- JSON is any value
    try:
        return lake.fetch_json(name)
    except PermanentError:
        return None


def _json(data: bytes) -> Any:  # noqa: ANN401 -- JSON is any value
    """Return the value of JSON; ``None`` for what is none, as for null, which no document is."""
    try:
        return json_value(data)
    except (ValueError, RecursionError):
        return None
