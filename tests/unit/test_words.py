"""Code and documents use the field's words: none of the names that were coined here is left.

Prose is what documents say outside of code, docstrings, comments and messages; names are the
definitions of the syntax tree.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from ast import Module
from typing import TYPE_CHECKING, Any

import pytest
from document_blocks import DOCUMENTS, prose
from velib_core.features.stack import FEATURES
from velib_deploy.function_specs import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COINED = {
    "reported, value": r"told|tells?|telling",
    "fingerprint": r"marks?|marked|marking",
    "run metadata": r"editions?",
    "lineage record": r"makings",
    "blend weight": r"trust(s|ed|ing)?",
    "activity damping, relative activity": r"calm(er|ness)?|paces?",
    "frozen feed": r"stand-?stills?|st(an|oo)d(s|ing)? still",
    "schedule, scheduled trigger": r"beats?|ticks?",
    "function configuration": r"(on|of) the door|(its|their|a|the|wrong|functions?'s?) signs?",
    "proxy, policy, denial": r"doors?|guards?|judg(es?|ed|ing|ement)|refusals?",
    "partition, forecast log": r"ledgers?",
    "logged forecasts, scored log": r"served",
    "evaluation table, observations table": r"(perf|events) views?",
    "latest alias": r"rolling (cop(y|ies)|files?|names?|objects?)",
    "lookback": r"(the|its|a) reach",
    "additional inputs, with, next to": r"beside",
    "reconcile, fix": r"sweeps?|swept|repair(s|ed|ing)?|mend(s|ed|ing)?",
    "dead-lettered": r"(given|gave|gives?|giving) up",
    "static features": r"statics",
    "update": r"fold(s|ed|ing)?",
    "legacy export": r"(older|old) (packs?|readers?)|reader models?",
    "validate": r"tid(y|ied|ies)",
    "subscribes to, receives": r"hears?|heard",
    "uses, accepts": r"believ(es?|ed|ing)",
}
"""A pattern of words that were coined here, by what is written instead."""

COINED_NAMES = (
    r"told|tells?|telling|editions?|makings?|trust(s|ed|ing)?|calm|paces?|standstills?|beats?|ticks?"
    r"|signs?|doors?|guards?|judg(es?|ed|ing)|refusals?|ledgers?|served|beside|sweeps?|repairs?"
    r"|mend(s|ed)?|statics|folds?|folded|tidy|marks?|lay_out|look_up|settle|most_bikes|perf_views?"
    r"|events_views?|given_up"
)
"""Parts of names that were coined here; the standard words are those of `COINED`."""

COINED_ALONE = "around|cast|near|reach|still|whole"
"""Names that were coined here if nothing is added: ``whole`` for a rounded number."""

NAME = re.compile(rf"(?:^|_)({COINED_NAMES})(?=_|$)|^_?({COINED_ALONE})$")
PROSE = {
    word: re.compile(rf"(?<![\w`/-])({p})(?![\w`/])", re.IGNORECASE) for word, p in COINED.items()
}

ALLOWED_NAMES = {
    "Tick": "the message on the contract's topic `tick`",
    "GCS_LEDGER_PREFIX": "a name of the environment",
    "sign": "of a number",
    "trust_env": "an attribute of requests",
}
"""Names that stay, with their reason; so do those of features, which stored models carry."""

ALLOWED_PROSE = (
    (r"served (at|by HTTP)", "HTTP's own word"),
    (r"^ledger \d+$", "the name of a recipe: another one would remake every day's forecast log"),
    (r'topic = "tick"', "a topic of the contract"),
    (r"\bTick\b", "the message on that topic"),
)
"""Phrases that stay, with their reason."""

SPLIT = re.compile(r"judg(ed|es|e|ing)", re.IGNORECASE)
MODEL = re.compile(
    r"velib_core/model/|/train_model\.py|test_gate\.py|test_oracle_registry\.py"
    r"|(ARCHITECTURE|DECISIONS|MODEL_CARD)\.md"
)
"""Files of the model, in which *judge* stays: the days of a training window learn, tune or judge.

These are the design's names of the three splits. Elsewhere a judge was one of permissions.
"""


def sources() -> dict[str, str]:
    """Return every Python file of the tree but this one, by its path in the tree."""
    folders = ("shared", "local", "cli", "deploy", "functions", "tests", "benchmarks")
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    names = {path.relative_to(REPOSITORY).as_posix(): path.read_text("utf-8") for path in found}
    return {name: text for name, text in names.items() if "test_words" not in name}


def defined(tree: Module) -> Iterator[Any]:
    """Yield the line and the name of every definition: functions, classes, arguments, variables."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case ast.ClassDef(name=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)):
                yield node.lineno, name


def parts(name: str) -> str:
    """Return a name's words, joined by underscores, in lower case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def said(text: str, tree: Module) -> Iterator[Any]:
    """Yield the line and the text of every comment, docstring and message of a module."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(noqa|type:|ruff:)", token.string):
            yield token.start[0], token.string
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.splitlines()):
                yield node.lineno + number, line


def without_split(text: str, path: str) -> Any:
    """Return a text or a name without the word of the third split, in the files of the model."""
    return SPLIT.sub("", text) if MODEL.search(path) else text


def coined(text: Any) -> list[str]:
    """Return the coined words of a line of prose, each with what is written instead."""
    for phrase, _ in ALLOWED_PROSE:
        text = re.sub(phrase, "", text)
    found = [(word, pattern.search(text)) for word, pattern in PROSE.items()]
    return [f"{match[0]!r}: write {word}" for word, match in found if match]


def test_no_definition_has_a_coined_name() -> None:
    found = [
        f"{path}:{line}: {name}"
        for path, text in sources().items()
        for line, name in defined(ast.parse(text))
        if NAME.search(without_split(parts(name), path)) and name not in {*ALLOWED_NAMES, *FEATURES}
    ]
    assert not sorted(set(found))


def test_no_comment_docstring_or_message_uses_a_coined_word() -> None:
    found = [
        f"{path}:{line}: {hit}: {words.strip()}"
        for path, text in sources().items()
        for line, words in said(text, ast.parse(text))
        for hit in coined(without_split(words, path))
    ]
    assert not sorted(found)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_uses_a_coined_word(path: Any) -> None:
    lines = re.sub(r"`[^`\n]*`", "``", prose(path)).splitlines()
    assert not [
        f"{hit}: {line}" for line in lines for hit in coined(without_split(line, path.name))
    ]


SCRIPTS = ("deploy.sh", "cloudbuild.yaml", "Makefile", "pyproject.toml", "benchmarks/prices.toml")


def test_no_script_uses_a_coined_word() -> None:
    names: list[str | Path] = [*SCRIPTS, *(path.relative_to(REPOSITORY) for path in FUNCTIONS)]
    lines = [line for name in names for line in (REPOSITORY / name).read_text("utf-8").splitlines()]
    assert not [f"{hit}: {line}" for line in lines for hit in coined(line)]


FUNCTIONS = sorted((REPOSITORY / "functions").glob("*/function.toml"))


def test_no_text_of_the_page_uses_a_coined_word() -> None:
    assets = REPOSITORY / "cli" / "velib_cli" / "report" / "assets"
    english = json.loads((assets / "texts.json").read_text("utf-8"))["en"]
    assert not [f"{hit}: {text}" for text in english.values() for hit in coined(text)]


def test_a_coined_word_is_found_and_the_fields_own_is_not() -> None:
    assert coined("what the ledger tells") == [
        "'tells': write reported, value",
        "'ledger': write partition, forecast log",
    ]
    assert not coined("`ledger/` holds the forecast log; files are served by HTTP")
    assert coined(without_split("a judge of rights", "tests/permissions.py"))
    assert not coined(without_split("the days that judge", "MODEL_CARD.md"))
    assert NAME.search(parts("_tellAll") + "_told")
    assert not NAME.search(parts("intelligent_folder"))
