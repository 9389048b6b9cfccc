"""Applies a mutant to a copy of the tree and runs the tests that must notice it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mutation.mutants import Mutant

TREE = Path(__file__).resolve().parents[2]
PACKAGES = ("shared", "local", "cli", "deploy")
COPIED = (*PACKAGES, "functions", "tests", "docs", "pyproject.toml")
"""The documents too: a test compares the features with their definitions."""
TIMEOUT_S = 300
ALL_TIMEOUT_S = 12 * TIMEOUT_S
"""Of the tests of all mutants together, without a mutant."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest; any other says that the tests could not be run."""


def copy_tree(to: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, to / name)
    return to


def source_of(mutant: Mutant, tree: Path = TREE) -> Path:
    return tree / "shared/velib_core" / mutant.file


def test_files(names: Iterable[str]) -> list[str]:
    return [f"tests/unit/test_{name}.py" for name in names]


def mutated(mutant: Mutant, text: str) -> str:
    """Return a file's text with the mutant in it; raise ``ValueError`` where it has no place."""
    found = text.count(mutant.before)
    if found != 1:
        raise ValueError(f"{mutant.name}: {mutant.before!r} occurs {found} times, expected once")
    return text.replace(mutant.before, mutant.after)


def run_tests(
    tree: Path, names: Iterable[str], timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run test files of a copied tree until one fails."""
    options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    # That a test fails is enough: no smaller example is looked for.
    options += ["--hypothesis-profile=first-failure"]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / package) for package in PACKAGES),
        # Two mutants of one size and second would share their compiled form.
        "PYTHONDONTWRITEBYTECODE": "1",
        # Threads of several libraries that wait for each other cost more than they bring.
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *test_files(names)],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


def survives(mutant: Mutant, tree: Path) -> bool:
    """Return whether the mutant's tests pass in spite of it; the tree is as before afterwards.

    Raises ``RuntimeError`` where they could not be run: that is no test that noticed.
    """
    path = source_of(mutant, tree)
    text = path.read_text("utf-8")
    path.write_text(mutated(mutant, text), "utf-8")
    try:
        ran = run_tests(tree, mutant.tests)
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(text, "utf-8")
    if ran.returncode not in (PASSED, FAILED):
        raise RuntimeError(f"{mutant.name}: pytest ended with {ran.returncode}\n{ran.stdout}")
    return ran.returncode == PASSED
