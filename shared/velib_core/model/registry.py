"""Trained models in the lake: immutable folders, one pointer a horizon, a way back.

``models/h{H}/{folder}/`` holds a model's files and its ``version.json``; ``models/h{H}/latest
.json`` is a copy of the live model's ``version.json`` and names its folder and the checksum of
each file. The pointer is written last and guarded by its generation, so a model is live
completely or not at all. Files are data (XGBoost UBJ, JSON, Parquet): nothing is unpickled.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import re
from typing import TYPE_CHECKING, Any

from velib_core import logs
from velib_core.errors import ModelError, PermanentError, shorten
from velib_core.lake.artefact import JSON, Artefact, json_bytes
from velib_core.lake.keys import ModelFile
from velib_core.lake.readable import ObjectMissingError, UnreadableObjectError
from velib_core.timeline.bins import parse_day

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from velib_core.lake.bucket import Lake
    from velib_core.lake.layout import Layout
    from velib_core.lake.readable import ReadableLake
    from velib_core.timeline.bins import Day, HorizonMinutes

FIRST_VERSION = (2, 0, 0)
"""Versions start where the older ones of other programs left off."""

POINTER = "latest.json"
RECORD = "version.json"
OLD_PACK = "model.joblib"
OLD_POINTER = "latest.joblib"
REJECTION_REPORT = "refused.json"
NO_CACHE = "no-store"
MAX_RECORD_BYTES = 1 << 20
"""Of a record or a pointer; ours have some KiB."""
MAX_BLOB_BYTES = 64 << 20
"""Of one file of a model; that of 1,500 stations has about 5 MiB in all."""
READERS = 8

MOST_COUNTED = 10**6

_SEMVER = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_FOLDER = re.compile(r"\d{8}-\d{6}Z-[0-9a-f]{8}")


@dataclasses.dataclass(frozen=True)
class ModelVersion:
    """One registered model: its folder, semver, and the record that describes it."""

    horizon: HorizonMinutes
    folder: str
    version: str
    record: Mapping[str, Any]

    @property
    def learnt_through(self) -> Day:
        """The last day that the model was trained or tuned on: it may be judged on later ones.

        Records that do not say it were of models that the whole window had taught: up to their
        ``end_date``, or else to the newest observation, which names the folder.
        """
        newest = f"{self.folder[:4]}-{self.folder[4:6]}-{self.folder[6:8]}"
        record = self.record
        return parse_day(str(record.get("tuned_through") or record.get("end_date") or newest))


def folder_name(newest_bin_stamp: str, files: Mapping[str, bytes]) -> str:
    """Return the folder of a model, by its newest observation and its content.

    ``newest_bin_stamp`` is ``YYYYMMDD-HHMMSSZ``.
    """
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {_sha256(data)}\n".encode())
    return f"{newest_bin_stamp}-{digest.hexdigest()[:8]}"


def versions(lake: ReadableLake, layout: Layout, horizon: HorizonMinutes) -> list[ModelVersion]:
    """Return the registered models of a horizon, oldest version first.

    The pointer holds the record of the live one, which counts where its own file is lost.
    """
    below = lake.folders(layout.name(ModelFile(horizon, None, "")) + "/")
    stamps = [folder.rstrip("/").rpartition("/")[2] for folder in below]

    def read(stamp: str) -> ModelVersion | None:
        name = layout.name(ModelFile(horizon, stamp, RECORD))
        try:
            return _model_of(horizon, name, lake.fetch_json(name, MAX_RECORD_BYTES), stamp)
        except ObjectMissingError:
            return None  # refused, or its training was killed before it ended
        except PermanentError as error:
            logs.log_once("ERROR", f"a model is left out: {error}")
            return None

    with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read, filter(_FOLDER.fullmatch, stamps)))
    known = [model for model in found if model is not None]
    if len(known) < len(found):
        with contextlib.suppress(ModelError):
            current = live(lake, layout, horizon)
            if current is not None and current.folder not in {model.folder for model in known}:
                known.append(current)
    return sorted(known, key=lambda model: (_numbers(model.version), model.folder))


def live(lake: ReadableLake, layout: Layout, horizon: HorizonMinutes) -> ModelVersion | None:
    """Return the model that the pointer names, or ``None`` where there is no pointer.

    Raises `ModelError` for a pointer that is none.
    """
    name = layout.name(ModelFile(horizon, None, POINTER))
    try:
        record = lake.fetch_json(name, MAX_RECORD_BYTES)
    except ObjectMissingError:
        return None
    except PermanentError as error:
        raise ModelError(str(error)) from error
    folder = record.get("folder") if isinstance(record, dict) else None
    if not isinstance(folder, str) or not _FOLDER.fullmatch(folder):
        raise ModelError(f"{name}: folder: got {shorten(folder)}, expected a model's folder")
    return _model_of(horizon, name, record, folder)


def load(lake: ReadableLake, layout: Layout, model: ModelVersion) -> dict[str, bytes]:
    """Read a model's files; raise `ModelError` where one is missing or not what was recorded."""
    recorded = model.record.get("files")
    if not isinstance(recorded, dict) or not recorded:
        raise ModelError(f"{model.folder}: files: got {recorded!r}, expected names and checksums")
    files = {}
    for name, checksum in sorted(recorded.items()):
        try:
            entry = lake.stat(layout.name(ModelFile(model.horizon, model.folder, name)))
            if entry is None or entry.size > MAX_BLOB_BYTES:
                found = "missing" if entry is None else f"{entry.size} bytes large"
                raise ModelError(f"model {model.version}: {name} is {found}")
            data = lake.read(entry)
        except (ObjectMissingError, UnreadableObjectError) as error:
            raise ModelError(f"model {model.version} is incomplete: {error}") from error
        if _sha256(data) != checksum:
            raise ModelError(f"model {model.version}: {name} is not the file that was registered")
        files[name] = data
    return files


def usable(lake: ReadableLake, layout: Layout, horizon: HorizonMinutes) -> Iterator[ModelVersion]:
    """Yield the live model and then the earlier ones, in the order in which to try them.

    A live model that turns out to be damaged is passed over for the last good one. The earlier
    ones are looked up only then: there is one more each week.
    """
    try:
        current = live(lake, layout, horizon)
    except ModelError as error:
        logs.log_once("ERROR", f"the pointer of h{horizon} is damaged: {error}")
        current = None
    if current is not None:
        yield current
    for model in reversed(versions(lake, layout, horizon)):
        if current is None or (
            model.folder != current.folder and _numbers(model.version) <= _numbers(current.version)
        ):
            yield model


def register(
    lake: Lake,
    layout: Layout,
    horizon: HorizonMinutes,
    folder: str,
    files: Mapping[str, bytes],
    description: Mapping[str, Any],
    fingerprint: str,
    old_pack: bytes | None = None,
) -> ModelVersion:
    """Store a model and make it the live one; the same model again changes nothing.

    Its record gets its fingerprint only once it is live: a training that was killed before is gone
    through again when its request is redelivered.

    Parameters
    ----------
    folder
        As `folder_name` gives it.
    files
        The model's files by name.
    description
        What ``version.json`` says besides version, folder and checksums; ``features_hash8`` and
        ``horizon_bins`` decide between a minor and a patch version.
    fingerprint
        Fingerprint of what the model was trained on; `was_tried` finds it.
    old_pack
        The model in the format of older programs, for them to read as ``latest.joblib``.

    """
    known = {model.folder: model for model in versions(lake, layout, horizon)}
    model = known.get(folder)
    if model is None:
        version = _next_version(list(known.values()), description)
        checksums = {name: _sha256(data) for name, data in sorted(files.items())}
        record = {**description, "version": version, "folder": folder, "files": checksums}
        model = ModelVersion(horizon, folder, version, record)
    for name, data in sorted(files.items()):  # of a known model too: one may be lost
        _put(lake, layout.name(ModelFile(horizon, folder, name)), data, folder)
    if old_pack is not None:
        _put(lake, layout.name(ModelFile(horizon, folder, OLD_PACK)), old_pack, folder)
    if folder not in known:
        _put_json(lake, layout.name(ModelFile(horizon, folder, RECORD)), model.record, folder)
    promote(lake, layout, model)
    _put_json(lake, layout.name(ModelFile(horizon, folder, RECORD)), model.record, fingerprint)
    return model


def promote(lake: Lake, layout: Layout, model: ModelVersion) -> None:
    """Point to a registered model: it is live from the next forecast on.

    Its record is written where it is lost.
    """
    record = layout.name(ModelFile(model.horizon, model.folder, RECORD))
    if lake.stat(record) is None:
        _put_json(lake, record, model.record, model.folder)
    old_pack = lake.stat(layout.name(ModelFile(model.horizon, model.folder, OLD_PACK)))
    if old_pack is not None:
        copy = layout.name(ModelFile(model.horizon, None, OLD_POINTER))
        _put(lake, copy, lake.read(old_pack), model.folder)
    name = layout.name(ModelFile(model.horizon, None, POINTER))
    _put_json(lake, name, model.record, model.folder)
    logs.log("INFO", f"model {model.version} is live", horizon=model.horizon, folder=model.folder)


def refuse(
    lake: Lake,
    layout: Layout,
    horizon: HorizonMinutes,
    folder: str,
    report: Mapping[str, Any],
    fingerprint: str,
) -> str:
    """Leave the report of a candidate that is not good enough; return its name."""
    name = layout.name(ModelFile(horizon, folder, REJECTION_REPORT))
    _put_json(lake, name, report, fingerprint)
    return name


def was_tried(
    lake: ReadableLake, layout: Layout, horizon: HorizonMinutes, fingerprint: str
) -> bool:
    """Return whether a model was trained on just this before, and registered or rejected.

    A registered one of which a file is lost or damaged is to be trained again: that restores it.
    """
    prefix = layout.name(ModelFile(horizon, None, "")) + "/"
    same = [entry.name for entry in lake.entries(prefix) if entry.fingerprint == fingerprint]
    if any(name.endswith(REJECTION_REPORT) for name in same):
        return True
    folders = {name.split("/")[-2] for name in same if name.endswith(RECORD)}
    for model in versions(lake, layout, horizon) if folders else ():
        if model.folder in folders:
            try:
                load(lake, layout, model)
            except ModelError as error:
                logs.log("ERROR", f"{error}: it is trained again")
            else:
                return True
    return False


def _next_version(known: list[ModelVersion], description: Mapping[str, Any]) -> str:
    """Count on from the newest: minor where features or horizon changed, else patch.

    Numbers that no training has counted up to are left out: there would be none after them.
    """
    known = [model for model in known if max(_numbers(model.version)) < MOST_COUNTED]
    if not known:
        return ".".join(map(str, FIRST_VERSION))
    newest = known[-1]
    major, minor, patch = _numbers(newest.version)
    keys = ("features_hash8", "horizon_bins")
    if any(newest.record.get(key) != description.get(key) for key in keys):
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def _put(lake: Lake, name: str, data: bytes, fingerprint: str) -> None:
    lake.update(name, lambda _: Artefact(data, "application/octet-stream", fingerprint))


def _put_json(lake: Lake, name: str, document: Mapping[str, Any], fingerprint: str) -> None:
    data = json_bytes(document)
    lake.update(name, lambda _: Artefact(data, JSON, fingerprint), cache=NO_CACHE)


def _model_of(horizon: HorizonMinutes, name: str, record: Any, folder: str) -> ModelVersion:  # noqa: ANN401 -- JSON is any value
    """Return the model that a record describes; raise `ModelError` where it describes none."""
    model = ModelVersion(horizon, folder, _version_of(record), record)
    try:
        model.learnt_through  # noqa: B018 -- it is asked for where nobody expects it to fail
    except ValueError as error:
        raise ModelError(f"{name}: end_date: {error}, expected a day, YYYY-MM-DD") from error
    return model


def _version_of(record: Any) -> str:  # noqa: ANN401 -- JSON is any value
    version = record.get("version") if isinstance(record, dict) else None
    if not isinstance(version, str) or not _SEMVER.fullmatch(version):
        raise ModelError(f"version: got {shorten(version)}, expected MAJOR.MINOR.PATCH")
    return version


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
