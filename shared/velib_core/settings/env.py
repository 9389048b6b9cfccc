"""How a variable of the environment becomes a typed field: names, default, meaning, and a parser.

A settings class declares its fields with `setting` and is read with `read`.
"""

from __future__ import annotations

import dataclasses
import re
import zoneinfo
from typing import TYPE_CHECKING, Any

from velib_core.errors import InvalidValueError
from velib_core.timeline.bins import HorizonMinutes, horizon_bins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SettingsError(InvalidValueError):
    """A setting is missing or malformed."""


_PREFIX = re.compile(r"gs://([a-z0-9](?:[a-z0-9._-]{0,220}[a-z0-9])?)((?:/[^/]+)*)/?")
_NETWORK = re.compile(r"[a-z][a-z0-9-]{0,23}")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def as_text(name: str, raw: str) -> str:
    """Take any text, without the spaces around it."""
    del name
    return raw.strip()


def as_network(name: str, raw: str) -> str:
    """Take the name of a network."""
    if not _NETWORK.fullmatch(raw):
        raise SettingsError(name, raw, "lower-case letters, digits and dashes, as in 'velib'")
    return raw


def as_prefix(name: str, raw: str) -> str:
    """Take a ``gs://`` prefix; a slash at its end is left out."""
    match = _PREFIX.fullmatch(raw)
    if not match or any(part in {".", ".."} for part in raw.split("/")):
        raise SettingsError(name, raw, "gs://BUCKET or gs://BUCKET/FOLDER")
    return f"gs://{match[1]}{match[2]}"


def as_url(name: str, raw: str) -> str:
    """Take an address, or nothing."""
    if raw and not raw.startswith(("https://", "http://")):
        raise SettingsError(name, raw, "an http:// or https:// address")
    return raw


def as_flag(name: str, raw: str) -> bool:
    """Take 1 or 0, in the words people use."""
    value = raw.strip().lower()
    if value not in _TRUE | _FALSE:
        raise SettingsError(name, raw, "1 or 0")
    return value in _TRUE


def number_between(low: float, high: float) -> Callable[[str, str], float]:
    """Return what takes a number in ``[low, high]``."""

    def parse(name: str, raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise SettingsError(name, raw, f"a number between {low:g} and {high:g}")
        return value

    return parse


def count_between(low: int, high: int) -> Callable[[str, str], int]:
    """Return what takes a whole number in ``[low, high]``."""

    def parse(name: str, raw: str) -> int:
        if not re.fullmatch(r"-?\d{1,9}", raw.strip()) or not low <= int(raw) <= high:
            raise SettingsError(name, raw, f"a whole number between {low} and {high}")
        return int(raw)

    return parse


def as_zone(name: str, raw: str) -> str:
    """Take an IANA time zone."""
    try:
        zoneinfo.ZoneInfo(raw)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise SettingsError(name, raw, "an IANA time zone, as in 'Europe/Paris'") from None
    return raw


def as_horizons(name: str, raw: str) -> tuple[HorizonMinutes, ...]:
    """Take minutes with commas; in order, each once."""
    expected = "minutes that are multiples of 5, as in '15,60'"
    try:
        horizons = tuple(sorted({HorizonMinutes(int(part)) for part in raw.split(",")}))
        for horizon in horizons:
            horizon_bins(horizon)
    except ValueError:
        raise SettingsError(name, raw, expected) from None
    if horizons[-1] > 24 * 60:
        raise SettingsError(name, raw, expected + " of at most a day")
    return horizons


def setting(names: str, default: str, parse: Callable[[str, str], Any], about: str) -> Any:  # noqa: ANN401 -- each field states its own type
    """Declare a field read from the first of ``names`` that is set, else from ``default``."""
    return dataclasses.field(
        metadata={"names": names.split(), "default": default, "parse": parse, "about": about}
    )


def read(kind: type, environ: Mapping[str, str], root: str = "") -> dict[str, Any]:
    """Return the values of a class's fields out of an environment, by field.

    ``{root}`` in a default stands for the field ``root`` of the class, or for the argument.
    Raises `SettingsError` naming the variable that is wrong.
    """
    values: dict[str, Any] = {}
    for field in variables(kind):
        meta = field.metadata
        name = next((n for n in meta["names"] if environ.get(n, "") != ""), meta["names"][0])
        root = values.get("root", root)
        raw = environ.get(name, "") or meta["default"].replace("{root}", root)
        values[field.name] = meta["parse"](name, raw)
    return values


def variables(kind: type) -> list[dataclasses.Field[Any]]:
    """Return the fields of a class that are read from the environment, in order."""
    return [field for field in dataclasses.fields(kind) if "names" in field.metadata]
