"""Read simulated feeds into snapshot rows the way ingestion does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from velib_core.feeds import kinds, stations
from velib_core.feeds.gbfs import decode
from velib_core.feeds.observed import observed_at
from velib_core.feeds.open_meteo import Weather
from velib_local.simulation.feed_documents import gbfs_2

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    import pyarrow as pa
    from velib_local.simulation.feed_state import FeedState


def rows_of_state(state: FeedState) -> pa.Table:
    """Return the snapshot rows of a state of the simulated city, shown as GBFS 2."""
    documents = gbfs_2(state, "http://feed")
    bodies = {
        feed: json.dumps(documents[f"{feed}.json"]()).encode()
        for feed in ("station_status", "station_information", "vehicle_types")
    }
    return rows_of(bodies, state.last_updated, state.weather or Weather())


def rows_of(bodies: Mapping[str, bytes], polled: dt.datetime, weather: Weather) -> pa.Table:
    """Return the snapshot rows of GBFS files (bytes by feed), polled at an instant (aware)."""
    documents = {feed: decode(feed, body) for feed, body in bodies.items()}
    listed = documents.get("vehicle_types")
    types, _ = kinds.vehicle_kinds(listed) if listed else kinds.NO_TYPES
    status = stations.read_status(documents["station_status"], types)
    information = stations.read_information(documents["station_information"])
    stamp = documents["station_status"].last_updated
    observed = observed_at(stamp, status.reports(), polled, "Europe/Paris")
    rows, _ = stations.snapshot_rows(status, information, {}, observed)
    return stations.at_instant(rows, observed.at, weather)
