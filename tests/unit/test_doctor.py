"""What ``velib doctor`` finds in a deployed project, and what it says to type."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Literal

import network
import pytest
from present import present
from velib_cli.doctor import Check, examine, examine_runtime
from velib_core.timeline.bins import bin_of
from velib_deploy.commands import RUNTIME_ENDS
from velib_deploy.plan import make_plan
from velib_deploy.target import Target
from velib_local.emulator.cloud import local_cloud
from velib_local.emulator.pubsub_google import find_emulator
from velib_local.emulator.servers import BUCKET, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

REGION = "europe-west1"
NO_FEEDS = {"GBFS_URL": "http://127.0.0.1:9/gbfs.json", "METEO_DISABLE": "1"}


def test_the_settings_of_a_network_reach_its_plan(tmp_path: Path) -> None:
    file = tmp_path / "lyon.env"
    lines = ["GBFS_URL=https://example.org/gbfs.json", "GCS_RAW_PREFIX=gs://lyon-lake/lyon/raw"]
    file.write_text("\n".join(lines), "utf-8")
    plan = make_plan(Target("my-project", REGION, "lyon-lake", "lyon", file=file))
    envs = {step.flags["set-env-vars"] for step in plan.of("functions deploy")}
    assert all("|GBFS_URL=https://example.org" in env.replace("^|^", "|") for env in envs)
    assert plan.expiry == {"lyon/raw/": 400, "lyon/ledger/": 400, "lyon/quarantine/": 400}
    assert plan.again.endswith(f"--bucket lyon-lake --network lyon --settings {file}")


def test_the_end_of_the_runtime_is_reported_a_year_before() -> None:
    year = dt.timedelta(days=365)
    assert examine_runtime(RUNTIME_ENDS - year - dt.timedelta(days=1)).result == "ok"
    late = examine_runtime(RUNTIME_ENDS - year)
    assert (late.result, str(RUNTIME_ENDS) in late.detail) == ("failed", True)


def test_a_wrong_file_of_settings_is_reported_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "lyon.env"
    file.write_text("OPENMETEO_LATITUDE=45.76\n", "utf-8")
    checks = {c.name: c for c in examine(NO_FEEDS, "gs://c/lyon", "p", REGION, file)}
    assert checks["settings"].result == "failed"
    assert "OPENMETEO_LATITUDE" in checks["settings"].detail


def test_without_a_region_the_project_is_skipped_and_the_option_is_named() -> None:
    checks = {c.name: c for c in examine(NO_FEEDS | {"PATH": ""}, "gs://b/velib", "p")}
    assert (checks["project"].result, "--region" in checks["project"].detail) == ("skipped", True)


def test_without_a_deployment_only_this_machine_is_looked_at() -> None:
    checks = {c.name: c for c in examine({})}
    assert checks["deployment"].result == "skipped"
    assert "--bucket" in checks["deployment"].detail


def test_a_bucket_that_is_no_address_is_reported_with_an_example() -> None:
    checks = {c.name: c for c in examine({"GCS_BUCKET_ROOT": "nowhere"})}
    assert checks["settings"].result == "failed"
    assert "gs://BUCKET" in checks["settings"].detail


def test_a_bucket_is_asked_for_its_clock_and_its_newest_snapshot(
    lake: Lake, settings: Settings
) -> None:
    now = dt.datetime.now(dt.UTC)
    env = {**os.environ, **NO_FEEDS}

    def inspect_lake() -> dict[str, Check]:
        return {check.name: check for check in examine(env, settings.root)}

    before = inspect_lake()
    assert {before[name].result for name in ("clock", "bucket")} == {"ok"}
    assert re.search(r"[+-]\d+ s between", before["clock"].detail)
    assert before["newest snapshot"].detail == "there is none"
    assert "scheduler jobs run velib-ingest" in present(before["newest snapshot"].fix_command)
    network.upload(lake, settings, [bin_of(now - dt.timedelta(hours=1))])
    assert "expected at most 30 min" in inspect_lake()["newest snapshot"].detail
    network.upload(lake, settings, [bin_of(now)])
    assert inspect_lake()["newest snapshot"].result == "ok"
    assert inspect_lake()["GBFS feed"].result == "failed"
    missing = {c.name: c for c in examine(env, "gs://no-such-bucket")}["bucket"]
    assert (missing.result, present(missing.fix_command).split()[0]) == ("failed", "./deploy.sh")


@pytest.fixture
def strange_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store that is five minutes ahead, and lets its caller list and nothing else."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            granted = {"permissions": ["storage.objects.list"]}
            body = json.dumps(granted if "testPermissions" in self.path else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: Any = None) -> str:
            return super().date_time_string(time.time() + 300)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_address[1]}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("strange_store")
def test_a_wrong_clock_and_a_missing_right_are_reported_with_what_is_expected() -> None:
    checks = {c.name: c for c in examine(NO_FEEDS, "gs://b/velib")}
    assert re.match(r"\+(29\d|30\d) s .*, expected at most 60 s", checks["clock"].detail)
    assert "ntp" in present(checks["clock"].fix_command)
    reported = checks["bucket"]
    assert reported.detail == "you may not storage.objects.create, storage.objects.get"
    assert present(reported.fix_command).startswith(
        "gcloud storage buckets add-iam-policy-binding gs://b"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["embedded", pytest.param("google", marks=pytest.mark.slow)])
def test_topics_and_dead_letters_are_looked_at_where_messages_are(
    kind: Literal["embedded", "google"],
) -> None:
    if kind == "google" and find_emulator() is None:
        pytest.skip("Google's Pub/Sub emulator is not installed")

    def inspect_lake() -> dict[str, Check]:
        checks = examine({**os.environ, **NO_FEEDS}, f"gs://{BUCKET}", PROJECT)
        return {check.name: check for check in checks}

    with local_cloud({}, kind=kind):
        checks = inspect_lake()
    assert checks["topics"].result == checks["dead-letter subscription"].result == "ok"
    assert checks["project"].result == "skipped"
    with local_cloud({}, kind=kind, only=["close_day"]):
        checks = inspect_lake()
    assert checks["topics"].detail == "missing velib-alerts"
    assert present(checks["topics"].fix_command).startswith(
        "gcloud pubsub topics create velib-alerts"
    )
