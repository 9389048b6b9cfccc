"""The functions' signs on the door: ``functions/<job>/function.toml``, read and checked.

Deployment, the local cloud and the tests take triggers and resources from here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from velib_core.errors import InvalidValueError

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
    "monitoring",
    "quarantine",
}


class FunctionSpecError(InvalidValueError):
    """A function.toml that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A scheduler job: which topic it beats on, when (UTC, cron), and what it says."""

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
    signs = sorted(folder.glob("*/function.toml"))
    if not signs:
        raise FunctionSpecError("functions", str(folder), "folders with a function.toml")
    return {sign.parent.name: load_spec(sign) for sign in signs}


def load_spec(sign: Path) -> FunctionSpec:
    """Read one function.toml."""
    try:
        table = tomllib.loads(sign.read_text("utf-8"))
        triggers = table.pop("trigger")
        schedule = table.pop("schedule", None)
        access = {key: tuple(names) for key, names in table.pop("access").items()}
        spec = FunctionSpec(
            name=sign.parent.name,
            folder=sign.parent,
            topics=tuple(trigger["topic"] for trigger in triggers),
            schedule=Schedule(**schedule) if schedule else None,
            access=Access(**access),
            env=tuple(sorted(table.pop("env", {}).items())),
            **table,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise FunctionSpecError(str(sign), str(error), "the fields of FunctionSpec") from error
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
        rules.append((f"access.{kind}", names, set(names) <= _FOLDERS, f"among {_FOLDERS}"))
    for field, value, holds, expected in rules:
        if not holds:
            raise FunctionSpecError(f"{spec.name}/function.toml {field}", value, expected)
