"""Every command of the documents does what they say, where they say it.

A command is run on a desk (a folder that looks like a fresh checkout after a demo) or, where it
needs the cloud, parsed by what would run it. What neither holds for is listed with its reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import network
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from commands import run, wait_until
from document_blocks import DOCUMENTS, blocks, commands, quoted
from velib_cli.main import cli
from velib_core.jobs import compact_daily
from velib_core.launcher import JOBS
from velib_core.tables import snapshot
from velib_core.timeline.bins import Bin, Day, first_bin, parse_day
from velib_deploy import deploy
from velib_deploy.function_specs import REPOSITORY
from velib_local.emulator import processes
from velib_local.emulator.processes import free_port
from velib_local.records import record_entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

pytestmark = pytest.mark.e2e

DAY = parse_day("2025-11-03")
CONTRIBUTING = REPOSITORY / "docs" / "CONTRIBUTING.md"
PLACEHOLDERS = {"LYON_BUCKET": "my-lyon", "BUCKET": "my-bucket", "PROJECT": "my-project"}

ELSEWHERE = {
    "make test": "is what runs these tests",
    "make slow": "runs the slow ones of these tests",
    "make bench": "measures for an hour",
    ".venv/bin/ruff check .": "is what make test begins with",
    ".venv/bin/ruff format --check .": "the same",
    ".venv/bin/mypy": "the same",
    ".venv/bin/python -m velib_deploy.image_pins cloudbuild.yaml": "test_image_pins runs it",
    "gcloud auth login": "asks a person",
    "gcloud auth application-default login": "the same",
}
"""Commands that are not run here, and why."""

BY_HAND = "Run one function by hand"
"""The section of the README that `test_a_function_runs_by_hand_as_the_readme_says` goes through."""

SLOW = ("make demo", ".venv/bin/velib replay", ".venv/bin/velib backtest")
"""Commands that take minutes: parsed here, and run by the slow tests."""


def reported() -> Iterator[Any]:
    """Yield every command of the documents with the heading it stands below."""
    for path in DOCUMENTS:
        for block in blocks(path):
            if block.language == "sh":
                yield from ((block.heading, command) for command in commands(block))
        for word in quoted(path):
            if re.match(r"(velib|gcloud|make|\./deploy\.sh|python benchmarks/\S+) ?\b.* ", word):
                yield path.name, word.replace("DAY", "2025-11-22").replace("FILE", "recording")


EXAMPLES = ("Add a feature", "Add a monitoring metric", "Add a function")
FREE = {(heading, c) for heading, c in reported() if heading not in {BY_HAND, *EXAMPLES}}
COMMANDS = sorted({c for _, c in FREE if not c.startswith("gcloud")} - set(ELSEWHERE))


def filled(command: str) -> Any:
    """Return a command with names for its placeholders."""
    for placeholder, value in PLACEHOLDERS.items():
        command = re.sub(rf"\b{placeholder}\b", value, command)
    return command


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, its environment, and nothing made yet."""
    home = tmp_path_factory.mktemp("desk")
    for path in REPOSITORY.iterdir():
        if path.name not in {"out", "build", ".venv", ".git"}:
            (home / path.name).symlink_to(path)
    (home / ".venv").symlink_to(sys.prefix)
    return home


@pytest.fixture
def after_demo(desk: Path, lake: Lake, settings: Settings) -> Any:
    """The desk with a few snapshots and a compacted day below out/demo, as a demo leaves them."""
    out = desk / "out" / "demo"
    if not out.exists():
        start = first_bin(DAY)
        network.upload(lake, settings, [Bin(start + n) for n in range(0, 289, 48)])
        compact_daily.run(network.of(lake, settings), DAY)
        entries = list(lake.entries(""))
        for entry in entries:
            target = out / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lake.read(entry))
        record_entries(entries, out)
    return desk


def environment(**extra: Any) -> Any:
    """Return an environment without any setting of ours."""
    kept = {"PATH", "HOME", "TMPDIR", "LANG", "VELIB_RECORDINGS"}
    return {k: v for k, v in os.environ.items() if k in kept} | extra


def sh(command: Any, cwd: Path, **env: Any) -> tuple[int, str]:
    """Run a command as a person would; return its exit code and all it said."""
    done = run("bash", "-euo", "pipefail", "-c", command, cwd=cwd, env=environment(**env))
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    return done.returncode, said


def parse(arguments: list[str]) -> None:
    """Parse a ``velib`` command as its own parser does, but for files that are yet to be made."""
    name, *rest = arguments
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"velib {name} is no command"
    if rest:
        with allowed("does not exist"):
            command.make_context(name, rest)


@contextlib.contextmanager
def allowed(complaint: str) -> Iterator[Any]:
    """Let a wrong parameter pass for one reason only."""
    try:
        yield
    except click.BadParameter as error:
        if complaint not in str(error):
            raise


def needs_cloud(line: Any) -> bool:
    return "gs://" in line or "GOOGLE_CLOUD_PROJECT" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_documents_is_one(command: Any, after_demo: Any, tmp_path: Path) -> None:
    line = filled(command)
    words = [word for word in shlex.split(line.partition("\n")[0]) if "=" not in word.split("/")[0]]
    program = Path(words[0]).name
    if line.startswith("./deploy.sh"):
        feed = "GBFS_URL=https://example.org/gbfs/2/gbfs.json\n"
        (tmp_path / "lyon.env").write_text(feed, "utf-8")
        line = line.replace("lyon.env", str(tmp_path / "lyon.env"))
        if "destroy" in words:
            # Even its dry run asks the project; tests/rehearsal carries it out.
            given, _ = deploy.parse(shlex.split(line)[1:])
            assert given.action == "destroy"
            return
        line += "" if "--dry-run" in line else " --dry-run"
        code, said = sh(line, REPOSITORY, PYTHON=sys.executable)
        assert (code, "gcloud" in said) == (0, True), said
    elif program == "make":
        assert sh(line.replace("make ", "make --dry-run "), REPOSITORY)[0] == 0
    elif program == "python" and needs_cloud(line):
        job = re.search(r"\bJOB=(\w+) .* -m velib_core\.launcher$", line)
        assert job, line
        assert job[1] in JOBS
    elif program == "velib" and (needs_cloud(line) or line.startswith((*SLOW, "velib "))):
        parse(words[1:])
    elif program == "python" and words[1].startswith("benchmarks/"):
        assert (REPOSITORY / words[1]).is_file()
    else:
        # Status exits with 1 where something needs attention, as it does here.
        code, said = sh(line, after_demo)
        assert code == 0 or (code == 1 and words[1] == "status"), said


def test_the_commands_for_the_cloud_are_accepted_by_its_parser(tmp_path: Path) -> None:
    """By the SDK's own parser, which needs no network."""
    if shutil.which("gcloud") is None:
        pytest.skip("the Google Cloud SDK is not installed")
    lines = {filled(c) for _, c in reported() if c.startswith("gcloud")} - set(ELSEWHERE)
    listed = [{"command_string": shlex.join(shlex.split(line))} for line in sorted(lines)]
    file = tmp_path / "commands.json"
    file.write_text(json.dumps(listed), "utf-8")
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        env=environment(CLOUDSDK_CONFIG=str(tmp_path)),
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts = json.loads(done.stdout)
    assert len(verdicts) == len(lines)
    assert [v["error_message"] for v in verdicts if not v["success"]] == []


def test_commands_that_are_not_run_are_listed_with_a_reason() -> None:
    assert set(ELSEWHERE) <= {command for _, command in reported()}


@contextlib.contextmanager
def started(command: str, cwd: Any, until: Any, log: Path, **env: Any) -> Iterator[Any]:
    """Start a command that stays; end it with the block."""
    with log.open("wb") as sink:
        process = processes.start(
            ["bash", "-c", f"exec {command}"],
            cwd=cwd,
            env=environment(PYTHONUNBUFFERED="1", **env),
            stdout=sink,
            stderr=sink,
        )
    try:
        wait_until(lambda: until() or process.poll() is not None, command)
        assert process.poll() is None, log.read_text("utf-8")
        yield
    finally:
        processes.stop(process)


def test_a_function_runs_by_hand_as_the_readme_says(after_demo: Any, tmp_path: Path) -> None:
    """Line by line, but for the ports: other servers of this machine may have them."""
    store_port, port = str(free_port()), str(free_port())
    lines = [c for heading, c in reported() if heading == BY_HAND and not c.startswith("gcloud")]
    here = [c.replace("4443", store_port).replace("8080", port) for c in lines]
    store, export, function, call, job = here
    variables = dict(word.split("=", 1) for word in shlex.split(export)[1:])
    log, function_log = tmp_path / "store.log", tmp_path / "function.log"

    def logged_forecasts() -> bool:
        return "Ctrl-C" in log.read_text("utf-8")

    def listening() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}", headers={"Connection": "close"}, timeout=60)
            return True
        return False

    with started(f"{store} --port {store_port}", after_demo, logged_forecasts, log):
        printed = re.findall(r"^export (.*)$", log.read_text("utf-8"), re.MULTILINE)
        assert dict(line.split("=", 1) for line in printed) == variables
        with started(function, after_demo, listening, function_log, **variables):
            assert sh(call, after_demo)[0] == 0
        (done,) = [
            json.loads(x) for x in function_log.read_text("utf-8").splitlines() if '"done"' in x
        ]
        assert done["written"] == [f"daily/compact_{DAY}.parquet"]
        code, said = sh(job, after_demo, **variables)
    assert code == 0
    assert "dry run" in said


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree to change, in the environment of this one."""
    home = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    home.mkdir()
    for folder in ("shared", "local", "cli", "deploy", "functions", "tests", "docs"):
        shutil.copytree(REPOSITORY / folder, home / folder, ignore=ignored)
    for path in REPOSITORY.iterdir():
        if path.is_file():
            shutil.copy2(path, home)
    (home / ".venv").symlink_to(sys.prefix)
    return home


def follow(example: str, home: Any) -> Any:
    """Make the edits of a worked example; return its commands."""
    lines = []
    for block in blocks(CONTRIBUTING):
        if block.heading != example:
            continue
        if block.language == "diff":
            patch = ["patch", "-p1", "--fuzz=3", "--no-backup-if-mismatch"]
            done = subprocess.run(
                patch, cwd=home, input=block.text, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        elif block.file:
            (home / block.file).parent.mkdir(parents=True, exist_ok=True)
            (home / block.file).write_text(block.text, "utf-8")
        elif block.language == "sh":
            lines += commands(block)
    return lines


def touched(example: Any) -> Any:
    """Return the Python files that a worked example makes or changes."""
    inside = [block for block in blocks(CONTRIBUTING) if block.heading == example]
    changed = re.findall(r"^\+\+\+ b/(\S+)$", "".join(b.text for b in inside), re.MULTILINE)
    made = [block.file for block in inside if block.file]
    return [path for path in (*changed, *made) if path.endswith(".py")]


def run_example(lines: Any, home: Any) -> Iterator[Any]:
    paths = ":".join(f"{home}/{root}" for root in ("shared", "local", "cli", "deploy"))
    env = {"PYTHONPATH": paths, "PYTHON": ".venv/bin/python"}
    for line in map(filled, lines):
        if line.startswith("gcloud"):
            continue  # parsed with the others
        if line.startswith(SLOW):
            parse(shlex.split(line)[1:])
            continue
        dry = " --dry-run" if line.startswith("./deploy.sh") else ""
        code, said = sh(line + dry, home, **env)
        assert code == 0, f"{line}\n{said}"
        yield line, said


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_worked_example_works(example: Any, copy: Path) -> None:
    lines = [c for c in follow(example, copy) if not c.startswith((".venv/bin/velib demo", "cat"))]
    ruff = f"{sys.executable} -m ruff"
    paths = " ".join(touched(example))
    style = [f"{ruff} check {paths}", f"{ruff} format --check {paths}"]
    ran = dict(run_example([*style, *lines], copy))
    assert len(ran) >= 4
    assert all(" passed" in said for line, said in ran.items() if "pytest" in line)


@pytest.mark.slow
def test_a_new_function_runs_in_the_local_cloud_and_shows_in_the_tables(copy: Path) -> None:
    ran = dict(run_example(follow("Add a function", copy), copy))
    (fleet,) = [json.loads(said) for line, said in ran.items() if line.startswith("cat ")]
    assert fleet["bikes"] == fleet["mechanical"] + fleet["ebike"] > 0
    assert "`build_network_fleet`" in (copy / "README.md").read_text("utf-8")


@pytest.mark.slow
def test_make_demo_takes_a_few_minutes_and_status_and_models_report_it(
    desk: Path, tmp_path: Path
) -> None:
    home = tmp_path / "fresh"
    shutil.copytree(desk, home, symlinks=True, ignore=shutil.ignore_patterns("out"))
    command = (REPOSITORY / "Makefile").read_text("utf-8").partition("\ndemo:")[2].splitlines()[1]
    code, said = sh(command.strip().replace("$(VELIB)", ".venv/bin/velib"), home)
    assert code == 0, said
    assert "What was made" in said
    _, said = sh(".venv/bin/velib models --dir out/demo", home)
    assert "yes" in said


@pytest.mark.slow
def test_a_recording_is_replayed_and_backtested_as_the_readme_says(
    desk: Path, tmp_path: Path
) -> None:
    own = [c for heading, c in reported() if heading == "Use your own data"]
    lines = [c for c in own if c.startswith(SLOW[1:]) and "--out" in c]
    replay, backtest = sorted(lines, reverse=True)
    table = record(parse_day("2025-11-02"), 1, every=12)
    home = tmp_path / "fresh"
    shutil.copytree(desk, home, symlinks=True, ignore=shutil.ignore_patterns("out"))
    pq.write_table(table, home / "recording.parquet")
    code, said = sh(replay, home)
    assert code == 0, said
    assert list((home / "out" / "replay" / "daily").glob("*.parquet"))
    table = record(parse_day("2025-11-10"), 14, every=1)
    pq.write_table(table, home / "recording.parquet")
    code, said = sh(backtest, home)
    assert code == 0, said
    assert (home / "out" / "backtest" / "report.html").is_file()


def record(first: Day, days: int, every: Any) -> Any:
    """Return the observations of some days, as one table."""
    start = first_bin(first)
    bins = [Bin(start + n) for n in range(0, 288 * days, every)]
    parts = [snapshot.validate(network.snapshot_table(bin_), bin_)[0] for bin_ in bins]
    return pa.concat_tables(parts)
