"""What a bike-share feed knows at one moment: the shape that every source of feeds fills."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from velib_core.feeds.open_meteo import Weather


@dataclasses.dataclass(frozen=True)
class StationInformation:
    """Where the stations are: columns of equal length, one item a station.

    ``lat``, ``lon`` in degrees WGS84, ``capacity`` in docks; ``None`` where it is not published.
    """

    station_id: Sequence[str]
    name: Sequence[str | None]
    lat: Sequence[float | None]
    lon: Sequence[float | None]
    capacity: Sequence[int | None]


@dataclasses.dataclass(frozen=True)
class StationStatus:
    """What the stations report: columns of equal length, one item a record.

    A record may lack its ``station_id``. ``None`` stands for what a record does not say, and for a
    whole column that a feed does not have. Flags are 0 or 1, ``last_reported`` is POSIX seconds.
    """

    station_id: Sequence[str | None]
    bikes: Sequence[int | None]
    mechanical: Sequence[int | None] | None = None
    ebike: Sequence[int | None] | None = None
    docks_available: Sequence[int | None] | None = None
    bikes_disabled: Sequence[int | None] | None = None
    docks_disabled: Sequence[int | None] | None = None
    is_installed: Sequence[int | None] | None = None
    is_renting: Sequence[int | None] | None = None
    is_returning: Sequence[int | None] | None = None
    last_reported: Sequence[int | None] | None = None
    station_status: Sequence[str | None] | None = None


@dataclasses.dataclass(frozen=True)
class FeedState:
    """A feed at one moment.

    ``now`` is the clock of the feed's server and ``last_updated`` when it made its data, both
    aware in UTC. ``stations`` and ``status`` hold different stations where a feed publishes one
    without the other. ``weather`` is ``None`` where nothing is known of it.
    """

    now: dt.datetime
    last_updated: dt.datetime
    stations: StationInformation
    status: StationStatus
    weather: Weather | None = None
