"""The data dictionary: every field of every published document, from the JSON Schemas.

A field is written by its place in the document, as in ``rows[].mae_model``; ``*`` stands for names
that are data themselves, as of horizons.
"""

from __future__ import annotations

import functools
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from velib_deploy.function_specs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SCHEMAS = REPOSITORY / "tests" / "contract" / "schemas"
MANIFEST = "manifest.json"
HEAD = ("schema_version", "generated_at")
UNPUBLISHED = "models/latest/h{H}/meta.json"
"""A document of earlier programs, which nothing here writes."""


class Field(NamedTuple):
    """A field of a document: its place, its JSON types, its unit and meaning."""

    name: str
    kind: str
    about: str


@functools.cache
def titles() -> Mapping[str, Mapping[str, Any]]:
    """Return the schema of each published document by the document's name, in order of names."""
    loaded = [json.loads(path.read_text("utf-8")) for path in SCHEMAS.glob("*.schema.json")]
    named = {schema["title"].partition(" (")[0]: schema for schema in loaded}
    return {title: named[title] for title in sorted(named) if title != UNPUBLISHED}


def fields(schema: Mapping[str, Any], place: str = "") -> Iterator[Field]:
    """Yield the fields of a schema in its order; containers only where they say something."""
    for name, part in schema.get("properties", {}).items():
        inner = list(fields(part, f"{place}{name}."))
        if part.get("description") or not inner:
            yield Field(f"{place}{name}", _kind(part), part.get("description", ""))
        yield from inner
    items, values = schema.get("items"), schema.get("additionalProperties")
    if isinstance(items, dict):
        yield from fields(items, f"{place.removesuffix('.')}[].")
    if isinstance(values, dict):
        yield from fields(values, f"{place}*.")


def _kind(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return ", ".join("null" if value is None else f"`{value}`" for value in part["enum"])
    types = part.get("type", "any")
    return types if isinstance(types, str) else ", ".join(types)


def sections() -> Iterator[tuple[str, Sequence[Field]]]:
    """Yield headings and fields: what all documents share, what all manifests do, then each."""
    made = {title: list(fields(schema)) for title, schema in titles().items()}
    manifests = [own for title, own in made.items() if _is_family(title)]
    head = [field for field in manifests[0] if field.name in HEAD]
    shared = [f for f in manifests[0] if all(f in own for own in manifests) and f not in head]
    yield "Most documents", head
    yield f"Every `{MANIFEST}` of the monitoring", shared
    for title, own in made.items():
        known = shared if _is_family(title) else []
        yield f"`{title}`", [f for f in own if f not in known and f.name not in HEAD]


def _is_family(title: str) -> bool:
    return title.startswith("monitoring/") and title.endswith(f"/latest/{MANIFEST}")


def dictionary() -> str:
    """Return the dictionary as Markdown: a heading and a table for each document."""
    lines = itertools.chain.from_iterable(_section(*section) for section in sections())
    return "\n".join(lines) + "\n"


def _section(heading: str, own: Sequence[Field]) -> Iterator[str]:
    if not own:
        return
    yield from (f"### {heading}", "", "| field | type | unit and meaning |", "| --- | --- | --- |")
    for field in own:
        about = field.about.strip().replace("|", "\\|")
        yield f"| `{field.name}` | {field.kind} | {about} |"
    yield ""
