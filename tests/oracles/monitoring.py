"""Monitoring figures by the definitions of docs/FEATURES.md, observation by observation."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
import statistics
from typing import Any

import numpy as np
import scipy.stats

from oracles import clock

Series = dict[int, dict[str, Any]]
"""A station's observations by bin."""


def by_station(rows: Any) -> dict[str, Series]:
    """Rows with ``station_id`` and ``bin``, as one series a station, in order of time."""
    found: dict[str, Series] = {}
    for row in sorted(rows, key=lambda row: (row["station_id"], row["bin"])):
        found.setdefault(row["station_id"], {})[row["bin"]] = row
    return found


def polling_step(stations: dict[str, Series]) -> int:
    seen = sorted({t for series in stations.values() for t in series})
    gaps = [after - before for before, after in itertools.pairwise(seen)]
    return int(statistics.median(gaps)) if gaps else 1


def successions(series: Series, step: int) -> list[tuple[int, int]]:
    """The pairs of bins of observations that follow one another."""
    pairs = itertools.pairwise(series)
    return [(before, after) for before, after in pairs if after - before <= 2 * step - 1]


def runs(series: Series, step: int, holds: Any) -> list[list[int]]:
    """The maximal runs of successive observations that hold, as their bins."""
    joined = {after for _, after in successions(series, step)}
    found: list[list[int]] = []
    open_ = False
    for t in series:
        if not holds(t):
            open_ = False
        elif open_ and t in joined:
            found[-1].append(t)
        else:
            found.append([t])
            open_ = True
    return found


def episodes(
    stations: dict[str, Series], flag: str, least_minutes: int
) -> list[tuple[str, int, int, int, int]]:
    """Station, first and last bin, observations and minutes of each episode."""
    step = polling_step(stations)
    found = []
    for station, series in stations.items():
        for run in runs(series, step, lambda t, of=series: of[t][flag] == 1):
            minutes = 5 * (run[-1] - run[0] + step)
            if minutes >= least_minutes:
                found.append((station, run[0], run[-1], len(run), minutes))
    return found


def plateaus(
    stations: dict[str, Series], least_steps: int, least_chance: float
) -> list[tuple[str, int, int, int, str, float]]:
    """Station, first and last bin, steps, state and chance of each plateau."""
    step = polling_step(stations)
    pairs = {station: successions(series, step) for station, series in stations.items()}

    def changes(station: str) -> int:
        of = stations[station]
        return sum(of[a]["bikes"] != of[b]["bikes"] for a, b in pairs[station])

    network = sum(map(changes, stations)) / max(sum(map(len, pairs.values())), 1)
    found = []
    for station, series in stations.items():
        p = (changes(station) + 288 * network) / (len(pairs[station]) + 288)
        before = {b: a for a, b in pairs[station]}
        rests = {b for a, b in pairs[station] if series[a]["bikes"] == series[b]["bikes"]}
        for run in runs(series, step, rests.__contains__):
            run_with_start = [before[run[0]], *run]
            if len(run_with_start) < least_steps:
                continue
            chance = (1 - p) ** (len(run_with_start) - 1)
            state = _state(series, run_with_start, chance, least_chance)
            found.append(
                (station, run_with_start[0], run_with_start[-1], len(run_with_start), state, chance)
            )
    return found


def _state(series: Series, run: list[int], chance: float, least_chance: float) -> str:
    if all(series[t]["is_penury"] is None for t in run):
        return "out_of_service"
    if series[run[1]]["bikes"] == 0:
        return "empty"
    if series[run[1]]["free_docks"] == 0:
        return "full"
    return "stuck" if chance < least_chance else "quiet"


def polls(stations: dict[str, Series], start: int, stop: int) -> list[int]:
    """The bins in which observations are due: of each step, the one that most stations were in."""
    inside = {
        i: {t: row for t, row in of.items() if start <= t < stop} for i, of in stations.items()
    }
    count = collections.Counter(t for series in inside.values() for t in series)
    step = polling_step(inside)
    slots = (range(first, min(first + step, stop)) for first in range(start, stop, step))
    return [max(slot, key=lambda t: (count[t], -t)) for slot in slots]


def coverage(stations: dict[str, Series], start: int, stop: int) -> dict[str, tuple[int, int, int]]:
    """Of each expected station: polls observed, expected, and from first to last observation."""
    due = polls(stations, start, stop)
    found = {}
    for station, series in stations.items():
        inside = [t for t in due if t in series]
        first = start if min(series) < start else min(inside, default=stop)
        if first < stop:
            expected = sum(t >= first for t in due)
            span = sum(inside[0] <= t <= inside[-1] for t in due) if inside else 0
            found[station] = (len(inside), expected, span)
    return found


# Drift.


@dataclasses.dataclass
class Sample:
    """Values of the reference with their weights, values of now, and station-days of both."""

    reference: list[float]
    weights: list[float]
    current: list[float]
    units: tuple[int, int]


def hourly_means(
    stations: dict[str, Series], feature: str, start: int, stop: int
) -> dict[tuple[str, int], float]:
    """The mean of each station and hour, rounded to five decimals, in single precision."""
    found = collections.defaultdict(list)
    for station, series in stations.items():
        for t, row in series.items():
            if start <= t < stop and row[feature] is not None:
                found[station, (t - start) // 12].append(row[feature])
    return {
        key: float(np.round(np.float32(sum(values)) / np.float32(len(values)), 5))
        for key, values in found.items()
    }


def sample(means: Any, start: int, current: int, tz: str) -> Sample:
    """Weigh the reference's hours so that each kind has the share it has among the current."""
    hours = sorted({hour for _, hour in means})
    at = {hour: start + 12 * hour for hour in hours}
    kind = {h: (clock.day_type(t, tz), clock.local(t, tz).hour) for h, t in at.items()}
    before = collections.Counter(kind[h] for h in hours if at[h] < current)
    now = collections.Counter(kind[h] for h in hours if at[h] >= current)
    both = before.keys() & now.keys()
    share = sum(before[k] for k in both) / max(sum(now[k] for k in both), 1)
    kept = [(s, h, value) for (s, h), value in means.items() if kind[h] in both]
    old = [row for row in kept if at[row[1]] < current]
    new = [row for row in kept if at[row[1]] >= current]

    def station_days(rows: list[Any]) -> int:
        return len({clock.local(at[h], tz).date() for _, h, _ in rows}) * len({s for s, *_ in rows})

    return Sample(
        [value for *_, value in old],
        [now[kind[h]] / before[kind[h]] * share for _, h, _ in old],
        [value for *_, value in new],
        (station_days(old), station_days(new)),
    )


def psi(found: Sample, most: int = 10) -> float:
    """Of the shares of each bin, half an observation added to each."""
    reference = np.array(found.reference)
    zeros = float((reference == 0).mean())
    zero = zeros > 1 / most
    rest = reference[reference != 0] if zero else reference
    count = max(1, round((most - 1) * (1 - zeros))) if zero else most
    quantiles = sorted({float(np.quantile(rest, n / count)) for n in range(1, count)})
    edges = [edge for edge in quantiles if edge > rest.min()]

    def place(value: float) -> int:
        return -1 if zero and value == 0 else sum(edge <= value for edge in edges)

    bins = range(-1 if zero else 0, len(edges) + 1)
    counts = (dict.fromkeys(bins, 0.5), dict.fromkeys(bins, 0.5))
    for value, weight in zip(found.reference, found.weights, strict=True):
        counts[0][place(value)] += weight
    for value in found.current:
        counts[1][place(value)] += 1
    p, q = ({b: n / sum(of.values()) for b, n in of.items()} for of in counts)
    return sum((p[b] - q[b]) * math.log(p[b] / q[b]) for b in bins)


def kolmogorov_smirnov(found: Sample) -> tuple[float, float]:
    points = sorted({*found.reference, *found.current})
    reference, weights = np.array(found.reference), np.array(found.weights)
    current = np.array(found.current)
    distance = max(
        abs(weights[reference <= x].sum() / weights.sum() - (current <= x).mean()) for x in points
    )
    n, m = found.units
    return distance, float(scipy.stats.kstwo.sf(distance, max(round(n * m / (n + m)), 1)))


def wasserstein(found: Sample) -> float:
    mean, variance = moments(found.reference, found.weights)
    del mean
    distance = scipy.stats.wasserstein_distance(found.reference, found.current, found.weights)
    return float(distance) / math.sqrt(variance)


def moments(values: list[float], weights: list[float]) -> tuple[float, float]:
    total = math.fsum(weights)
    mean = math.fsum(w * x for x, w in zip(values, weights, strict=True)) / total
    squares = math.fsum(w * (x - mean) ** 2 for x, w in zip(values, weights, strict=True))
    return mean, squares / (total - 1)


# Published forecasts.


def scores(rows: Any, bikes: Any, docks: Any, start: int) -> Any:
    """The figures of published forecasts, and those of each lead in minutes.

    ``bikes`` and ``docks`` (free, as stated) hold each station's values by bin from ``start`` on.
    """

    def at(values: Any, t: int, station: str) -> Any:
        series = values.get(station, [])
        return series[t - start] if 0 <= t - start < len(series) else None

    bins = len(next(iter(bikes.values())))
    published = [
        row
        for row in rows
        if row["y_pred_int"] is not None and start <= row["issued"] < start + bins
    ]
    pairs = []
    for row in published:
        truth = at(bikes, row["target"], row["station_id"])
        now = at(bikes, row["issued"], row["station_id"])
        free = at(docks, row["target"], row["station_id"])
        if truth is not None and now is not None:
            pairs.append((row, truth, now, free))
    means = [truth - row["y_mean"] for row, truth, *_ in pairs if row["y_mean"] is not None]
    figures = _errors(pairs) | {
        "n_published": len(published),
        "scored_pct": 100 * len(pairs) / len(published),
        "rmse_mean": _rmse(means),
        "brier_bike": _brier([(row["p_bike"], truth) for row, truth, *_ in pairs]),
        "brier_dock": _brier([(row["p_dock"], free) for row, *_, free in pairs]),
    }
    base = [truth - now for _, truth, now, _ in pairs]
    figures |= {
        "me_model": sum(truth - row["y_pred_int"] for row, truth, *_ in pairs) / len(pairs),
        "rmse_baseline": _rmse(base),
    }
    leads = collections.defaultdict(list)
    for pair in pairs:
        lead = pair[0]["target"] - pair[0]["issued"]
        if lead <= 288:
            leads[5 * lead].append(pair)
    return figures, {lead: _errors(of) for lead, of in leads.items()}


def _errors(pairs: Any) -> dict[str, float | None]:
    errors = [truth - row["y_pred_int"] for row, truth, *_ in pairs]
    base = [truth - now for _, truth, now, _ in pairs]
    saved = sum(map(abs, base)) - sum(map(abs, errors))
    return {
        "n": len(pairs),
        "mae_model": sum(map(abs, errors)) / len(pairs),
        "mae_baseline": sum(map(abs, base)) / len(pairs),
        "rmse_model": _rmse(errors),
        "lift_vs_baseline": saved / sum(map(abs, base)) if any(base) else None,
    }


def _rmse(errors: list[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


def _brier(stated: list[tuple[float | None, float | None]]) -> float:
    losses = [(p - (left >= 1)) ** 2 for p, left in stated if p is not None and left is not None]
    return sum(losses) / len(losses)


# The score of a distribution.


def crps_of_levels(held: list[int], truth: int) -> float:
    """The CRPS of a distribution given by its draws: E|X − y| − E|X − X'| / 2 (Gneiting, 2007)."""
    off = sum(abs(x - truth) for x in held) / len(held)
    apart = sum(abs(x - other) for x in held for other in held) / len(held) ** 2
    return off - apart / 2


def climatology_crps(pairs: Any) -> float:
    """The mean CRPS of what a station's hour held on earlier days, of those pairs that are scored.

    ``pairs`` are (day, station, hour of the target, truth, whether scored); the day is of issue.
    """
    held = collections.defaultdict(list)
    for day, station, hour, truth, _ in pairs:
        held[station, hour].append((day, truth))
    found = []
    for day, station, hour, truth, scored in pairs:
        past = [value for other, value in held[station, hour] if other < day]
        if scored and past:
            found.append(crps_of_levels(past, truth))
    return sum(found) / len(found)
