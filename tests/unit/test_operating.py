"""The operating guide: what it explains is what there is to explain."""

from __future__ import annotations

import re
from typing import Any

import pytest
from velib_core.events.topics import MAX_DELIVERY_ATTEMPTS
from velib_deploy.document_tables import example_layout
from velib_deploy.function_specs import EXPIRY_DAYS, REPOSITORY, load_specs, permissions

GUIDE = (REPOSITORY / "docs" / "OPERATING.md").read_text("utf-8")
MONITORING = (REPOSITORY / "docs" / "MONITORING.md").read_text("utf-8")

OF_THE_PLATFORM = {"Memory limit … exceeded"}
"""Log lines that no source of ours writes."""


def chapter(text: str, heading: str) -> Any:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def table(text: Any) -> Any:
    """Return the rows of the last table of a text, without its heading."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    start = max(n for n, line in enumerate(rows) if re.fullmatch(r"[|-]+", line))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[start + 1 :]]


def codes(rows: Any) -> Any:
    return {code for row in rows for code in re.findall(r"`([\w{}*]+)`", row[0])}


def test_every_alert_has_its_advice() -> None:
    reported = {
        re.sub(r"\{\w+\}", "*", code) for code in codes(table(chapter(MONITORING, "Alerts")))
    }
    assert codes(table(chapter(GUIDE, "Read the alerts"))) == reported


def quoted_log_lines() -> Any:
    seen = [row[0] for row in table(chapter(GUIDE, "What failures look like"))]
    quoted = {line for cell in seen for line in re.findall(r"`([^`]+ [^`]+)`", cell)}
    return sorted(line for line in quoted - OF_THE_PLATFORM if not line.startswith("velib"))


@pytest.mark.parametrize("line", quoted_log_lines())
def test_a_log_line_of_the_failures_is_written_somewhere(line: Any) -> None:
    """Numbers and N stand for values; parts are apart by …"""
    sources = "\n".join(
        path.read_text("utf-8")
        for folder in ("shared", "local", "cli")
        for path in (REPOSITORY / folder).rglob("*.py")
    )
    for part in re.split(r"[:…]", line):
        pattern = re.sub(r"(\d+|\bN\b)", r"\\{[^}]*\\}", re.escape(part.strip()))
        if re.search(r"[a-z]{3}", part):
            assert re.search(pattern, sources), part


CHAPTERS = (
    "First deployment",
    "Upgrade",
    "Rollback",
    "Replay a day",
    "Backfill from recordings",
    "Add a city",
    "Read the alerts",
    "What failures look like",
    "Disaster recovery",
    "Quotas and limits",
    "What it costs",
    "Take down",
)


def test_the_guide_has_every_chapter_that_an_operator_looks_for() -> None:
    assert [h for h in re.findall(r"^## (.*)$", GUIDE, re.MULTILINE) if h in CHAPTERS] == [
        *CHAPTERS
    ]


def test_figures_of_the_guide_are_those_of_the_deployment() -> None:
    text = " ".join(GUIDE.split())
    (days,) = set(EXPIRY_DAYS.values())
    assert text.count(f"{days} days") == 2
    assert f"deleted after {days} days" in text
    assert len(example_layout().notified) == 10
    assert "needs all of the ten notifications" in text
    assert f"each function that lists objects is one principal: {len(load_specs())}" in text
    assert f"at most {MAX_DELIVERY_ATTEMPTS} deliveries" in text


def test_quotas_of_the_guide_are_those_of_a_network() -> None:
    specs = load_specs()
    text = " ".join(GUIDE.split())
    accounts = len({spec.service_account for spec in specs.values()}) + 2
    assert f"a network has {accounts}: four networks per project" in text
    assert 100 // accounts == 4
    assert f"a network has {sum(len(spec.topics) for spec in specs.values())}" in text
    longest = 49 - 1 - max(len(name) for name in specs)
    assert f"a network's name has at most {longest}" in text
    widest = max(len(folders) for s in specs.values() for folders in permissions(s.access).values())
    assert widest <= 6
