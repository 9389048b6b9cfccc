"""An embedded Pub/Sub: topics, push and pull subscriptions over the real gRPC protocol.

It speaks ``google.pubsub.v1`` to unchanged clients (Python, and the Go client inside the object
server) and keeps the promises that the functions are built for, and none beyond them: every
message is delivered at least once, in no promised order, again with back-off after any answer but
2xx, and to the dead-letter topic after too many attempts.

Faults are asked for, not accidental: a `Delivery` decides for each message and subscription how
many copies are delivered and how late. What is older than a subscription's
``message_retention_duration`` is dropped, as on Google Cloud.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import heapq
import itertools
import json
import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import grpc
import urllib3
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Delivery: TypeAlias = "Callable[[str, types.PubsubMessage], Sequence[float]]"
"""(subscription, message) → the delay in seconds of each copy to deliver; empty loses it."""

Push: TypeAlias = "Callable[[str, Mapping[str, Any]], int]"
"""(endpoint, push body) → the HTTP status of the answer, 0 where there was none."""

MAX_PARALLEL_PUSHES = 4
"""Of one subscription; Google's own emulator sends two at a time."""

PUSH_BACKOFF_S = (0.1, 60.0)
"""Between pushes of a subscription whose endpoint refuses them ("Push backoff",
https://cloud.google.com/pubsub/docs/push)."""

_BACKOFF_S = (0.1, 10.0)
_MAX_ATTEMPTS = 100
_ACK_DEADLINE_S = 600.0
_RETENTION_S = 7 * 86_400.0


def post(endpoint: str, body: Mapping[str, Any]) -> int:
    """Push over HTTP."""
    try:
        response = _HTTP.request(
            "POST",
            endpoint,
            body=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            timeout=urllib3.Timeout(connect=5.0, read=_ACK_DEADLINE_S),
            retries=False,
        )
    except urllib3.exceptions.HTTPError:
        return 0
    return int(response.status)


_HTTP = urllib3.PoolManager(maxsize=16)


def deliver_once(subscription: str, message: types.PubsubMessage) -> Sequence[float]:
    """Deliver each message once and immediately."""
    del subscription, message
    return (0.0,)


@dataclasses.dataclass(order=True)
class _Pending:
    due: float
    order: int
    message: types.PubsubMessage = dataclasses.field(compare=False)
    expires: float = dataclasses.field(compare=False)
    attempt: int = dataclasses.field(compare=False, default=1)


class _Subscription:
    """One subscription's queue: what is due, what is out, and who pushes it."""

    def __init__(
        self,
        config: types.Subscription,
        dead_letter: Callable[..., None],
        push: Push,
        push_backoff: tuple[float, float],
    ) -> None:
        self.config = config
        self._name = config.name
        self._endpoint = config.push_config.push_endpoint
        self._push_to = push
        self.queue: list[_Pending] = []
        self.out: dict[str, _Pending] = {}
        self.wake = threading.Condition()
        self.closed = False
        self._dead_letter = dead_letter
        self._push_backoff = push_backoff
        self._held_s = 0.0
        self._held_until = 0.0
        self._order = itertools.count()
        self._threads = [
            threading.Thread(target=self._push_for_ever, daemon=True)
            for _ in range(MAX_PARALLEL_PUSHES if self._endpoint else 0)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def unacknowledged(self) -> int:
        with self.wake:
            return len(self.queue) + len(self.out)

    def put(self, message: types.PubsubMessage, delay: float) -> None:
        """Queue a new message."""
        now = time.monotonic()
        kept = types.Subscription.pb(self.config).message_retention_duration
        expires = now + (kept.ToTimedelta().total_seconds() or _RETENTION_S)
        self._queue(_Pending(now + delay, next(self._order), message, expires))

    def _queue(self, pending: _Pending) -> None:
        with self.wake:
            heapq.heappush(self.queue, pending)
            self.wake.notify()

    def take(self, timeout: float) -> tuple[str, _Pending] | None:
        """Return the next due message with its ack id, or ``None`` after the timeout."""
        deadline = time.monotonic() + timeout
        with self.wake:
            while not self.closed:
                now = time.monotonic()
                free = max(self._held_until, self.queue[0].due) if self.queue else deadline
                if self.queue and free <= now:
                    pending = heapq.heappop(self.queue)
                    if pending.expires <= now:
                        continue
                    ack_id = f"{pending.message.message_id}-{pending.order}"
                    self.out[ack_id] = pending
                    return ack_id, pending
                if now >= deadline:
                    return None
                self.wake.wait(max(0.0, min(free, deadline) - now))
        return None

    def answer(self, ack_id: str, *, acknowledged: bool) -> None:
        """Forget a delivered message, or plan its next attempt."""
        with self.wake:
            pending = self.out.pop(ack_id, None)
            self._hold(refused=not acknowledged)
        if pending is None or acknowledged:
            return
        policy = self.config.dead_letter_policy
        limit = policy.max_delivery_attempts or _MAX_ATTEMPTS
        if policy.dead_letter_topic and pending.attempt >= limit:
            self._dead_letter(self.config, pending.message, pending.attempt)
            return
        low, high = self._backoff()
        pending.due = time.monotonic() + min(high, low * 2 ** (pending.attempt - 1))
        pending.attempt += 1
        self._queue(pending)

    def _hold(self, *, refused: bool) -> None:
        """Hold back the next push, twice as long after each failure and not after a success."""
        low, high = self._push_backoff
        self._held_s = min(high, max(low, 2 * self._held_s)) if refused else 0.0
        self._held_until = time.monotonic() + self._held_s if refused else 0.0

    def close(self) -> None:
        with self.wake:
            self.closed = True
            self.wake.notify_all()

    def _backoff(self) -> tuple[float, float]:
        retry = types.Subscription.pb(self.config).retry_policy
        low, high = (
            limit.ToTimedelta().total_seconds()
            for limit in (retry.minimum_backoff, retry.maximum_backoff)
        )
        return low or _BACKOFF_S[0], high or _BACKOFF_S[1]

    def _push_for_ever(self) -> None:
        while not self.closed:
            taken = self.take(timeout=60.0)
            if taken is not None:
                ack_id, pending = taken
                self.answer(ack_id, acknowledged=self._push(pending))

    def _push(self, pending: _Pending) -> bool:
        message = types.PubsubMessage.pb(pending.message)
        body = {
            "subscription": self._name,
            "message": {
                "data": base64.b64encode(message.data).decode(),
                "attributes": dict(message.attributes),
                "messageId": message.message_id,
                "publishTime": message.publish_time.ToJsonString(),
            },
            "deliveryAttempt": pending.attempt,
        }
        try:
            return 200 <= self._push_to(self._endpoint, body) < 300
        except Exception:
            # As over HTTP: an endpoint that fails loses its delivery, and not the subscription.
            logging.getLogger(__name__).exception("%s: a push failed", self._name)
            return False


class PubSubServer:
    """The server: start it, point PUBSUB_EMULATOR_HOST at `address`, stop it.

    Topics must exist before they are published to, as on Google Cloud. Without a ``push_backoff``
    (the shortest and the longest, in seconds) a refused push holds back no other.
    """

    def __init__(
        self, delivery: Delivery = deliver_once, push_backoff: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        self._delivery = delivery
        self._push_backoff = push_backoff
        self._topics: dict[str, list[str]] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((_handlers(self),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        """Start serving."""
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop serving; what is undelivered is lost, as when a machine is switched off."""
        for subscription in self._subscriptions.values():
            subscription.close()
        self._server.stop(grace=0.2).wait()

    def unacknowledged(self, *, but: Sequence[str] = ()) -> int:
        """Return how many messages wait, are out, or back off, over all push subscriptions."""
        with self._lock:
            subscriptions = list(self._subscriptions.values())
        return sum(
            s.unacknowledged
            for s in subscriptions
            if s.config.push_config.push_endpoint and s.config.name not in but
        )

    def publish(self, topic: str, messages: Sequence[types.PubsubMessage]) -> list[str]:
        """Hand messages to every subscription of a topic; return their ids.

        Raises ``KeyError`` where there is no such topic.
        """
        with self._lock:
            names = list(self._topics[topic])
        ids = []
        for message in messages:
            message.message_id = str(next(self._ids))
            types.PubsubMessage.pb(message).publish_time.GetCurrentTime()
            ids.append(message.message_id)
            for name in names:
                for delay in self._delivery(name, message):
                    self._subscriptions[name].put(message, delay)
        return ids

    def subscribe(self, config: types.Subscription, push: Push = post) -> None:
        """Add a subscription to a topic that exists; what it pushes goes through ``push``."""
        with self._lock:
            self._subscriptions[config.name] = _Subscription(
                config, self._dead_letter, push, self._push_backoff
            )
            self._topics[config.topic].append(config.name)

    def _dead_letter(
        self, config: types.Subscription, message: types.PubsubMessage, attempts: int
    ) -> None:
        attributes = dict(message.attributes) | {
            "CloudPubSubDeadLetterSourceSubscription": config.name.rpartition("/")[2],
            "CloudPubSubDeadLetterSourceDeliveryCount": str(attempts),
        }
        copy = types.PubsubMessage(data=message.data, attributes=attributes)
        with contextlib.suppress(KeyError):
            self.publish(config.dead_letter_policy.dead_letter_topic, [copy])

    # The protocol: one method an RPC, named as in google.pubsub.v1.

    def _create_topic(self, request: types.Topic, context: grpc.ServicerContext) -> types.Topic:
        with self._lock:
            if request.name in self._topics:
                context.abort(grpc.StatusCode.ALREADY_EXISTS, request.name)
            self._topics[request.name] = []
        return request

    def _get_topic(
        self, request: types.GetTopicRequest, context: grpc.ServicerContext
    ) -> types.Topic:
        if request.topic not in self._topics:
            context.abort(grpc.StatusCode.NOT_FOUND, request.topic)
        return types.Topic(name=request.topic)

    def _list_topics(
        self, request: types.ListTopicsRequest, context: grpc.ServicerContext
    ) -> object:
        del context
        names = sorted(n for n in self._topics if n.startswith(f"{request.project}/topics/"))
        return types.ListTopicsResponse(topics=[types.Topic(name=name) for name in names])

    def _publish(
        self, request: types.PublishRequest, context: grpc.ServicerContext
    ) -> types.PublishResponse:
        try:
            return types.PublishResponse(message_ids=self.publish(request.topic, request.messages))
        except KeyError:
            context.abort(grpc.StatusCode.NOT_FOUND, request.topic)
            raise

    def _create_subscription(
        self, request: types.Subscription, context: grpc.ServicerContext
    ) -> object:
        if request.topic not in self._topics:
            context.abort(grpc.StatusCode.NOT_FOUND, request.topic)
        if request.name in self._subscriptions:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, request.name)
        self.subscribe(request)
        return request

    def _get_subscription(
        self, request: types.GetSubscriptionRequest, context: grpc.ServicerContext
    ) -> object:
        return self._find(request.subscription, context).config

    def _list_subscriptions(
        self, request: types.ListSubscriptionsRequest, context: grpc.ServicerContext
    ) -> object:
        del request, context
        configs = [subscription.config for subscription in self._subscriptions.values()]
        return types.ListSubscriptionsResponse(subscriptions=configs)

    def _delete_subscription(
        self, request: types.DeleteSubscriptionRequest, context: grpc.ServicerContext
    ) -> object:
        self._find(request.subscription, context).close()
        with self._lock:
            self._subscriptions.pop(request.subscription, None)
            for names in self._topics.values():
                if request.subscription in names:
                    names.remove(request.subscription)
        return empty_pb2.Empty()

    def _pull(
        self, request: types.PullRequest, context: grpc.ServicerContext
    ) -> types.PullResponse:
        subscription = self._find(request.subscription, context)
        received: list[types.ReceivedMessage] = []
        while len(received) < max(1, request.max_messages):
            taken = subscription.take(timeout=0.0 if received else 1.0)
            if taken is None:
                break
            ack_id, pending = taken
            received.append(
                types.ReceivedMessage(
                    ack_id=ack_id, message=pending.message, delivery_attempt=pending.attempt
                )
            )
        return types.PullResponse(received_messages=received)

    def _acknowledge(
        self, request: types.AcknowledgeRequest, context: grpc.ServicerContext
    ) -> object:
        subscription = self._find(request.subscription, context)
        for ack_id in request.ack_ids:
            subscription.answer(ack_id, acknowledged=True)
        return empty_pb2.Empty()

    def _modify_ack_deadline(
        self, request: types.ModifyAckDeadlineRequest, context: grpc.ServicerContext
    ) -> object:
        subscription = self._find(request.subscription, context)
        if request.ack_deadline_seconds == 0:
            for ack_id in request.ack_ids:
                subscription.answer(ack_id, acknowledged=False)
        return empty_pb2.Empty()

    def _find(self, name: str, context: grpc.ServicerContext) -> _Subscription:
        subscription = self._subscriptions.get(name)
        if subscription is None:
            context.abort(grpc.StatusCode.NOT_FOUND, name)
            raise KeyError(name)
        return subscription


_RPCS: dict[str, tuple[str, Any]] = {
    "/google.pubsub.v1.Publisher/CreateTopic": ("_create_topic", types.Topic),
    "/google.pubsub.v1.Publisher/GetTopic": ("_get_topic", types.GetTopicRequest),
    "/google.pubsub.v1.Publisher/ListTopics": ("_list_topics", types.ListTopicsRequest),
    "/google.pubsub.v1.Publisher/Publish": ("_publish", types.PublishRequest),
    "/google.pubsub.v1.Subscriber/CreateSubscription": ("_create_subscription", types.Subscription),
    "/google.pubsub.v1.Subscriber/GetSubscription": (
        "_get_subscription",
        types.GetSubscriptionRequest,
    ),
    "/google.pubsub.v1.Subscriber/ListSubscriptions": (
        "_list_subscriptions",
        types.ListSubscriptionsRequest,
    ),
    "/google.pubsub.v1.Subscriber/DeleteSubscription": (
        "_delete_subscription",
        types.DeleteSubscriptionRequest,
    ),
    "/google.pubsub.v1.Subscriber/Pull": ("_pull", types.PullRequest),
    "/google.pubsub.v1.Subscriber/Acknowledge": ("_acknowledge", types.AcknowledgeRequest),
    "/google.pubsub.v1.Subscriber/ModifyAckDeadline": (
        "_modify_ack_deadline",
        types.ModifyAckDeadlineRequest,
    ),
}


def _handlers(server: PubSubServer) -> grpc.GenericRpcHandler:
    """Bind each RPC to its method; messages are decoded by the client library's own types."""
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for path, (method, request_type) in _RPCS.items():
        methods[path] = grpc.unary_unary_rpc_method_handler(
            getattr(server, method),
            request_deserializer=request_type.deserialize,
            response_serializer=_serialize,
        )

    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
            return methods.get(call.method)

    return Handler()


def _serialize(response: object) -> bytes:
    if isinstance(response, empty_pb2.Empty):
        return bytes(response.SerializeToString())
    return bytes(type(response).serialize(response))  # type: ignore[attr-defined]
