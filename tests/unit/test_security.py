"""The threat table: every threat names the tests that show what stops it, and they exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
from velib_core.events.topics import ALERTS, DEAD_LETTER_TOPIC
from velib_deploy.function_specs import REPOSITORY, load_specs

DOCUMENT = (REPOSITORY / "docs" / "SECURITY.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.partition("\n## Threats\n")[2].partition("\n## ")[0].splitlines()
    if line.startswith("|") and not re.fullmatch(r"[|-]+|\| attacker .*", line)
]
TESTS = {
    name
    for path in (REPOSITORY / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}"[:60])
def test_a_threat_is_stopped_by_what_a_test_shows(row: Any) -> None:
    who, sends, stops, shown = row
    assert who
    assert sends
    assert stops
    named = re.findall(r"`(\w+)`", shown)
    assert named
    assert not set(named) - TESTS


def test_no_function_is_woken_by_alerts_or_dead_letters() -> None:
    woken_by = {topic for spec in load_specs().values() for topic in spec.topics}
    assert not woken_by & {ALERTS, DEAD_LETTER_TOPIC}
