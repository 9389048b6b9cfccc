"""The data dictionary says something of every field of every published document."""

from __future__ import annotations

import json

from contract.documents import SCHEMAS, problems, undescribed
from velib_deploy import data_dictionary


def test_every_field_has_a_unit_or_a_meaning() -> None:
    without = [
        f"{heading}: {field.name}"
        for heading, own in data_dictionary.sections()
        for field in own
        if not field.about.strip()
    ]
    assert not without


def test_every_schema_has_its_document_and_every_field_its_line() -> None:
    schemas = [json.loads(path.read_text("utf-8")) for path in SCHEMAS.glob("*.schema.json")]
    titles = {schema["title"].partition(" (")[0] for schema in schemas}
    assert titles - set(data_dictionary.titles()) == {data_dictionary.UNPUBLISHED}
    text = data_dictionary.dictionary()
    assert text.count("| `checksums` |") == 1, "what all manifests share is there once"
    for line in ("`rows[].mae_model`", "`data.*[].p_bike`", "`alerts[].threshold`"):
        assert f"| {line} |" in text


def test_a_field_that_no_schema_has_is_found_wherever_it_stands() -> None:
    schema = {
        "properties": {
            "a": {"type": "array", "items": {"properties": {"b": {}}}},
            "open": {"type": "object", "description": "anything"},
            "by_name": {"additionalProperties": {"properties": {"c": {}}}},
        }
    }
    document = {
        "a": [{"b": 1}, {"x": 2}],
        "open": {"y": 3},
        "by_name": {"15": {"c": 4, "z": 5}},
        "w": 6,
    }
    assert sorted(undescribed(document, schema)) == [".a[].x", ".by_name.15.z", ".w"]


def test_an_added_field_without_a_schema_is_a_problem() -> None:
    path = "monitoring/network/overview/latest/snapshot_distribution.json"
    metrics = ("bike_avail", "dock_avail", "penury", "saturation")
    rows = [{"metric": m, "count": 1, "total_active": 2, "pct": 50.0} for m in metrics]
    assert not problems(path, rows)
    added = [row | {"new": 1} for row in rows]
    assert problems(path, added) == [f"{path}[].new: not in the schema"]
