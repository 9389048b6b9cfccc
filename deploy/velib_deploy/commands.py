"""The gcloud commands that deploy a network to an empty project, in order.

They are made from the facts of `function_specs.deployment`. ``X-SUBSCRIPTION``, ``PROJECT_NUMBER``
and ``ALERT_CHANNEL`` stand for names that only the project knows: see `plan.with_names`.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from velib_core.events.topics import DEAD_LETTER_TOPIC, MAX_DELIVERY_ATTEMPTS

from velib_deploy.alert_documents import documents

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from velib_deploy.target import Target

RUNTIME = "python311"
"""The runtime of every function: the version that the whole test suite runs on."""

RUNTIME_ENDS = dt.date(2027, 10, 24)
"""When Google deprecates it: it gets no more fixes, and half a year later no more deployments
(https://cloud.google.com/functions/docs/runtime-support, as read in November 2026)."""

SOFT_DELETE = "7d"
RETENTION = "7d"
"""How long an undelivered message is kept: the most that Pub/Sub allows for a subscription. A
subscription that Eventarc makes keeps them for one day."""

DELETER = "velibObjectDeleter"
APIS = (
    "artifactregistry",
    "cloudbuild",
    "cloudfunctions",
    "cloudresourcemanager",
    "cloudscheduler",
    "eventarc",
    "iam",
    "logging",
    "monitoring",
    "pubsub",
    "run",
    "storage",
)
AGENTS = ("pubsub", "eventarc")
"""APIs whose service agent has to exist before anything is granted to it or done by it."""

BUILD_ROLES = ("roles/artifactregistry.writer", "roles/logging.logWriter")
"""What a build writes; it reads sources from the buckets of the platform, and no other bucket."""

SOURCES = 'resource.name.startsWith("projects/_/buckets/gcf-v2-sources-")'

LIFECYCLE = "build/lifecycle.json"

IMAGES = "gcf-artifacts"
"""The repository that the platform makes for the images of functions, one a project and region."""

CLEANUP = "build/cleanup.json"
CLEANUP_POLICIES = (
    {
        "name": "delete-old",
        "action": {"type": "Delete"},
        "condition": {"tagState": "any", "olderThan": "86400s"},
    },
    {
        "name": "keep-newest",
        "action": {"type": "Keep"},
        "mostRecentVersions": {"keepCount": 2},
    },
)
"""What is deleted of the images, in the form that gcloud reads: all but the two newest of each
function. Every deployment adds one, and nothing reads the older ones: `deploy.sh` builds anew. Two,
because the newest is not the one that runs where it did not start."""
WATCH = "build/watch"


Facts = list[tuple[str, ...]]
Command = tuple[str, dict[str, str]]
"""The words of a command without its flags, and the flags; a flag without a value is empty."""


def commands(target: Target, facts: Facts) -> Iterator[Command]:
    """Yield the commands that bring the facts of a deployment about, in an order that works."""
    yield "services enable " + " ".join(f"{api}.googleapis.com" for api in APIS), {}
    for api in AGENTS:
        yield "beta services identity create", {"service": f"{api}.googleapis.com"}
    yield from _shared(target, facts)
    yield from _rights(target, facts)
    functions = [fact[1:] for fact in facts if fact[0] == "function"]
    yield from _functions_and_schedules(target, facts, functions)
    if target.alerts and not target.only:
        yield from _watch(target, [target.service(name) for name, *_ in functions])


def _functions_and_schedules(target: Target, facts: Facts, functions: Facts) -> Iterator[Command]:
    for function in functions:
        yield _function(target, *function)
    clean = {"location": target.region, "no-dry-run": "", "policy": CLEANUP}
    yield f"artifacts repositories set-cleanup-policies {IMAGES}", clean
    for name, *rest in functions:
        yield from _delivery(target, name, rest[8].split(","))
    for _, name, topic, cron, message in (fact for fact in facts if fact[0] == "schedule"):
        yield (
            f"scheduler jobs create pubsub {target.service(name)}",
            {
                "location": target.region,
                "schedule": cron,
                "time-zone": "Etc/UTC",
                "topic": f"projects/{target.project}/topics/{target.topic(topic)}",
                "message-body": message,
            },
        )


def _watch(target: Target, services: Sequence[str]) -> Iterator[Command]:
    """Yield who is alerted, of what, and what shows the network at a glance."""
    yield (
        "beta monitoring channels create",
        {
            "display-name": f"{target.network} alerts",
            "type": "email",
            "channel-labels": f"email_address={target.alerts}",
            "user-labels": f"velib_network={target.network}",
        },
    )
    for name in documents(target, services):
        file = f"{WATCH}/{name}.json"
        if "-alert-" in name:
            flags = {"policy-from-file": file, "notification-channels": "ALERT_CHANNEL"}
            yield "alpha monitoring policies create", flags
        else:
            yield "monitoring dashboards create", {"config-from-file": file}


def _shared(target: Target, facts: Facts) -> Iterator[Command]:
    """Yield what all functions share: the bucket, topics, notifications, accounts, the role."""
    bucket = f"gs://{target.bucket}"
    access = {"uniform-bucket-level-access": "", "public-access-prevention": ""}
    yield f"storage buckets create {bucket}", {"location": target.region, **access}
    soft = {"soft-delete-duration": SOFT_DELETE, "lifecycle-file": LIFECYCLE}
    yield f"storage buckets update {bucket}", access | soft
    dead_letter = target.topic(DEAD_LETTER_TOPIC)
    for topic in [fact[1] for fact in facts if fact[0] == "topic"] + [DEAD_LETTER_TOPIC]:
        yield f"pubsub topics create {target.topic(topic)}", {}
    kept = {"expiration-period": "never", "message-retention-duration": RETENTION}
    yield f"pubsub subscriptions create {dead_letter}", {"topic": dead_letter, **kept}
    for _, topic, prefix in (fact for fact in facts if fact[0] == "notify"):
        yield (
            f"storage buckets notifications create {bucket}",
            {
                "topic": target.topic(topic),
                "object-prefix": prefix,
                "event-types": "OBJECT_FINALIZE",
                "payload-format": "json",
            },
        )
    accounts = {
        f"{target.network}-invoker": "Delivers events to functions",
        f"{target.network}-build": "Builds functions",
    }
    accounts |= {f[9]: f"velib function {f[1]}" for f in facts if f[0] == "function"}
    for account, title in accounts.items():
        yield f"iam service-accounts create {account}", {"display-name": title}
    permissions = {"title": "Object deleter", "permissions": "storage.objects.delete"}
    yield f"iam roles create {DELETER}", permissions


def _rights(target: Target, facts: Facts) -> Iterator[Command]:
    """Yield who may do what on the project, the bucket and the topics.

    Names of objects are listed in the whole bucket: a listing has no object for a condition to
    look at. Contents are read and written only where the function's configuration says so.
    """

    def member(account: str) -> str:
        return f"serviceAccount:{target.email(account)}"

    builder = {"member": member(f"{target.network}-build")}
    project = f"projects add-iam-policy-binding {target.project}"
    for role in BUILD_ROLES:
        yield project, builder | {"role": role, "condition": "None"}
    sources = {"condition": f"expression={SOURCES},title=function-sources"}
    yield project, builder | {"role": "roles/storage.objectViewer"} | sources
    roles = {
        "read": "roles/storage.objectViewer",
        "create": "roles/storage.objectCreator",
        "delete": f"projects/{target.project}/roles/{DELETER}",
    }
    bucket = f"storage buckets add-iam-policy-binding gs://{target.bucket}"
    for fact in facts:
        match fact:
            case ("function", _, _, _, _, _, _, _, _, account, *_):
                lister = {"member": member(account), "role": "roles/storage.legacyBucketReader"}
                yield bucket, lister | {"condition": "None"}
            case ("objects", _, account, kind, expression):
                condition = f"expression={expression},title={account}-{kind}"
                grant = {"member": member(account), "role": roles[kind], "condition": condition}
                yield bucket, grant
            case ("publish", _, account, topic):
                grant = {"member": member(account), "role": "roles/pubsub.publisher"}
                yield f"pubsub topics add-iam-policy-binding {target.topic(topic)}", grant
    agent = "serviceAccount:service-PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com"
    yield (
        f"pubsub topics add-iam-policy-binding {target.topic(DEAD_LETTER_TOPIC)}",
        {"member": agent, "role": "roles/pubsub.publisher"},
    )


def _function(
    target: Target,
    name: str,
    entry: str,
    memory: str,
    cpu: str,
    timeout: str,
    concurrency: str,
    instances: str,
    retry: str,
    account: str,
    topics: str,
    env: str,
) -> Command:
    builder = target.email(f"{target.network}-build")
    flags = {
        "gen2": "",
        "region": target.region,
        "runtime": RUNTIME,
        "source": f"build/{name}",
        "entry-point": entry,
        "memory": memory,
        "cpu": cpu,
        "timeout": f"{timeout}s",
        "concurrency": concurrency,
        "max-instances": instances,
        "trigger-topic": target.topic(topics.partition(",")[0]),
        "service-account": target.email(account),
        "trigger-service-account": target.email(f"{target.network}-invoker"),
        "build-service-account": f"projects/{target.project}/serviceAccounts/{builder}",
        "no-allow-unauthenticated": "",
        "ingress-settings": "internal-only",
        "set-env-vars": f"^|^{env}",
        **({"retry": ""} if int(retry) else {}),
        "update-labels": "velib_digest=digest",
    }
    return f"functions deploy {target.service(name)}", flags


def _delivery(target: Target, name: str, topics: Sequence[str]) -> Iterator[Command]:
    """Yield who may invoke a function, its further triggers, and what ends its retries.

    A function is deployed with its first topic; each further one gets a trigger of its own.
    """
    service = target.service(name)
    invoker = target.email(f"{target.network}-invoker")
    yield (
        f"run services add-iam-policy-binding {service}",
        {
            "region": target.region,
            "member": f"serviceAccount:{invoker}",
            "role": "roles/run.invoker",
        },
    )
    for topic in topics[1:]:
        yield (
            f"eventarc triggers create {service}-{topic}",
            {
                "location": target.region,
                "destination-run-service": service,
                "destination-run-region": target.region,
                "event-filters": "type=google.cloud.pubsub.topic.v1.messagePublished",
                "transport-topic": f"projects/{target.project}/topics/{target.topic(topic)}",
                "service-account": invoker,
            },
        )
    agent = "serviceAccount:service-PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com"
    for trigger in (f"{service}-FIRST_TRIGGER", *(f"{service}-{topic}" for topic in topics[1:])):
        yield (
            f"pubsub subscriptions add-iam-policy-binding {trigger}-SUBSCRIPTION",
            {"member": agent, "role": "roles/pubsub.subscriber"},
        )
        yield (
            f"pubsub subscriptions update {trigger}-SUBSCRIPTION",
            {
                "dead-letter-topic": target.topic(DEAD_LETTER_TOPIC),
                "max-delivery-attempts": str(MAX_DELIVERY_ATTEMPTS),
                "message-retention-duration": RETENTION,
                "ack-deadline": "600",
                "min-retry-delay": "10s",
                "max-retry-delay": "600s",
            },
        )
