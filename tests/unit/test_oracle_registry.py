"""Which model is live, which is next, and which candidate becomes one: by the definitions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING, Any

import network
import numpy as np
import pytest
from panels import changed, make_panel
from present import present
from velib_core.features.spatial_features import fit_static_features
from velib_core.jobs import train_model
from velib_core.lake.keys import ModelFile
from velib_core.lake.layout import Layout
from velib_core.model import registry
from velib_core.model.evaluation import Contender, evaluate
from velib_core.model.pack import ModelPack, to_blobs
from velib_core.model.rows import Walk
from velib_core.model.training import Split, Training, TrainingOptions, calibrate_day, train
from velib_core.timeline.bins import (
    Day,
    HorizonBins,
    HorizonMinutes,
    day_after,
    day_of,
    first_bin,
    horizon_bins,
)

if TYPE_CHECKING:
    from velib_core.jobs.train_model import Verdict
    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings
    from velib_core.tables.panel import Panel

H = HorizonMinutes(60)
BINS = horizon_bins(H)
SHAPE: dict[str, Any] = {"features_hash8": "05d0fddd", "horizon_bins": 12, "metrics": {"mae": 1.0}}


def register(
    lake: Lake,
    settings: Settings,
    n: int,
    description: dict[str, Any] = SHAPE,
    files: dict[str, bytes] | None = None,
) -> registry.ModelVersion:
    files = files or {"model.ubj": str(n).encode()}
    folder = registry.folder_name(f"20251128-{n:06d}Z", files)
    return registry.register(
        lake, Layout(settings), H, folder, files, description, f"fingerprint {n}"
    )


def test_versions_are_numbers_and_not_text(lake: Lake, settings: Settings) -> None:
    made = [register(lake, settings, n).version for n in range(12)]
    assert made == [f"2.0.{n}" for n in range(12)]
    assert [m.version for m in registry.versions(lake, Layout(settings), H)] == made
    minors = []
    for n in range(12, 24):
        other = {**SHAPE, "features_hash8": f"{n:08d}"}
        minors.append(register(lake, settings, n, other).version)
    assert minors == [f"2.{n}.0" for n in range(1, 13)]
    ordered = [m.version for m in registry.versions(lake, Layout(settings), H)]
    assert ordered == made + minors
    assert present(registry.live(lake, Layout(settings), H)).version == "2.12.0"


@pytest.mark.parametrize("back_to", [0, 8, 9, 10, 11])
def test_after_the_live_model_come_the_older_ones_and_never_a_newer(
    lake: Lake, settings: Settings, back_to: int
) -> None:
    models = [register(lake, settings, n) for n in range(12)]
    registry.promote(lake, Layout(settings), models[back_to])
    tried = [m.version for m in registry.usable(lake, Layout(settings), H)]
    assert tried == [f"2.0.{n}" for n in range(back_to, -1, -1)]


def test_a_changed_horizon_or_feature_is_a_minor_version_and_else_a_patch(
    lake: Lake, settings: Settings
) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"features_hash8": "0"},
        {"horizon_bins": 3},
        {"horizon_bins": 3},
    ]
    description, made = dict(SHAPE), []
    for n, change in enumerate(changes):
        description |= change
        made.append(register(lake, settings, n, dict(description)).version)
    assert made == ["2.0.0", "2.0.1", "2.1.0", "2.2.0", "2.2.1"]


FEW = TrainingOptions(max_rows=3_000, rounds=10, threads=1)
DAYS = 5


@pytest.fixture(scope="module")
def panel() -> Panel:
    """A tide that persistence cannot follow."""
    panel = make_panel(days=DAYS, stations=5, missing=0)
    t, s = np.ogrid[: panel.bins, :5]
    bikes = np.rint(4 + 4 * np.sin(2 * math.pi * (t / 96 + s / 5))).astype(np.float32)
    return changed(panel, {"bikes": bikes, "docks_available": panel["capacity"] - bikes})


@pytest.fixture(scope="module")
def days(panel: Panel) -> list[Day]:
    return [day_after(day_of(panel.start), n) for n in range(DAYS)]


@pytest.fixture(scope="module")
def good(panel: Panel, days: list[Day]) -> ModelPack:
    split = Split.of(days, judged=True)
    walk = Walk(panel, HorizonBins(BINS), "Europe/Paris")
    return train(walk, fit_static_features(panel.stations), split, FEW).pack


def rounds(pack: Any, count: int) -> Any:
    """The same model before its last rounds: a weaker one."""
    return dataclasses.replace(pack, model=pack.model[:count])


def make_live(lake: Lake, settings: Settings, pack: Any) -> None:
    register(lake, settings, 0, SHAPE, to_blobs(pack))


def verdict_on(lake: Lake, settings: Settings, pack: Any, panel: Panel, days: Any) -> Verdict:
    walk, split = walked(panel, days)
    candidate = train_model.Candidate(Training(pack, NOTHING), walk, split)
    return train_model.verdict_of(network.of(lake, settings), candidate)


NOTHING: Any = None
"""The rows learnt from, which no gate looks at."""


def walked(panel: Panel, days: Any) -> tuple[Walk, Split]:
    """A walk that stands before the days that judge."""
    split = Split.of(days, judged=True)
    walk = Walk(panel, HorizonBins(BINS), "Europe/Paris")
    for _ in walk.over((*split.warm_up, *split.learn, *split.tune)):
        pass
    return walk, split


def errors_of(pack: Any, panel: Panel, days: Any) -> Any:
    walk, split = walked(panel, days)
    (found,) = evaluate([Contender(pack, pack.calibration)], walk, split.judge)
    return present(found).overall


def test_hours_of_an_evaluation_are_local(good: ModelPack, panel: Panel, days: list[Day]) -> None:
    seen = panel["bikes"].copy()
    judged = first_bin(days[-1]) - panel.start
    seen[judged : judged + 96] = seen[judged + 120 :] = np.nan  # 08:00 to 10:00 UTC are left
    walk, split = walked(changed(panel, {"bikes": seen}), days)
    assert split.judge == (days[-1],)
    (found,) = evaluate([Contender(good, good.calibration)], walk, split.judge)
    assert present(found).by_hour.keys() == {"09"}, "in Paris in winter"


def test_each_day_of_an_evaluation_is_calibrated_by_the_days_before(
    good: ModelPack, panel: Panel, days: list[Day]
) -> None:
    unsure = dataclasses.replace(good.calibration, gain=np.zeros_like(good.calibration.gain))
    judged = days[-2:]

    def walk_before(day: Day) -> Walk:
        walk = Walk(panel, HorizonBins(BINS), "Europe/Paris")
        for _ in walk.over(days[: days.index(day)]):
            pass
        return walk

    both = present(evaluate([Contender(good, unsure)], walk_before(judged[0]), judged)[0]).overall
    calibration, alone = unsure, []
    for day in judged:
        contender = Contender(good, calibration)
        alone.append(present(evaluate([contender], walk_before(day), [day])[0]).overall)
        (past,) = walk_before(day).over([day])
        calibration = calibrate_day(good, calibration, past)
    total = sum(e.n for e in alone)
    for name in ("mae", "crps"):
        expected = sum(getattr(e, name) * e.n for e in alone) / total
        assert getattr(both, name) == pytest.approx(expected)
    unchanged = present(evaluate([Contender(good, unsure)], walk_before(judged[1]), judged[1:])[0])
    assert unchanged.overall.mae != pytest.approx(alone[1].mae)


@pytest.fixture(scope="module")
def ranked(good: ModelPack, panel: Panel, days: list[Day]) -> Any:
    """Models better than persistence, each with its error on the held-out days, best first."""
    models = [rounds(good, count) for count in range(1, good.model.num_boosted_rounds() + 1)]
    errors = [errors_of(model, panel, days) for model in models]
    beating = [(e.mae, m) for e, m in zip(errors, models, strict=True) if e.mae < e.mae_persistence]
    return sorted(beating, key=lambda pair: pair[0])


def test_the_gate_promotes_what_is_not_worse_than_the_live_model_and_nothing_else(
    lake: Lake, settings: Settings, panel: Panel, days: list[Day], ranked: Any
) -> None:
    pairs = [pair for pair in itertools.pairwise(ranked) if pair[1][0] > 1.002 * pair[0][0]]
    closest = min(pairs, key=lambda pair: pair[1][0] / pair[0][0])
    assert closest[1][0] < 1.9 * closest[0][0], "no two models are near each other"
    picked = [*closest, ranked[-1]]
    for (ours, candidate), (theirs, live) in itertools.product(picked, repeat=2):
        make_live(lake, settings, live)
        verdict = verdict_on(lake, settings, candidate, panel, days)
        assert present(verdict.candidate).overall.mae == pytest.approx(ours)
        assert present(verdict.live).overall.mae == pytest.approx(theirs)
        assert ours < present(verdict.candidate).overall.mae_persistence
        assert verdict.promoted == (ours <= theirs * 1.002), (ours, theirs)
        assert verdict.reason.startswith("worse than the live model") != verdict.promoted


def test_the_gate_rejects_what_is_not_better_than_persistence(
    lake: Lake, settings: Settings, panel: Panel, days: list[Day], good: ModelPack
) -> None:
    unchanging = changed(panel, {"bikes": np.full_like(panel["bikes"], 5)})
    verdict = verdict_on(lake, settings, good, unchanging, days)
    assert not verdict.promoted
    assert verdict.reason.startswith("no better than persistence")


def test_the_gate_rejects_what_is_as_good_as_persistence(
    lake: Lake, settings: Settings, panel: Panel, days: list[Day], good: ModelPack
) -> None:
    """Half the blend weight moves no integer: the error is that of persistence."""
    unsure = np.zeros_like(good.calibration.gain)
    unsure[-1] = 1
    blunt = dataclasses.replace(
        good, calibration=dataclasses.replace(good.calibration, gain=unsure)
    )
    verdict = verdict_on(lake, settings, blunt, panel, days)
    overall = present(verdict.candidate).overall
    assert overall.mae == overall.mae_persistence
    assert not verdict.promoted


def test_the_gate_refuses_where_nothing_was_observed(
    lake: Lake, settings: Settings, panel: Panel, days: list[Day], good: ModelPack
) -> None:
    bikes = panel["bikes"].copy()
    bikes[(DAYS - 1) * 288 :] = np.nan
    verdict = verdict_on(lake, settings, good, changed(panel, {"bikes": bikes}), days)
    assert (verdict.promoted, verdict.candidate) == (False, None)


def test_a_live_model_that_cannot_be_read_is_no_rival(
    lake: Lake, settings: Settings, panel: Panel, days: list[Day], ranked: Any
) -> None:
    make_live(lake, settings, ranked[0][1])
    folder = present(registry.live(lake, Layout(settings), H)).folder
    network.put(lake, Layout(settings).name(ModelFile(H, folder, "model.ubj")), b"junk")
    verdict = verdict_on(lake, settings, ranked[-1][1], panel, days)
    assert verdict.promoted
    assert verdict.live is None
