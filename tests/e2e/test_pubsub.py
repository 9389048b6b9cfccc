"""The same promises from the embedded Pub/Sub and from Google's emulator, where installed."""

from __future__ import annotations

import base64
import contextlib
import http.server
import itertools
import json
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from commands import wait_until
from google.api_core.exceptions import AlreadyExists, DeadlineExceeded, NotFound
from google.cloud import pubsub_v1
from google.protobuf import duration_pb2
from google.pubsub_v1 import types
from present import present
from velib_cli.dead_letters import DeadLetter, DeadLetters, waiting
from velib_core.settings.network import Settings
from velib_local.emulator.pubsub import PubSubServer
from velib_local.emulator.pubsub_google import find_emulator, google_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.pubsub_v1.types.pubsub import RetryPolicy

pytestmark = pytest.mark.e2e

TOPIC = "projects/velib-test/topics/facts"
DEAD = "projects/velib-test/topics/dead-letter"


@pytest.fixture(scope="module", params=["embedded", "google"])
def pubsub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The address of a Pub/Sub server."""
    if request.param == "embedded":
        with PubSubServer() as server:
            yield server.address
    elif find_emulator() is None:
        pytest.skip("Google's Pub/Sub emulator is not installed")
    else:
        with google_emulator(tmp_path_factory.mktemp("pubsub") / "log") as address:
            yield address


@pytest.fixture
def clients(pubsub: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Unchanged clients of the real library."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub)
    publisher, subscriber = pubsub_v1.PublisherClient(), pubsub_v1.SubscriberClient()
    for topic in (TOPIC, DEAD):
        with contextlib.suppress(AlreadyExists):
            publisher.create_topic(name=topic)
    created = []

    def subscribe(name: Any, topic: str = TOPIC, **config: Any) -> str:
        full = f"projects/velib-test/subscriptions/{name}"
        subscriber.create_subscription(request={"name": full, "topic": topic, **config})
        created.append(full)
        return full

    yield publisher, subscriber, subscribe
    for name in created:
        subscriber.delete_subscription(subscription=name)
    subscriber.close()


class Endpoint:
    """A push endpoint that answers as configured and remembers what it got."""

    def __init__(self, answers: list[int]) -> None:
        self.answers = list(answers)
        self.bodies: list[Any] = []
        self.times: list[float] = []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                endpoint.bodies.append(json.loads(body))
                endpoint.times.append(time.monotonic())
                self.send_response(endpoint.answers.pop(0) if endpoint.answers else 204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = (
            f"http://127.0.0.1:{self.server.server_address[1]}/projects/velib-test/topics/facts"
        )

    def wait_for(self, count: int) -> Any:
        wait_until(lambda: len(self.bodies) >= count, f"push {count}")
        return [body["message"] for body in self.bodies]


def retry(low_ms: int = 100, high_ms: int = 200) -> RetryPolicy:
    low, high = duration_pb2.Duration(), duration_pb2.Duration()
    low.FromMilliseconds(low_ms)
    high.FromMilliseconds(high_ms)
    return types.RetryPolicy(minimum_backoff=low, maximum_backoff=high)


def test_a_message_is_pulled_with_its_data_and_attributes(clients: Any) -> None:
    publisher, subscriber, subscribe = clients
    name = subscribe("pulled")
    sent = publisher.publish(TOPIC, b"\x00data", kind="test").result(10)
    received = subscriber.pull(subscription=name, max_messages=5, timeout=10).received_messages
    assert [(m.message.data, dict(m.message.attributes)) for m in received] == [
        (b"\x00data", {"kind": "test"})
    ]
    assert received[0].message.message_id == sent
    subscriber.acknowledge(subscription=name, ack_ids=[received[0].ack_id])


def test_a_push_that_fails_comes_again_as_the_same_message(clients: Any) -> None:
    publisher, _, subscribe = clients
    endpoint = Endpoint([500, 500, 204])
    subscribe(
        "retried",
        push_config=types.PushConfig(push_endpoint=endpoint.url),
        retry_policy=retry(),
    )
    sent = publisher.publish(TOPIC, b"again", kind="x").result(10)
    messages = endpoint.wait_for(3)
    assert [message["messageId"] for message in messages] == [sent] * 3
    assert base64.b64decode(messages[0]["data"]) == b"again"
    assert messages[0]["attributes"] == {"kind": "x"}
    time.sleep(0.5)
    assert len(endpoint.bodies) == 3, "acknowledged messages do not come again"


def test_a_message_that_always_fails_ends_on_the_dead_letter_topic(clients: Any) -> None:
    publisher, subscriber, subscribe = clients
    graveyard = subscribe("graveyard", DEAD)
    endpoint = Endpoint([500] * 100)
    subscribe(
        "doomed",
        push_config=types.PushConfig(push_endpoint=endpoint.url),
        retry_policy=retry(),
        dead_letter_policy=types.DeadLetterPolicy(dead_letter_topic=DEAD, max_delivery_attempts=5),
    )
    publisher.publish(TOPIC, b"poison").result(10)
    dead = []
    for _ in range(20):
        dead += subscriber.pull(
            subscription=graveyard, max_messages=5, timeout=10
        ).received_messages
        if dead:
            break
    assert [message.message.data for message in dead] == [b"poison"]
    assert len(endpoint.bodies) >= 5


SETTINGS = Settings.from_env({"GCS_BUCKET_ROOT": "gs://b", "GOOGLE_CLOUD_PROJECT": "velib-test"})


def give_up(publisher: Any, subject: bytes, **attributes: Any) -> None:
    """Publish a message as the platform does that has given it up."""
    reported = {"CloudPubSubDeadLetterSourceSubscription": "doomed-sub"}
    reported |= {"CloudPubSubDeadLetterSourceDeliveryCount": "20"}
    publisher.publish(DEAD, subject, **reported, **attributes).result(10)


def test_dead_letters_are_shown_and_left_for_whoever_pulls_them(clients: Any) -> None:
    publisher, subscriber, subscribe = clients
    name = subscribe("velib-dead-letter", DEAD)
    give_up(publisher, b"{}", objectId="bronze/x.parquet")
    give_up(publisher, b'{"day": "2025-11-01"}')
    expected = {
        DeadLetter("doomed-sub", "bronze/x.parquet", 20),
        DeadLetter("doomed-sub", '{"day": "2025-11-01"}', 20),
    }
    for _ in range(2):  # a look takes nothing away
        reported = waiting(SETTINGS)
        assert (reported.count, reported.more, set(reported.letters)) == (2, False, expected)
    pulled: list[Any] = []
    while len(pulled) < 2:
        with contextlib.suppress(DeadlineExceeded):
            answer = subscriber.pull(subscription=name, max_messages=9, timeout=5)
            pulled += answer.received_messages
    assert {m.message.data for m in pulled} == {b"{}", b'{"day": "2025-11-01"}'}


def test_a_dead_letter_says_nothing_that_a_terminal_would_obey(clients: Any) -> None:
    publisher, _, subscribe = clients
    subscribe("velib-dead-letter", DEAD)
    attributes = {"CloudPubSubDeadLetterSourceDeliveryCount": "\u0663" * 400}
    publisher.publish(DEAD, b"\x1b[2Jgone\n" + b"x" * 1000, **attributes).result(10)
    (letter,) = waiting(SETTINGS).letters
    assert letter.subject == "\ufffd[2Jgone\ufffd" + "x" * 191
    assert (letter.source, letter.attempts) == ("?", None)


def test_without_failures_there_are_no_dead_letters(clients: Any) -> None:
    _, _, subscribe = clients
    assert present(waiting(SETTINGS).reason).startswith(
        "there is no projects/velib-test/subscriptions/"
    )
    subscribe("velib-dead-letter", DEAD)
    assert waiting(SETTINGS) == DeadLetters(0)


def test_publishing_to_a_topic_that_does_not_exist_is_refused(clients: Any) -> None:
    publisher, _, _ = clients
    with pytest.raises(NotFound):
        publisher.publish("projects/velib-test/topics/nowhere", b"x").result(10)


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Publish a message to an endpoint of an embedded server with options of its own."""
    with contextlib.ExitStack() as stack:

        def publish(endpoint: Any, server: Any, **config: Any) -> None:
            stack.enter_context(server)
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
            publisher = pubsub_v1.PublisherClient()
            publisher.create_topic(name=TOPIC)
            name = "projects/velib-test/subscriptions/own"
            push = types.PushConfig(push_endpoint=endpoint.url)
            with pubsub_v1.SubscriberClient() as subscriber:
                subscriber.create_subscription(
                    request={"name": name, "topic": TOPIC, "push_config": push, **config}
                )
            publisher.publish(TOPIC, b"x").result(10)

        yield publish


def test_a_message_older_than_its_retention_is_dropped(pushed: Any) -> None:
    endpoint, server = Endpoint([500] * 1000), PubSubServer()
    kept = duration_pb2.Duration(seconds=1)
    pushed(endpoint, server, message_retention_duration=kept, retry_policy=retry())
    endpoint.wait_for(2)
    wait_until(lambda: server.unacknowledged() == 0, "the end of the retention")
    assert endpoint.answers, "it was refused to its end"


def test_a_subscription_whose_pushes_are_refused_is_held_back_longer_each_time(pushed: Any) -> None:
    endpoint = Endpoint([500, 429, 503, 204])
    pushed(endpoint, PubSubServer(push_backoff=(0.2, 60.0)), retry_policy=retry(1, 2))
    endpoint.wait_for(4)
    gaps = [after - before for before, after in itertools.pairwise(endpoint.times)]
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert gaps[2] >= 0.8


def test_a_push_that_raises_is_delivered_again() -> None:
    answers: Iterator[Any] = iter([ZeroDivisionError("a fault of the endpoint"), 204])
    pushed = []

    def push(_endpoint: Any, body: Any) -> int:
        pushed.append(body["message"]["messageId"])
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    with PubSubServer() as server:
        create: Any = server._create_topic
        create(types.Topic(name=TOPIC), None)
        own = types.Subscription(
            name="projects/velib-test/subscriptions/own",
            topic=TOPIC,
            push_config=types.PushConfig(push_endpoint="/here"),
            retry_policy=retry(),
        )
        server.subscribe(own, push)
        (sent,) = server.publish(TOPIC, [types.PubsubMessage(data=b"x")])
        wait_until(lambda: server.unacknowledged() == 0, "the second push")
    assert pushed == [sent, sent]
