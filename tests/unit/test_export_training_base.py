from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import network
import pyarrow.parquet as pq
import pytest
from velib_core.events.messages import TrainRequested
from velib_core.jobs import compact_daily, export_training_base
from velib_core.lake.keys import TrainingBase
from velib_core.lake.layout import Layout
from velib_core.tables.history import NoHistoryError
from velib_core.timeline.bins import Day, HorizonMinutes, day_after

if TYPE_CHECKING:
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

DAYS = [day_after(network.FIRST_DAY, n) for n in range(3)]


@pytest.fixture
def history(lake: Lake, settings: Settings) -> Lake:
    network.upload(lake, settings, network.bins_of_days(3, every=96))
    for day in DAYS:
        compact_daily.run(network.of(lake, settings), day)
    return lake


def exported(lake: Lake, settings: Settings, last: Day) -> Any:
    name = Layout(settings).name(TrainingBase(last))
    return pq.read_table(io.BytesIO(lake.fetch(name)[1]))


def test_the_base_holds_the_days_of_the_window_and_no_others(
    history: Lake, settings: Settings
) -> None:
    export_training_base.run(network.of(history, settings), window_days=2)
    rows = exported(history, settings, DAYS[-1])
    assert {stamp.date() for stamp in rows["tbin_utc"].to_pylist()} == set(DAYS[1:])
    assert rows.num_rows == 2 * 3 * network.STATIONS


def test_without_history_the_request_is_refused(lake: Lake, settings: Settings) -> None:
    with pytest.raises(NoHistoryError):
        export_training_base.run(network.of(lake, settings))


def test_a_request_to_train_exports_once_and_asks_for_each_horizon(
    history: Lake, settings: Settings
) -> None:
    publisher = network.PublisherLog()
    request = TrainRequested(window_days=3)
    export_training_base.on_request(network.of(history, settings, publisher), request)
    assert publisher.messages == [TrainRequested(HorizonMinutes(h), 3) for h in (15, 60)]
    horizons: list[Any] = list(publisher.messages)
    for message in horizons:
        export_training_base.on_request(network.of(history, settings, publisher), message)
    assert len(publisher.messages) == 2, "a request for one horizon is the training's"
