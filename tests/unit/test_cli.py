"""What a person who types ``velib`` gets back."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click
import network
import pytest
from click.testing import CliRunner, Result
from present import present
from velib_cli.main import cli, main
from velib_core.jobs import compact_daily
from velib_local.records import record_entries

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_help_names_every_command_and_where_to_start() -> None:
    said = run("--help").output
    for name in cli.list_commands(click.Context(cli)):
        command = present(cli.get_command(click.Context(cli), name))
        summary = re.escape(command.get_short_help_str(limit=100))
        assert re.search(rf"^  {name} +{summary}$", said, re.MULTILINE), name
    assert "velib demo" in said


@pytest.mark.parametrize("command", ["demo", "replay", "backtest", "models", "status", "doctor"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.output


def test_a_wrong_day_is_explained(tmp_path: Path) -> None:
    result = run("replay", "--source", __file__, "--out", str(tmp_path), "--from", "1.11.2025")
    assert result.exit_code == 2
    assert "YYYY-MM-DD" in result.output


def test_a_folder_that_is_not_a_run_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    result = run("demo", "--days", "1", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "not empty" in result.output


def test_a_known_failure_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["status", "--bucket", "not-a-bucket"])
    assert stopped.value.code == 1
    assert "expected gs://BUCKET" in capsys.readouterr().err


def test_a_bucket_without_credentials_is_explained_and_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(SystemExit) as stopped:
        main(["models", "--bucket", "gs://bucket/velib"])
    said = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "gcloud auth application-default login" in said
    assert "Traceback" not in said


def test_a_folder_without_objects_is_no_lake(tmp_path: Path) -> None:
    result = run("status", "--dir", str(tmp_path))
    assert result.exit_code == 2
    assert "holds no objects" in result.output


def test_a_store_serves_what_a_run_left_fingerprints_included(
    mirrored: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from velib_cli.commands.store import PROJECT, fill
    from velib_core.lake.bucket import connect
    from velib_core.settings.network import Settings
    from velib_local.mirror import FolderLake

    lake = FolderLake(mirrored)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address := os.environ["STORAGE_EMULATOR_HOST"])
    assert fill(address, lake) == len(list(lake.entries("")))
    env = {"GCS_BUCKET_ROOT": "gs://mirror", "GOOGLE_CLOUD_PROJECT": PROJECT}
    logged_forecasts = {
        e.name: (e.crc32c, e.fingerprint) for e in connect(Settings.from_env(env)).entries("")
    }
    assert logged_forecasts == {e.name: (e.crc32c, e.fingerprint) for e in lake.entries("")}


@pytest.fixture
def mirrored(lake: Lake, settings: Settings, tmp_path: Path) -> Path:
    """A small lake as the plain files that a replay leaves."""
    network.upload(lake, settings, network.bins_of_days(1, every=96))
    compact_daily.run(network.of(lake, settings), network.FIRST_DAY)
    entries = list(lake.entries(""))
    for entry in entries:
        target = tmp_path / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lake.read(entry))
    record_entries(entries, tmp_path)
    return tmp_path
