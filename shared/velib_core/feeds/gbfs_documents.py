"""Forecasts as GBFS 3.0 documents, so that whoever reads the present state can read the future.

One discovery file a horizon; its ``station_status`` holds what is expected then. What GBFS has no
field for stands in ``_forecast``, which other readers ignore. Pure functions: rows in, documents
out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = "3.0"

TTL_S = 300
"""Seconds until there is something newer: a snapshot comes every five minutes."""

UNKNOWN_CONTACT = "unknown@example.invalid"
"""GBFS wants an address; no setting holds one, and this one is reserved to reach nobody."""

STATUS = "station_status.json"
INFORMATION = "station_information.json"
SYSTEM = "system_information.json"
DISCOVERY = "gbfs.json"


def station_status(forecast: Mapping[str, Any]) -> dict[str, Any]:
    """Return a forecast document as ``station_status``; stations without a number are left out.

    Docks are those that the expected bikes leave free, where the capacity is known.
    """
    rows = [row for row in forecast["data"] if row["bikes_pred_int"] is not None]
    about = {
        "horizon_min": forecast["horizon_min"],
        "target": rows[0]["target_ts_utc"] if rows else None,
        "model_version": forecast["model_version"],
    }
    stations = [_status(row, forecast["generated_at"]) for row in rows]
    return _document(forecast["generated_at"], {"stations": stations}) | {"_forecast": about}


def _status(row: Mapping[str, Any], generated_at: str) -> dict[str, Any]:
    bikes, capacity = int(row["bikes_pred_int"]), row["capacity_bin"]
    docks = {} if capacity is None else {"num_docks_available": max(int(capacity) - bikes, 0)}
    return {
        "station_id": row["station_id"],
        "num_vehicles_available": bikes,
        **docks,
        "is_installed": True,
        "is_renting": True,
        "is_returning": True,
        "last_reported": generated_at,
        "_p_bike": row["p_bike"],
        "_p_dock": row["p_dock"],
    }


def station_information(rows: Iterable[Mapping[str, Any]], generated_at: str) -> dict[str, Any]:
    """Return ``station_information`` of stations with a place.

    ``rows`` have ``station_id``, ``name``, ``lat``, ``lon`` and ``capacity``. Names are in the
    language of the network, which no feed states: ``und``, undetermined (BCP 47).
    """
    stations = []
    for row in rows:
        if row["lat"] is None or row["lon"] is None:
            continue
        known = row["capacity"] is not None
        stations.append(
            {
                "station_id": row["station_id"],
                "name": [{"text": row["name"] or row["station_id"], "language": "und"}],
                "lat": row["lat"],
                "lon": row["lon"],
                **({"capacity": int(row["capacity"])} if known else {}),
            }
        )
    return _document(generated_at, {"stations": stations})


def system_information(network: str, tz: str, horizon: int, generated_at: str) -> dict[str, Any]:
    """Return ``system_information`` of a network as it is expected so many minutes ahead."""
    name = f"{network}, {horizon} minutes ahead (forecast)"
    system = {
        "system_id": f"{network.replace('-', '_')}_forecast_h{horizon}",
        "languages": ["en"],
        "name": [{"text": name, "language": "en"}],
        "opening_hours": "24/7",
        "feed_contact_email": UNKNOWN_CONTACT,
        "timezone": tz,
    }
    return _document(generated_at, system)


def discovery(addresses: Mapping[str, str], generated_at: str) -> dict[str, Any]:
    """Return the discovery file; ``addresses`` holds the address of each document by its file."""
    feeds = [
        {"name": file.removesuffix(".json"), "url": address} for file, address in addresses.items()
    ]
    return _document(generated_at, {"feeds": feeds})


def _document(generated_at: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"last_updated": generated_at, "ttl": TTL_S, "version": VERSION, "data": dict(data)}
