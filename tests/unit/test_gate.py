"""Which candidates go live: asked for by events, judged on days that taught them nothing."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pytest
from present import present
from velib_core.events.messages import TrainRequested
from velib_core.jobs import train_model
from velib_core.jobs.compact_daily import assemble, to_bytes
from velib_core.lake.bucket import Lake
from velib_core.lake.keys import Daily
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.evaluation import Errors, Evaluation, probability_scores
from velib_core.model.pack import to_blobs
from velib_core.model.training import Split
from velib_core.tables import history
from velib_core.tables.snapshot import validate
from velib_core.timeline.bins import Bin, Day, HorizonMinutes, day_after, first_bin

if TYPE_CHECKING:
    from velib_core.events.job import JobResult
    from velib_core.model.registry import ModelVersion
    from velib_core.settings.network import Settings

H = HorizonMinutes(60)
STATIONS = 6
DAYS = [day_after(network.FIRST_DAY, n) for n in range(8)]


def tide(n: int, station: int) -> int:
    """Return bikes that swing three times a day: the hour knows what persistence does not."""
    return round(12 + 9 * math.sin(2 * math.pi * (n / 96 + station / STATIONS)))


def ebb(n: int, station: int) -> int:
    """Return bikes that swing eight times a day."""
    return round(12 + 9 * math.sin(2 * math.pi * (n / 36 + station / STATIONS)))


def rest(n: int, station: int) -> int:
    """Return bikes that stay where the tide leaves them at midnight."""
    return tide(n - n % 288, station)


def put_days(lake: Lake, settings: Settings, days: list[Day], law: Any) -> None:
    """Write dailies whose bikes follow a law of the bin and the station."""
    for day in days:
        network.put(lake, Layout(settings).name(Daily(day)), daily(day, law))


@functools.cache
def daily(day: Day, law: Any) -> bytes:
    places = {"lat": [48.8] * STATIONS, "lon": [2.3] * STATIONS, "capacity": [25] * STATIONS}
    tables = []
    for n in range(288):
        bin_ = Bin(first_bin(day) + n)
        bikes = [law(bin_, s) for s in range(STATIONS)]
        rows = network.snapshot_table(bin_, STATIONS, bikes=bikes, **places)
        tables.append(validate(rows, bin_)[0])
    return to_bytes(assemble(tables))


def asked_for(lake: Lake, settings: Settings) -> tuple[JobResult, ModelVersion | None]:
    """Train by the event, and return the job's result and the live model after it."""
    result = train_model.on_request(network.of(lake, settings), TrainRequested(H))
    return result, registry.live(lake, Layout(settings), H)


def report_of(lake: Lake, result: JobResult) -> Any:
    (name,) = result.outputs
    return lake.fetch_json(name)


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings that train in a second."""
    return dataclasses.replace(settings, horizons=(H,), train_rounds=12, train_max_rows=4000)


def test_a_candidate_that_is_good_only_on_the_days_that_tuned_it_is_refused(
    lake: Lake, quick: Settings
) -> None:
    put_days(lake, quick, DAYS[:5], tide)
    put_days(lake, quick, DAYS[5:6], rest)
    result, live = asked_for(lake, quick)
    assert live is None
    report = report_of(lake, result)
    tuning = report["about"]["tuning"]
    assert tuning["mae"] < 0.5 * tuning["mae_persistence"]
    assert report["metrics"]["mae"] > report["metrics"]["mae_persistence"]
    assert "no better than persistence" in report["verdict"]["reason"]


def test_an_overfitted_candidate_does_not_replace_a_live_model_that_is_better_after(
    lake: Lake, quick: Settings
) -> None:
    put_days(lake, quick, DAYS[:5], tide)
    _, good = asked_for(lake, quick)
    short = dataclasses.replace(quick, lookback_days=3)
    put_days(lake, quick, DAYS[5:7], ebb)
    put_days(lake, quick, DAYS[7:8], tide)
    result, live = asked_for(lake, short)
    assert live == good
    report = report_of(lake, result)
    assert report["about"]["tuning"]["mae"] < 0.5 * report["about"]["tuning"]["mae_persistence"]
    assert report["verdict"]["live"]["mae"] < report["verdict"]["candidate"]["mae"]


def test_a_better_candidate_replaces_the_live_model_and_a_worse_one_does_not(
    lake: Lake, quick: Settings
) -> None:
    put_days(lake, quick, DAYS[:5], tide)
    coarse = dataclasses.replace(quick, train_rounds=4)
    _, first = asked_for(lake, coarse)
    assert present(first).version == "2.0.0"
    _, better = asked_for(lake, quick)
    assert present(better).version == "2.0.1"
    verdict = present(better).record["verdict"]
    assert verdict["candidate"]["mae"] < verdict["live"]["mae"]
    assert verdict["candidate"]["n"] == verdict["live"]["n"], "both are judged on the same rows"
    worse, live = asked_for(lake, dataclasses.replace(quick, train_rounds=2))
    assert live == better
    report = report_of(lake, worse)["verdict"]
    assert report["candidate"]["mae"] > report["live"]["mae"]


def test_what_the_record_says_is_of_the_days_that_judged(lake: Lake, quick: Settings) -> None:
    put_days(lake, quick, DAYS[:5], tide)
    _, live = asked_for(lake, quick)
    record = present(live).record
    candidate = record["verdict"]["candidate"]
    assert record["tuned_through"] == str(DAYS[3])
    assert record["end_date"] == str(DAYS[4])
    assert present(live).folder.startswith(f"{DAYS[4]:%Y%m%d}-235500Z-")
    assert record["metrics"]["mae"] == candidate["mae"]
    assert record["n_valid"] == candidate["n"]
    assert candidate["crps"] < candidate["mae_persistence"] < candidate["crps_climatology"] * 9
    booster = record["about"]["booster"]
    assert {"eta", "max_depth", "lambda", "subsample", "min_child_weight", "max_bin"} <= set(
        booster
    )


def test_nothing_of_the_days_that_judge_reaches_the_model(lake: Lake, quick: Settings) -> None:
    packs = []
    for law in (tide, ebb):
        put_days(lake, quick, DAYS[:4], tide)
        put_days(lake, quick, DAYS[4:5], law)
        window = history.dailies(lake, Layout(quick))
        candidate = train_model.train_candidate(network.of(lake, quick), H, window, DAYS[:5])
        packs.append(to_blobs(candidate.training.pack))
    assert packs[0] == packs[1]


def test_a_day_is_read_twice_at_most_judging_included(lake: Lake, quick: Settings) -> None:
    put_days(lake, quick, DAYS[:6], tide)
    asked_for(lake, dataclasses.replace(quick, train_rounds=4))
    reads: collections.Counter[str] = collections.Counter()

    class Counted(Lake):
        def read(self, entry: Any) -> bytes:
            reads[entry.name] += 1
            return super().read(entry)

    result, _ = asked_for(Counted(lake.bucket), quick)
    assert result.counts["promoted"] == 1
    names = [Layout(quick).name(Daily(day)) for day in DAYS[:6]]
    assert {name: reads[name] for name in names} == dict.fromkeys(names, 2)


def evaluation(mae: float, mae_persistence: float = 2.0) -> Evaluation:
    errors = Errors(100, mae, mae_persistence, 2.0, 2.5, 0.8, 3.0)
    return Evaluation(errors, {}, {}, {}, None)


@pytest.mark.parametrize(
    ("candidate", "live", "promoted"),
    [
        (1.9999, None, True),
        (2.0, None, False),
        (2.0001, None, False),
        (1.0019, 1.0, True),
        (1.0021, 1.0, False),
        (1.0029, 1.0, False),
        (0.5, 1.0, True),
        # Better than the live model is not enough where persistence is better still.
        (2.0, 3.0, False),
    ],
)
def test_a_candidate_has_to_be_below_persistence_and_within_a_five_hundredth_of_the_live_model(
    candidate: float, live: float | None, promoted: bool
) -> None:
    theirs = None if live is None else evaluation(live)
    verdict = train_model.judged(evaluation(candidate), theirs)
    assert verdict.promoted == promoted
    assert verdict.live is theirs


def test_a_candidate_that_nothing_was_seen_of_is_refused() -> None:
    assert not train_model.judged(None, evaluation(1.0)).promoted


def test_a_probability_is_scored_by_its_square_and_persistence_by_how_often_it_is_wrong() -> None:
    stated = np.array([0.05, 0.15, 0.15, 0.95, 1.0])
    now = np.array([False, True, False, True, True])
    true = np.array([False, False, False, True, True])
    found = probability_scores(stated, now, true)
    assert found["brier"] == pytest.approx((0.0025 + 2 * 0.0225 + 0.0025) / 5)
    assert found["brier_persistence"] == pytest.approx(1 / 5)
    assert [row["n"] for row in found["reliability"]] == [1, 2, 2]
    assert [row["observed"] for row in found["reliability"]] == [0, 0, 1]
    assert [row["stated"] for row in found["reliability"]] == pytest.approx([0.05, 0.15, 0.975])


@pytest.mark.parametrize("days", [3, 4, 7, 14, 21, 28, 40])
def test_days_that_teach_tune_and_judge_follow_one_another(days: int) -> None:
    window = [day_after(network.FIRST_DAY, n) for n in range(days)]
    split = Split.of(window, judged=True)
    assert [*split.warm_up, *split.learn, *split.tune, *split.judge] == window
    assert all((split.learn, split.tune, split.judge))
    # A seventh judges, a fifth of the rest tunes, a fourth of it warms up; three at most of each.
    expected = {3: (0, 1, 1), 4: (0, 1, 1), 7: (1, 1, 1), 14: (3, 2, 2), 21: (3, 3, 3)}
    found = (len(split.warm_up), len(split.tune), len(split.judge))
    assert found == expected.get(days, (3, 3, 3))
    assert not Split.of(window, judged=False).judge
