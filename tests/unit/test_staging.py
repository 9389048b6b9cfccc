"""A staged folder is complete, pinned, and the same bytes every time."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from velib_deploy.function_specs import REPOSITORY, load_specs
from velib_deploy.staging import Pin, StagingError, closure, read_pins, requirements, stage

if TYPE_CHECKING:
    from pathlib import Path

PINS = read_pins(REPOSITORY / "constraints.txt")
HEAVY = {"pandas", "scikit-learn", "scipy", "xgboost", "xgboost-cpu"}


def digests(folder: Path) -> Any:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pinned(folder: Path) -> dict[NormalizedName, Pin]:
    return read_pins(folder / "requirements.txt")


def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    first = stage("close_day", tmp_path / "a")
    second = stage("close_day", tmp_path / "b")
    assert digests(first) == digests(second)
    assert not [name for name in digests(first) if "__pycache__" in name]


def test_a_file_that_is_no_longer_in_the_tree_is_no_longer_staged(tmp_path: Path) -> None:
    folder = stage("close_day", tmp_path)
    before = digests(folder)
    (folder / "velib_core" / "left_over.py").write_text("1\n", "utf-8")
    assert digests(stage("close_day", tmp_path)) == before


def test_the_whole_library_is_vendored_as_it_is(tmp_path: Path) -> None:
    folder = stage("ingest", tmp_path)
    library = REPOSITORY / "shared" / "velib_core"
    expected = {p.relative_to(library).as_posix() for p in library.rglob("*.py")}
    copy = folder / "velib_core"
    assert {p.relative_to(copy).as_posix() for p in copy.rglob("*.py")} == expected
    for name in expected:
        assert (folder / "velib_core" / name).read_bytes() == (library / name).read_bytes()


@pytest.mark.parametrize("name", load_specs())
def test_every_requirement_is_pinned_to_the_tested_version(name: Any, tmp_path: Path) -> None:
    versions = pinned(stage(name, tmp_path))
    direct = requirements((REPOSITORY / "functions" / name / "requirements.txt").read_text("utf-8"))
    assert {canonicalize_name(need.name) for need in direct} <= set(versions)
    assert versions.items() <= PINS.items()


def test_a_staged_function_installs_only_files_whose_hash_is_known(tmp_path: Path) -> None:
    lines = (stage("close_day", tmp_path) / "requirements.txt").read_text("utf-8").splitlines()
    assert lines[0] == "--require-hashes"
    assert sum("==" in line for line in lines) == len(pinned(tmp_path / "close_day"))


def test_every_constraint_carries_the_hashes_of_its_files() -> None:
    text = (REPOSITORY / "constraints.txt").read_text("utf-8")
    assert len(PINS) == sum("==" in line.partition(";")[0] for line in text.splitlines())
    assert all(len(pin.hashes) > 0 for pin in PINS.values())


def test_the_library_installs_what_the_functions_need_and_nothing_else() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    needed = set()
    for spec in load_specs().values():
        text = (spec.folder / "requirements.txt").read_text("utf-8")
        needed |= {need.name for need in requirements(text)}
    declared = [Requirement(line) for line in project["dependencies"]]
    assert {need.name for need in declared} == needed


def test_every_dependency_has_a_lower_bound_that_the_tested_version_meets() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *itertools.chain(*extras.values())]:
        need = Requirement(line)
        if need.name != project["name"]:
            assert [bound.operator for bound in need.specifier] == [">="], line
            assert PINS[canonicalize_name(need.name)].version in need.specifier, line


@pytest.mark.parametrize("name", ["ingest", "close_day", "reconcile"])
def test_the_light_functions_install_no_heavy_library_even_indirectly(
    name: str, tmp_path: Path
) -> None:
    assert not HEAVY & set(pinned(stage(name, tmp_path)))


def test_what_a_requirement_requires_is_pinned_too(tmp_path: Path) -> None:
    versions = pinned(stage("close_day", tmp_path))
    for name in versions:
        for line in importlib.metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None:
                assert canonicalize_name(need.name) in versions, f"{name} requires {line}"


def test_extras_pull_in_what_they_name_and_markers_are_those_of_the_cloud() -> None:
    plain = closure([Requirement("google-api-core")], PINS)
    with_grpc = closure([Requirement("google-api-core[grpc]")], PINS)
    assert "grpcio" not in plain
    assert plain | {"grpcio", "grpcio-status"} <= with_grpc
    assert "colorama" not in closure([Requirement("click")], PINS)


def test_a_requirement_without_a_tested_version_is_refused_by_name() -> None:
    with pytest.raises(StagingError, match="requests"):
        closure([Requirement("requests")], {})
