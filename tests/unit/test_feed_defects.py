"""The feed's defects, counted by kind: from a snapshot's metadata to the health document."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import TYPE_CHECKING

import network
import planted
import pyarrow.parquet as pq
from contract.documents import problems
from hypothesis import given
from hypothesis import strategies as st
from velib_core.feeds.observed import Observed
from velib_core.feeds.open_meteo import Weather
from velib_core.jobs import build_datasets, compact_daily, ingest
from velib_core.lake.keys import Events, Snapshot
from velib_core.lake.layout import Layout
from velib_core.monitoring.data import feed_defects, health
from velib_core.tables import defect_counts, snapshot
from velib_core.tables.defects import Defect
from velib_core.timeline.bins import Bin, bin_of, first_bin
from velib_core.timeline.windows import complete_days

if TYPE_CHECKING:
    import collections

    from velib_core.lake.bucket import Lake
    from velib_core.settings.network import Settings

DAY = network.FIRST_DAY
TEXT = "last_reported: an instant from … to …"
CLEAN: dict[str, int] = {"snapshots": 288}


def defect(field: str, expected: str, *, refused: bool = False) -> Defect:
    return Defect("s1", field, "x", expected, refused)


def test_a_kind_is_the_field_and_the_expectation_without_its_numbers() -> None:
    until = "an instant from 2000 to 2025-11-03T12:12:50Z"
    found = {
        defect_counts.kind_of(defect("last_reported", until)),
        defect_counts.kind_of(defect("last_reported", until.replace("12:12", "12:17"))),
        defect_counts.kind_of(defect("lat", "-90…90")),
        defect_counts.kind_of(defect("name", "UTF-8 text")),
        defect_counts.kind_of(defect("bikes", "a whole number", refused=True)),
    }
    assert found == {
        TEXT,
        "lat: …",
        "name: UTF-8 text",
        "bikes: a whole number (record refused)",
    }


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_a_table_carries_what_was_counted(found: list[tuple[str, bool]]) -> None:
    defects = [defect(field, "a number", refused=refused) for field, refused in found]
    counted = defect_counts.count(defects)
    table = defect_counts.with_counts(snapshot.SCHEMA.empty_table(), counted)
    held = defect_counts.counts_of(snapshot.with_repeats(table, {"s1": 2}))
    assert held == counted
    assert held[defect_counts.SNAPSHOTS] == 1
    assert held.total() == 1 + len(found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_metadata_that_anyone_may_have_written_is_counts_or_nothing(said: object) -> None:
    raw = {defect_counts.DEFECTS: json.dumps(said).encode()}
    held = defect_counts.counts_of(snapshot.SCHEMA.empty_table().replace_schema_metadata(raw))
    assert all(0 < n <= defect_counts.MAX_COUNTED for n in held.values())
    assert not held or held[defect_counts.SNAPSHOTS]


def put(lake: Lake, settings: Settings, bin_: Bin, counts: dict[str, int]) -> None:
    rows, _ = snapshot.validate(network.snapshot_table(bin_), bin_)
    data = snapshot.to_bytes(defect_counts.with_counts(rows, counts))
    network.put(lake, Layout(settings).name(Snapshot(bin_)), data)


def counts_in_events(lake: Lake, settings: Settings) -> collections.Counter[str]:
    build_datasets.run(network.of(lake, settings), DAY)
    _, data = lake.fetch(Layout(settings).name(Events(DAY)))
    return defect_counts.counts_of(pq.read_table(io.BytesIO(data)))


def test_a_day_sums_its_snapshots_however_many_of_them_are_gone(
    lake: Lake, settings: Settings
) -> None:
    bins = [Bin(first_bin(DAY) + n) for n in range(4)]
    for n, bin_ in enumerate(bins):
        put(lake, settings, bin_, {"snapshots": 1, TEXT: 10 + n})
    compact_daily.run(network.of(lake, settings), DAY)
    complete = {"snapshots": 4, TEXT: 46}
    assert counts_in_events(lake, settings) == complete
    for bin_ in bins:  # the bucket's lifecycle takes them one by one
        entry = lake.stat(Layout(settings).name(Snapshot(bin_)))
        assert entry is not None
        lake.delete(entry)
        compact_daily.run(network.of(lake, settings), DAY)
        assert counts_in_events(lake, settings) == complete


def health_of(*days: dict[str, int]) -> dict[str, object]:
    """Return the health documents of days whose feeds were counted so; the last is the newest."""
    net = planted.network(days=len(days))
    tables = [
        defect_counts.with_counts(table, counts)
        for table, counts in zip(net.all_events(health.COLUMNS), days, strict=True)
    ]
    now = planted.after(net, 10)
    return health.build(
        tables,
        window=complete_days(now, 3, planted.TZ),
        now=now,
        run_metadata=planted.run_metadata("data/health"),
    )


def raised(documents: dict[str, object]) -> list[dict[str, object]]:
    manifest = documents["manifest.json"]
    assert isinstance(manifest, dict)
    return [alert for alert in manifest["alerts"] if alert["artefact"] == feed_defects.DOCUMENT]


BROKEN = CLEAN | {TEXT: 1200, "lat: …": 3}
USUAL = CLEAN | {"lat: …": 3}


def test_a_kind_that_the_week_before_had_not_is_an_alert() -> None:
    (alert,) = raised(health_of(USUAL, USUAL, BROKEN))
    assert alert["code"] == "feed_defect_last_reported"
    assert alert["value"] == 1200
    assert TEXT in str(alert["text"])


def test_a_kind_is_new_once_and_again_after_a_week_without_it() -> None:
    assert not raised(health_of(USUAL, BROKEN, BROKEN))
    assert not raised(health_of(BROKEN, *[USUAL] * 6, BROKEN))
    assert len(raised(health_of(BROKEN, *[USUAL] * 7, BROKEN))) == 1


def test_nothing_is_new_where_the_week_before_was_not_counted() -> None:
    assert not raised(health_of({}, {}, BROKEN))
    assert raised(health_of({}, CLEAN, BROKEN))


def test_the_document_has_the_days_of_the_window_that_were_counted() -> None:
    documents = health_of(BROKEN, {}, USUAL, BROKEN, CLEAN)
    found = documents[feed_defects.DOCUMENT]
    assert isinstance(found, list)
    assert [len(row["kinds"]) for row in found] == [1, 2, 0]
    assert found[1]["kinds"][0] == {"kind": TEXT, "count": 1200}
    assert [row["day"] for row in found] == sorted(row["day"] for row in found)
    path = f"monitoring/data/health/latest/{feed_defects.DOCUMENT}"
    assert not problems(path, found)


def test_the_snapshot_of_a_poll_carries_its_defects() -> None:
    at = dt.datetime(2025, 11, 3, 12, 7, 50, tzinfo=dt.UTC)
    rows, _ = snapshot.validate(network.snapshot_table(bin_of(at)))
    observed = Observed(at, by_stamp=True, shift=dt.timedelta(0), latest=at)
    wrong = [defect("is_renting", "a flag"), defect("bikes", "a whole number", refused=True)]
    written, _ = ingest.complete(observed, rows, wrong, Weather())
    again, _ = snapshot.from_bytes(snapshot.to_bytes(written), bin_of(at))
    assert defect_counts.counts_of(again) == {
        "snapshots": 1,
        "is_renting: a flag": 1,
        "bikes: a whole number (record refused)": 1,
    }
