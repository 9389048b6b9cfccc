"""Read and check the function configurations, ``functions/<job>/function.toml``.

Deployment, the local cloud and the tests take triggers and resources from here and nowhere else.

``python -m velib_deploy.function_specs --network velib --bucket B`` prints what ``deploy.sh`` is
to bring about, a fact a line, its fields apart by tabs. It runs on the standard library alone:
who deploys need not install what is deployed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from velib_core.errors import InvalidValueError
from velib_core.events.topics import TOPICS
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings, all_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
"""The checkout that this command was installed from."""

_FOLDERS = {
    "profiles",
    "bronze",
    "daily",
    "monthly",
    "exports",
    "models",
    "serving",
    "gbfs",
    "monitoring",
    "forecast_log",
    "quarantine",
}

EXPIRY_DAYS = {"bronze": 400, "forecast_log": 400, "quarantine": 400}
"""Days until objects expire. Snapshots are united in the dailies and the forecast log in
``exports/served_D.parquet``; what is in quarantine was for a person to look at. More than a year,
so that a year can be made again."""

_FOLDER = re.compile(r"[a-z_]+(?:/[a-z]+)*")


class FunctionSpecError(InvalidValueError):
    """A function.toml that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A scheduler job: its topic, its schedule (UTC, cron) and its message."""

    topic: str
    cron: str
    message: str


@dataclasses.dataclass(frozen=True)
class Access:
    """What the function's service account may do: folders and topics by their short names."""

    read: tuple[str, ...] = ()
    create: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FunctionSpec:
    """One function as deployed.

    ``topics`` are the short names (``bronze``, ``tick``, …) of the topics that trigger it;
    ``memory`` is as Cloud Functions writes it (``512Mi``), ``cpu`` in vCPU, ``concurrency`` in
    events an instance.
    """

    name: str
    folder: Path
    description: str
    entry_point: str
    topics: tuple[str, ...]
    memory: str
    cpu: int
    timeout_s: int
    concurrency: int
    max_instances: int
    retry: bool
    service_account: str
    access: Access
    schedule: Schedule | None
    env: tuple[tuple[str, str], ...] = ()


def load_specs(folder: Path = REPOSITORY / "functions") -> dict[str, FunctionSpec]:
    """Read every function below a folder, by name; raise `FunctionSpecError` for a wrong one."""
    function_tomls = sorted(folder.glob("*/function.toml"))
    if not function_tomls:
        expected = "folders with a function.toml, as in a checkout, which velib runs from"
        raise FunctionSpecError("functions", str(folder), expected)
    return {function_toml.parent.name: load_spec(function_toml) for function_toml in function_tomls}


def load_spec(function_toml: Path) -> FunctionSpec:
    """Read one function.toml."""
    try:
        table = tomllib.loads(function_toml.read_text("utf-8"))
        triggers = table.pop("trigger")
        schedule = table.pop("schedule", None)
        access = {key: tuple(names) for key, names in table.pop("access").items()}
        spec = FunctionSpec(
            name=function_toml.parent.name,
            folder=function_toml.parent,
            topics=tuple(trigger["topic"] for trigger in triggers),
            schedule=Schedule(**schedule) if schedule else None,
            access=Access(**access),
            env=tuple(sorted(table.pop("env", {}).items())),
            **table,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FunctionSpecError(
            str(function_toml), str(error), "the fields of FunctionSpec"
        ) from error
    _check(spec)
    return spec


def _check(spec: FunctionSpec) -> None:
    rules: list[tuple[str, Any, bool, str]] = [
        ("trigger", spec.topics, bool(spec.topics), "at least one topic"),
        ("concurrency", spec.concurrency, 1 <= spec.concurrency <= 1000, "1…1000"),
        ("timeout_s", spec.timeout_s, 1 <= spec.timeout_s <= 540, "1…540, for an event function"),
        ("memory", spec.memory, spec.memory.endswith(("Mi", "Gi")), "as in 512Mi or 2Gi"),
    ]
    for kind in ("read", "create", "delete"):
        names = getattr(spec.access, kind)
        rules.append((f"access.{kind}", names, _are_folders(names), f"among {_FOLDERS}"))
    for field, value, holds, expected in rules:
        if not holds:
            raise FunctionSpecError(f"{spec.name}/function.toml {field}", value, expected)


def deployment(
    specs: Mapping[str, FunctionSpec], settings: Settings, env: Mapping[str, str]
) -> Iterator[tuple[str, ...]]:
    """Yield what a deployment of functions for one network consists of, in short names.

    ``topic NAME`` · ``notify TOPIC PREFIX`` · ``expire PREFIX DAYS`` · ``function NAME
    ENTRY_POINT MEMORY CPU TIMEOUT_S CONCURRENCY MAX_INSTANCES RETRY ACCOUNT TOPICS ENV`` ·
    ``objects FUNCTION ACCOUNT KIND CONDITION`` (an IAM expression) · ``publish FUNCTION ACCOUNT
    TOPIC`` · ``schedule FUNCTION TOPIC CRON MESSAGE``. Lists are separated by commas, the
    environment by bars.
    """
    layout = Layout(settings)
    triggers = {topic for spec in specs.values() for topic in (*spec.topics, *spec.access.publish)}
    for topic in sorted({*TOPICS.values(), *layout.notified, *triggers}):
        yield "topic", topic
    for topic, prefix in layout.notified.items():
        yield "notify", topic, prefix
    for name, days in EXPIRY_DAYS.items():
        yield "expire", f"{place(layout, name)}/", str(days)
    for name, spec in specs.items():
        account = account_id(settings.network, spec.service_account)
        numbers = (spec.cpu, spec.timeout_s, spec.concurrency, spec.max_instances, int(spec.retry))
        fields = (spec.entry_point, spec.memory, *map(str, numbers), account)
        both = dict(env) | dict(spec.env)
        pairs = "|".join(f"{key}={value}" for key, value in both.items())
        yield "function", name, *fields, ",".join(spec.topics), pairs
        for kind, folders in permissions(spec.access).items():
            if folders:
                condition = objects_below(settings.bucket, [place(layout, f) for f in folders])
                yield "objects", name, account, kind, condition
        for topic in spec.access.publish:
            yield "publish", name, account, topic
        if spec.schedule:
            yield "schedule", name, *dataclasses.astuple(spec.schedule)


def place(layout: Layout, name: str) -> str:
    """Return the folder that a right is on: one of the layout's, or one inside of it."""
    folder, slash, inside = name.partition("/")
    return f"{getattr(layout, folder)}{slash}{inside}"


def _are_folders(names: Iterable[str]) -> bool:
    return all(_FOLDER.fullmatch(name) and name.partition("/")[0] in _FOLDERS for name in names)


def permissions(access: Access) -> dict[str, list[str]]:
    """Return the folders that each right on objects is needed on.

    Cloud Storage takes the replacing of an object for a deletion and a creation, and a writer
    looks at what it replaces. What is quarantined is named by its content: never replaced.
    """
    replaced = set(access.create) - {"quarantine"}
    return {
        "read": sorted({*access.read, *access.create}),
        "create": sorted(access.create),
        "delete": sorted({*access.delete, *replaced}),
    }


def objects_below(bucket: str, folders: Iterable[str]) -> str:
    """Return the IAM condition that holds for objects in folders of a bucket.

    The resource name of an object is ``projects/_/buckets/BUCKET/objects/NAME``
    (Cloud Storage, "Resource name format for IAM conditions").
    """
    names = (f"projects/_/buckets/{bucket}/objects/{folder}/" for folder in folders)
    return " || ".join(f'resource.name.startsWith("{name}")' for name in names)


def account_id(network: str, name: str) -> str:
    """Return the id of a service account: ``NETWORK-NAME``, at most the 30 characters allowed.

    A longer one is cut and ends in four digits of its digest, so that two never become one.
    """
    full = f"{network}-{name}"
    if len(full) <= 30:
        return full
    return f"{full[:25].rstrip('-')}-{hashlib.sha256(full.encode()).hexdigest()[:4]}"


def read_settings(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines, each a setting of the suite; raise `FunctionSpecError` if not."""
    known = {name for f in all_variables() for name in f.metadata["names"]}
    found = {}
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        expected = "a file of text that can be read"
        raise FunctionSpecError("settings file", str(path), expected) from None
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or name not in known or {"|", "\t"} & set(value):
            raise FunctionSpecError(str(path), line, "NAME=value, NAME being one of the settings")
        found[name] = value
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the facts of a deployment."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--network", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--only", metavar="FUNCTION")
    parser.add_argument("--settings", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        specs = load_specs()
        if given.only and given.only not in specs:
            raise FunctionSpecError("--only", given.only, f"one of {', '.join(specs)}")
        env = read_settings(given.settings) if given.settings else {}
        env |= {
            "GCS_BUCKET_ROOT": f"gs://{given.bucket}/{given.network}",
            "VELIB_NETWORK": given.network,
            "GOOGLE_CLOUD_PROJECT": given.project,
        }
        chosen = {name: spec for name, spec in specs.items() if given.only in {None, name}}
        facts = list(deployment(chosen, Settings.from_env(env), env))
    except (InvalidValueError, OSError) as error:
        parser.error(str(error))
    sys.stdout.writelines("\t".join(fact) + "\n" for fact in facts)


if __name__ == "__main__":
    main()
