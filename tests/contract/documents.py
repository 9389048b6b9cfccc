"""Documents against the contract: an object's path finds its JSON Schema."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).parent / "schemas"

FAMILIES = (
    "data/health",
    "data/drift",
    "data/freshness",
    "model/performance",
    "model/explainability",
    "network/overview",
    "network/stations",
    "network/dynamics",
    "intro",
)
"""Folders below ``monitoring/`` that hold a ``latest/`` with a manifest."""


@cache
def schemas() -> tuple[tuple[re.Pattern[str], Draft202012Validator], ...]:
    """Return every schema with the pattern of the paths (below the root) that it is for.

    A document's own path comes before the paths of its copies.
    """
    found, copies = [], []
    for file in sorted(SCHEMAS.glob("*.schema.json")):
        schema = json.loads(file.read_text())
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema)
        found.append((_pattern(schema["title"]), validator))
        copies += [(_pattern(path), validator) for path in schema.get("x-also-at", [])]
    return (*found, *copies)


def _pattern(path: str) -> re.Pattern[str]:
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path.split(" (", maxsplit=1)[0]))
    # The API's routes of the model families may be asked without a horizon.
    if path.startswith("monitoring/model/"):
        pattern = pattern.replace("h[^/]+/", "(?:h[^/]+/)?")
    return re.compile(pattern)


def problems(path: str, document: object) -> list[str]:
    """Return what is wrong with a document, after a round trip through strict JSON."""
    text = json.dumps(document, allow_nan=False)
    validator = next((v for pattern, v in schemas() if pattern.fullmatch(path)), None)
    if validator is None:
        return [f"{path}: the contract has no such document"]
    loaded = json.loads(text)
    wrong = [f"{e.json_path[1:]}: {e.message[:200]}" for e in validator.iter_errors(loaded)]
    unknown = sorted(set(undescribed(loaded, validator.schema)))
    return [f"{path}{line}" for line in [*wrong, *(f"{p}: not in the schema" for p in unknown)]]


def undescribed(document: Any, schema: Any, place: str = "") -> Iterator[str]:
    """Yield the places of fields that a schema does not have; what it leaves open may hold any."""
    if isinstance(document, list):
        for item in document:
            yield from undescribed(item, schema.get("items", {}), f"{place}[]")
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    values = schema.get("additionalProperties")
    if not isinstance(document, dict) or not (known or patterns or isinstance(values, dict)):
        return
    for name, value in document.items():
        part = known.get(name, values)
        if isinstance(part, dict):
            yield from undescribed(value, part, f"{place}.{name}")
        elif not any(re.search(pattern, name) for pattern in patterns):
            yield f"{place}.{name}"


def expected(folder: str) -> set[str]:
    """Return the contract's documents of a folder such as ``monitoring/data/health/latest``."""
    titles = [json.loads(f.read_text())["title"] for f in SCHEMAS.glob("*.schema.json")]
    return {title.removeprefix(f"{folder}/") for title in titles if title.startswith(f"{folder}/")}
