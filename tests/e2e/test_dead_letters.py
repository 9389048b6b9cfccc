"""A message that no attempt could handle: set aside, and shown by status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import network
import pytest
from click.testing import CliRunner
from permission_proxy import LIST, Denial, behind_proxy
from velib_cli.main import cli
from velib_core.events.topics import MAX_DELIVERY_ATTEMPTS
from velib_local.emulator import run
from velib_local.emulator.cloud import local_cloud
from velib_local.emulator.servers import BUCKET, PROJECT
from velib_local.simulation.city import City
from velib_local.simulation.feed_server import FeedServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def no_listing(_specs: Any, _settings: Any) -> Any:
    """A deployment that forgot one right: nobody may list."""
    return lambda operation: Denial(403) if operation.permission == LIST else None


def status(*arguments: Any) -> Any:
    return json.loads(CliRunner().invoke(cli, ["status", *arguments, "--json"]).output)


def test_dead_letters_are_shown_for_a_deployment_and_for_a_folder(tmp_path: Path) -> None:
    with local_cloud({}, only=["close_day"], proxy=behind_proxy(no_listing)) as cloud:
        network.upload(cloud.lake, cloud.settings, network.bins_of_days(1)[:2])
        cloud.wait_until_idle()
        # Twice, since a look takes nothing away.
        looks = [status("--bucket", f"gs://{BUCKET}", "--project", PROJECT) for _ in range(2)]
        no_feed: Any = None
        report = run.run(cloud, no_feed, [], lambda: None, ends=False, train_every_days=1)
        run.keep(cloud, report, tmp_path)
    folder = status("--dir", str(tmp_path))
    assert [inspect_lake["dead_letters"]["count"] for inspect_lake in looks] == [2, 2]
    assert folder["dead_letters"]["count"] == report.dead_letters == 2
    reported, kept = (
        sorted(letter["subject"] for letter in state["dead_letters"]["letters"])
        for state in (looks[0], folder)
    )
    assert reported == kept
    assert all(name.startswith("bronze/") for name in reported)
    for state, source in ((looks[0], "velib-close_day-bronze"), (folder, "close_day")):
        letters = state["dead_letters"]["letters"]
        assert {(x["source"], x["attempts"]) for x in letters} == {(source, MAX_DELIVERY_ATTEMPTS)}
        assert "2 messages were dead-lettered" in state["attention"]


def test_a_trigger_that_no_attempt_could_handle_holds_up_a_feed_no_longer() -> None:
    nothing = behind_proxy(lambda *_: lambda _operation: Denial(403))
    with FeedServer() as feed:
        feed.show(City(4).state())
        with local_cloud(feed.environment(), only=["ingest"], proxy=nothing) as cloud:
            cloud.trigger_ingest()
            cloud.wait_until_idle()
            assert len(cloud.dead_letters()) == 1
