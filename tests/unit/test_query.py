"""``docs/QUERY.md`` and ``velib query``: each question runs, and the answers are right."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import network
import planted
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from velib_cli.main import cli
from velib_cli.query import views_of
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "QUERY.md").read_text("utf-8")
QUESTIONS = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
DAYS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves of three days: dailies, observations, evaluations, forecast log."""
    home = tmp_path_factory.mktemp("desk")
    out = home / "out" / "demo"
    for part in ("daily", "exports", "_local"):
        (out / part).mkdir(parents=True)
    net = planted.network(days=DAYS)
    for n in range(DAYS):
        day = net.at(n, 0).date()
        perf = net.perf(n, planted.forecast)
        tables = {
            f"daily/compact_{day}": net.daily(n),
            f"exports/events_{day}": net.events(n),
            f"exports/perf_{day}": perf,
            f"exports/served_{day}": planted.forecast_log(perf),
        }
        for name, table in tables.items():
            pq.write_table(table, out / f"{name}.parquet")
    (out / "_local" / "settings.env").write_text("MON_TZ=America/Chicago\n", "utf-8")
    return out


def ask(folder: Any, sql: str, *more: Any) -> Result:
    return CliRunner().invoke(cli, ["query", "--dir", str(folder), *more, sql])


def test_there_are_ten_questions() -> None:
    assert len(QUESTIONS) == 10


@pytest.mark.parametrize("sql", QUESTIONS, ids=range(len(QUESTIONS)))
def test_a_question_of_the_documents_has_an_answer(folder: Path, sql: Any) -> None:
    done = ask(folder, sql, "--json")
    assert done.exit_code == 0, done.output
    assert isinstance(json.loads(done.output), list)


def test_the_answers_are_those_of_pandas_by_the_networks_own_clock(folder: Path) -> None:
    frame = planted.network(days=DAYS).events_frame()
    hour = frame["local"].dt.tz_convert("America/Chicago").dt.hour
    expected = frame.groupby(hour)["is_penury"].mean()
    answer = json.loads(ask(folder, QUESTIONS[1], "--json").output)
    assert {row["hour"]: row["empty_share"] for row in answer} == pytest.approx(expected.to_dict())


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_the_python_of_the_documents_runs_and_agrees_with_sql(
    folder: Path, block: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parents[1])
    names: dict[str, Any] = {}
    exec(block, names)
    empty = names["empty"]
    found = dict(empty.items()) if hasattr(empty, "items") else dict(empty.iter_rows())
    sql = "SELECT station_id, avg(is_penury) AS share FROM observations GROUP BY station_id"
    answer = json.loads(ask(folder, sql, "--json").output)
    assert {k: v for k, v in found.items() if v is not None and not math.isnan(v)} == pytest.approx(
        {row["station_id"]: row["share"] for row in answer if row["share"] is not None}
    )


def test_a_bucket_is_asked_as_a_folder_is(
    folder: Path, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the real object store; only the files of the views that the question names are read."""
    monkeypatch.setenv("MON_TZ", "America/Chicago")
    root = Layout(settings).exports.removesuffix("exports")
    for file in folder.rglob("*.parquet"):
        network.put(lake, root + file.relative_to(folder).as_posix(), file.read_bytes())
    network.put(lake, f"{root}exports/notes.txt", b"no table")
    sql = QUESTIONS[1]
    done = CliRunner().invoke(cli, ["query", "--bucket", settings.root, "--json", sql])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(ask(folder, sql, "--json").stdout)
    assert done.stderr == f"{DAYS} files read from {settings.root}\n"


def test_a_person_reads_a_table_and_a_mistake_is_one_line(folder: Path) -> None:
    shown = ask(folder, "SELECT count(*) AS n FROM dailies")
    assert "n" in shown.output
    wrong = ask(folder, "SELECT * FROM nowhere")
    assert wrong.exit_code == 1
    assert len(wrong.output.strip().splitlines()) == 1
    assert "observations" in wrong.output


def test_the_statements_for_bigquery_are_of_the_files_that_there_are() -> None:
    statements = (DOCS / "bigquery.sql").read_text("utf-8")
    tables = dict(re.findall(r"velib\.(\w+)`\nOPTIONS .*'gs://BUCKET/velib/([^']+)'", statements))
    known = views_of(Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket"}))
    assert tables == {name: pattern for name, pattern in known.items() if name in tables}
    assert set(known) - set(tables) == {"snapshots"}
    listed = dict(re.findall(r"^(\w+) +(\S+\.parquet)$", TEXT, re.MULTILINE))
    assert listed == known
