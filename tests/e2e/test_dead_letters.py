"""A message that no attempt could handle: set aside, told by status, and told of a run's folder."""

import json

import network
import pytest
from click.testing import CliRunner
from velib_local import chain
from velib_local.cli import cli
from velib_local.cloud import BUCKET, MAX_DELIVERY_ATTEMPTS, PROJECT, local_cloud
from velib_local.guard import LIST, Refusal

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def no_listing(_specs, _settings):
    """A deployment that forgot one right: nobody may list."""
    return lambda operation: Refusal(403) if operation.permission == LIST else None


def status(*arguments):
    return json.loads(CliRunner().invoke(cli, ["status", *arguments, "--json"]).output)


def test_what_was_given_up_is_told_of_the_deployment_and_of_the_folder_alike(tmp_path):
    with local_cloud({}, only=["close_day"], rule=no_listing) as cloud:
        network.upload(cloud.lake, cloud.settings, network.bins_of_days(1)[:2])
        cloud.settle()
        # Twice, since a look takes nothing away.
        looks = [status("--bucket", f"gs://{BUCKET}", "--project", PROJECT) for _ in range(2)]
        report = chain.run(cloud, None, [], lambda: None, ends=False, train_every_days=1)
        chain.keep(cloud, report, tmp_path)
    folder = status("--dir", str(tmp_path))
    assert [look["dead_letters"]["count"] for look in looks] == [2, 2]
    assert folder["dead_letters"]["count"] == report.dead_letters == 2
    told, kept = (
        sorted(letter["subject"] for letter in state["dead_letters"]["letters"])
        for state in (looks[0], folder)
    )
    assert told == kept
    assert all(name.startswith("bronze/") for name in told)
    for state, source in ((looks[0], "velib-close_day-bronze"), (folder, "close_day")):
        letters = state["dead_letters"]["letters"]
        assert {(x["source"], x["attempts"]) for x in letters} == {(source, MAX_DELIVERY_ATTEMPTS)}
        assert "2 messages were given up" in state["attention"]
