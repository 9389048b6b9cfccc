from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import network
import pytest
from velib_core import launcher
from velib_core.lake.bucket import Lake
from velib_core.lake.lease import LeaseBusyError, lease
from velib_core.timeline.bins import Bin, day_after, first_bin, today

if TYPE_CHECKING:
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY


@pytest.fixture
def environ(settings: Settings) -> dict[str, str]:
    """The environment of a launch against this test's bucket."""
    return {"GCS_BUCKET_ROOT": settings.root, "GOOGLE_CLOUD_PROJECT": settings.project}


@pytest.fixture
def observed(lake: Lake, settings: Settings) -> Lake:
    network.upload(lake, settings, network.bins_of_days(1, every=96))
    return lake


def test_a_job_runs_by_name_for_a_day(observed: Lake, environ: dict[str, str]) -> None:
    code = launcher.launch(environ | {"JOB": "compact_daily", "DAY": str(DAY)})
    assert code == launcher.DONE
    assert observed.stat(f"daily/compact_{DAY}.parquet") is not None


def test_yesterday_is_the_default_day(
    lake: Lake, settings: Settings, environ: dict[str, str]
) -> None:
    yesterday = day_after(today(), -1)
    network.upload(lake, settings, [Bin(first_bin(yesterday))])
    assert launcher.launch(environ | {"JOB": "compact_daily"}) == launcher.DONE
    assert lake.stat(f"daily/compact_{yesterday}.parquet") is not None


@pytest.mark.usefixtures("lake")
def test_a_day_without_snapshots_is_said_to_be_one(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for named in ({}, {"DAY": "2024-02-29"}):
        assert launcher.launch(environ | {"JOB": "compact_daily"} | named) == launcher.DONE
        said = capsys.readouterr()
        warning = next(
            line for line in map(json.loads, (said.out + said.err).splitlines())
            if line["severity"] == "WARNING"
        )  # fmt: skip
        assert warning["message"].startswith("nothing was written: no input to make daily/compact_")
        assert named.get("DAY", "") in warning["message"]


@pytest.mark.parametrize("flag", ["1", "true"])
def test_a_dry_run_says_what_it_would_write_and_writes_nothing(
    observed: Lake, environ: dict[str, str], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    before = network.contents(observed)
    lock = f"{environ['GCS_BUCKET_ROOT']}/locks/x"
    env = environ | {"JOB": "compact_daily", "DAY": str(DAY), "DRY_RUN": flag, "GCS_LOCK": lock}
    assert launcher.launch(env) == launcher.DONE
    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert f"dry run: would write daily/compact_{DAY}.parquet" in said
    assert any(message.startswith("dry run: reads bronze/") for message in said)
    assert network.contents(observed) == before


def test_only_the_job_that_is_launched_is_imported() -> None:
    code = (
        "import sys; from velib_core import launcher;"
        "launcher.launch({'GCS_BUCKET_ROOT': 'gs://b', 'JOB': 'compact_daily', 'DAY': 'x'});"
        "print(*(name for name in sys.modules if name.startswith('velib_core.jobs.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["velib_core.jobs.compact_daily"])


@pytest.mark.parametrize(
    "change",
    [
        {"JOB": "mine_bitcoin"},
        {"JOB": ""},
        {"DAY": "2025-02-30"},
        {"DAY": "yesterday"},
        {"DAY": "", "DAY_OFFSET": "x"},
        {"JOB": "compact_monthly", "MONTH": "2025-13"},
        {"DRY_RUN": "maybe"},
        {"GCS_BUCKET_ROOT": "bucket"},
        {"GCS_LOCK": "locks/x"},
        {"GCS_LOCK": "gs://other-bucket/x"},
    ],
)
def test_a_wrong_setting_ends_with_2_and_names_itself(
    environ: dict[str, str], change: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    env = environ | {"JOB": "compact_daily", "DAY": str(DAY)} | change
    assert launcher.launch(env) == launcher.WRONG_SETTING
    name, value = next((k, v) for k, v in reversed(change.items()))
    message = json.loads(capsys.readouterr().err.splitlines()[-1])["message"]
    assert name in message
    assert value in message


def test_a_failed_job_ends_with_1(environ: dict[str, str]) -> None:
    assert launcher.launch(environ | {"JOB": "export_training_base"}) == launcher.FAILED


def test_a_job_without_credentials_is_one_line_with_the_way_out(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    assert launcher.launch(environ | {"JOB": "compact_daily"}) == launcher.FAILED
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "gcloud auth application-default login" in json.loads(said[0])["message"]


def test_a_held_lock_ends_with_75_and_runs_nothing(observed: Lake, environ: dict[str, str]) -> None:
    env = environ | {"JOB": "compact_daily", "DAY": str(DAY)}
    env["GCS_LOCK"] = f"{environ['GCS_BUCKET_ROOT']}/locks/compact"
    with lease(observed, "locks/compact"):
        assert launcher.launch(env) == launcher.BUSY
    assert observed.stat(f"daily/compact_{DAY}.parquet") is None
    assert launcher.launch(env) == launcher.DONE


def test_of_many_who_start_at_once_one_holds_the_lease(lake: Lake) -> None:
    start = threading.Barrier(8)
    holders: list[int] = []
    refused: list[int] = []

    def hold(n: int) -> None:
        start.wait()
        try:
            with lease(lake, "lock"):
                holders.append(n)
                done.wait(10)
        except LeaseBusyError:
            refused.append(n)
            if len(refused) == 7:
                done.set()

    done = threading.Event()
    threads = [threading.Thread(target=hold, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(holders), len(refused)) == (1, 7)


def test_a_lease_is_renewed_while_it_is_held_and_expires_when_its_holder_is_gone(
    lake: Lake,
) -> None:
    short = dt.timedelta(seconds=0.6)
    with lease(lake, "lock", short):
        threading.Event().wait(1.2)
        with pytest.raises(LeaseBusyError), lease(lake, "lock", short):
            pass
    with lease(lake, "lock"):  # long enough not to be renewed while it is read
        document = lake.fetch_json("lock")
    assert document["owner"]
    stale = json.dumps({"owner": "dead", "expires_at": "2020-01-01T00:00:00+00:00"}).encode()
    for left_behind in (stale, b"", b"not json"):
        network.put(lake, "lock", left_behind)
        with lease(lake, "lock"):
            assert lake.fetch_json("lock")["owner"] != "dead"


def test_a_lease_that_is_renewed_at_the_moment_it_is_looked_at_is_held(lake: Lake) -> None:
    class Renewed(Lake):
        def read(self, entry: Any) -> bytes:
            network.put(self, entry.name, b"another generation")
            return super().read(entry)

    network.put(lake, "lock", b"a generation")
    with pytest.raises(LeaseBusyError), lease(Renewed(lake.bucket), "lock"):
        pass
