"""The documents say what the code says: names, tables, columns, pictures."""

from __future__ import annotations

import importlib
import itertools
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import network
import pytest
from document_blocks import DOCUMENTS, blocks, prose, quoted
from velib_core.events.topics import TOPICS
from velib_core.features.stack import FEATURES
from velib_core.jobs import build_serving_forecast
from velib_core.lake.keys import Key
from velib_core.launcher import JOBS
from velib_core.monitoring_pipeline import parse_steps
from velib_core.settings.env import SettingsError
from velib_core.timeline.bins import bin_start, first_bin, parse_day
from velib_deploy.document_tables import EXAMPLES, example_layout, stale
from velib_deploy.function_specs import REPOSITORY, load_specs

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

SPECS = load_specs()
LAYOUT = example_layout()
DOCS = {path.name: path for path in DOCUMENTS}

ELSEWHERE = {
    "words of other programs' configuration": {
        *("auth", "login", "python3-venv", "auto-ack", "patch", "diff", "text"),
        *("storage.objects.delete", "if_generation_match", "multi:softprob"),
    },
    "roles of Google Cloud": {
        *("run.admin", "eventarc.admin", "pubsub.admin", "storage.admin", "cloudscheduler.admin"),
        *("serviceusage.serviceUsageAdmin", "logging.logWriter", "iam.roleAdmin"),
        *("iam.serviceAccountAdmin", "iam.serviceAccountUser"),
        *("resourcemanager.projectIamAdmin", "roles/cloudfunctions.admin"),
    },
    "forms, not names": {
        *("MAJOR.MINOR.PATCH", "freshness_age_p50/p95_min", "report_lag_p50/p95_min"),
    },
}
"""Names that the documents quote and the tree does not have, by the reason."""

FOREIGN = set().union(*ELSEWHERE.values())


@cache
def tree() -> dict[str, str]:
    """Return the text of every source file, by its path in the tree."""
    suffixes = {".py", ".toml", ".sh", ".json", ".txt", ".yaml", ".html", ".js", ".cfg"}
    folders = ("shared", "local", "cli", "deploy", "functions", "tests", "benchmarks")
    found = [p for f in folders for p in (REPOSITORY / f).rglob("*") if p.suffix in suffixes]
    found += [p for p in REPOSITORY.iterdir() if p.is_file()]
    files = {p.relative_to(REPOSITORY).as_posix(): p.read_text("utf-8", "ignore") for p in found}
    names = {p.relative_to(REPOSITORY).as_posix(): "" for p in DOCUMENTS}
    names |= {n: "" for n in files if "test_docs" in n or n == "LICENSE"}
    made = {b.file: b.text for path in DOCUMENTS for b in blocks(path) if b.file}
    return files | made | names


@cache
def words() -> Any:
    """Return every word of the sources, those of worked examples and features among them."""
    examples = "".join(
        block.text
        for path in DOCUMENTS
        for block in blocks(path)
        if block.file or block.language == "diff"
    )
    return {*re.findall(r"\w+", "\n".join(tree().values()) + examples), *FEATURES}


@cache
def folders() -> set[str]:
    return {name.rpartition("/")[0] for name in tree()} | {"out/demo", "build"}


def is_in_tree(path: Any) -> bool:
    """Return whether a path, or the end of one, is that of a file or folder of the tree."""
    wanted = path.removeprefix("./").rstrip("/")
    ends = (f"/{name}" for name in (*tree(), *folders()))
    parents = (f"/{name}/" for name in folders())
    return any(e.endswith(f"/{wanted}") for e in ends) or any(f"/{wanted}/" in p for p in parents)


def as_object(name: Any) -> Any:
    """Return an object name with its placeholders filled in."""
    filled = name.replace("{DAY}", "2025-11-03").replace("YYYY-MM-DD", "2025-11-03")
    filled = filled.replace("profiles_D", "profiles_2025-11-03").replace("{H}", "15")
    return filled.replace("YYYY-MM", "2025-11")


def unknown(word: str) -> Any:
    """Return what of a quoted word neither the tree nor the lake knows, or nothing."""
    if word in FOREIGN or "…" in word or " " in word:
        return None  # commands are tested as such, a form with … is none of a name
    if re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*", word) and not word.endswith(
        (".py", ".md", ".toml", ".sh", ".yaml", ".txt")
    ):
        return set(re.findall(r"\w+", word)) - words() or None
    if re.fullmatch(r"[\w.-]+/([\w.=-]+/)*[\w.-]*|[\w-]+\.(py|toml|sh|yaml|md|txt)", word):
        top = word.partition("/")[0]
        if top in {f.partition("/")[0] for f in (*LAYOUT.notified.values(), "monthly", "ledger")}:
            return None  # an object: see below
        if is_in_tree(word) or not set(re.findall(r"\w+", word)) - words():
            return None
        return word
    return None


@pytest.mark.parametrize("name", DOCS)
def test_every_quoted_name_exists(name: Any) -> None:
    found = {word: missing for word in quoted(DOCS[name]) if (missing := unknown(word))}
    assert not found


def test_a_name_that_does_not_exist_is_found_out() -> None:
    assert unknown("build_data_healt")
    assert unknown("velib_core/layouts.py")
    assert unknown("velib_core.jobs.compact_dayly")
    assert unknown("DATA_HEALTH_FLAT_STEP")
    assert not unknown("velib_core/lake/layout.py")


@pytest.mark.parametrize("name", DOCS)
def test_every_object_name_is_one_of_the_layout(name: Any) -> None:
    text = DOCS[name].read_text("utf-8")
    tops = "|".join({f.partition("/")[0] for f in vars(LAYOUT).values()} - {"quarantine"})
    lines = re.findall(rf"^    ((?:{tops})/\S+)$", text, re.MULTILINE)
    inline = re.findall(rf"`((?:{tops})/[^`\s…]+\.(?:json|parquet|npz))`", text)
    for found in map(as_object, [*lines, *inline]):
        assert LAYOUT.name(LAYOUT.key(found)) == found


PACKAGES = ("shared/velib_core", "local/velib_local", "cli/velib_cli", "deploy/velib_deploy")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_its_place_in_the_architecture(package: Any) -> None:
    text = DOCS["ARCHITECTURE.md"].read_text("utf-8").partition(f"### `{package}/`")[2]
    rows = re.findall(r"^\| `([\w/.]+)` \| ([^|]+) \|", text.partition("\n### ")[0], re.MULTILINE)
    reported = {f"{room}/{name}" for room, names in rows for name in re.findall(r"`(\w+)`", names)}
    root = REPOSITORY / package
    modules = {path.relative_to(root) for path in root.rglob("*.py")}
    assert reported == {
        f"{path.parent}/{path.stem}"
        for path in modules
        if path.stem not in {"__init__", "__main__"}
    }


def test_the_way_of_a_snapshot_names_every_kind_of_object() -> None:
    text = DOCS["ARCHITECTURE.md"].read_text("utf-8")
    named = re.findall(r"^    (\S+/\S+)$", text, re.MULTILINE)
    reported = {type(LAYOUT.key(name)) for name in named}
    assert {type(key) for key in EXAMPLES} - reported == {type(LAYOUT.key(FRESHNESS_COPY))}
    assert {type(key) for key in EXAMPLES} == set(Key.__args__)


FRESHNESS_COPY = "monitoring/data/freshness/latest.json"
"""The one kind that is no step on the way: a copy at an earlier name."""


def test_tables_that_are_made_from_the_code_are_current() -> None:
    named = [path.name for path in stale()]
    assert not named, "run .venv/bin/python -m velib_deploy.document_tables"


def rows_after(fingerprint: str) -> list[list[str]]:
    text = DOCS["DATA.md"].read_text("utf-8").partition(fingerprint)[2]
    table = text.partition("\n\n")[0].strip().splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in table]


SCHEMAS = re.findall(r"<!-- columns: (\S+) -->", DOCS["DATA.md"].read_text("utf-8"))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_columns_are_those_of_the_schema(schema: Any) -> None:
    module, _, name = schema.rpartition(".")
    wanted = getattr(importlib.import_module(module), name)
    reported = [(row[0], row[1]) for row in rows_after(f"<!-- columns: {schema} -->")]
    assert reported == [(field.name, str(field.type)) for field in wanted]


def test_every_parquet_schema_has_its_columns_documented() -> None:
    modules = [
        importlib.import_module(f"velib_core.{m}") for m in ("tables.snapshot", "tables.views")
    ]
    names = {f"{m.__name__}.{n}" for m in modules for n in vars(m) if n.endswith("SCHEMA")}
    assert names == set(SCHEMAS)


def test_the_fields_of_a_forecast_are_those_that_are_published(
    lake: Lake, settings: Settings
) -> None:
    start = first_bin(parse_day("2025-11-03"))
    network.upload(lake, settings, [start])
    build_serving_forecast.run(network.of(lake, settings), build_serving_forecast.WarmState())
    document = lake.fetch_json("serving/forecast/latest/h15/forecast.json")
    assert [row[0] for row in rows_after("<!-- fields: forecast -->")] == list(document["data"][0])
    head = DOCS["DATA.md"].read_text("utf-8").partition("## Forecast\n")[2].partition("<!--")[0]
    assert set(document) - {"data"} <= set(re.findall(r"`(\w+)`", head))
    assert document["generated_at"].startswith(f"{bin_start(start):%Y-%m-%d}")


def test_the_picture_has_every_function_and_every_arrow_of_their_configurations() -> None:
    (picture,) = [b.text for b in blocks(DOCS["README.md"]) if b.language == "mermaid"]
    arrows = set()
    for line in picture.splitlines()[1:]:
        ends = [
            [re.sub(r"[(\[].*", "", node.strip()) for node in part.split("&")]
            for part in line.split("-->")
        ]
        for sources, targets in itertools.pairwise(ends):
            arrows |= {(source, target) for source in sources for target in targets}
    reported = set()
    for name, spec in SPECS.items():
        reported |= {(topic, name) for topic in spec.topics}
        reported |= {(name, folder.partition("/")[0]) for folder in spec.access.create}
        reported |= {(name, topic) for topic in spec.access.publish if topic != "alerts"}
    assert arrows == {pair for pair in reported if pair[1] != "quarantine"}


def test_topics_of_the_documents_are_topics() -> None:
    known = {*TOPICS.values(), *LAYOUT.notified, "alerts", "dead-letter", "invoker", "build"}
    for path in DOCUMENTS:
        for word in quoted(path):
            if match := re.fullmatch(r"velib-([a-z-]+)", word):
                assert match[1] in known | {name.replace("_", "-") for name in SPECS}


def test_every_documented_job_and_step_can_be_launched() -> None:
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        made = {"build_network_fleet"} if path.name == "CONTRIBUTING.md" else set()
        assert set(re.findall(r"\bJOB=(\w+)", text)) <= set(JOBS) | made
        for steps in re.findall(r"STEPS=([\w,]+)", text):
            assert parse_steps(steps)
    with pytest.raises(SettingsError):
        parse_steps("tea")


def test_links_and_pictures_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)]+)\)", prose(path)):
            file, _, anchor = target.partition("#")
            if file.startswith("http"):
                continue
            other = path.parent / file if file else path
            assert other.is_file(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", other.read_text("utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in anchors


def test_every_document_can_be_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((?:docs/)?(\w+\.md)", DOCS["README.md"].read_text("utf-8")))
    assert linked >= set(DOCS) - {"README.md"}


def test_the_metadata_of_the_package_and_the_licence_agree() -> None:
    pyproject = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    licence = (REPOSITORY / "LICENSE").read_text("utf-8")
    assert 'license = "Apache-2.0"' in pyproject
    assert re.search(r"Apache License\s+Version 2\.0", licence)


def test_the_example_of_an_alert_is_json() -> None:
    for block in blocks(DOCS["MONITORING.md"]):
        if block.language == "json":
            assert {"family", "state", "code"} <= set(json.loads(block.text))


STEPS = re.findall(
    r"^\| [^|]+ \| `([\w/]+)\.py` \| `(\w+)` \|$",
    DOCS["ARCHITECTURE.md"].read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_a_step_of_the_architecture_is_a_name_of_its_module(module: Any, name: Any) -> None:
    found = getattr(importlib.import_module(f"velib_core.{module.replace('/', '.')}"), name)
    assert callable(found)


def test_the_glossary_is_short() -> None:
    glossary = DOCS["ARCHITECTURE.md"].read_text("utf-8").partition("## 7. Glossary")[2]
    assert 0 < glossary.partition("\n## ")[0].count("\n| ") - 1 <= 15
