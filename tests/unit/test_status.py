"""What ``velib status`` reports of a lake."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
import subprocess
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import network
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from google.cloud import storage
from present import present
from velib_cli.dead_letters import DeadLetter, DeadLetters, dead_lettered, waiting
from velib_cli.main import cli
from velib_cli.published_settings import as_published
from velib_cli.report.charts import report_data
from velib_cli.report.page import texts
from velib_cli.report.sources import read_sources
from velib_cli.status import LakeStatus, inspect_lake
from velib_cli.status_text import rows, sentence
from velib_cli.targets import deployed_settings, open_lake
from velib_core.features.profiles import empty_profiles, to_bytes
from velib_core.jobs import compact_daily
from velib_core.lake.artefact import crc32c, json_bytes
from velib_core.lake.keys import (
    Daily,
    Events,
    ExportsManifest,
    Forecast,
    ForecastLogPartition,
    GbfsDocument,
    Key,
    ModelFile,
    Monitoring,
    Profile,
    ServingManifest,
    Snapshot,
)
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.tables import quarantine
from velib_core.tables.views import FORECAST_LOG_SCHEMA
from velib_core.timeline.bins import Bin, HorizonMinutes, bin_start, iso_z
from velib_local.records import COMMAND, RECORDS, record_entries

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

H15 = HorizonMinutes(15)
NOBODY = DeadLetters(0)
FOLDER = "20251028-235500Z-1f2e3d4c"


def put_json(lake: Lake, name: str, document: Any) -> None:
    network.put(lake, name, json_bytes(document))


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, arguments)


def reported(state: LakeStatus) -> dict[str, str]:
    return dict(rows(state))


@pytest.fixture
def observed(lake: Lake, settings: Settings) -> tuple[Lake, datetime]:
    """A lake of one closed day and the snapshot that closed it; and the present, 5 min later."""
    bins = network.bins_of_days(1, every=96)
    network.upload(lake, settings, bins)
    compact_daily.run(network.of(lake, settings), network.FIRST_DAY)
    return lake, bin_start(Bin(bins[-1] + 1))


@pytest.fixture
def mirrored(observed: tuple[Lake, datetime], tmp_path: Path) -> Path:
    """The same as the plain files that a replay leaves."""
    lake, _ = observed
    entries = list(lake.entries(""))
    for entry in entries:
        target = tmp_path / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lake.read(entry))
    record_entries(entries, tmp_path)
    return tmp_path


def test_status_says_what_is_there_and_what_is_missing(mirrored: Path) -> None:
    result = run("status", "--dir", str(mirrored), "--json")
    state = json.loads(result.output)
    assert result.exit_code == 1
    assert state["newest_snapshot"] == "2025-10-31T00:00:00Z"
    assert (state["dailies"], state["events_views"], state["missing_days"]) == (1, 0, [])
    assert [fix.split(":")[0] for fix in state["repairs"]] == [
        "finalized daily/compact_2025-10-30.parquet",
        "finalized bronze/date=2025-10-31/hour=00/2025-10-31T00-00.parquet",
    ], "views, profile and forecast are missing"


def test_a_person_reads_what_needs_attention_and_why(mirrored: Path) -> None:
    said = run("status", "--dir", str(mirrored)).output
    assert said.startswith("One thing needs attention: 2 artefacts are missing or stale")
    assert "artefacts are missing or stale" in said
    assert "none is live" in said
    assert "no run left a" in said, "why the dead letters are not known"


def test_programs_find_the_same_keys_in_every_status(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, now = observed
    assert list(inspect_lake(lake, settings, now, NOBODY, live=True).as_json()) == [
        *("network", "newest_snapshot", "age_min", "first_day", "last_day", "missing_days"),
        *("dailies", "events_views", "perf_views", "ledger_days", "ledger_newest", "models"),
        *("alerts", "quarantined", "quarantined_lately", "dead_letters", "repairs", "attention"),
        *("findings", "tz", "live", "silence_max_min", "healthy"),
    ]


def test_a_bucket_without_a_snapshot_is_reported_as_that(lake: Lake, settings: Settings) -> None:
    state = inspect_lake(lake, settings, dt.datetime(2025, 11, 1, tzinfo=dt.UTC), NOBODY, live=True)
    assert state.attention == ["there is no snapshot"]
    assert reported(state)["newest snapshot"] == "none yet"


def test_a_gap_of_days_is_missed(lake: Lake, settings: Settings) -> None:
    days = [Bin(network.bins_of_days(1)[0] + 288 * n) for n in (0, 3)]
    network.upload(lake, settings, days)
    state = inspect_lake(lake, settings, bin_start(Bin(days[-1] + 2)), NOBODY, live=True)
    assert state.missing_days == ["2025-10-31", "2025-11-01"]
    assert state.age_min == 10.0
    assert "2 days have no snapshot" in state.attention


def test_a_long_list_is_cut_for_a_person_and_whole_for_a_program(
    lake: Lake, settings: Settings
) -> None:
    days = [Bin(network.bins_of_days(1)[0] + 288 * n) for n in (0, 15)]
    network.upload(lake, settings, days)
    state = inspect_lake(lake, settings, bin_start(days[-1]), NOBODY, live=True)
    document: Any = state.as_json()
    assert len(document["missing_days"]) == 14
    assert reported(state)["days missing"].splitlines()[9:] == ["2025-11-09", "and 4 more"]


@pytest.mark.parametrize(("minutes", "late"), [(30, False), (31, True), (3 * 24 * 60, True)])
def test_a_live_lake_that_stopped_growing_needs_attention_and_a_finished_run_does_not(
    observed: tuple[Lake, datetime], settings: Settings, minutes: int, late: bool
) -> None:
    lake, now = observed
    later = now + dt.timedelta(minutes=minutes - 5)
    complaints = [
        [
            line
            for line in inspect_lake(lake, settings, later, NOBODY, live=live).attention
            if "old" in line
        ]
        for live in (True, False)
    ]
    assert [bool(complaint) for complaint in complaints] == [late, False]


def test_live_models_are_listed_with_the_age_of_their_training_window(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, now = observed
    pointer = Layout(settings).name(ModelFile(H15, None, registry.POINTER))
    record = {"folder": FOLDER, "version": "2.1.0", "end_date": "2025-10-28"}
    put_json(lake, pointer, record)
    known, none = inspect_lake(lake, settings, now, NOBODY, live=True).models
    assert (known.version, known.trained_through, known.age_days) == ("2.1.0", "2025-10-28", 2.0)
    assert (none.horizon_min, none.version, none.problem) == (60, None, None)
    put_json(lake, pointer, record | {"folder": "../elsewhere"})
    state = inspect_lake(lake, settings, now, NOBODY, live=True)
    assert state.models[0].version is None
    assert any("h15" in line and "damaged" in line for line in state.attention)


def test_raised_alerts_are_listed_by_family_and_unreadable_manifests_apart(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, now = observed
    layout = Layout(settings)
    alert = {"level": "high", "code": "coverage", "text": "91% are there", "artefact": "kpis.json"}
    manifest = {"generated_at": "2025-10-31T00:00:00Z", "alerts": [alert]}
    put_json(lake, layout.name(Monitoring("data/health", "manifest.json")), manifest)
    put_json(lake, layout.name(Monitoring("data/health", "kpis.json")), {"alerts": [alert]})
    network.put(lake, layout.name(Monitoring("intro", "manifest.json")), b"{")
    state = inspect_lake(lake, settings, now, NOBODY, live=True)
    (only,) = state.alerts
    assert (only.family, only.code, only.as_of) == (
        "data/health",
        "coverage",
        manifest["generated_at"],
    )
    assert "monitoring/intro/latest/manifest.json is unreadable" in state.attention


def test_quarantine_needs_attention_for_a_day(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, _ = observed
    quarantine.keep(lake, Layout(settings), quarantine.Reject("bronze/x", b"x", "not Parquet"))
    now = dt.datetime.now(dt.UTC)
    counts = []
    for later in (dt.timedelta(), dt.timedelta(days=2)):
        state = inspect_lake(lake, settings, now + later, NOBODY, live=False)
        counts.append((state.quarantined, state.quarantined_lately))
    assert counts == [(1, 1), (1, 0)]


def test_the_forecast_log_names_the_snapshot_of_the_last_forecast(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, now = observed
    bins = network.bins_of_days(1, every=96)
    for bin_ in bins:
        network.put(
            lake, Layout(settings).name(ForecastLogPartition(bin_, H15, "0a1b2c3d")), b"a page"
        )
    state = inspect_lake(lake, settings, now, NOBODY, live=True)
    assert state.forecast_log_newest == state.newest_snapshot == "2025-10-31T00:00:00Z"
    assert state.forecast_log_days == 0, "its pages are not united yet"


def test_dead_letters_are_listed_with_the_function_that_failed(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, now = observed
    letters = (DeadLetter("velib-ingest-sub", "{}", 20),)
    state = inspect_lake(lake, settings, now, DeadLetters(1, letters=letters), live=True)
    assert "1 message was dead-lettered" in state.attention
    assert reported(state)["dead letters"] == "1\nvelib-ingest-sub: {} after 20 attempts"
    document: Any = state.as_json()
    assert document["dead_letters"]["count"] == 1


def test_dead_letters_of_a_run_are_in_its_deliveries(tmp_path: Path) -> None:
    records = tmp_path / RECORDS
    records.mkdir()

    def delivery(message: str, attempt: int, status: int) -> Any:
        return {
            "function": "compact_daily",
            "message_id": message,
            "subject": f"day {message}",
            "attempt": attempt,
            "started": 0.0,
            "seconds": 1.0,
            "status": status,
        }

    tried = [delivery("mended", n, 500) for n in range(1, 20)] + [delivery("mended", 20, 200)]
    tried += [delivery("lost", n, 500) for n in range(1, 21)]
    tried += [delivery("cut off", 1, 0)]  # the run ended before the next attempt
    lines = "".join(json.dumps(line) + "\n" for line in tried)
    (records / "deliveries.jsonl").write_text(lines, "utf-8")
    letters = (DeadLetter("compact_daily", "day lost", 20),)
    assert dead_lettered(tmp_path) == DeadLetters(1, letters=letters)


def test_without_a_project_dead_letters_are_unknown_and_the_option_is_named(
    settings: Settings,
) -> None:
    nameless = deployed_settings({}, settings.root)
    assert waiting(nameless).count is None
    assert "--project" in present(waiting(nameless).reason)


@pytest.mark.parametrize(
    ("root", "environ", "network_"),
    [
        ("gs://bucket/lyon", {}, "lyon"),
        ("gs://bucket/lyon", {"VELIB_NETWORK": "paris"}, "paris"),
        ("gs://bucket", {}, "velib"),
        ("gs://bucket/My_Lake", {}, "velib"),
    ],
)
def test_a_network_is_called_like_its_folder_unless_it_is_said(
    root: str, environ: dict[Any, Any], network_: str
) -> None:
    assert deployed_settings(environ, root, "p").network == network_


def test_a_bucket_is_looked_at_as_a_live_lake(
    observed: tuple[Lake, datetime], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    result = run("status", "--bucket", settings.root, "--json")
    state = json.loads(result.output)
    assert state["dailies"] == 1
    assert any("old" in line for line in state["attention"])


def test_a_lake_is_looked_at_with_the_settings_that_it_was_made_with(
    observed: tuple[Lake, datetime], settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "lyon.env"
    file.write_text("MON_HORIZONS=30\n", "utf-8")
    result = run("status", "--bucket", settings.root, "--settings", str(file), "--json")
    assert [model["horizon_min"] for model in json.loads(result.output)["models"]] == [30]


# --- contents: what was written is what lies there ----------------------------------------------

VERSIONS = {"2.0.0": "20251027-235500Z-1f2e3d4c", "2.0.1": FOLDER}
KPIS = Monitoring("data/health", "kpis.json")


def newest_bin() -> Bin:
    return Bin(network.bins_of_days(1)[-1])


@pytest.fixture
def modelled(observed: tuple[Lake, datetime], settings: Settings) -> Any:
    """A lake with two registered models of each horizon, the newer live, logged and monitored."""
    lake, now = observed
    layout = Layout(settings)
    for horizon in settings.horizons:
        for version, folder in VERSIONS.items():
            booster = f"booster {version}".encode()
            record = {
                "version": version,
                "folder": folder,
                "end_date": "2025-10-28",
                "files": {"model.ubj": hashlib.sha256(booster).hexdigest()},
            }
            network.put(lake, layout.name(ModelFile(horizon, folder, "model.ubj")), booster)
            put_json(lake, layout.name(ModelFile(horizon, folder, registry.RECORD)), record)
            put_json(lake, layout.name(ModelFile(horizon, None, registry.POINTER)), record)
        partition = ForecastLogPartition(newest_bin(), horizon, "0a1b2c3d")
        network.put(lake, layout.name(partition), table_of(FORECAST_LOG_SCHEMA))
        put_json(lake, layout.name(Forecast(horizon)), {"model_version": "2.0.1", "data": []})
    put_json(lake, layout.name(GBFS), {"version": "3.0"})
    network.put(lake, layout.name(PROFILE), to_bytes(empty_profiles("Europe/Paris", [])))
    network.put(lake, layout.name(EVENTS), table_of(FORECAST_LOG_SCHEMA))
    put_json(lake, layout.name(ExportsManifest()), {"checksums": {}})
    stamp = {"snapshot": iso_z(bin_start(newest_bin())), "horizons": list(settings.horizons)}
    put_json(lake, layout.name(ServingManifest()), stamp)
    kpis = json_bytes({"coverage_global_pct": 99.0})
    network.put(lake, layout.name(KPIS), kpis)
    manifest = {"alerts": [], "checksums": {"kpis.json": crc32c(kpis)}}
    put_json(lake, layout.name(Monitoring("data/health", "manifest.json")), manifest)
    return lake, now


POINTER = ModelFile(H15, None, registry.POINTER)
BOOSTER = ModelFile(H15, FOLDER, "model.ubj")
HEALTH = Monitoring("data/health", "manifest.json")
GBFS = GbfsDocument(H15, "station_status.json")
PROFILE = Profile(network.FIRST_DAY)
EVENTS = Events(network.FIRST_DAY)
DAILY = Daily(network.FIRST_DAY)
PARTITION = ForecastLogPartition(newest_bin(), H15, "0a1b2c3d")
NEWEST = Snapshot(newest_bin())


def table_of(schema: pa.Schema) -> bytes:
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    return sink.getvalue()


FORGED: dict[str, tuple[Key, bytes | None]] = {
    "pointer deleted": (POINTER, None),
    "pointer truncated": (POINTER, b'{"folder": "2025'),
    "booster deleted": (BOOSTER, None),
    "booster replaced": (BOOSTER, b"another"),
    "forecast log deleted": (PARTITION, None),
    "forecast log truncated": (PARTITION, b"PAR1"),
    "snapshot replaced": (NEWEST, b"<html>"),
    "daily deleted": (DAILY, None),
    "daily truncated": (DAILY, b"PAR1" + bytes(200)),
    "observations table emptied": (EVENTS, b""),
    "profile replaced": (PROFILE, b"PK\x03\x04"),
    "exports manifest truncated": (ExportsManifest(), b'{"checks'),
    "forecast deleted": (Forecast(H15), None),
    "document edited": (KPIS, b'{"coverage_global_pct":100.0}'),
    "document deleted": (KPIS, None),
    "document truncated": (KPIS, b"{"),
    "document empty": (KPIS, b""),
    "manifest truncated": (HEALTH, b'{"alerts"'),
    "forecast truncated": (Forecast(H15), b"[1, 2"),
    "GBFS document truncated": (GBFS, b'{"version"'),
}
"""What is done behind our back: the object, and what it holds then, ``None`` where it is gone."""


def forge(lake: Lake, settings: Settings, fault: Any) -> None:
    key, data = FORGED[fault]
    name = Layout(settings).name(key)
    if data is None:
        lake.delete(present(lake.stat(name)))
    else:  # as a person does, not as a function
        bucket = storage.Client(project=settings.project).bucket(settings.bucket)
        bucket.blob(name).upload_from_string(data)


ON_THE_PAGE = {
    "pointer deleted": {"pointer_missing"},
    "pointer truncated": {"pointer_damaged"},
    "booster deleted": {"model_damaged"},
    "booster replaced": {"model_damaged"},
    "forecast log deleted": {"unlogged"},
    "forecast log truncated": {"unreadable"},
    "snapshot replaced": {"unreadable"},
    "daily deleted": {"artefacts"},
    "daily truncated": {"unreadable"},
    "observations table emptied": {"unreadable"},
    "profile replaced": {"unreadable"},
    "exports manifest truncated": {"unreadable"},
    "forecast deleted": {"missing"},
    "document edited": {"edited"},
    "document deleted": {"missing"},
    "document truncated": {"unreadable"},
    "document empty": {"unreadable"},
    "manifest truncated": {"unreadable"},
    "forecast truncated": {"unreadable"},
    "GBFS document truncated": {"unreadable"},
}


@pytest.mark.parametrize("fault", FORGED)
def test_the_page_says_what_status_says(
    modelled: Any, settings: Settings, tmp_path: Path, fault: Any
) -> None:
    lake, _ = modelled
    folder = tmp_path / "lake"
    entries = list(lake.entries(""))
    for entry in entries:
        target = folder / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lake.read(entry))
    record_entries(entries, folder)
    before = findings_of_page(folder)
    key, data = FORGED[fault]
    forged = folder / Layout(settings).name(key)
    forged.unlink() if data is None else forged.write_bytes(data)
    after = findings_of_page(folder)
    assert {f["code"] for f in after if f not in before} >= ON_THE_PAGE[fault]
    said = json.loads(run("status", "--dir", str(folder), "--json").stdout)["findings"]
    assert {f["text"] for f in after} <= {f["text"] for f in said}
    for language in ("fr", "en"):
        assert all(f"finding.{f['code']}" in texts()[language] for f in after)


def findings_of_page(folder: Path) -> Any:
    """What the page of a folder carries; every code of it is said in both languages."""
    lake, settings = open_lake(None, folder)
    state = inspect_lake(
        lake, settings, dt.datetime.now(dt.UTC), NOBODY, live=False, place=f"--dir {folder}"
    )
    sources = read_sources(lake, settings, findings=state.findings)
    page = report_data(sources, dt.datetime.now(dt.UTC))
    said = [finding["about"].replace("/latest/", "/") for finding in page["findings"]]
    assert not [name for name in page["unreadable"] if any(a.endswith(name) for a in said)]
    return page["findings"]


FAULTS = {
    "pointer deleted": ("models", "2 models registered, but none is live", "rollback"),
    "pointer truncated": ("models", "the pointer is damaged", "--horizon 15 --to 2.0.1"),
    "booster deleted": ("models", "model.ubj is missing", "--horizon 15 --to 2.0.0"),
    "booster replaced": ("models", "not the file that was registered", "--to 2.0.0"),
    "forecast log deleted": ("forecast log", "lacks the newest forecast of h15", None),
    "forecast log truncated": ("forecast log", "_0a1b2c3d.parquet is unreadable", None),
    "snapshot replaced": ("snapshots", "T00-00.parquet is unreadable", None),
    "daily deleted": ("artefacts", "missing or stale", "-replay"),
    "daily truncated": ("days", ".parquet is unreadable", '"day": "2025-10-30"'),
    "observations table emptied": ("days", ".parquet is unreadable", "build_datasets"),
    "profile replaced": ("profiles", ".npz is unreadable", "refresh_profiles"),
    "exports manifest truncated": ("documents", "manifest.json is unreadable", "build_datasets"),
    "forecast deleted": ("forecasts", "forecast.json is missing", "build_serving_forecast"),
    "document edited": ("documents", "not what its manifest says", "build_data_health"),
    "document deleted": ("documents", "kpis.json is missing", "build_data_health"),
    "document truncated": ("documents", "kpis.json is unreadable", "build_data_health"),
    "document empty": ("documents", "kpis.json is unreadable", "build_data_health"),
    "manifest truncated": ("documents", "manifest.json is unreadable", "build_data_health"),
    "forecast truncated": ("forecasts", "forecast.json is unreadable", "build_serving_forecast"),
    "GBFS document truncated": ("forecasts", "station_status.json is unreadable", "build_serving_"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_changed_behind_our_back_is_found_with_the_command_that_fixes_it(
    modelled: Any, settings: Settings, fault: Any
) -> None:
    lake, now = modelled
    before = inspect_lake(lake, settings, now, NOBODY, live=True)
    forge(lake, settings, fault)
    after = inspect_lake(lake, settings, now, NOBODY, live=True)
    found = [finding for finding in after.findings if finding not in before.findings]
    subject, words, command = FAULTS[fault]
    finding = next(finding for finding in found if finding.subject == subject)
    assert words in finding.text
    assert (command in present(finding.command)) if command else finding.command is None


def test_an_object_that_is_too_large_to_read_ends_no_look_at_the_others(
    modelled: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, now = modelled
    forge(lake, settings, "document edited")
    forge(lake, settings, "profile replaced")
    monkeypatch.setattr("velib_core.lake.bucket.MAX_READ_BYTES", 3)
    found = inspect_lake(lake, settings, now, NOBODY, live=True).findings
    layout = Layout(settings)
    unreadable = {finding.about for finding in found if finding.code == "unreadable"}
    assert unreadable >= {layout.name(HEALTH), layout.name(GBFS), layout.name(PROFILE)}


def test_a_lake_as_written_has_no_finding_about_its_contents(
    modelled: Any, settings: Settings
) -> None:
    lake, now = modelled
    state = inspect_lake(lake, settings, now, NOBODY, live=True)
    subjects = {finding.subject for finding in state.findings}
    assert not subjects & {"documents", "models", "forecasts", "forecast log"}


def test_a_forged_folder_is_found_by_status_and_by_doctor(
    modelled: Any, settings: Settings, tmp_path: Path
) -> None:
    lake, _ = modelled
    entries = list(lake.entries(""))
    for entry in entries:
        target = tmp_path / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(lake.read(entry))
    record_entries(entries, tmp_path)
    kpis = tmp_path / Layout(settings).name(KPIS)
    kpis.write_bytes(kpis.read_bytes().replace(b"99", b"89"))  # as long as before
    (tmp_path / Layout(settings).name(ModelFile(H15, None, registry.POINTER))).unlink()
    said = run("status", "--dir", str(tmp_path)).output
    assert "kpis.json is not what its manifest says" in said
    assert f"velib rollback --dir {tmp_path} --horizon 15 --to 2.0.1" in said
    checked = run("doctor", "--dir", str(tmp_path))
    assert checked.exit_code == 1
    assert "failed  documents" in checked.output
    assert "ok      forecast log" in checked.output
    refused = run("rollback", "--dir", str(tmp_path), "--horizon", "7")
    assert refused.exit_code == 2
    assert "--horizon 7: this network forecasts 15, 60 minutes ahead" in refused.output
    repaired = run("rollback", "--dir", str(tmp_path), "--horizon", "15", "--to", "2.0.1")
    assert repaired.exit_code == 0, repaired.output
    assert "none is live: latest.json" not in run("status", "--dir", str(tmp_path)).output


def test_a_folder_is_made_again_by_the_command_that_made_it(mirrored: Path) -> None:
    made = mirrored / RECORDS / COMMAND
    made.write_text('["replay", "--source", "my city.csv", "--out", "out/x"]', "utf-8")
    said = run("status", "--dir", str(mirrored)).output
    assert "   velib replay --source 'my city.csv' --out out/x\n" in said
    made.write_text('["query", "; rm -rf ~"]', "utf-8")
    assert "rm -rf" not in run("status", "--dir", str(mirrored)).output


def test_a_terminal_obeys_no_text_of_the_lake(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, _ = observed
    layout = Layout(settings)
    nasty = "\x1b[2J\x1b]0;owned\x07[red]ok[/red]\nAll is well.\u202e"
    manifest = {"alerts": [{"level": "high", "code": "x", "text": nasty}]}
    put_json(lake, layout.name(Monitoring("data/health", "manifest.json")), manifest)
    said = run("status", "--bucket", settings.root).output
    assert "[red]ok[/red]" in said, "markup is text"
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "All is well." not in {line.strip() for line in said.splitlines()}


def test_the_zone_and_thresholds_are_those_that_the_documents_were_made_with(
    observed: tuple[Lake, datetime], settings: Settings
) -> None:
    lake, _ = observed
    layout = Layout(settings)
    made = {"tz": "America/Chicago", "thresholds": {"compl_alert_pct": 90.0, "penury": 3}}
    put_json(lake, layout.name(Monitoring("data/health", "manifest.json")), made)
    put_json(lake, layout.name(ServingManifest()), {"horizons": [30]})
    found = as_published(lake, settings, {})
    assert (found.tz, found.penury_bikes, found.horizons) == ("America/Chicago", 3, (30,))
    assert found.monitoring.health_compl_alert_pct == 90.0
    kept = as_published(lake, settings, {"TZ_APP": "Asia/Taipei", "MON_HORIZONS": "45"})
    assert (kept.tz, kept.horizons) == (settings.tz, settings.horizons), "they are set by the file"
    said = run("status", "--bucket", settings.root).output
    assert "2025-10-30 19:00 CDT" in said


@pytest.mark.parametrize(
    "made",
    [
        b"{",
        b"[]",
        b"null",
        b'{"tz": 7, "thresholds": [], "horizons": 5}',
        b'{"tz": "Mars/Olympus", "thresholds": {"penury": "many", "compl_alert_pct": true}}',
    ],
)
def test_documents_that_say_nothing_sensible_change_no_setting(
    observed: tuple[Lake, datetime], settings: Settings, made: bytes
) -> None:
    lake, _ = observed
    layout = Layout(settings)
    network.put(lake, layout.name(Monitoring("data/health", "manifest.json")), made)
    network.put(lake, layout.name(ServingManifest()), made)
    assert as_published(lake, settings, {}) == settings


def test_the_first_line_is_a_sentence_and_numbers_agree_with_their_nouns(
    lake: Lake, settings: Settings
) -> None:
    days = [Bin(network.bins_of_days(1)[0] + 288 * n) for n in (0, 2)]
    network.upload(lake, settings, days)
    state = inspect_lake(lake, settings, bin_start(days[-1]), NOBODY, live=True)
    assert "1 day has no snapshot" in state.attention
    assert sentence(state).startswith(f"{len(state.findings)} things need attention, the first: ")
    well = dataclasses.replace(state, findings=[])
    assert sentence(well).startswith("All is well: 2025-11-01 01:00 CET, 0 minutes old")


def test_help_and_status_of_a_folder_load_neither_the_emulator_nor_a_client_of_a_cloud(
    tmp_path: Path,
) -> None:
    """The real start of the command, in a process of its own; counts, not times."""
    (tmp_path / "bronze").mkdir()
    script = """
import sys
import velib_cli.main
try:
    velib_cli.main.main(["--help"])
except SystemExit as left:
    assert not left.code
count = len(sys.modules)
try:
    velib_cli.main.main(["status", "--dir", sys.argv[1], "--json"])
except SystemExit as left:
    assert left.code == 1, "a lake without anything needs attention"
heavy = ("velib_local.emulator", "velib_local.simulation", "google.api_core",
         "google.cloud.storage", "google.cloud.pubsub", "grpc", "plotly", "pandas", "xgboost",
         "duckdb")
print(count, [name for name in sys.modules if name.startswith(heavy)], file=sys.stderr)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, rest = done.stderr.splitlines()[-1].split(maxsplit=1)
    assert int(count) < 400
    assert rest.strip() == "[]"
