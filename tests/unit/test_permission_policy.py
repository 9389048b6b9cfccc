"""Who may do what, by the conditions that deployment grants."""

from __future__ import annotations

from typing import Any

import permission_policy
import permission_proxy
import pytest
from permission_proxy import Denial, Operation
from velib_core.lake.layout import Layout
from velib_core.settings.network import Settings
from velib_deploy.function_specs import load_specs

SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": "gs://b/velib", "GOOGLE_CLOUD_PROJECT": "p"})
SPECS = load_specs()
RIGHTS = permission_policy.rights(SPECS, SETTINGS)
POLICY = permission_policy.only_what_is_granted(SPECS, SETTINGS)
FOLDERS = {
    name: folder for name, folder in vars(Layout(SETTINGS)).items() if isinstance(folder, str)
}


def folders(function: str, permission: str) -> set[str]:
    """Return in which of the network's folders a function has a permission."""
    return {
        short
        for short, folder in FOLDERS.items()
        if POLICY(Operation(function, permission, resource(f"{folder}/x"))) is None
    }


def resource(name: str, bucket: str = "b") -> str:
    return permission_proxy.object_resource(bucket, name)


def test_ingest_writes_snapshots_and_what_it_could_not_read_and_reads_nothing_else() -> None:
    own = {"bronze", "quarantine"}
    assert folders("ingest", permission_proxy.GET) == own
    assert folders("ingest", permission_proxy.CREATE) == own
    assert folders("ingest", permission_proxy.DELETE) == {"bronze"}


@pytest.mark.parametrize("name", ["close_day", "reconcile"])
def test_who_only_asks_others_to_work_writes_nothing(name: str) -> None:
    assert folders(name, permission_proxy.CREATE) == folders(name, permission_proxy.DELETE) == set()


def test_only_compaction_deletes_what_it_does_not_make() -> None:
    for name in SPECS:
        extra = folders(name, permission_proxy.DELETE) - folders(name, permission_proxy.CREATE)
        assert extra == ({"bronze"} if name == "compact_daily" else set()), name


def test_what_is_quarantined_is_deleted_by_nobody() -> None:
    assert not any("quarantine" in folders(name, permission_proxy.DELETE) for name in SPECS)


def test_each_folder_but_exports_quarantine_and_monitoring_has_one_writer() -> None:
    writers = {
        folder: {name for name in SPECS if folder in folders(name, permission_proxy.CREATE)}
        for folder in FOLDERS
    }
    shared = {folder for folder, names in writers.items() if len(names) > 1}
    assert shared <= {"exports", "quarantine", "monitoring"}
    assert writers["bronze"] == {"ingest"}
    assert writers["daily"] == {"compact_daily"}
    assert writers["models"] == {"train_model"}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "permission",
    [
        permission_proxy.GET,
        permission_proxy.CREATE,
        permission_proxy.DELETE,
        permission_proxy.UNKNOWN,
    ],
)
def test_no_function_reaches_beyond_its_network(name: Any, permission: Any) -> None:
    for beyond in (
        resource("velib-lyon/bronze/x"),
        resource("bronze/x"),
        resource("velib/bronzen/x"),
        resource("velib/../velib/x"),
        resource("velib/bronze/x", bucket="c"),
        resource("velib/bronze/x").replace("objects", "object"),
    ):
        assert POLICY(Operation(name, permission, beyond)) == Denial(403)


@pytest.mark.parametrize("name", SPECS)
def test_names_are_listed_in_the_own_bucket_only(name: Any) -> None:
    assert POLICY(Operation(name, permission_proxy.LIST, "projects/_/buckets/b")) is None
    assert POLICY(Operation(name, permission_proxy.LIST, "projects/_/buckets/bb")) == Denial(403)


@pytest.mark.parametrize("name", SPECS)
def test_a_function_publishes_what_its_configuration_says_on_topics_of_its_network(
    name: Any,
) -> None:
    for topic in ("tick", "day-closed", "train", "replay", "bronze", "daily", "exports"):
        granted = topic in SPECS[name].access.publish
        for network, expected in (("velib", granted), ("velib-lyon", False)):
            full = f"projects/p/topics/{network}-{topic}"
            assert (POLICY(Operation(name, permission_proxy.PUBLISH, full)) is None) == expected


def test_a_condition_that_is_more_than_prefixes_is_not_understood() -> None:
    with pytest.raises(ValueError, match="more than a choice"):
        permission_policy.prefixes('resource.name.startsWith("a") && true')
