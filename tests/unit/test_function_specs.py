"""Function configurations agree with the code of the functions."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import pytest
from packaging.utils import canonicalize_name
from velib_core.events.topics import TOPICS
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings
from velib_deploy.function_specs import FunctionSpecError, load_spec, load_specs
from velib_deploy.staging import read_pins, requirements

if TYPE_CHECKING:
    from pathlib import Path

SPECS = load_specs()
LAYOUT = Layout(Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket"}))


@pytest.mark.parametrize("name", SPECS)
def test_a_function_has_its_entry_point_its_needs_and_a_known_trigger(name: Any) -> None:
    spec = SPECS[name]
    tree = ast.parse((spec.folder / "main.py").read_text("utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert spec.entry_point in defined
    assert "functions-framework" in (spec.folder / "requirements.txt").read_text("utf-8")
    assert set(spec.topics) <= {*TOPICS.values(), *LAYOUT.notified}


@pytest.mark.parametrize("name", SPECS)
def test_a_function_never_writes_where_it_is_triggered(name: Any) -> None:
    """All but the intro, which takes no notice of its own documents (see its handler)."""
    spec = SPECS[name]
    folders = {topic for topic in spec.topics if topic in LAYOUT.notified}
    written = {folder.partition("/")[0] for folder in spec.access.create}
    assert not folders & written or (name, written) == ("build_monitoring_intro", {"monitoring"})


@pytest.mark.parametrize("name", ["ingest", "close_day", "reconcile"])
def test_the_light_functions_install_no_heavy_library(name: str) -> None:
    needs = (SPECS[name].folder / "requirements.txt").read_text("utf-8")
    assert not any(heavy in needs for heavy in ("pandas", "scikit-learn", "xgboost", "scipy"))


def test_every_requirement_is_pinned() -> None:
    pins = read_pins(SPECS["ingest"].folder.parents[1] / "constraints.txt")
    for spec in SPECS.values():
        needs = requirements((spec.folder / "requirements.txt").read_text("utf-8"))
        assert {canonicalize_name(need.name) for need in needs} <= set(pins)


GOOD = """
description = "d"
entry_point = "f"
memory = "512Mi"
cpu = 1
timeout_s = 60
concurrency = 1
max_instances = 1
retry = true
service_account = "f"
[[trigger]]
topic = "tick"
[access]
read = ["bronze"]
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("timeout_s = 60", "timeout_s = 3600", "timeout_s"),
        ("512Mi", "512", "memory"),
        ("concurrency = 1", "concurrency = 0", "concurrency"),
        ('["bronze"]', '["brass"]', "access.read"),
        ("cpu = 1\n", "", "cpu"),
        ("cpu = 1", "cpu = 1\nturbo = true", "turbo"),
        ("cpu = 1", "cpu =", "function.toml"),
        ('[[trigger]]\ntopic = "tick"', "", "trigger"),
    ],
)
def test_a_wrong_function_configuration_is_refused_by_field(
    tmp_path: Path, old: str, new: str, named: str
) -> None:
    function_toml = tmp_path / "f" / "function.toml"
    function_toml.parent.mkdir()
    function_toml.write_text(GOOD, "utf-8")
    assert load_spec(function_toml).name == "f"
    function_toml.write_text(GOOD.replace(old, new), "utf-8")
    with pytest.raises(FunctionSpecError, match=named):
        load_spec(function_toml)
