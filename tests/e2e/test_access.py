"""Each function does all of its work with the rights that deployment grants, and needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import network
import permission_policy
import permission_proxy
import pytest
from city_run import Run, running
from commands import wait_until
from permission_proxy import Denial
from present import present
from velib_core.events.messages import ReplayRequested, Tick, TrainRequested
from velib_core.lake.keys import Daily, Perf
from velib_core.lake.layout import Layout
from velib_core.timeline.bins import Bin, day_after, first_bin, parse_day
from velib_deploy.function_specs import load_specs

if TYPE_CHECKING:
    from pathlib import Path

    from velib_core.settings.network import Settings
    from velib_local.emulator.cloud import LocalCloud

pytestmark = pytest.mark.e2e

FIRST_DAY = parse_day("2025-11-28")

UNUSED = {
    ("train_model", permission_proxy.DELETE, "models/"): "where a better model follows",
    (
        "build_serving_forecast",
        permission_proxy.DELETE,
        "ledger/",
    ): "where it forecasts the same snapshot",
    (
        "reconcile",
        permission_proxy.PUBLISH,
        "velib-bronze",
    ): "where no forecast followed a snapshot",
    (
        "reconcile",
        permission_proxy.PUBLISH,
        "velib-monitoring",
    ): "where only the introduction is stale",
} | {
    (
        f"build_{family.replace('/', '_')}",
        permission_proxy.GET,
        f"monitoring/{family}/",
    ): "comes with create"
    for family in ("model/explainability", "network/dynamics", "network/stations")
}
"""Rights that the work of the days below need not take, and when they are."""


def test_a_right_that_is_missing_costs_no_event() -> None:
    withdrawn = {permission_proxy.CREATE}

    def policy(operation: Any) -> Denial | None:
        return Denial(403) if operation.permission in withdrawn else None

    with running(lambda _specs, _settings: policy, only=["ingest"]) as run:
        run.feed.show(run.city.state())
        run.cloud.publish(Tick())
        wait_for_status(run.cloud, 500)
        assert network.contents(run.cloud.lake) == {}
        withdrawn.clear()
        run.cloud.wait_until_idle()
        (snapshot,) = network.contents(run.cloud.lake)
        assert snapshot == "bronze/date=2025-11-28/hour=00/2025-11-28T00-00.parquet"
        assert run.cloud.dead_letters() == []


def wait_for_status(cloud: LocalCloud, status: int) -> None:
    answers = cloud.gateway.deliveries
    wait_until(lambda: any(r.status == status for r in list(answers)), f"an answer {status}")


def live_through_everything(run: Run) -> None:
    """Let five days begin and four of them pass with all that can happen in them."""
    layout = Layout(run.cloud.settings)
    run.live(4)
    run.feed.reply("/gbfs/2/station_status", b'{"data":', times=2)
    run.live(19)
    run.live(1, every=4)
    run.put(Bin(first_bin(FIRST_DAY) + 37), b"no parquet")
    run.live(48 + 1)
    run.ask(TrainRequested())
    late = Bin(first_bin(FIRST_DAY) + 99)
    run.put(late, network.snapshot_object(late))
    run.ask(TrainRequested())
    run.live(24, every=60, in_step=True)
    for key in (Daily(FIRST_DAY), Perf(day_after(FIRST_DAY, 1))):
        run.cloud.lake.delete(present(run.cloud.lake.stat(layout.name(key))))
    run.ask(ReplayRequested())
    run.ask(TrainRequested())


@pytest.mark.slow
def test_with_its_rights_alone_each_function_leaves_the_same_lake_and_needs_them_all(
    tmp_path: Path,
) -> None:
    asked = set()

    def recorded(specs: Any, settings: Settings) -> Any:
        policy = permission_policy.only_what_is_granted(specs, settings)

        def record(operation: Any) -> Denial | None:
            asked.add(operation)
            return policy(operation)

        return record

    with running(recorded, logs=tmp_path / "logs") as run:
        live_through_everything(run)
        granted = permission_policy.rights(load_specs(), run.cloud.settings)
        assert {op for op in asked if not permission_policy.allows(granted, op)} == set()
        assert run.cloud.dead_letters() == []
        guarded_lake = run.content()
    rights = {
        (function, permission, prefix.rpartition("objects/")[2].rpartition("topics/")[2]): any(
            op.resource.startswith(prefix)
            for op in asked
            if (op.function, op.permission) == (function, permission)
        )
        for (function, permission), prefixes in granted.items()
        for prefix in prefixes
        if permission not in permission_policy.LISTING
    }
    assert {right for right, is_used in rights.items() if not is_used} - set(UNUSED) == set()
    assert set(UNUSED) <= set(rights), "a reason for a right that nobody has"
    with running() as run:
        live_through_everything(run)
        assert run.content() == guarded_lake
