"""Regenerate the tables of the documents, between ``<!-- table: NAME -->`` comments.

``python -m velib_deploy.document_tables`` writes them; with ``--check`` it only reports whether
they are current (exit code 1 where not), as a test does.
"""

from __future__ import annotations

import datetime as dt
import inspect
import itertools
import re
from typing import TYPE_CHECKING

import click
from velib_core.lake.keys import (
    CalibrationOf,
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    ForecastBundle,
    ForecastLog,
    ForecastLogPartition,
    FreshnessCopy,
    GbfsDocument,
    ModelFile,
    Monitoring,
    Monthly,
    OverviewDay,
    Perf,
    Profile,
    ServingManifest,
    Snapshot,
    TrainingBase,
)
from velib_core.lake.layout import Layout, parse_month
from velib_core.settings.env import variables
from velib_core.settings.network import Settings, all_variables
from velib_core.timeline.bins import HorizonMinutes, bin_of, parse_day

from velib_deploy import data_dictionary
from velib_deploy.function_specs import REPOSITORY, load_specs, permissions, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from velib_core.lake.keys import Key

    from velib_deploy.function_specs import FunctionSpec

DOCUMENTS = (
    *("README.md", "docs/DATA.md", "docs/DICTIONARY.md", "docs/OPERATING.md", "docs/SECURITY.md"),
)

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FOLDER = "20251103-235500Z-1f2e3d4c"
_DAY = parse_day("2025-11-03")
_BIN = bin_of(dt.datetime(2025, 11, 3, 8, 5, tzinfo=dt.UTC))
_H15 = HorizonMinutes(15)

EXAMPLES: Sequence[Key] = (
    Snapshot(_BIN),
    Daily(_DAY),
    Monthly(parse_month("2025-11")),
    Events(_DAY),
    Perf(_DAY),
    ForecastLog(_DAY),
    ExportsManifest(),
    TrainingBase(_DAY),
    Profile(_DAY),
    CalibrationOf(_H15, _FOLDER, _DAY),
    ModelFile(_H15, None, "latest.json"),
    ModelFile(_H15, _FOLDER, "version.json"),
    ForecastLogPartition(_BIN, _H15, "5a0c1b2d"),
    Forecast(_H15),
    Forecast(_H15, alias=True),
    ForecastBundle(),
    ServingManifest(),
    GbfsDocument(_H15, "station_status.json"),
    Monitoring("data/health", "kpis.json"),
    OverviewDay(_DAY),
    FreshnessCopy(),
)
"""One object of every kind."""


def example_layout() -> Layout:
    """Return the names of a network whose root is a bucket's."""
    return Layout(Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket"}))


def functions_table(specs: Mapping[str, FunctionSpec]) -> str:
    """Return every function, what wakes it, and where it writes."""
    rows = []
    for name, spec in specs.items():
        schedule = f"; schedule `{spec.schedule.cron}` (UTC)" if spec.schedule else ""
        topics = ", ".join(f"`{topic}`" for topic in spec.topics)
        rows.append(
            (f"`{name}`", topics + schedule, spec.description, _folders(spec.access.create))
        )
    return _table(("function", "triggered by", "makes", "writes below"), rows)


def folders_table(specs: Mapping[str, FunctionSpec]) -> str:
    """Return every folder of a network, who writes there and who reads it."""
    rows = []
    for field in variables(Settings):
        name, _, kind = field.name.rpartition("_")
        if kind != "prefix":
            continue
        short = {"raw": "bronze"}.get(name, name)
        folder = getattr(example_layout(), short)
        writers = [n for n, s in specs.items() if _touches(s.access.create, short)]
        readers = [n for n, s in specs.items() if _touches(s.access.read, short)]
        about = field.metadata["about"].partition(";")[0]
        rows.append((f"`{folder}/`", about, _names(writers), _names(readers)))
    return _table(("folder", "holds", "written by", "read by"), rows)


def objects_table() -> str:
    """Return one object of every kind, with what the kind is."""
    layout = example_layout()
    rows = []
    for key in EXAMPLES:
        about = (inspect.getdoc(type(key)) or "").partition("\n\n")[0].replace("\n", " ")
        about = re.sub(r" \(``\w+``( is ``None``)?\)|; ``None`` .*", "", about)
        rows.append((f"`{layout.name(key)}`", about.replace("``", "`").removesuffix(".")))
    return _table(("object", "is"), rows)


def documents_table() -> str:
    """Return the documents of the monitoring, by family."""
    pairs = [t.split("/latest/") for t in data_dictionary.titles() if t.startswith("monitoring/")]
    rows = [
        (f"`{folder}/latest/`", ", ".join(f"`{name}`" for _, name in found))
        for folder, found in itertools.groupby(pairs, lambda pair: pair[0])
    ]
    return _table(("folder", "documents"), rows)


def settings_table() -> str:
    """Return every variable of the environment: its names, default and meaning."""
    rows = []
    for field in all_variables():
        names = ", ".join(f"`{name}`" for name in field.metadata["names"])
        default = field.metadata["default"]
        rows.append((names, f"`{default}`" if default else "–", field.metadata["about"]))
    return _table(("variable", "default", "meaning"), rows)


def resources_table(specs: Mapping[str, FunctionSpec]) -> str:
    """Return what each function is given, and how many of it may run at once."""
    rows = [
        (
            f"`{name}`",
            s.memory,
            str(s.cpu),
            f"{s.timeout_s} s",
            f"{s.max_instances * s.concurrency}",
        )
        for name, s in specs.items()
    ]
    return _table(("function", "memory", "vCPU", "longest run", "events at once, at most"), rows)


def rights_table(specs: Mapping[str, FunctionSpec]) -> str:
    """Return what each function may do with objects, by folder, and with topics."""
    rows = []
    for name, spec in specs.items():
        held = permissions(spec.access)
        topics = ", ".join(f"`{topic}`" for topic in spec.access.publish) or "–"
        rows.append(
            (f"`{name}`", *(_folders(held[k]) for k in ("read", "create", "delete")), topics)
        )
    return _table(("function", "reads", "creates", "deletes or replaces", "publishes on"), rows)


def renewed(text: str) -> str:
    """Return a document with each of its tables as the code has it now."""
    specs = load_specs()
    tables: Mapping[str, Callable[[], str]] = {
        "functions": lambda: functions_table(specs),
        "resources": lambda: resources_table(specs),
        "rights": lambda: rights_table(specs),
        "folders": lambda: folders_table(specs),
        "objects": objects_table,
        "documents": documents_table,
        "dictionary": data_dictionary.dictionary,
        "settings": settings_table,
    }
    return _TABLE.sub(lambda found: found[1] + tables[found[2]]() + found[3], text)


def stale(root: Path = REPOSITORY) -> dict[Path, str]:
    """Return the documents whose tables are not as the code has them, each with its new text."""
    found = {}
    for name in DOCUMENTS:
        text = (root / name).read_text("utf-8")
        if (new := renewed(text)) != text:
            found[root / name] = new
    return found


@click.command()
@click.option("--check", is_flag=True, help="Only report; exit with 1 if a table is not current.")
def main(*, check: bool) -> None:
    """Write the tables of the documents as the code has them."""
    for path, text in (found := stale()).items():
        click.echo(path.relative_to(REPOSITORY))
        if not check:
            path.write_text(text, "utf-8")
    if found and check:
        raise SystemExit(1)


def _touches(folders: Iterable[str], folder: str) -> bool:
    return any(name.partition("/")[0] == folder for name in folders)


def _folders(names: Iterable[str]) -> str:
    layout = example_layout()
    return ", ".join(f"`{place(layout, name)}/`" for name in names) or "–"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


if __name__ == "__main__":
    main()
