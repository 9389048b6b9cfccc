"""The tests notice small changes of meaning: every named mutant is killed."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING, Any

import pytest
from mutation import runner
from mutation.mutants import MUTANTS, SURVIVORS

if TYPE_CHECKING:
    from pathlib import Path

AREAS = (
    "features/",
    "tables/panel",
    "features/profile",
    "jobs/train_model",
    "model/registry",
    "model/blending",
    "model/inference",
    "jobs/compact_daily",
    "monitoring/data/drift",
    "monitoring/data/health",
    "monitoring/network/dynamics",
)
"""Where a mutant is asked for, at least."""

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_has_its_place_and_its_tests(mutant: Any) -> None:
    text = runner.source_of(mutant).read_text("utf-8")
    compile(runner.mutated(mutant, text), mutant.file, "exec")
    for path in runner.test_files(mutant.tests):
        assert (runner.TREE / path).is_file()


def test_there_are_mutants_of_every_area_and_few_survive() -> None:
    assert not [name for name, count in collections.Counter(NAMES).items() if count > 1]
    assert len(MUTANTS) >= 60
    assert not [area for area in AREAS if not any(m.file.startswith(area) for m in MUTANTS)]
    assert set(SURVIVORS) <= set(NAMES)
    assert len(SURVIVORS) <= 0.05 * len(MUTANTS)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, in which the tests that kill the mutants pass."""
    tree = runner.copy_tree(tmp_path_factory.mktemp("mutants"))
    ran = runner.run_tests(
        tree, sorted({name for m in MUTANTS for name in m.tests}), runner.ALL_TIMEOUT_S
    )
    assert ran.returncode == runner.PASSED, ran.stdout
    return tree


@pytest.mark.slow
@pytest.mark.timeout(runner.ALL_TIMEOUT_S + runner.TIMEOUT_S)
@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_is_killed(mutant: Any, tree: Path) -> None:
    assert runner.survives(mutant, tree) == (mutant.name in SURVIVORS)
