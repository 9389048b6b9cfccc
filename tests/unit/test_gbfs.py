from __future__ import annotations

import datetime as dt
import json
import math
import tracemalloc
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from present import present
from velib_core.feeds import gbfs, stations, values
from velib_core.feeds.http import FeedError
from velib_core.feeds.kinds import NO_TYPES, vehicle_kinds
from velib_core.feeds.observed import AHEAD, Observed, newest_report, observed_at
from velib_core.feeds.open_meteo import Weather
from velib_core.lake.artefact import json_bytes
from velib_core.tables import snapshot
from velib_core.timeline.bins import bin_of

if TYPE_CHECKING:
    import random
    from pathlib import Path

NOON = dt.datetime(2025, 11, 3, 12, 7, 30, tzinfo=dt.UTC)
STAMP = int(NOON.timestamp())
GOOD = {
    "station_id": "good",
    "num_bikes_available": 4,
    "num_docks_available": 6,
    "is_installed": 1,
    "is_renting": 1,
    "is_returning": 1,
    "last_reported": STAMP - 60,
}
BAD = GOOD | {"station_id": "bad"}
ABOUT = {"station_id": "good", "name": "Bastille", "lat": 48.85, "lon": 2.37, "capacity": 10}


def bytes_of(feed: str, data: Any, **top: Any) -> bytes:
    return json.dumps({"last_updated": STAMP, "ttl": 60, "data": data} | top).encode()


def observed(at: datetime = NOON) -> Observed:
    return Observed(at, True, dt.timedelta(), at + AHEAD)


def rows_of_files(
    status: bytes,
    about: bytes = b'{"data": {"stations": []}}',
    types: bytes | None = None,
    known: Any = None,
) -> Any:
    """Return the rows and all defects of files as a feed sends them."""
    kinds, _ = vehicle_kinds(gbfs.decode("vehicle_types", types)) if types else NO_TYPES
    table, defects = stations.snapshot_rows(
        stations.read_status(gbfs.decode("station_status", status), kinds),
        stations.read_information(gbfs.decode("station_information", about)),
        known or {},
        observed(),
    )
    weather = Weather(11.0, 0.5, 3.0, dt.datetime(2025, 11, 3, 12))
    valid, more = snapshot.validate(stations.at_instant(table, NOON, weather), bin_of(NOON))
    return valid, defects + more


def rows_of(records: Any, about: Any = (ABOUT,), types: Any = ()) -> Any:
    return rows_of_files(
        bytes_of("station_status", {"stations": records}),
        bytes_of("station_information", {"stations": list(about)}),
        bytes_of("vehicle_types", {"vehicle_types": list(types)}),
    )


def only_row(record: Any, about: Any = (ABOUT,), types: Any = ()) -> Any:
    table, defects = rows_of([record], about, types)
    assert not defects
    (row,) = table.to_pylist()
    return row


def test_a_row_unites_status_information_weather_and_the_feeds_clock() -> None:
    assert only_row(GOOD) == {
        "ts_utc": dt.datetime(2025, 11, 3, 12, 7, 30),
        "tbin_utc": dt.datetime(2025, 11, 3, 12, 5),
        "station_id": "good",
        "bikes": 4,
        "capacity": 10,
        "mechanical": None,
        "ebike": None,
        "status": "OK",
        "lat": 48.85,
        "lon": 2.37,
        "name": "Bastille",
        "temp_C": 11.0,
        "precip_mm": 0.5,
        "wind_mps": 3.0,
        "last_reported_utc": dt.datetime(2025, 11, 3, 12, 6, 30),
        "docks_available": 6,
        "is_installed": 1,
        "is_renting": 1,
        "is_returning": 1,
        "weather_utc": dt.datetime(2025, 11, 3, 12),
    }


def test_a_station_without_information_keeps_its_row_and_one_without_status_has_none() -> None:
    row = only_row(GOOD | {"station_id": "new"})
    assert row["station_id"] == "new"
    assert [row[f] for f in ("capacity", "lat", "lon", "name")] == [None] * 4


@pytest.mark.parametrize(("said", "expected"), [(213688169, "213688169"), (" 7 ", "7"), ("é", "é")])
def test_station_ids_are_text_and_integers_join_with_strings(said: Any, expected: str) -> None:
    row = only_row(GOOD | {"station_id": said}, [ABOUT | {"station_id": expected}])
    assert (row["station_id"], row["name"]) == (expected, "Bastille")


TYPES = [
    {"vehicle_type_id": "boost", "form_factor": "bicycle", "propulsion_type": "electric_assist"},
    {"vehicle_type_id": "classic", "form_factor": "cargo_bicycle", "propulsion_type": "human"},
    {"vehicle_type_id": "gift", "form_factor": "bicycle", "propulsion_type": "unheard-of"},
    {"vehicle_type_id": "kick", "form_factor": "scooter_standing", "propulsion_type": "electric"},
    {"vehicle_type_id": 5, "propulsion_type": "electric"},
]


@pytest.mark.parametrize(
    ("fields", "mechanical", "ebike"),
    [
        ({"num_bikes_available_types": [{"mechanical": 1}, {"ebike": 3}]}, 1, 3),
        ({"num_bikes_available_types": {"mechanical": 1, "ebike": 3}}, 1, 3),
        ({"num_bikes_available_types": [{"ebike": 4}]}, 0, 4),
        ({"num_bikes_available_types": [{"cargo": 4}]}, None, None),
        ({"num_bikes_available_types": []}, None, None),
        ({"num_ebikes_available": 3}, 1, 3),
        ({"vehicle_types_available": [{"vehicle_type_id": "boost", "count": 4}]}, 0, 4),
        (
            {
                "vehicle_types_available": [
                    {"vehicle_type_id": "boost", "count": 3},
                    {"vehicle_type_id": "classic", "count": 1},
                    {"vehicle_type_id": "unheard-of", "count": 0},
                ]
            },
            1,
            3,
        ),
        ({"vehicle_types_available": [{"vehicle_type_id": "unheard-of", "count": 4}]}, None, None),
        ({"vehicle_types_available": []}, None, None),
        ({"vehicle_types_available": [], "num_bikes_available": 0}, 0, 0),
        ({}, None, None),
    ],
)
def test_the_split_is_read_from_every_dialect_and_null_where_none_has_it(
    fields: dict[Any, Any], mechanical: int | None, ebike: int | None
) -> None:
    row = only_row(GOOD | fields, types=TYPES)
    assert (row["mechanical"], row["ebike"]) == (mechanical, ebike)


def counted(**counts: Any) -> Any:
    return [{"vehicle_type_id": name, "count": count} for name, count in counts.items()]


@pytest.mark.parametrize(
    ("fields", "bikes"),
    [
        # the count is of bikes only, or of all that stands there
        ({"num_bikes_available": 2, "vehicle_types_available": counted(boost=2, kick=9)}, 2),
        ({"num_bikes_available": 11, "vehicle_types_available": counted(boost=2, kick=9)}, 2),
        ({"num_vehicles_available": 11, "vehicle_types_available": counted(boost=2, kick=9)}, 2),
        ({"num_vehicles_available": 9, "vehicle_types_available": counted(kick=9)}, 0),
        ({"num_vehicles_available": 9, "vehicle_types_available": counted(gift=9)}, 9),
        ({"num_vehicles_available": 9}, 9),
    ],
)
def test_a_scooter_is_no_bike(fields: dict[str, Any], bikes: int) -> None:
    record = {"station_id": "good"} | fields
    row = only_row(record, types=TYPES)
    assert row["bikes"] == bikes
    assert (row["mechanical"] or 0) + (row["ebike"] or 0) <= bikes


@pytest.mark.parametrize(
    ("form", "bikes", "ebike"),
    [("Bike", 9, 9), (" cargo_bicycle", 9, 9), ("moped", 0, 0), ("hoverboard", 9, None)],
)
def test_a_form_that_nobody_knows_is_neither_bike_nor_none(
    form: str, bikes: int, ebike: int | None
) -> None:
    types = [{"vehicle_type_id": "x", "form_factor": form, "propulsion_type": "electric"}]
    record = {"station_id": "good", "num_vehicles_available": 9}
    row = rows_of([record | {"vehicle_types_available": counted(x=9)}], types=types)[0].to_pylist()
    assert [(r["bikes"], r["ebike"]) for r in row] == [(bikes, ebike)]


def test_vehicles_whose_types_do_not_add_up_are_no_count_of_bikes() -> None:
    record = {"station_id": "bad", "num_vehicles_available": 20}
    record |= {"vehicle_types_available": counted(boost=2, kick=9)}
    table, defects = rows_of([record, GOOD], types=TYPES)
    assert table["station_id"].to_pylist() == ["good"]
    assert [(d.field, d.refused) for d in defects] == [("num_vehicles_available", True)]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"vehicle_types_available": counted(boost=0, classic=0)}, "vehicle_types_available"),
        ({"num_bikes_available_types": {"electric": 3}}, "num_bikes_available_types"),
        ({"num_ebikes_available": 9}, "num_ebikes_available"),
    ],
)
def test_a_split_that_does_not_add_up_is_unknown_and_reported(
    fields: dict[str, Any], field: str
) -> None:
    table, defects = rows_of([GOOD | fields], types=TYPES)
    (row,) = table.to_pylist()
    assert (row["bikes"], row["mechanical"], row["ebike"]) == (4, None, None)
    assert [(d.field, d.refused) for d in defects] == [(field, False)]


def test_the_source_that_adds_up_wins_over_a_more_specific_one_that_does_not() -> None:
    fields = {"vehicle_types_available": counted(boost=9), "num_ebikes_available": 1}
    row = only_row(GOOD | fields, types=TYPES)
    assert (row["mechanical"], row["ebike"]) == (3, 1)


def test_vehicle_types_that_cannot_be_read_are_reported() -> None:
    types = ["junk", {"propulsion_type": "human"}, {"vehicle_type_id": "a", "form_factor": 7}]
    read = gbfs.decode("vehicle_types", bytes_of("vehicle_types", {"vehicle_types": types}))
    kinds, problems = vehicle_kinds(read)
    assert not kinds
    assert [p.field for p in problems] == ["vehicle_types"] * 2 + ["vehicle_types.form_factor"]


def test_version_3_names_and_stamps_are_read() -> None:
    record = {
        "station_id": "good",
        "num_vehicles_available": 4,
        "is_renting": True,
        "is_returning": False,
        "last_reported": "2025-11-03T13:00:00+01:00",
    }
    names = [{"text": "Bastille", "language": "fr"}, {"text": "The Bastille", "language": "en"}]
    row = only_row(record, [ABOUT | {"name": names}])
    assert (row["bikes"], row["name"], row["status"]) == (4, "Bastille", "CLOSED")
    assert row["last_reported_utc"] == dt.datetime(2025, 11, 3, 12, 0)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"station_status": "active"}, "OK"),
        ({"station_status": "Open"}, "OK"),
        ({"station_status": "out_of_service"}, "CLOSED"),
        ({"is_renting": 0}, "CLOSED"),
        ({"is_returning": False}, "CLOSED"),
        ({"is_renting": 0, "num_bikes_available": 0}, "OK"),
        ({"is_returning": 0, "num_docks_available": 0}, "OK"),
        ({"is_renting": 0, "is_returning": 0, "num_bikes_available": 0}, "CLOSED"),
        ({"is_installed": 0}, "CLOSED"),
        ({"station_status": "active", "is_installed": 0}, "CLOSED"),
        ({"is_renting": None}, "OK"),
        ({"is_renting": None, "is_returning": None}, None),
    ],
)
def test_status_is_ok_closed_or_unknown(fields: dict[str, Any], status: str | None) -> None:
    assert only_row(GOOD | fields)["status"] == status


REFUSED_RECORDS = [
    ("not an object", "junk", "stations"),
    ("null", None, "stations"),
    ("a list", [1, 2], "stations"),
    ("no id", {"num_bikes_available": 3}, "station_id"),
    ("empty id", GOOD | {"station_id": " "}, "station_id"),
    ("boolean id", GOOD | {"station_id": True}, "station_id"),
    ("fractional id", GOOD | {"station_id": 1.5}, "station_id"),
    ("half a surrogate pair as id", GOOD | {"station_id": "\ud800"}, "station_id"),
    ("NUL at the end of an id", GOOD | {"station_id": "good\0"}, "station_id"),
    ("line feed in an id", GOOD | {"station_id": "go\nod"}, "station_id"),
    ("201 bikes in 10 docks", BAD | {"num_bikes_available": 201, "capacity": 10}, "bikes"),
    ("999 bikes in 10 docks", BAD | {"num_bikes_available": 999}, "bikes"),
    ("not a number of bikes", BAD | {"num_bikes_available": math.nan}, "num_bikes_available"),
    ("endless id", GOOD | {"station_id": "9" * 500}, "station_id"),
    ("endless whole number as id", GOOD | {"station_id": 10**500}, "station_id"),
    ("no count", {"station_id": "bad"}, "num_bikes_available"),
    ("null count", BAD | {"num_bikes_available": None}, "num_bikes_available"),
    ("negative count", BAD | {"num_bikes_available": -1}, "bikes"),
    ("absurd count", BAD | {"num_bikes_available": 10**9}, "bikes"),
    ("count beyond 64 bits", BAD | {"num_bikes_available": 10**30}, "bikes"),
    ("boolean count", BAD | {"num_bikes_available": True}, "num_bikes_available"),
    ("fractional count", BAD | {"num_bikes_available": 2.5}, "num_bikes_available"),
    ("count in words", BAD | {"num_bikes_available": "many"}, "num_bikes_available"),
    ("doubly signed count", BAD | {"num_bikes_available": "--5"}, "num_bikes_available"),
    ("exotic digits", BAD | {"num_bikes_available": "²"}, "num_bikes_available"),
    ("count as a list", BAD | {"num_bikes_available": [3]}, "num_bikes_available"),
    ("count as half a pair", BAD | {"num_bikes_available": "\udfff"}, "num_bikes_available"),
    ("the same station earlier in the list", GOOD | {"num_bikes_available": 3}, "station_id"),
]

NULLED_FIELDS = [
    ("negative docks", {"num_docks_available": -2}, "docks_available", "docks_available"),
    ("docks in words", {"num_docks_available": "few"}, "num_docks_available", "docks_available"),
    ("flag that is no flag", {"is_renting": "maybe"}, "is_renting", "is_renting"),
    ("never reported", {"last_reported": 0}, "last_reported", "last_reported_utc"),
    ("reported before 1970", {"last_reported": -5}, "last_reported", "last_reported_utc"),
    (
        "reported next week",
        {"last_reported": STAMP + 7 * 86400},
        "last_reported",
        "last_reported_utc",
    ),
    ("reported in picoseconds", {"last_reported": 1e30}, "last_reported", "last_reported_utc"),
    (
        "docks that no such station has",
        {"num_docks_available": 99},
        "docks_available",
        "docks_available",
    ),
    (
        "not a number of docks",
        {"num_docks_available": math.inf},
        "num_docks_available",
        "docks_available",
    ),
    ("999 docks in all", {"capacity": 999}, "capacity", "capacity"),
    ("reported in words", {"last_reported": "noon"}, "last_reported", "last_reported_utc"),
    ("reported at 1e308", {"last_reported": 1e308}, "last_reported", "last_reported_utc"),
    (
        "split in words",
        {"num_bikes_available_types": [{"mechanical": "x"}]},
        "num_bikes_available_types.mechanical",
        "mechanical",
    ),
    (
        "types without counts",
        {"vehicle_types_available": [{"vehicle_type_id": "a"}]},
        "vehicle_types_available",
        "ebike",
    ),
    ("negative capacity", {"capacity": -1}, "capacity", "capacity"),
    ("absurd capacity", {"capacity": 10**30}, "capacity", "capacity"),
    ("latitude in words", {"lat": "48° 51"}, "lat", "lat"),
    ("latitude off the globe", {"lat": 4885.0}, "lat", "lat"),
    ("longitude beyond a double", {"lon": 10**400}, "lon", "lon"),
    ("name that is no text", {"name": 5}, "name", "name"),
    ("endless name", {"name": "x" * 10_000}, "name", "name"),
]


@pytest.mark.parametrize(
    ("record", "field"), [pytest.param(*case, id=name) for name, *case in REFUSED_RECORDS]
)
def test_a_bad_record_is_refused_by_name_and_the_rest_stays(record: Any, field: Any) -> None:
    table, defects = rows_of([record, GOOD])
    assert [(row["station_id"], row["bikes"]) for row in table.to_pylist()] == [("good", 4)]
    assert [(defect.field, defect.refused) for defect in defects] == [(field, True)]
    assert json_bytes([defect.as_json() for defect in defects])


@pytest.mark.parametrize(
    ("changes", "field", "column"), [pytest.param(*case, id=name) for name, *case in NULLED_FIELDS]
)
def test_a_bad_field_becomes_null_by_name_and_its_row_stays(
    changes: Any, field: Any, column: Any
) -> None:
    described = {name: value for name, value in changes.items() if name in ABOUT}
    status = {name: value for name, value in changes.items() if name not in ABOUT}
    about = [ABOUT, ABOUT | {"station_id": "bad"} | described]
    table, defects = rows_of([BAD | status, GOOD], about)
    bad, good = table.to_pylist()
    assert (bad["station_id"], bad["bikes"], bad[column]) == ("bad", 4, None)
    assert (good["bikes"], good["capacity"], good["name"]) == (4, 10, "Bastille")
    assert [(defect.station_id, defect.field, defect.refused) for defect in defects] == [
        ("bad", field, False)
    ]
    assert json_bytes([defect.as_json() for defect in defects])


@pytest.mark.parametrize("count", [4, 4.0, "4", " 4.0 ", "-0"])
def test_whole_counts_are_read_however_they_are_written(count: Any) -> None:
    assert only_row(GOOD | {"num_bikes_available": count})["bikes"] == abs(float(count))


def test_reports_of_years_ago_are_kept_and_unknown_fields_are_ignored() -> None:
    row = only_row(GOOD | {"last_reported": STAMP - 6 * 365 * 86400, "brand_new": {"a": [1]}})
    assert row["last_reported_utc"].year == 2019


VALID = bytes_of("station_status", {"stations": [GOOD]})

BAD_DOCUMENTS = [
    ("HTML", b"<!DOCTYPE html><html>503</html>", "station_status: got b'<!DOCTYPE"),
    ("nothing", b"", "station_status: got b''"),
    ("truncated", VALID[:-9], "expected JSON ("),
    ("10 MB of junk", b"\x8f\x00junk" * 1_700_000, "expected JSON ("),
    ("nested without end", b'{"data":' + b"[" * 100_000, "expected JSON ("),
    ("a list", b"[]", "station_status: got [], expected a JSON object"),
    ("a number", b"7", "station_status: got 7, expected a JSON object"),
    ("no data", b"{}", "station_status.data.stations: got None"),
    ("data that is a number", b'{"data": 7}', "station_status.data: got 7"),
    ("no stations", b'{"data": {}}', "station_status.data.stations: got None, expected a list"),
    ("stations by id", b'{"data": {"stations": {"1": 3}}}', "station_status.data.stations: got {"),
]


@pytest.mark.parametrize(
    ("body", "message"), [pytest.param(*case, id=name) for name, *case in BAD_DOCUMENTS]
)
def test_what_is_no_feed_gets_one_short_error_naming_feed_field_and_value(
    body: Any, message: Any
) -> None:
    with pytest.raises(FeedError) as caught:
        gbfs.decode("station_status", body)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("depth", range(900, 1000, 7))
def test_records_nested_to_any_depth_cost_no_more_than_themselves(depth: Any) -> None:
    nested = b"[" * depth + b"]" * depth
    body = b'{"data": {"stations": [' + nested + b", " + json.dumps(GOOD).encode() + b"]}}"
    try:
        table, defects = rows_of_files(body)
    except FeedError:
        return
    assert table["station_id"].to_pylist() == ["good"]
    assert json_bytes([defect.as_json() for defect in defects])


def test_capacities_of_0_throughout_are_unknown_and_a_single_one_is_what_it_says() -> None:
    none, some = ABOUT | {"capacity": 0}, ABOUT | {"station_id": "bad"}
    table, defects = rows_of([GOOD, BAD], [none, some | {"capacity": 0}])
    assert table["capacity"].to_pylist() == [None, None]
    assert [(defect.station_id, defect.field) for defect in defects] == [(None, "capacity")]
    table, defects = rows_of([GOOD, BAD], [none, some])
    assert (table["capacity"].to_pylist(), defects) == ([10, 0], [])


def test_an_absurdly_long_number_costs_its_record_only() -> None:
    body = b'{"data": {"stations": [{"station_id": "x", "num_bikes_available": %s}, %s]}}'
    table, defects = rows_of_files(body % (b"9" * 100_000, json.dumps(GOOD).encode()))
    assert table["station_id"].to_pylist() == ["good"]
    assert [defect.field for defect in defects] == ["num_bikes_available"]


WRAPPINGS = [
    b'{"data": {"data": {"stations": [%s]}}}',
    b'{"data": {"stations": [%s]}}\0\0',
    b'{"data": {"stations": [%s]}}',
    b'{"data": [%s]}',
    b'{"stations": [%s]}',
    b'{"data": {"stations": {"good": %s}}}',
    b'\xef\xbb\xbf{"data": {"stations": [%s]}}',
    b'{"caf\xe9": 1, "data": {"stations": [%s]}}',
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_list_of_stations_is_found_where_feeds_put_it(wrapping: Any) -> None:
    table, defects = rows_of_files(wrapping % json.dumps(GOOD).encode())
    assert (table["station_id"].to_pylist(), defects) == (["good"], [])


ODD_TOKENS = ["nan", "-NaN", "inf", "None", "undefined", "", "010", "+3", "1_0", "0x1F", ".5", "é"]


@pytest.mark.parametrize("token", ODD_TOKENS)
def test_a_value_that_is_no_json_costs_that_value_and_is_said(token: str) -> None:
    odd = json.dumps(BAD).replace('"num_docks_available": 6', f'"num_docks_available": {token}')
    body = f'{{"data": {{"stations": [{odd}, {json.dumps(GOOD)}]}}}}'.encode()
    table, defects = rows_of_files(body)
    assert table["bikes"].to_pylist() == [4, 4]
    assert table["docks_available"].to_pylist() == [None, 6]
    assert defects[0].field == "station_status"
    assert defects[0].expected == "JSON"


@pytest.mark.parametrize(
    ("found", "written"),
    [
        ('"bad"', '"\nbad"'),
        ("true", "True"),
        ("}, {", "},, {"),
        ("}]", "},]"),
        ("}]}}", "}]}} </html>"),
        ("1", "1"),
    ],
)
def test_what_is_no_json_around_values_costs_none(found: str, written: str) -> None:
    body = json.dumps({"data": {"stations": [BAD | {"is_renting": True}, GOOD]}})
    table, _ = rows_of_files(body.replace(found, written).encode())
    assert table["station_id"].to_pylist() == ["bad", "good"]
    assert table["is_renting"].to_pylist() == [1, 1]


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters='"[]{},:\\'), max_size=12))
def test_no_word_in_a_value_costs_another_record(word: str) -> None:
    odd = json.dumps(BAD).replace(": 6", f": {word}")
    body = f'{{"data": {{"stations": [{odd}, {json.dumps(GOOD)}]}}}}'.encode(errors="replace")
    table, _ = rows_of_files(body)
    assert table.to_pylist()[-1]["docks_available"] == 6


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_is_read_in_every_encoding_that_json_has(name: str) -> None:
    about = {"data": {"stations": [ABOUT | {"name": "Château"}]}}
    encoded = json.dumps(about, ensure_ascii=False).encode(name)
    table, defects = rows_of_files(VALID.decode().encode(name), encoded)
    assert (table["name"].to_pylist(), defects) == (["Château"], [])


def test_a_record_in_camel_case_is_read_like_any_other() -> None:
    def camel(name: str) -> str:
        first, *others = name.split("_")
        return first + "".join(word.capitalize() for word in others)

    def spelt(value: Any) -> Any:
        if isinstance(value, dict):
            return {camel(key): spelt(part) for key, part in value.items()}
        return [spelt(part) for part in value] if isinstance(value, list) else value

    record = GOOD | {"vehicle_types_available": counted(boost=3, classic=1)}
    about = ABOUT | {"latitude": 48.85, "longitude": 2.37}
    del about["lat"], about["lon"]
    assert only_row(spelt(record), [spelt(about)], spelt(TYPES)) == only_row(record, types=TYPES)


@pytest.mark.parametrize("said", ["1.0", "T", "y", "on", "TRUE", " yes ", 1.0])
def test_flags_are_read_in_every_way_that_has_one_meaning(said: Any) -> None:
    opposite = {"1.0": "0.0", "T": "F", "y": "n", "on": "off", "TRUE": "FALSE", " yes ": "no"}
    assert only_row(GOOD | {"is_renting": said})["is_renting"] == 1
    assert only_row(GOOD | {"is_renting": opposite.get(said, 0.0)})["is_renting"] == 0


@pytest.mark.parametrize(
    "said",
    [
        "2025-11-03 12:06:30 UTC",
        "2025-11-03t12:06:30z",
        "2025-11-03T13:06:30+0100",
        "2025/11/03 12:06:30",
        "20251103120630",
        "20251103T120630Z",
        "Mon, 03 Nov 2025 12:06:30 GMT",
    ],
)
def test_an_instant_in_words_is_read_where_there_is_one_reading(said: str) -> None:
    found = only_row(GOOD | {"last_reported": said})["last_reported_utc"]
    assert found == dt.datetime(2025, 11, 3, 12, 6, 30)


@pytest.mark.parametrize("said", ["03/11/2025 12:06:30", "20259903120630", "12:06", "45964.5"])
def test_an_instant_that_could_mean_something_else_is_none(said: str) -> None:
    table, defects = rows_of([GOOD | {"last_reported": said}])
    assert table["last_reported_utc"].to_pylist() == [None]
    assert [defect.field for defect in defects] == ["last_reported"]


@pytest.mark.parametrize(("ahead", "shifted"), [(1, False), (5, False), (15, True), (20, True)])
def test_the_clocks_of_some_stations_do_not_shift_the_reports_of_the_others(
    ahead: int, shifted: bool
) -> None:
    reports = np.full(20, STAMP - 60.0)
    reports[:ahead] += 3600
    found = observed_at(NOON, reports, NOON, "Europe/Paris")
    assert (found.shift == dt.timedelta(hours=1)) == shifted
    assert [defect.field for defect in found.defects] == ["last_reported"] * shifted
    assert (found.at, found.by_stamp) == (NOON, True)


def test_a_name_whose_bytes_are_damaged_is_none_and_the_rest_of_the_file_stays() -> None:
    about = bytes_of("info", {"stations": [ABOUT]}).replace(b"Bastille", b"Ch\xe2teau")
    table, defects = rows_of_files(bytes_of("s", {"stations": [GOOD]}), about)
    (row,) = table.to_pylist()
    assert (row["name"], row["capacity"]) == (None, 10)
    assert [defect.field for defect in defects] == ["name"]


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ({"last_updated": STAMP}, NOON),
        ({"last_updated": None, "lastUpdatedOther": STAMP}, NOON),
        ({"last_updated": "2025-11-03T13:07:30+01:00"}, NOON),
        ({"last_updated": "2025-11-03T12:07:30Z"}, NOON),
        ({"last_updated": str(STAMP)}, NOON),
        ({"last_updated": STAMP * 1000}, NOON),
        ({"last_updated": STAMP * 10**6}, NOON),
        ({"last_updated": STAMP * 10**9}, NOON),
        ({"last_updated": "Mon, 03 Nov 2025 12:07:30 GMT"}, NOON),
        ({"last_updated": "soon"}, None),
        ({"last_updated": True}, None),
        ({"last_updated": 10**30}, None),
        ({"last_updated": -(10**400)}, None),
        ({"last_updated": math.nan}, None),
        ({"last_updated": "0001-01-01T00:00:00+23:59"}, None),
        ({"last_updated": "9999-12-31T23:59:59-23:59"}, None),
        ({"last_updated": f"{STAMP} UTC"}, None),
    ],
)
def test_the_feeds_stamp_is_read_in_every_dialect(top: dict[str, Any], said: Any) -> None:
    status = gbfs.decode("station_status", bytes_of("station_status", {"stations": []}, **top))
    assert status.last_updated == said


@pytest.mark.parametrize(
    ("ahead", "kept"),
    [
        (dt.timedelta(0), True),
        (dt.timedelta(minutes=5), True),
        (dt.timedelta(minutes=5, seconds=1), False),
        (dt.timedelta(days=-7), True),
        (dt.timedelta(days=-7, seconds=-1), False),
        (-dt.timedelta(days=20_000), False),
    ],
)
def test_an_absurd_stamp_gives_way_to_the_time_of_the_poll(ahead: Any, kept: bool) -> None:
    found = observed_at(NOON + ahead, np.array([]), NOON, "Europe/Paris")
    assert (found.at, found.by_stamp) == ((NOON + ahead, True) if kept else (NOON, False))
    assert len(found.defects) == (not kept)


@pytest.mark.parametrize(
    ("ttl", "read"),
    [(3600, 3600), (0, 0), (-1, 0), (10**9, 86400), ("60", 60), ("soon", 0), (True, 0), (None, 0)],
)
def test_a_ttl_is_whole_seconds_of_at_most_a_day(ttl: Any, read: int) -> None:
    assert gbfs.decode("gbfs", bytes_of("gbfs", {}, ttl=ttl)).ttl_s == read


LISTING = [
    {"name": "station_status", "url": "https://x/status"},
    {"name": "station_information", "url": "http://x/info"},
    {"name": "vehicle_types", "url": "file:///etc/passwd"},
    {"name": ["station_status"], "url": "https://x/odd"},
    {"name": "station_status"},
    "junk",
]


@pytest.mark.parametrize(
    "data",
    [
        {"feeds": LISTING},
        {"nl": {"feeds": LISTING}, "fr": {}},
        {"nl": LISTING},
        {"nl": {"feeds": LISTING[:1]}, "fr": {"feeds": LISTING}},
    ],
)
def test_discovery_of_2_and_3_yields_http_addresses_only(data: dict[str, Any]) -> None:
    urls = gbfs.feed_urls(gbfs.decode("gbfs", bytes_of("gbfs", data)))
    assert urls == {"station_status": "https://x/status", "station_information": "http://x/info"}


def test_a_discovery_of_one_list_has_what_can_be_had_of_it() -> None:
    odd = [{"name": "vehicle_types", "url": "http://[::1/x"}, *LISTING[:1]]
    dotted = [{"name": "station_status.json", "url": "status.json"}]
    for listing, url in ((odd, "https://x/status"), (dotted, "https://y/a/status.json")):
        found = gbfs.decode("gbfs", bytes_of("gbfs", {"feeds": listing}))
        assert gbfs.feed_urls(found, "https://y/a/gbfs.json") == {"station_status": url}


@pytest.mark.parametrize("data", [{}, {"feeds": 3}, {"en": 3}, {"feeds": LISTING[1:2]}])
def test_a_discovery_without_the_station_feeds_is_an_error(data: dict[Any, Any]) -> None:
    with pytest.raises(FeedError, match=r"gbfs\.data\.feeds"):
        gbfs.feed_urls(gbfs.decode("gbfs", bytes_of("gbfs", data)))


EXTREME = st.sampled_from(
    [10**400, -(10**400), 1e308, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9" * 30]
)
JSON = EXTREME | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
FIELDS = [
    *GOOD,
    "station_status",
    "num_vehicles_available",
    "num_ebikes_available",
    "num_bikes_available_types",
    "vehicle_types_available",
]
USUAL = st.fixed_dictionaries(
    {"station_id": st.integers(0, 5), "num_bikes_available": st.integers(0, 9)},
    optional={name: JSON for name in FIELDS if name not in {"station_id", "num_bikes_available"}},
)
RECORDS = st.lists(
    USUAL | st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5) | JSON, max_size=6
)


@settings(deadline=None)
@given(JSON, JSON, JSON)
def test_nothing_that_a_file_says_of_itself_is_an_uncaught_error(
    stamp: Any, ttl: Any, version: Any
) -> None:
    top = {"last_updated": stamp, "ttl": ttl, "version": version}
    read = gbfs.decode("station_status", bytes_of("s", {"stations": []}, **top))
    found = observed_at(read.last_updated, np.array([math.nan]), NOON, "America/Chicago")
    assert abs(found.at - NOON) <= dt.timedelta(days=7)
    assert 0 <= read.ttl_s <= 86_400


@settings(deadline=None)
@given(RECORDS, RECORDS)
def test_rows_and_rejections_account_for_every_record(records: Any, about: Any) -> None:
    table, defects = rows_of(records, about)
    assert table.num_rows + sum(defect.refused for defect in defects) == len(records)
    assert json_bytes([defect.as_json() for defect in defects])


def as_written(value: Any) -> Any:
    """The ways in which feeds write one value."""
    return st.sampled_from([value, str(value), float(value)])


COUNTS = st.integers(0, 30).flatmap(as_written)
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, -1, 999, math.nan, "", "n/a", [], {}, True, "12 bikes", 1e300]
)
REPORTS = st.integers(STAMP - 900, STAMP).flatmap(
    lambda t: st.sampled_from(
        [t, str(t), t * 1000, dt.datetime.fromtimestamp(t, dt.UTC).isoformat()]
    )
)
SPELLINGS = st.sampled_from(["num_bikes_available", "numBikesAvailable", "num_vehicles_available"])
STATION = st.builds(
    lambda bikes, optional: {"station_id": "", **bikes, **optional},
    st.dictionaries(SPELLINGS, COUNTS, min_size=1, max_size=1),
    st.fixed_dictionaries(
        {},
        optional={
            "num_docks_available": COUNTS | ODD,
            "num_ebikes_available": COUNTS | ODD,
            "num_bikes_available_types": st.dictionaries(
                st.sampled_from(["ebike", "mechanical", "electric", "classic", "cargo"]),
                COUNTS | ODD,
            ),
            "vehicle_types_available": st.lists(
                st.builds(
                    lambda kind, count: {"vehicle_type_id": kind, "count": count},
                    st.sampled_from(["boost", "classic", "gift", "kick", "5", "unheard-of"]),
                    COUNTS | ODD,
                )
            ),
            "is_installed": st.sampled_from([0, 1, True, "false", "1", "maybe"]),
            "is_renting": st.sampled_from([0, 1, False, "true", None]),
            "is_returning": st.sampled_from([0, 1, False, "true", None]),
            "last_reported": REPORTS | ODD,
            "lat": st.sampled_from([45.1, "45,1", 0, math.nan]),
            "lon": st.sampled_from([4.1, "4.1", 0, 999]),
        },
    ),
)
NETWORK = st.lists(st.tuples(st.sampled_from("abcdefgh"), STATION), max_size=8).map(
    lambda pairs: [record | {"station_id": key} for key, record in pairs]
)


@settings(deadline=None, max_examples=50)
@given(NETWORK, st.randoms(use_true_random=False))
def test_the_order_of_the_records_makes_no_difference(records: Any, random: random.Random) -> None:
    shuffled = records.copy()
    random.shuffle(shuffled)
    table, defects = rows_of(records, types=TYPES)
    other, others = rows_of(shuffled, types=TYPES)
    assert table.equals(other)
    assert table.num_rows + sum(defect.refused for defect in defects) == len(records)
    assert len(defects) == len(others)


def said(value: Any) -> int | None:
    """Return what a plain reader takes a count for, ``None`` where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    complete = math.isfinite(number) and number == int(number) and not isinstance(value, bool)
    return int(number) if complete else None


@settings(deadline=None, max_examples=50)
@given(NETWORK)
def test_no_row_holds_a_value_that_no_record_gave(records: Any) -> None:
    table, _ = rows_of(records, types=TYPES)
    for row in table.to_pylist():
        own = [record for record in records if record["station_id"] == row["station_id"]]
        totals = {
            said(value)
            for r in own
            for name, value in r.items()
            if "vailable" in name and not isinstance(value, list | dict)
        }
        parts = [part for r in own for part in r.get("vehicle_types_available", ())]
        bikes = {said(part["count"]) for part in parts}
        assert row["bikes"] in totals or bikes
        assert row["docks_available"] in {None, *(said(r.get("num_docks_available")) for r in own)}
        assert row["docks_available"] is None or 0 <= row["docks_available"] < 999
        if row["mechanical"] is not None:
            assert row["mechanical"] + row["ebike"] == row["bikes"]
            assert min(row["mechanical"], row["ebike"]) >= 0
        if row["last_reported_utc"] is not None:
            assert row["last_reported_utc"] <= (NOON + AHEAD).replace(tzinfo=None)
        assert row["lat"] in (None, 45.1, 0)
        assert (row["lat"], row["lon"]) != (0, 0)


OBSERVATIONS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d"]), st.integers(0, 20), min_size=1
)


@settings(deadline=None)
@given(OBSERVATIONS, OBSERVATIONS)
def test_the_order_in_which_two_observations_of_a_bin_arrive_does_not_matter(
    first: Any, second: Any
) -> None:
    def seen(counts: Any, second_of_bin: int) -> Any:
        records = [{"station_id": key, "num_bikes_available": n} for key, n in counts.items()]
        table, _ = rows_of(records, [])
        at = NOON.replace(second=second_of_bin)
        return snapshot.validate(stations.at_instant(table, at, Weather()))[0]

    older, newer = seen(first, 1), seen(second, 2)
    merged = snapshot.merge(older, newer)
    assert merged.equals(snapshot.merge(newer, older))
    united = {row["station_id"]: row["bikes"] for row in merged.to_pylist()}
    assert united == first | second


@pytest.mark.parametrize(
    ("prefix", "electric_field"),
    [
        ("gbfs_baywheels_2023-07-19_", "num_ebikes_available"),
        ("velib_gbfs_2022-02/", None),
        ("velib_gbfs_2025-10-18/", None),
        ("velib_gbfs_2026-03-04/", None),
    ],
)
def test_recorded_payloads_are_read_to_the_last_bike(
    recordings: Path, prefix: str, electric_field: str | None
) -> None:
    bodies = {
        feed: (recordings / "raw" / f"{prefix}{feed}.json").read_bytes()
        for feed in ("station_status", "station_information")
    }
    files = {feed: gbfs.decode(feed, body) for feed, body in bodies.items()}
    status = stations.read_status(files["station_status"], {})
    information = stations.read_information(files["station_information"])
    at = present(files["station_status"].last_updated)
    found = observed_at(at, status.reports(), at, "Europe/Paris")
    raw, defects = stations.snapshot_rows(status, information, {}, found)
    table, more = snapshot.validate(raw, bin_of(found.at))
    defects += more
    assert found.at == at
    records = json.loads(bodies["station_status"])["data"]["stations"]
    about = json.loads(bodies["station_information"])["data"]["stations"]
    known = {str(r["station_id"]) for r in about} & {str(r["station_id"]) for r in records}
    assert not [defect for defect in defects if defect.refused]
    assert table.num_rows == len(records) == len({str(r["station_id"]) for r in records})
    assert table["bikes"].to_numpy().sum() == sum(r["num_bikes_available"] for r in records)
    assert table["ebike"].to_numpy().sum() == sum(
        r[electric_field]
        if electric_field
        else sum(kind.get("ebike", 0) for kind in r["num_bikes_available_types"])
        for r in records
    )
    assert table["capacity"].drop_null().length() == len(known)


@pytest.mark.parametrize("part", ['\\"', '""', "a:", ":,", "a,", "nan "])
def test_what_is_no_json_is_looked_for_in_bounded_memory(part: str) -> None:
    body = ('{"data": ' + part * ((6 << 20) // len(part))).encode()
    tracemalloc.start()
    with pytest.raises(FeedError, match="JSON"):
        gbfs.decode("station_status", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20


@pytest.mark.parametrize("part", [b"[],", b"{},", b'"ab",', b"1.5,", b"1,"])
def test_a_file_that_would_grow_a_hundredfold_when_decoded_is_refused_before(part: bytes) -> None:
    body = b'{"data": {"stations": [' + part * ((31 << 20) // len(part)) + b"1]}}"
    tracemalloc.start()
    with pytest.raises(FeedError, match="values"):
        gbfs.decode("station_status", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        # A count is of the unit by which it is of this age: from 1973 on in each but the first.
        (946_684_800, "2000-01-01T00:00:00"),
        (946_684_800_000, "2000-01-01T00:00:00"),
        ("946684800000", "2000-01-01T00:00:00"),
        (946_684_800_000_000, "2000-01-01T00:00:00"),
        (946_684_800_000_000_000, "2000-01-01T00:00:00"),
        (99_999_999_999, "5138-11-16T09:46:39"),
        (100_000_000_000, "1973-03-03T09:46:40"),
        (99_999_999_999_000, "5138-11-16T09:46:39"),
        (100_000_000_000_000, "1973-03-03T09:46:40"),
        (99_999_999_999_000_000, "5138-11-16T09:46:39"),
        (100_000_000_000_000_000, "1973-03-03T09:46:40"),
    ],
)
def test_a_count_since_1970_shows_its_unit_by_its_size(count: object, expected: str) -> None:
    stamp = dt.datetime.fromisoformat(expected).replace(tzinfo=dt.UTC)
    assert values.instant(count) == stamp


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("48,85", 48.85),
        (" 2.35 ", 2.35),
        ("-0,5", -0.5),
        (7, 7.0),
        ("1,000.5", None),
        ("1.0e5", None),
        (True, None),
        (10**400, None),
    ],
)
def test_a_real_number_may_have_a_decimal_comma_and_no_second_reading(
    said: object, number: float | None
) -> None:
    assert values.real(said) == number


@pytest.mark.parametrize(("stations_there", "second"), [(1, 1), (49, 49), (50, 49), (100, 98)])
def test_the_newest_report_leaves_a_fiftieth_of_the_clocks_out(
    stations_there: int, second: int
) -> None:
    reports = np.arange(1.0, stations_there + 1)
    found = newest_report(np.append(reports, np.nan))
    assert found == dt.datetime.fromtimestamp(second, dt.UTC)
