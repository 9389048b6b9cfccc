"""The local cloud: object store, Pub/Sub and functions, wired from the functions' configurations.

The production code runs in it unchanged: the official clients, pointed at servers on this
machine. One bucket notification a folder, one topic a fact, one push subscription a trigger, a
dead-letter topic, exactly as deployed.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import os
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from google.api_core.exceptions import AlreadyExists
from google.cloud import pubsub_v1
from google.protobuf import duration_pb2
from google.pubsub_v1 import types
from velib_core.events import messages
from velib_core.events.publisher import encode
from velib_core.events.topics import DEAD_LETTER_TOPIC, MAX_DELIVERY_ATTEMPTS, TOPICS
from velib_core.lake.bucket import Lake, connect
from velib_core.lake.keys import Snapshot
from velib_core.lake.layout import ForeignNameError, Layout
from velib_core.settings.network import Settings
from velib_deploy.function_specs import load_specs

from velib_local.emulator.functions import HANG_S, LocalFunction
from velib_local.emulator.gateway import Gateway, key
from velib_local.emulator.processes import START_TIMEOUT_S
from velib_local.emulator.pubsub import deliver_once
from velib_local.emulator.servers import (
    BUCKET,
    LIMITED_BACKOFF_S,
    OBJECTS_TOPIC,
    PROJECT,
    local_servers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from velib_core.timeline.bins import Bin
    from velib_deploy.function_specs import FunctionSpec

    from velib_local.emulator.pubsub import Delivery
    from velib_local.emulator.servers import PubSubKind, Servers

LATE_DATA_WAIT_S = "0.2"
"""Shorter than in the cloud: a simulated day lasts seconds."""

RETRY_BACKOFF_S = (0.1, 2.0)
"""Quicker than the cloud's 10 to 600 s: nobody waits minutes for a laptop."""

RETENTION_S = 86_400
"""Eventarc's subscriptions keep a message for a day."""

MEMORY_CHECK_S = 0.25

QUIET_S = {"embedded": 0.05, "google": 3.0}
"""How long nothing must happen before the chain counts as finished, though every object has been
announced and every message acknowledged; Google's emulator does not say what it still holds."""

STUCK_AFTER_S = HANG_S + START_TIMEOUT_S
"""The chain is stuck where no event at all is answered for so long: longer than any call takes,
its cold start included. How long the whole takes is not limited, for machines differ."""

FORECASTER = "build_serving_forecast"

Proxy: TypeAlias = (
    "Callable[[Mapping[str, FunctionSpec], Settings, Servers],"
    " Callable[[str], contextlib.AbstractContextManager[Mapping[str, str]]]]"
)
"""A network's functions, its settings and the servers → what opens a proxy for one function.

The opened proxy gives the environment that leads the function's clients through it.
"""


class CloudStuckError(RuntimeError):
    """Something is awaited, and no event is answered any more."""


@dataclasses.dataclass
class LocalCloud:
    """A running local cloud; made by `local_cloud`."""

    settings: Settings
    lake: Lake
    gateway: Gateway
    functions: Mapping[str, LocalFunction]
    servers: Servers
    _before: Mapping[str, int]
    """Generations of the objects that were there before the network was deployed."""

    def subscribe(self, names: Iterable[str]) -> None:
        """Give functions their triggers: what happens from now on starts them."""
        specs = [self.functions[name].spec for name in names]
        _subscribe(self.settings, self.servers, self.gateway, specs)

    def publish(self, message: messages.Message) -> str:
        """Publish a message of ours; return its id."""
        topic = self.settings.topic(TOPICS[type(message)])
        return self.servers.publish(topic, encode(message), {})

    def trigger_ingest(self) -> None:
        """Publish a scheduled trigger and wait until it is handled."""
        message_id = self.publish(messages.Tick())
        self._wait_until(lambda: self.gateway.finished("ingest", message_id), "ingest")

    def wait_for_forecast(self, bin_: Bin) -> None:
        """Wait until the snapshot of a bin, where there is one, was looked at to be forecast."""
        entry = self.lake.stat(Layout(self.settings).name(Snapshot(bin_)))
        if entry is None or FORECASTER not in self.functions:
            return
        event = key(entry.name, entry.generation)
        self._wait_until(lambda: self.gateway.finished(FORECASTER, event), FORECASTER)

    def wait_until_idle(self) -> None:
        """Wait until every event and all that it caused is handled."""
        self._wait_until(self._idle, "quiet")

    def _wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Wait as long as events are answered; raise `CloudStuckError` where none is any more."""
        answered, since = self.gateway.answered, time.monotonic()
        while not self.gateway.wait_for(done, timeout_s=0.05):
            if answered != self.gateway.answered:
                answered, since = self.gateway.answered, time.monotonic()
            elif time.monotonic() - since > STUCK_AFTER_S:
                raise CloudStuckError(
                    f"waiting for {what}: no event was answered for {STUCK_AFTER_S:.0f} s"
                )

    def _idle(self) -> bool:
        """Return whether no message is under way and every object has been announced."""
        embedded = self.servers.embedded
        if embedded is not None and embedded.unacknowledged():
            return False
        if self.gateway.quiet_seconds() < QUIET_S[self.servers.kind]:
            return False
        return all(
            entry.generation
            <= max(self.gateway.notified(entry.name), self._before.get(entry.name, 0))
            for entry in self.lake.entries("")
        )

    def dead_letters(self) -> list[types.PubsubMessage]:
        """Take the dead-lettered messages off their topic."""
        subscription = f"projects/{PROJECT}/subscriptions/{self.settings.network}-dead-letter"
        with pubsub_v1.SubscriberClient() as subscriber:
            pulled = subscriber.pull(subscription=subscription, max_messages=1000, timeout=10)
            received = list(pulled.received_messages)
            if received:
                subscriber.acknowledge(
                    subscription=subscription, ack_ids=[item.ack_id for item in received]
                )
        return [item.message for item in received]

    def mirror(self, folder: Path) -> int:
        """Write every object as a plain file of the same name below a folder; return how many."""
        count = 0
        for entry in self.lake.entries(""):
            target = folder / entry.name
            if not target.resolve().is_relative_to(folder.resolve()):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.lake.read(entry))
            count += 1
        return count


@contextlib.contextmanager
def local_cloud(
    env: Mapping[str, str],
    *,
    kind: PubSubKind = "embedded",
    only: Sequence[str] | None = None,
    first: Sequence[str] | None = None,
    delivery: Delivery = deliver_once,
    proxy: Proxy | None = None,
    logs: Path | None = None,
    limited: bool = False,
) -> Iterator[LocalCloud]:
    """Start a cloud with one network, yield it, and stop everything that was started.

    The arguments are those of `local_servers` and `deployed`.
    """
    with (
        local_servers(kind=kind, delivery=delivery, logs=logs, limited=limited) as servers,
        deployed(servers, env, only=only, first=first, proxy=proxy) as cloud,
    ):
        yield cloud


@contextlib.contextmanager
def deployed(
    servers: Servers,
    env: Mapping[str, str],
    *,
    only: Sequence[str] | None = None,
    first: Sequence[str] | None = None,
    proxy: Proxy | None = None,
) -> Iterator[LocalCloud]:
    """Deploy a network's functions; several networks may run in one cloud.

    Parameters
    ----------
    servers
        Where.
    env
        Settings for the functions (feed addresses, horizons, …) on top of the wiring.
    only
        Which functions to deploy; by default all.
    first
        Which of them have their triggers from the start; by default all. The others get theirs by
        `LocalCloud.subscribe`.
    proxy
        Stands between each function and the servers; by default functions reach them directly.

    """
    own = {"GCS_BUCKET_ROOT": f"gs://{BUCKET}", "LATE_DATA_WAIT_S": LATE_DATA_WAIT_S}
    environment = dict(os.environ) | own | dict(env)
    settings = Settings.from_env(environment)
    specs = {n: s for n, s in load_specs().items() if only is None or n in only}
    _create_topics(pubsub_v1.PublisherClient(), settings, specs.values())
    open_proxy = proxy(specs, settings, servers) if proxy else None
    with contextlib.ExitStack() as stack:
        functions = {}
        for name, spec in specs.items():
            own = _function_env(spec, environment)
            if open_proxy:
                own |= stack.enter_context(open_proxy(name))
            log = servers.logs / f"{settings.network}-{name}.log"
            functions[name] = LocalFunction(spec, own, log, limited=servers.limited)
        if servers.limited:
            stack.enter_context(_memory_limited(functions.values()))
        gateway = Gateway(functions, _router(servers, settings))
        stack.enter_context(gateway.serving())
        lake = connect(settings)
        before = {entry.name: entry.generation for entry in lake.entries("")}
        _subscribe_network(settings, servers, gateway)
        at_first = [spec for name, spec in specs.items() if first is None or name in first]
        _subscribe(settings, servers, gateway, at_first)
        yield LocalCloud(settings, lake, gateway, functions, servers, before)


def _router(servers: Servers, settings: Settings) -> Callable[[Mapping[str, str], str], None]:
    """Do what bucket notifications with a name prefix do: one topic a folder.

    The object server publishes everything to a single topic, so the prefixes are applied here.
    """
    layout = Layout(settings)

    def route(attributes: Mapping[str, str], data: str) -> None:
        try:
            topic = settings.topic(layout.topic_of(attributes.get("objectId", "")))
        except ForeignNameError:
            return
        servers.publish(topic, base64.b64decode(data), attributes)

    return route


def _create_topics(
    publisher: pubsub_v1.PublisherClient, settings: Settings, specs: Iterable[FunctionSpec]
) -> None:
    names = {DEAD_LETTER_TOPIC, *Layout(settings).notified, *TOPICS.values()}
    for spec in specs:
        names |= set(spec.topics) | set(spec.access.publish)
    for name in sorted(names):
        with contextlib.suppress(AlreadyExists):
            publisher.create_topic(name=settings.topic(name))


def _subscribe_network(settings: Settings, servers: Servers, gateway: Gateway) -> None:
    """Subscribe to what the network as such needs: dead letters, and notifications to route on."""
    dead_letters = types.Subscription(
        name=_full_name(settings, "dead-letter"),
        topic=settings.topic(DEAD_LETTER_TOPIC),
        ack_deadline_seconds=60,
    )
    servers.subscribe(dead_letters, gateway)
    servers.subscribe(
        _push_subscription(settings, servers, "objects", OBJECTS_TOPIC, "/route"), gateway
    )


def _subscribe(
    settings: Settings, servers: Servers, gateway: Gateway, specs: Iterable[FunctionSpec]
) -> None:
    """Subscribe functions to their topics."""
    dead_letter_policy = types.DeadLetterPolicy(
        dead_letter_topic=settings.topic(DEAD_LETTER_TOPIC),
        max_delivery_attempts=MAX_DELIVERY_ATTEMPTS,
    )
    for spec in specs:
        for topic in spec.topics:
            full = settings.topic(topic)
            path = f"/functions/{spec.name}/{full}"
            config = _push_subscription(settings, servers, f"{spec.name}-{topic}", full, path)
            config.dead_letter_policy = dead_letter_policy
            servers.subscribe(config, gateway)


def _push_subscription(
    settings: Settings, servers: Servers, name: str, topic: str, path: str
) -> types.Subscription:
    low, high = (
        duration_pb2.Duration(nanos=int(s * 1e9) % 10**9, seconds=int(s))
        for s in (LIMITED_BACKOFF_S if servers.limited else RETRY_BACKOFF_S)
    )
    return types.Subscription(
        name=_full_name(settings, name),
        topic=topic,
        push_config=types.PushConfig(push_endpoint=path),
        ack_deadline_seconds=600,
        message_retention_duration=duration_pb2.Duration(seconds=RETENTION_S),
        retry_policy=types.RetryPolicy(minimum_backoff=low, maximum_backoff=high),
    )


def _full_name(settings: Settings, name: str) -> str:
    return f"projects/{PROJECT}/subscriptions/{settings.network}-{name}"


def _function_env(spec: FunctionSpec, env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a function's process: its network's, and its own additions.

    Each numeric library has as many threads as the function has processors: the functions run
    side by side on one machine.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(spec.cpu))
    return dict(env) | threads | dict(spec.env)


@contextlib.contextmanager
def _memory_limited(functions: Iterable[LocalFunction]) -> Iterator[None]:
    """Kill what takes too much memory, for the length of a with-block."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(MEMORY_CHECK_S):
            for function in functions:
                function.end_what_takes_too_much_memory()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
