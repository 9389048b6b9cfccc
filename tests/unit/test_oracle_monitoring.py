"""Coverage, plateaus, episodes and drift against `oracles.monitoring`."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import planted
import pytest
from oracles import monitoring as oracle
from planted import Network
from present import present
from velib_core.monitoring.data import drift, health
from velib_core.monitoring.data.coverage import cover, coverage_kpis, station_health
from velib_core.monitoring.data.plateaus import find_plateaus
from velib_core.monitoring.network import dynamics
from velib_core.monitoring.panels import day_panel, to_grid
from velib_core.timeline.windows import LocalDays, complete_days

STATIONS = 7


def eventful(
    first: str = "2025-10-24", days: int = 4, every: Any = 1, seed: Any = 0
) -> planted.Network:
    """A network that runs empty and full, rests, closes, opens and has holes of every length."""
    net = planted.network(first, days, STATIONS, seed)
    rng = np.random.default_rng(seed)
    frame = net.frame
    bins = days * 288
    for s in range(STATIONS):
        rows = frame.index[frame["station_id"] == f"s{s}"]
        # Rests of random length at a level that is often empty or full.
        lengths = rng.geometric(0.02 if s % 2 else 0.1, bins)
        levels = rng.choice([0, 1, 2, 7, 18, 19, 20], bins)
        level = np.repeat(levels, lengths)[:bins]
        frame.loc[rows, "bikes"] = level
        frame.loc[rows, "docks_available"] = 20 - level
        closed = np.repeat(rng.random(bins) < 0.1, rng.geometric(0.03, bins))[:bins]
        frame.loc[rows[closed], "status"] = "CLOSED"
    frame.loc[frame["station_id"] == "s5", "status"] = "CLOSED"
    hole = np.repeat(rng.random(len(frame)) < 0.08, rng.geometric(0.3, len(frame)))[: len(frame)]
    at = (frame["tbin_utc"] - frame["tbin_utc"].min()).dt.total_seconds() // 300
    unopened = (frame["station_id"] == "s4") & (at < 2.5 * 288)
    lost = (frame["station_id"] == "s6") & (at > 0.5 * 288)
    net.frame = frame[~(hole | unopened | lost) & (at % every == 0)]
    return net


def rows_of(net: Any) -> list[dict[str, Any]]:
    """The events, each with its bin and its free docks."""
    rows = [row for table in net.all_events() for row in table.to_pylist()]
    for row in rows:
        row["bin"] = int(row["tbin_utc"].timestamp() // 300)
        row["free_docks"] = row["docks_available"]
    return rows


@pytest.fixture(scope="module", params=[1, 3])
def net(request: pytest.FixtureRequest) -> Network:
    return eventful(every=request.param)


@pytest.fixture(scope="module")
def window(net: Network) -> LocalDays:
    return complete_days(planted.after(net), 2, planted.TZ)


@pytest.fixture(scope="module")
def stations(net: Network, window: LocalDays) -> Any:
    inside = [row for row in rows_of(net) if window.start <= row["bin"] < window.stop]
    return oracle.by_station(inside)


@pytest.mark.parametrize(("least", "chance"), [(2, 1e-6), (7, 0.4), (15, 1e-3)])
def test_plateaus(
    net: Network, window: LocalDays, stations: Any, least: int, chance: float
) -> None:
    variables = ("bikes", "free_docks", "is_penury")
    panel = to_grid(net.all_events(health.COLUMNS), window.start, window.stop, variables)
    found = {
        (str(panel.stations.ids[p.station]), window.start + p.first): p
        for p in find_plateaus(panel, least, chance)
    }
    expected = oracle.plateaus(stations, least, chance)
    assert expected
    assert len(found) == len(expected)
    for station, first, last, steps, state, likely in expected:
        plateau = found[station, first]
        assert (window.start + plateau.last, plateau.steps) == (last, steps)
        assert plateau.state == state
        assert plateau.chance == pytest.approx(likely)
    lengths = [p.last - p.first for p in find_plateaus(panel, least, chance)]
    assert lengths == sorted(lengths, reverse=True)


def test_plateaus_of_every_state_are_among_them(stations: Any) -> None:
    states = {state for *_, state, _ in oracle.plateaus(stations, 2, 0.4)}
    assert states == {"out_of_service", "empty", "full", "stuck", "quiet"}


@pytest.mark.parametrize("least", [5, 30, 60, 65])
def test_episodes(net: Network, window: LocalDays, stations: Any, least: int) -> None:
    documents = dynamics.build(
        net.all_events(dynamics.COLUMNS),
        window=window,
        run_metadata=planted.run_metadata("network/dynamics"),
        thresholds=dynamics.DynamicsThresholds(episode_min=least),
    )
    found = {
        (row["type"], row["station_id"], row["start_utc"], row["end_utc"]): (
            row["steps"],
            row["duration_min"],
        )
        for row in documents["episodes.json"]["episodes"]["rows"]
    }
    expected = {
        (kind, station, stamp(first), stamp(last)): (steps, minutes)
        for kind in ("penury", "saturation")
        for station, first, last, steps, minutes in oracle.episodes(stations, f"is_{kind}", least)
    }
    assert found == expected
    assert documents["episodes.json"]["episodes"]["total"] == len(expected) > 0


def stamp(t: int) -> str:
    return dt.datetime.fromtimestamp(300 * t, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_coverage(net: Network, window: LocalDays) -> None:
    parts = [present(day_panel(t, ("bikes",))) for t in net.all_events(health.COLUMNS)]
    panel = to_grid(net.all_events(health.COLUMNS), window.start, window.stop, ("bikes",))
    found = cover(panel, parts)
    expected = oracle.coverage(oracle.by_station(rows_of(net)), window.start, window.stop)
    rows = {row["station_id"]: row for row in station_health(panel, found)}
    assert rows.keys() == expected.keys()
    for station, (seen, hoped, _) in expected.items():
        row = rows[station]
        assert (row["obs"], row["expected"], row["missing"]) == (seen, hoped, hoped - seen)
        assert row["coverage_pct"] == pytest.approx(100 * seen / hoped)
    worst = [row["coverage_pct"] for row in station_health(panel, found)]
    assert worst == sorted(worst)
    kpis = coverage_kpis(found)
    there = [row for row in expected.values() if row[0]]
    assert kpis["stations_expected"] == len(expected)
    assert kpis["missing_stations"] == len(expected) - len(there)
    shares = [seen / hoped for seen, hoped, _ in expected.values()]
    assert kpis["coverage_global_pct"] == pytest.approx(100 * np.mean(shares))
    active = [seen / span for seen, _, span in there]
    assert kpis["coverage_active_pct"] == pytest.approx(100 * np.mean(active))


@pytest.fixture(scope="module")
def moved() -> Network:
    """Four weeks over a change of clocks, of which the last differs; a window of eight days."""
    net = eventful("2025-10-04", 28, every=4, seed=4)
    frame = net.frame
    late = frame["tbin_utc"] >= "2025-10-24"
    frame.loc[late & (frame["bikes"] > 6), "bikes"] -= 2
    frame.loc[late, "temp_C"] += 1.5
    # Some days were not observed by night, so that kinds of hours weigh differently.
    night = (frame["tbin_utc"].dt.hour < 6) & frame["tbin_utc"].dt.day.isin([7, 8, 9, 27])
    net.frame = frame[~night]
    return net


@pytest.fixture(scope="module")
def drifted(moved: Network) -> Any:
    return drift.build(
        moved.all_events(drift.COLUMNS),
        window=complete_days(planted.after(moved), 8, planted.TZ),
        reference_days=15,
        run_metadata=planted.run_metadata("data/drift"),
    )


@pytest.fixture(scope="module")
def observed(moved: Network) -> Any:
    """The observations by station; and those of the city, one a bin, for the weather."""
    rows = rows_of(moved)
    city = {row["bin"]: row | {"station_id": "city"} for row in rows}
    return oracle.by_station(rows), oracle.by_station(city.values())


def sample_of(moved: Any, observed: Any, feature: str) -> oracle.Sample:
    window = complete_days(planted.after(moved), 8, planted.TZ)
    start = complete_days(planted.after(moved), 23, planted.TZ).start
    stations = observed[feature in ("temp_C", "precip_mm", "wind_mps")]
    means = oracle.hourly_means(stations, feature, start, window.stop)
    return oracle.sample(means, start, window.start, planted.TZ)


@pytest.mark.parametrize(
    "feature", ["bikes", "mechanical", "is_penury", "is_saturation", "temp_C", "precip_mm"]
)
def test_drift_of_a_feature(moved: Network, observed: Any, drifted: Any, feature: str) -> None:
    found = sample_of(moved, observed, feature)

    def row(document: str) -> Any:
        return next(r for r in drifted[f"{document}_by_feature.json"] if r["feature"] == feature)

    assert (row("psi")["n_ref"], row("psi")["n_cur"]) == (len(found.reference), len(found.current))
    assert row("psi")["psi"] == pytest.approx(oracle.psi(found), abs=2e-6)
    distance, p_value = oracle.kolmogorov_smirnov(found)
    assert row("ks")["ks"] == pytest.approx(distance, abs=2e-6)
    assert row("ks")["p_value"] == pytest.approx(p_value, abs=2e-6)
    assert row("ks")["wasserstein"] == pytest.approx(oracle.wasserstein(found), abs=2e-6)
    before = oracle.moments(found.reference, found.weights)
    now = oracle.moments(found.current, [1.0] * len(found.current))
    deltas = row("deltas")
    assert deltas["mean_ref"] == pytest.approx(before[0], abs=2e-6)
    assert deltas["mean_cur"] == pytest.approx(now[0], abs=2e-6)
    assert deltas["delta_mean"] == pytest.approx((now[0] - before[0]) / before[1] ** 0.5, abs=2e-6)
    assert deltas["delta_var"] == pytest.approx((now[1] - before[1]) / before[1], abs=2e-6)
