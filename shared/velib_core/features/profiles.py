"""Profiles: what a station usually does next at this time of day, updated a day at a time."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import io
import zipfile
import zoneinfo
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from velib_core.errors import InvalidValueError
from velib_core.features.flow_rates import smoothed_rates
from velib_core.features.time_features import last_seen, steps
from velib_core.tables import npz
from velib_core.tables.npz import ArraysError
from velib_core.tables.panel import FROZEN_BINS, is_frozen
from velib_core.timeline.bins import YEARS, Bin, Day, HorizonBins, day_after, first_bin, parse_day
from velib_core.timeline.local_time import (
    DAY_TYPES,
    SLOTS_PER_DAY,
    LocalTimes,
    local_times,
    slot_of,
    slot_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from velib_core.tables.panel import Panel

Number = TypeVar("Number", bound=np.signedinteger)

CHANGE_SUMS = ("n", "change", "moved", "square", "still")
"""Per horizon: changes seen, their sum, the sums of magnitudes and squares, and the zeros."""


LEVEL_SUMS = ("seen", "bikes")
"""Number of observations and the sum of bikes."""

FLOW_SUMS = ("exposure", "arrived", "left")
"""Bins between successive observations, and the bikes that came and left between them."""

REBALANCED_BIKES = 8
"""So many bikes at once, and more, come on a van: no rider's arrival or departure."""


MAX_BYTES = 384 << 20
"""Unpacked; profiles of 1,500 stations and two horizons take a tenth."""


class ProfileError(InvalidValueError):
    """Bytes that are no profile object."""


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Sums over the closed days up to ``through``.

    ``stations`` are sorted ids, ``change`` is ``int32[H, 5, DAY_TYPES, SLOTS, S]`` in the order
    of `CHANGE_SUMS`, ``level`` ``int32[2, DAY_TYPES, SLOTS, S]`` in that of `LEVEL_SUMS`,
    ``flow`` ``int32[3, DAY_TYPES, SLOTS, S]`` in that of `FLOW_SUMS`, and ``relative_activity``
    ``float64[H]``: the last day's network-wide movement over what was usual for its half hours
    before it, NaN until there are two days. Local time is that of ``tz``.
    """

    tz: str
    horizons: tuple[HorizonBins, ...]
    through: Day | None
    stations: NDArray[np.str_]
    change: NDArray[np.int32]
    level: NDArray[np.int32]
    flow: NDArray[np.int32]
    relative_activity: NDArray[np.float64]
    last_seen: NDArray[np.int64]

    @functools.cached_property
    def flow_rates(self) -> NDArray[np.float32]:
        """Usual arrivals and departures per bin, ``float32[2, DAY_TYPES, SLOTS, S + 1]``.

        The last column is that of a station without a past. See `smoothed_rates`.
        """
        unknown = np.zeros((*self.flow.shape[:-1], 1), self.flow.dtype)
        exposure, arrivals, departures = np.concatenate([self.flow, unknown], axis=-1)
        return np.stack([smoothed_rates(exposure, counts) for counts in (arrivals, departures)])

    def flow_rates_of(self, ids: NDArray[np.str_]) -> NDArray[np.float32]:
        """Return ``flow_rates`` of some stations, ``float32[2, DAY_TYPES, SLOTS, len(ids)]``."""
        known = len(self.stations)
        if np.array_equal(self.stations, ids):
            return self.flow_rates[..., :known]
        return self.flow_rates[..., spread(np.arange(known), self.stations, ids, missing=known)]

    def last_seen_of(self, ids: NDArray[np.str_]) -> NDArray[np.int64]:
        """Return ``last_seen`` of some stations, −1 for those that have no past."""
        return spread(self.last_seen, self.stations, ids, missing=-1)


def empty_profiles(tz: str, horizons: Sequence[HorizonBins]) -> Profiles:
    """Return the profiles of a network that has no past."""
    slots = (DAY_TYPES, SLOTS_PER_DAY, 0)
    return Profiles(
        tz,
        tuple(horizons),
        None,
        np.array([], np.str_),
        np.zeros((len(horizons), len(CHANGE_SUMS), *slots), np.int32),
        np.zeros((len(LEVEL_SUMS), *slots), np.int32),
        np.zeros((len(FLOW_SUMS), *slots), np.int32),
        np.full(len(horizons), np.nan),
        np.empty(0, np.int64),
    )


def with_horizons(profiles: Profiles, horizons: Sequence[HorizonBins]) -> Profiles:
    """Return the profiles of these horizons; one that was not counted yet has no past."""
    if profiles.horizons == tuple(horizons):
        return profiles
    change = np.zeros((len(horizons), *profiles.change.shape[1:]), np.int32)
    relative_activity = np.full(len(horizons), np.nan)
    for h, horizon in enumerate(horizons):
        if horizon in profiles.horizons:
            known = profiles.horizons.index(horizon)
            change[h] = profiles.change[known]
            relative_activity[h] = profiles.relative_activity[known]
    return dataclasses.replace(
        profiles, horizons=tuple(horizons), change=change, relative_activity=relative_activity
    )


def profile_lookback(horizons: Iterable[HorizonBins]) -> int:
    """Return how many bins before a day its update reads."""
    return max(FROZEN_BINS, *horizons)


def update_with_day(profiles: Profiles, panel: Panel, day: Day) -> Profiles:
    """Return the profiles with one more closed UTC day.

    Parameters
    ----------
    profiles
        Sums of earlier days.
    panel
        Observations; those of ``day`` and of `profile_lookback` before it are used, nothing later.
    day
        The day to add. A change counts on the day of its target, so that none reaches past it,
        and not at all where the feed is frozen.

    Raises
    ------
    ValueError
        Where ``day`` is not after ``profiles.through``: it would count twice.

    """
    if profiles.through is not None and day <= profiles.through:
        raise ValueError(f"profiles already hold {day}: they go through {profiles.through}")
    start, stop = first_bin(day), first_bin(day_after(day))
    stations = np.union1d(profiles.stations, panel.stations.ids)
    change, level, flow = (
        spread(sums, profiles.stations, stations).copy()
        for sums in (profiles.change, profiles.level, profiles.flow)
    )
    columns = np.searchsorted(stations, panel.stations.ids)
    relative_activity = np.full(len(profiles.horizons), np.nan)
    lookback = profile_lookback(profiles.horizons)
    bikes = panel.window(Bin(start - lookback), stop)["bikes"]
    frozen, today = is_frozen(bikes)[lookback:], bikes[lookback:]
    local = local_times(np.arange(start, stop), profiles.tz)
    known = ~np.isnan(today)
    _add(level, columns, local, (known, np.where(known, today, 0)))
    _add(flow, columns, local, _flows(bikes, lookback, frozen))
    for h, horizon in enumerate(profiles.horizons):
        delta = today - bikes[lookback - horizon : len(bikes) - horizon]
        delta[frozen] = np.nan
        local = local_times(np.arange(start - horizon, stop - horizon), profiles.tz)
        relative_activity[h] = _activity_of_day(profiles, h, delta, local)
        known = ~np.isnan(delta)
        value = np.where(known, delta, 0)
        sums = (known, value, np.abs(value), value * value, known & (value == 0))
        _add(change[h], columns, local, sums)
    newest = spread(profiles.last_seen, profiles.stations, stations, missing=-1).copy()
    row = last_seen(today)[-1]
    newest[columns[row >= 0]] = start + row[row >= 0]
    return Profiles(
        profiles.tz,
        profiles.horizons,
        day,
        stations,
        change,
        level,
        flow,
        relative_activity,
        newest,
    )


def _flows(
    bikes: NDArray[np.float32], lookback: int, frozen: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], ...]:
    """Return `FLOW_SUMS` of each bin of a day, ``int32[288, S]``, seen with the bins before it.

    A change between observations counts in the bin of the newer one.
    """
    last = last_seen(bikes)
    step = steps(bikes, last)[lookback:]
    rows = np.arange(lookback, len(bikes), dtype=np.int32)[:, None]
    step[frozen] = np.nan
    known = np.abs(step) < REBALANCED_BIKES
    change = np.where(known, step, 0).astype(np.int32)
    exposure = np.where(known, rows - last[lookback - 1 : -1], 0)
    return exposure, np.maximum(change, 0), np.maximum(-change, 0)


def _add(
    sums: NDArray[np.int32],
    columns: NDArray[np.int64],
    local: LocalTimes,
    series: Sequence[NDArray[np.generic]],
) -> None:
    """Add the bins of each series, ``[T, S]``, to the sums of their day type and slot in place."""
    for (day_type, slot), bins in _slot_groups(local):
        for total, values in zip(sums[:, day_type, slot], series, strict=True):
            total[columns] += values[bins].sum(0).astype(np.int32)


def _slot_groups(local: LocalTimes) -> Iterator[tuple[tuple[int, int], slice]]:
    """Yield (day type, slot) and the run of bins that share it, in order of time."""
    key = local.day_type * SLOTS_PER_DAY + slot_of(local)
    edges = np.flatnonzero(np.diff(key)) + 1
    for low, high in zip([0, *edges], [*edges, len(key)], strict=True):
        yield divmod(int(key[low]), SLOTS_PER_DAY), slice(int(low), int(high))


def spread(
    sums: NDArray[Number], have: NDArray[np.str_], want: NDArray[np.str_], missing: int = 0
) -> NDArray[Number]:
    """Return the sums with the stations ``want`` on the last axis, ``missing`` for unknown ones.

    They are the sums themselves where the stations are the same ones.
    """
    if np.array_equal(have, want):
        return sums
    out = np.full((*sums.shape[:-1], len(want)), missing, sums.dtype)
    if len(have):
        place = np.minimum(np.searchsorted(have, want), len(have) - 1)
        known = have[place] == want
        out[..., known] = sums[..., place[known]]
    return out


def usual_network(change: NDArray[np.int32], local: LocalTimes) -> NDArray[np.float64]:
    """Return the usual movement of a station over the horizon, network-wide, ``float64[n]``."""
    totals = change[[0, 2]].sum(-1, dtype=np.int64).astype(np.float64)
    first, second, weight = slot_weights(local)
    n, moved = (
        (1 - weight) * t[local.day_type, first] + weight * t[local.day_type, second] for t in totals
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        usual: NDArray[np.float64] = moved / n
    return usual


def _activity_of_day(
    profiles: Profiles, h: int, delta: NDArray[np.float32], local: LocalTimes
) -> float:
    usual = usual_network(profiles.change[h], local)
    known = ~np.isnan(delta) & np.isfinite(usual)[:, None]
    expected = float((np.nan_to_num(usual) * known.sum(1)).sum())
    moved = float(np.abs(np.where(known, delta, 0)).sum(dtype=np.float64))
    return moved / expected if expected > 0 else float("nan")


def to_bytes(profiles: Profiles) -> bytes:
    """Return profiles as a compressed NumPy archive; equal profiles give equal bytes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, array in _arrays(profiles).items():
            data = io.BytesIO()
            np.lib.format.write_array(data, array, allow_pickle=False)
            # The archive's own clock would make equal profiles differ.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data.getvalue())
    return sink.getvalue()


def from_bytes(data: bytes) -> Profiles:
    """Read what `to_bytes` wrote; raise `ProfileError` for anything else."""
    try:
        arrays = npz.read(data, MAX_BYTES)
        through = str(arrays["through"])
        profiles = Profiles(
            str(arrays["tz"]),
            tuple(HorizonBins(int(bins)) for bins in arrays["horizons"]),
            parse_day(through) if through else None,
            arrays["stations"],
            arrays["change"],
            arrays["level"],
            # Profiles that were written before there were flows hold none, nor when who was seen.
            arrays.get("flow", np.zeros((len(FLOW_SUMS), *arrays["level"].shape[1:]), np.int32)),
            arrays["pace"],
            arrays.get("last_seen", np.full(len(arrays["stations"]), -1, np.int64)),
        )
    except (ArraysError, KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise ProfileError("profiles", data[:16], f"an archive of profiles ({error})") from error
    slots = (DAY_TYPES, SLOTS_PER_DAY, len(profiles.stations))
    per_station = (profiles.change, profiles.level, profiles.flow, profiles.last_seen)
    shapes = tuple(array.shape for array in (*per_station, profiles.relative_activity))
    count = len(profiles.horizons)
    expected = (
        (count, len(CHANGE_SUMS), *slots),
        (len(LEVEL_SUMS), *slots),
        (len(FLOW_SUMS), *slots),
        (len(profiles.stations),),
        (count,),
    )
    if shapes != expected:
        raise ProfileError("profiles", shapes, f"arrays of shapes {expected}")
    _check_values(profiles)
    return profiles


def _check_values(profiles: Profiles) -> None:
    """Raise `ProfileError` for arrays of other types than ours, and for what cannot be."""
    sums = (profiles.change, profiles.level, profiles.flow)
    types = [array.dtype for array in (*sums, profiles.last_seen, profiles.relative_activity)]
    if types != [np.int32, np.int32, np.int32, np.int64, np.float64]:
        raise ProfileError("profiles", types, "sums of int32, bins of int64 and a float64")
    ids = profiles.stations
    if ids.dtype.kind != "U" or (ids[1:] <= ids[:-1]).any():
        raise ProfileError("stations", ids[:3].tolist(), "ids in order, each once")
    if (profiles.last_seen >= first_bin(Day(dt.date(YEARS.stop, 1, 1)))).any():
        raise ProfileError("last_seen", int(profiles.last_seen.max()), "a bin that can have been")
    if min(profiles.horizons, default=1) < 1:
        raise ProfileError("horizons", profiles.horizons, "bins ahead")
    try:
        zoneinfo.ZoneInfo(profiles.tz)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ProfileError("tz", profiles.tz, "a zone of the tz database") from error


def _arrays(profiles: Profiles) -> dict[str, NDArray[np.generic]]:
    return {
        "tz": np.array(profiles.tz),
        "horizons": np.array(profiles.horizons, np.int64),
        "through": np.array(str(profiles.through or "")),
        "stations": profiles.stations,
        "change": profiles.change,
        "level": profiles.level,
        "flow": profiles.flow,
        "pace": profiles.relative_activity,
        "last_seen": profiles.last_seen,
    }
