"""The chain under what the platform may do to it: the final lake is that of an undisturbed run."""

from __future__ import annotations

import os
import random
import threading
from typing import Any

import network
import pytest
from commands import wait_until
from permission_proxy import OneWriteASecond, behind_proxy
from present import present
from velib_core.events.messages import ReplayRequested
from velib_core.timeline.bins import day_after
from velib_local.emulator.cloud import local_cloud
from velib_local.emulator.functions import DIED

pytestmark = pytest.mark.e2e

CHAIN = [
    "close_day",
    "compact_daily",
    "compact_monthly",
    "refresh_profiles",
    "build_datasets",
    "build_serving_forecast",
    "reconcile",
]
DAYS = 3
KILLS = 5
SEEDS = range(int(os.environ.get("VELIB_CHAOS_SEEDS", "2")))


@pytest.fixture(scope="module")
def undisturbed_lake() -> dict[str, str]:
    """The lake that an undisturbed run ends with."""
    with local_cloud({}, only=CHAIN) as cloud:
        network.upload(cloud.lake, cloud.settings, network.bins_of_days(DAYS))
        cloud.wait_until_idle()
        lake = network.contents(cloud.lake)
    assert sum(name.startswith("daily/") for name in lake) == DAYS
    assert "monthly/compact_2025-10.parquet" in lake
    assert {"exports/events.parquet", "exports/perf.parquet"} <= set(lake)
    assert sum(name.startswith("profiles/") for name in lake) == DAYS
    assert "serving/forecast/latest/h60/forecast.json" in lake
    return lake


def _of_a_function(subscription: str) -> bool:
    return any(f"-{name}-" in subscription for name in CHAIN)


@pytest.mark.parametrize("seed", SEEDS)
def test_disorder_duplicates_delays_and_kills_leave_the_lake_of_an_undisturbed_run(
    seed: Any, undisturbed_lake: dict[str, str]
) -> None:
    rng = random.Random(seed)

    def delivery(subscription: Any, _message: Any) -> list[float] | tuple[float]:
        if not _of_a_function(subscription):
            return (0.0,)
        return [rng.uniform(0.0, 3.0) for _ in range(rng.randint(1, 3))]

    held = behind_proxy(lambda *_: OneWriteASecond())
    with local_cloud({}, only=CHAIN, delivery=delivery, proxy=held, limited=True) as cloud:
        stop = threading.Event()

        def killed() -> int:
            return sum(record.status == DIED for record in list(cloud.gateway.deliveries))

        def kill_at_work() -> None:
            killer = random.Random(seed + 1000)
            while not stop.wait(0.02):
                at_work = [function for function in cloud.functions.values() if function.busy]
                if at_work and killer.random() < (0.05 if killed() else 0.5):
                    killer.choice(at_work).kill()

        thread = threading.Thread(target=kill_at_work)
        thread.start()
        try:
            network.upload(cloud.lake, cloud.settings, network.bins_of_days(DAYS), rng)
            pubsub = cloud.servers.embedded
            wait_until(
                lambda: killed() >= KILLS or not present(pubsub).unacknowledged(), "enough kills"
            )
        finally:
            stop.set()
            thread.join()
        cloud.wait_until_idle()
        assert killed(), "nothing was killed"
        assert cloud.dead_letters() == []
        assert network.contents(cloud.lake) == undisturbed_lake


def test_one_reconcile_run_makes_up_for_lost_messages(undisturbed_lake: dict[str, str]) -> None:
    rng = random.Random(99)
    losing = threading.Event()
    losing.set()
    lost = []

    def delivery(subscription: Any, message: Any) -> tuple[()] | tuple[float]:
        if losing.is_set() and _of_a_function(subscription) and rng.random() < 0.9:
            lost.append(message.message_id)
            return ()
        return (0.0,)

    with local_cloud({}, only=CHAIN, delivery=delivery) as cloud:
        network.upload(cloud.lake, cloud.settings, network.bins_of_days(DAYS), rng)
        cloud.wait_until_idle()
        assert lost
        assert network.contents(cloud.lake) != undisturbed_lake, (
            "losing so many messages left no trace"
        )
        losing.clear()
        cloud.publish(ReplayRequested())
        cloud.wait_until_idle()
        assert network.contents(cloud.lake) == undisturbed_lake


def test_a_late_snapshot_recloses_its_day_and_changes_nothing_else(
    undisturbed_lake: dict[str, str],
) -> None:
    bins = network.bins_of_days(DAYS)
    late = bins[2]
    with local_cloud({}, only=CHAIN) as cloud:
        network.upload(cloud.lake, cloud.settings, [bin_ for bin_ in bins if bin_ != late])
        cloud.wait_until_idle()
        before = network.contents(cloud.lake)
        network.upload(cloud.lake, cloud.settings, [late])
        cloud.wait_until_idle()
        after = network.contents(cloud.lake)
    assert after == undisturbed_lake
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed == {
        next(name for name in after if name.startswith("bronze/") and name not in before),
        "daily/compact_2025-10-30.parquet",
        "exports/events_2025-10-30.parquet",
        "exports/manifest.json",
        "exports/perf_2025-10-30.parquet",
        *(f"profiles/profiles_{day_after(network.FIRST_DAY, n)}.npz" for n in range(DAYS)),
        "monthly/compact_2025-10.parquet",
    }
