"""The page has its own words, in both languages, for every reason, alert and finding there is.

What there is comes from the source code, not from a list that somebody has to keep.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import velib_cli
import velib_core
from velib_cli.report import charts
from velib_cli.report import page as report_page

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE, COMMANDS = (Path(package.__file__ or "").parent for package in (velib_core, velib_cli))
MODULES = [
    CORE / "monitoring" / name
    for name in (
        *("documents.py", "data/health.py", "data/drift.py", "data/freshness.py"),
        *("model/performance.py", "network/overview.py"),
    )
]
"""Where the reasons and alerts of the families come from whose manifests the page shows."""

PATTERN = re.compile(r'^  \[/(\^.*\$)/, "(why\.\w+)"\],$', re.MULTILINE)


def trees(paths: list[Path]) -> Iterator[ast.Module]:
    for path in paths:
        yield ast.parse(path.read_text("utf-8"))


def arguments(tree: ast.AST, function: str, position: int) -> Iterator[ast.expr]:
    """Yield one positional argument of every call of a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == function:
            yield from node.args[position : position + 1]


def literals(expression: ast.AST) -> Iterator[str]:
    """Yield the strings of an expression, with 3 in the place of each value."""
    if isinstance(expression, ast.JoinedStr):
        yield "".join(
            str(p.value) if isinstance(p, ast.Constant) else "3" for p in expression.values
        )
    elif isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        yield expression.value
    elif isinstance(expression, ast.IfExp):
        yield from literals(expression.body)
        yield from literals(expression.orelse)


def reasons() -> set[str]:
    found = set()
    for tree in trees(MODULES):
        for argument in arguments(tree, "Status", 1):
            found |= set(literals(argument))
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        for function in (f for f in functions if f.name == "_reason"):
            returns = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
            found |= {text for value in returns if value for text in literals(value)}
        for function in (f for f in functions if f.name == "_status"):
            assigned = [n.value for n in ast.walk(function) if isinstance(n, ast.Assign)]
            found |= {text for value in assigned for text in literals(value) if " " in text}
    return found


def alert_codes() -> set[str]:
    found = set()
    for tree in trees([*MODULES, CORE / "monitoring" / "intro.py"]):
        for argument in arguments(tree, "Alert", 1):
            found |= set(literals(argument))
    return found


def finding_codes() -> set[str]:
    found = set()
    for tree in trees([COMMANDS / "status.py", COMMANDS / "lake_checks.py"]):
        for argument in arguments(tree, "Finding", 1):
            found |= set(literals(argument))
        differences = [n.value for n in ast.walk(tree) if isinstance(n, ast.Yield)]
        found |= {str(n.elts[0].value) for n in differences
                  if isinstance(n, ast.Tuple) and isinstance(n.elts[0], ast.Constant)}  # fmt: skip
    return found


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_reason_has_words_of_the_page(language: str) -> None:
    script = (Path(report_page.__file__).parent / "assets" / "reasons.js").read_text("utf-8")
    patterns = {re.compile(pattern): key for pattern, key in PATTERN.findall(script)}
    assert len(patterns) == script.count('"why.') - script.count('"why.other"')
    said = reasons()
    assert len(said) >= 8, "the reasons are found where they are given"
    known = report_page.texts()[language]
    without = {r for r in said if not any(p.search(r) and k in known for p, k in patterns.items())}
    assert not without


@pytest.mark.parametrize("language", ["fr", "en"])
def test_every_alert_and_finding_has_words_of_the_page(language: str) -> None:
    known = report_page.texts()[language]
    codes = alert_codes()
    assert {"freshness", "coverage", "flat", "lift", "psi_3"} <= codes
    assert not {code for code in codes - {"psi_3"} if f"alert.{code}" not in known}
    assert {"alert.psi", "alert.psi_global_high", "alert.batch_forecast_down"} <= known.keys()
    found = finding_codes() - set(charts.SHOWN_APART)
    assert {"no_snapshot", "edited", "missing", "unlogged"} <= found
    assert not {code for code in found if f"finding.{code}" not in known}
