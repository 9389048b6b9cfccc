"""How many of a station's vehicles are bikes, and how many of those a motor helps.

Three sources have it, the most specific first: counts by vehicle type (2.1 and later), counts by
kind under the dialects' own names, and the count of electric bikes. The first whose numbers add
up to the bikes there wins; where none does, the split is unknown.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, NamedTuple

from velib_core.feeds import values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from velib_core.feeds.gbfs import Document


class Kind(enum.Enum):
    """What a vehicle type is."""

    MECHANICAL = "a bike without a motor"
    ELECTRIC = "a bike with one"
    BIKE = "a bike; nothing says whether it has a motor"
    OTHER = "no bike"


class Problem(NamedTuple):
    """A value that contradicts the others or cannot be read: field, value, expectation."""

    field: str
    value: object
    expected: str


class Bikes(NamedTuple):
    """A station's bikes by kind; ``total`` is null where the sources leave it open."""

    total: int | None
    mechanical: int | None
    ebike: int | None
    problems: list[Problem]


_BIKES = {"bicycle", "cargo_bicycle", "bike", "cargo_bike", "ebike", "e_bike", "e-bike"}
_NO_BIKES = {"car", "moped", "scooter", "scooter_standing", "scooter_seated", "other"}
"""Form factors: those of GBFS, and what some write instead of a bike's. Any other says nothing."""
_PROPULSION = {
    "human": Kind.MECHANICAL,
    "electric_assist": Kind.ELECTRIC,
    "electric": Kind.ELECTRIC,
}
_NAMES = {
    **dict.fromkeys(("mechanical", "classic", "smart", "regular", "standard"), Kind.MECHANICAL),
    **dict.fromkeys(("ebike", "ebikes", "electric", "electrical", "e_bike"), Kind.ELECTRIC),
}
"""Keys of ``num_bikes_available_types``: Vélib' Métropole, PBSC, nextbike."""


Types = tuple["Mapping[str, Kind]", "Sequence[Problem]"]
"""What each vehicle type is, by its id, and what was wrong with those that say it in no way."""

NO_TYPES: Types = ({}, ())


def vehicle_kinds(vehicle_types: Document) -> Types:
    """Return what each vehicle type is, and the records that cannot be read.

    A type of another form factor is no bike, whatever drives it; without a form factor (optional
    in some dialects) it is a bike. A type that is not understood is left out.
    """
    kinds: dict[str, Kind] = {}
    problems = []
    for item in vehicle_types.records:
        type_id = values.identifier(values.field(item, "vehicle_type_id"))
        if type_id is None:
            problems.append(Problem("vehicle_types", item, "a vehicle type with its id"))
            continue
        form, propulsion = (values.field(item, name) for name in ("form_factor", "propulsion_type"))
        if isinstance(form, str) and form.strip().lower() in _NO_BIKES:
            kinds[type_id] = Kind.OTHER
        elif form is None or (isinstance(form, str) and form.strip().lower() in _BIKES):
            driven = propulsion.lower() if isinstance(propulsion, str) else ""
            kinds[type_id] = _PROPULSION.get(driven, Kind.BIKE)
        else:
            problems.append(Problem("vehicle_types.form_factor", form, "a form factor"))
    return kinds, problems


def bikes_of(
    record: Mapping[str, Any], total: int, kinds: Mapping[str, Kind], *, of_all: bool
) -> Bikes:
    """Return a station's bikes by kind.

    ``total`` is what the record counts as available: bikes, or all vehicles where it is ``of_all``
    (3.x). Vehicles of other kinds in it are taken off where the counts by type add up to it.
    """
    problems: list[Problem] = []
    types = values.field(record, "vehicle_types_available")
    counted = _by_type(types, kinds, problems)
    if counted is not None and sum(counted) == total:
        total -= counted.others
    elif counted is not None and of_all and counted.others and counted.bikes != total:
        reported = f"{sum(counted)}, the sum by type"
        return Bikes(None, None, None, [Problem("num_vehicles_available", total, reported)])
    named = _by_name(values.field(record, "num_bikes_available_types"), problems)
    assisted = _by_motor(values.field(record, "num_ebikes_available"), total, problems)
    by_type = _of_types(counted, types, total) if kinds else None
    splits = [by_type, named, assisted]
    reported_splits = [split for split in splits if split is not None]
    for split in reported_splits:
        if split.mechanical + split.ebike == total and split.mechanical >= 0:
            return Bikes(total, split.mechanical, split.ebike, problems)
    if reported_splits:
        wrong = reported_splits[0]
        expected = f"what adds up to {total}, the bikes there"
        problems.append(Problem(wrong.field, wrong.reported, expected))
    return Bikes(total, None, None, problems)


class _Counted(NamedTuple):
    """Counts by vehicle type, added up by kind."""

    mechanical: int
    electric: int
    unsaid: int
    unknown: int
    others: int

    @property
    def bikes(self) -> int:
        return sum(self) - self.others


class _Split(NamedTuple):
    """What one source says: its field and value, mechanical and electric bikes."""

    field: str
    reported: object
    mechanical: int
    ebike: int


def _by_type(types: object, kinds: Mapping[str, Kind], problems: list[Problem]) -> _Counted | None:
    """Add the counts by vehicle type up by kind; ``None`` where there is none or one is wrong."""
    if types is not None and not isinstance(types, list):
        problems.append(Problem("vehicle_types_available", types, "a list"))
    if not isinstance(types, list) or not types:
        return None
    sums: dict[Kind | None, int] = dict.fromkeys((*Kind, None), 0)
    for part in types:
        number = values.count(part.get("count")) if isinstance(part, dict) else None
        if number is None or number < 0:
            expected = "a vehicle type and its count"
            problems.append(Problem("vehicle_types_available", part, expected))
            return None
        type_id = values.identifier(values.field(part, "vehicle_type_id"))
        sums[kinds.get(type_id) if type_id else None] += number
    return _Counted(
        sums[Kind.MECHANICAL], sums[Kind.ELECTRIC], sums[Kind.BIKE], sums[None], sums[Kind.OTHER]
    )


def _of_types(counted: _Counted | None, types: object, total: int) -> _Split | None:
    """Return the split by type; types that are not explained leave it open, unless none is left."""
    field = "vehicle_types_available"
    if counted is None:
        return _Split(field, types, 0, 0) if isinstance(types, list) and total == 0 else None
    split = _Split(field, types, counted.mechanical, counted.electric)
    adds_up = split.mechanical + split.ebike == total
    return split if adds_up or not (counted.unsaid or counted.unknown) else None


def _by_name(named: object, problems: list[Problem]) -> _Split | None:
    """Read counts by kind: an object, or a list of objects with one key each."""
    field = "num_bikes_available_types"
    parts: Sequence[object] = named if isinstance(named, list) else [named]
    pairs = [pair for part in parts if isinstance(part, dict) for pair in part.items()]
    sums = dict.fromkeys(Kind, 0)
    known = False
    for key, value in pairs:
        number = values.count(value)
        if number is None or number < 0:
            problems.append(Problem(f"{field}.{key[:40]}", value, "a whole number"))
            return None
        kind = _NAMES.get(key.lower())
        if kind is None:
            if number:
                return None
            continue
        known = True
        sums[kind] += number
    return _Split(field, named, sums[Kind.MECHANICAL], sums[Kind.ELECTRIC]) if known else None


def _by_motor(value: object, total: int, problems: list[Problem]) -> _Split | None:
    """Read the count of electric bikes; the others have no motor."""
    field = "num_ebikes_available"
    ebikes = None if value is None else values.count(value)
    if ebikes is None:
        if value is not None:
            problems.append(Problem(field, value, "a whole number"))
        return None
    if ebikes < 0:
        problems.append(Problem(field, value, "0 or more"))
        return None
    return _Split(field, value, total - ebikes, ebikes)
