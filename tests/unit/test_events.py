"""What a function accepts as an event, and the answer that each failure gets."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import functions_framework
import pytest
from cloudevents.http import CloudEvent
from hypothesis import given
from hypothesis import strategies as st
from present import present
from velib_core.errors import PermanentError, TransientError
from velib_core.events import messages, runtime
from velib_core.events.parsing import PUBSUB_EVENT, STORAGE_EVENT, parse
from velib_core.events.publisher import encode
from velib_core.events.topics import TOPICS
from velib_core.lake.keys import Daily
from velib_core.lake.layout import ForeignNameError
from velib_core.settings.network import Settings
from velib_core.timeline.bins import Day, parse_day

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": "gs://bucket/velib", "GOOGLE_CLOUD_PROJECT": "p"})
DAILY = "velib/daily/compact_2025-11-01.parquet"
DAY = parse_day("2025-11-01")


def message(body: bytes | str, topic: str = "velib-day-closed", **attributes: str) -> CloudEvent:
    data = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    return CloudEvent(
        {
            "id": "1",
            "type": PUBSUB_EVENT,
            "source": f"//pubsub.googleapis.com/projects/p/topics/{topic}",
        },
        {"message": {"data": data, "attributes": attributes, "messageId": "1"}},
    )


def scheduled(**envelope: object) -> CloudEvent:
    event = message(b"{}", "velib-tick")
    present(event.get_data())["message"].update(envelope)
    return event


def notification(**changes: str) -> CloudEvent:
    attributes = {
        "eventType": "OBJECT_FINALIZE",
        "bucketId": "bucket",
        "objectId": DAILY,
        "objectGeneration": "17",
    }
    return message(b"{}", "velib-daily", **(attributes | changes))


def direct(**changes: object) -> CloudEvent:
    data = {"bucket": "bucket", "name": DAILY, "generation": "17"} | changes
    source = "//storage.googleapis.com/projects/_/buckets/bucket"
    return CloudEvent({"id": "1", "type": STORAGE_EVENT, "source": source}, data)


def test_both_wire_forms_of_a_finalized_object_are_the_same_trigger() -> None:
    expected = messages.ObjectFinalized(Daily(DAY), DAILY, 17)
    assert parse(notification(), SETTINGS) == expected
    assert parse(direct(), SETTINGS) == expected


def test_a_forced_notification_says_so() -> None:
    forced = parse(notification(velibForce="1"), SETTINGS)
    assert isinstance(forced, messages.ObjectFinalized)
    assert forced.force


@pytest.mark.parametrize("said", ["0", "", "true"])
def test_a_notification_is_forced_by_1_and_by_nothing_else(said: str) -> None:
    found = parse(notification(velibForce=said), SETTINGS)
    assert isinstance(found, messages.ObjectFinalized)
    assert not found.force


def test_a_replay_has_3660_days_at_most() -> None:
    longest = b'{"from": "2015-01-01", "to": "2025-01-07"}'
    found = parse(message(longest, "velib-replay"), SETTINGS)
    assert isinstance(found, messages.ReplayRequested)
    assert found.last == parse_day("2025-01-07")
    longer = b'{"from": "2015-01-01", "to": "2025-01-08"}'
    with pytest.raises(PermanentError, match="3660 days at most"):
        parse(message(longer, "velib-replay"), SETTINGS)


DAYS = st.dates(dt.date(2000, 1, 1), dt.date(2199, 12, 31)).map(Day)
MESSAGES = st.one_of(
    st.just(messages.Tick()),
    st.builds(messages.DayClosed, DAYS, st.booleans()),
    st.builds(
        messages.TrainRequested,
        st.none() | st.sampled_from(SETTINGS.horizons),
        st.none() | st.integers(1, 400),
    ),
    st.builds(
        lambda day, **rest: messages.ReplayRequested(day, day, **rest),
        st.none() | DAYS,
        stage=st.none() | st.sampled_from(["compact_daily", "build_datasets"]),
        force=st.booleans(),
        dry_run=st.booleans(),
    ),
)


@given(MESSAGES)
def test_a_message_is_read_back_as_it_was_written(sent: Any) -> None:
    topic = f"velib-{TOPICS[type(sent)]}"
    assert parse(message(encode(sent), topic), SETTINGS) == sent


def test_a_scheduled_message_holds_when_it_was_published() -> None:
    sent: Any = parse(scheduled(publishTime="2025-11-01T00:05:00.123456789Z"), SETTINGS)
    assert sent.published == dt.datetime(2025, 11, 1, 0, 5, 0, 123456, dt.UTC)
    unstamped: Any = parse(scheduled(), SETTINGS)
    assert unstamped.published is None


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (message(b"not json"), "data.message.data"),
        (message(b"[1]"), "message"),
        (message("%%% not base64"), "data.message.data"),
        (message(b"\xff\xfe{}"), "data.message.data"),
        (message(b"{" + b" " * 100_000), "data.message.data"),
        (message(b"{}"), "day"),
        (message(b'{"day": "2025-11-31"}'), "day"),
        (message(b'{"day": 20251101}'), "day"),
        (message(b'{"day": "2025-11-01", "force": "yes"}'), "force"),
        (message(b"{}", "velib-unknown"), "source"),
        (message(b"{}", "other-tick"), "source"),
        (message(b'{"horizon_min": 7}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": true}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": 15.0}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": 1e400}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": 1000000000}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": %d}' % 10**400, "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": [15]}', "velib-train"), "horizon_min"),
        (message(b'{"horizon_min": 30}', "velib-train"), "horizon_min"),
        (message(b'{"window_days": 1' + b"0" * 4000 + b"}", "velib-train"), "window_days"),
        (message(b'{"window_days": 1' + b"0" * 9000 + b"}", "velib-train"), "data.message.data"),
        (message(b"[" * 50_000 + b"]" * 10_000, "velib-train"), "data.message.data"),
        (notification(objectGeneration="9" * 5_000), "generation"),
        (direct(generation=10**5_000), "generation"),
        (direct(generation=True), "generation"),
        (message(b'{"horizon_min": 15, "window_days": -1}', "velib-train"), "window_days"),
        (message(b'{"from": "2025-11-02", "to": "2025-11-01"}', "velib-replay"), "to"),
        (message(b'{"to": "2025-11-01"}', "velib-replay"), "from"),
        (message(b'{"from": "2000-01-01", "to": "2199-12-31"}', "velib-replay"), "to"),
        (message(b'{"from": "0001-01-01", "to": "9999-12-31"}', "velib-replay"), "from"),
        (message(b'{"day": "9999-12-31"}'), "day"),
        (message(b'{"stage": 3}', "velib-replay"), "stage"),
        (scheduled(publishTime="yesterday"), "data.message.publishTime"),
        (scheduled(publishTime="2025-11-01T00:00:00"), "data.message.publishTime"),
        (scheduled(publishTime=1762000000), "data.message.publishTime"),
        (notification(bucketId="other-bucket"), "bucket"),
        (notification(objectId=""), "name"),
        (notification(objectId="x" * 2000), "name"),
        (notification(objectGeneration="-1"), "generation"),
        (notification(objectGeneration="1; drop"), "generation"),
        (notification(eventType="OBJECT_DELETE"), "attributes.eventType"),
        (direct(bucket=None), "bucket"),
        (direct(name=5), "name"),
        (CloudEvent({"type": "x.y", "source": "s"}, {}), "type"),
        (CloudEvent({"type": PUBSUB_EVENT, "source": "s"}, "text"), "data"),
        (
            CloudEvent({"type": PUBSUB_EVENT, "source": "s"}, {"message": 1}),
            "data.message",
        ),
    ],
)
def test_a_malformed_event_is_refused_by_field(event: Any, field: str) -> None:
    with pytest.raises(messages.EventError) as caught:
        parse(event, SETTINGS)
    assert caught.value.field == field
    assert len(str(caught.value)) < 500


def test_a_message_nested_too_deeply_is_refused() -> None:
    """From Python 3.12 on it can be read, and is then no day."""
    with pytest.raises(messages.EventError) as caught:
        parse(message(b'{"day":' * 8_000 + b"1" + b"}" * 8_000), SETTINGS)
    assert caught.value.field in {"data.message.data", "day"}
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["velib/bronze/../daily/x", "velib/daily/x", "elsewhere/y"])
def test_an_object_of_ours_with_a_foreign_name_is_no_trigger(name: str) -> None:
    with pytest.raises(ForeignNameError):
        parse(notification(objectId=name), SETTINGS)


SOURCE = """
from velib_core import errors
from velib_core.events import runtime
from velib_core.events.job import JobResult
from velib_core.lake.layout import ForeignNameError


def job(network):
    {doing}


@runtime.function
def f(trigger):
    return job
"""


@pytest.fixture
def answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Any]:
    """Send an event to a function whose job does something, under the real framework.

    Returns the status, and what the process wrote.
    """
    monkeypatch.setenv("GCS_BUCKET_ROOT", "gs://bucket/velib")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")

    def send(doing: str, body: dict[str, Any]) -> tuple[int, list[str]]:
        runtime.settings.cache_clear()
        runtime.network.cache_clear()
        source = tmp_path / "main.py"
        source.write_text(SOURCE.format(doing=doing))
        create_app: Any = functions_framework.create_app
        client = create_app("f", str(source)).test_client()
        capfd.readouterr()
        status = client.post("/projects/p/topics/velib-daily", json=body).status_code
        written = capfd.readouterr()
        return status, [*written.out.splitlines(), *written.err.splitlines()]

    yield send
    runtime.settings.cache_clear()
    runtime.network.cache_clear()


def _push(name: str = DAILY) -> dict[str, Any]:
    attributes = present(notification(objectId=name).get_data())["message"]["attributes"]
    return {
        "subscription": "s",
        "message": {"data": "e30=", "attributes": attributes, "messageId": "1"},
    }


@pytest.mark.parametrize(
    ("doing", "status", "severity"),
    [
        ("return JobResult('f', counts={'rows': 1})", 200, "INFO"),
        ("raise errors.PermanentError('the input is wrong')", 200, "ERROR"),
        ("raise errors.TransientError('try again')", 500, "WARNING"),
        ("raise ZeroDivisionError", 500, "ERROR"),
    ],
)
def test_every_answer_is_one_line_and_only_the_permanent_ones_are_acknowledged(
    answer: Any, doing: str, status: int, severity: str
) -> None:
    answered, (line,) = answer(doing, _push())
    assert (answered, json.loads(line)["severity"]) == (status, severity)


@pytest.mark.parametrize("bug", ["1 / 0", "raise ForeignNameError('a/b')"])
def test_a_bug_is_one_error_with_its_stack_trace_and_is_delivered_again(
    answer: Any, bug: str
) -> None:
    status, (line,) = answer(bug, _push())
    written = json.loads(line)
    assert (status, written["severity"]) == (500, "ERROR")
    first, *_, last = written["stack_trace"].splitlines()
    assert first == "Traceback (most recent call last):"
    assert last.partition(":")[0].rpartition(".")[2] == written["error"]
    assert bug in written["stack_trace"]
    assert written["event_id"]
    assert DAILY in written["trigger"]


def test_a_foreign_object_is_acknowledged_without_running_the_job(answer: Any) -> None:
    status, (line,) = answer("raise ZeroDivisionError", _push("velib/daily/x"))
    assert (status, json.loads(line)["severity"]) == (200, "WARNING")


def test_a_wrong_setting_is_named_and_loses_no_event(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCS_BUCKET_ROOT", "bucket")
    status, (line,) = answer("return JobResult('f')", _push())
    assert (status, json.loads(line)["severity"]) == (500, "ERROR")
    assert "GCS_BUCKET_ROOT" in line


def test_the_errors_of_events_are_permanent() -> None:
    assert issubclass(messages.EventError, PermanentError)
    assert not issubclass(messages.EventError, TransientError)


def test_every_message_fits_into_an_event() -> None:
    assert len(json.loads(encode(messages.DayClosed(DAY, force=True)))) == 2
