"""The state of the rehearsed cloud, and the rules that hold for every API of it."""

from __future__ import annotations

import collections
import copy
import dataclasses
import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

from rehearsal.server import RefusedError

if TYPE_CHECKING:
    from rehearsal.server import Call

PROJECT = "velib-rehearsal"
NUMBER = "4211"
OWNER = "owner@example.org"
EXPIRED = "expired"
"""A token of a caller who has to sign in again."""
REGION = "europe-west1"

TITLES = {
    "artifactregistry": "Artifact Registry API",
    "cloudbuild": "Cloud Build API",
    "cloudfunctions": "Cloud Functions API",
    "cloudscheduler": "Cloud Scheduler API",
    "eventarc": "Eventarc API",
    "iam": "Identity and Access Management (IAM) API",
    "logging": "Cloud Logging API",
    "monitoring": "Cloud Monitoring API",
    "pubsub": "Cloud Pub/Sub API",
    "run": "Cloud Run Admin API",
}
"""APIs that are off in a new project. Cloud Storage, Service Usage and Resource Manager are on
(https://cloud.google.com/service-usage/docs/enabled-service)."""


@dataclasses.dataclass
class World:
    """One project. ``resources`` are by full name, each as its API returns it.

    ``delay`` is how often something new is still unknown to whoever asks for it: a service
    account where it is named, an API where it is called, a right where it is used. Counts stand
    for the minutes of https://cloud.google.com/iam/docs/access-change-propagation, so that a
    rehearsal waits for nothing.
    """

    delay: int = 0
    resources: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    policies: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    enabled: set[str] = dataclasses.field(default_factory=set)
    unseen: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    failing_builds: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    throttled: int = 0
    billing: bool = True
    taken: set[str] = dataclasses.field(default_factory=set)
    """Buckets of other projects: names are shared by all of them."""
    quotas: dict[str, int] = dataclasses.field(default_factory=dict)
    callers: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    calls: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    uploads: dict[str, bytes] = dataclasses.field(default_factory=dict)
    operations: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    unknown: list[str] = dataclasses.field(default_factory=list)
    used: set[str] = dataclasses.field(default_factory=set)
    serial: int = 100
    address: str = ""

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.policies.setdefault(
            f"projects/{PROJECT}",
            {"bindings": [{"role": "roles/owner", "members": [f"user:{OWNER}"]}], "etag": "BwAA"},
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        kept = {
            field.name: copy.deepcopy(getattr(self, field.name), memo)
            for field in dataclasses.fields(self)
        }
        return World(**kept)

    def admit(self, call: Call, permission: str) -> None:
        """Refuse a call of an API that is off, above a rate, or without the permission."""
        self.check_place(call)
        api = call.path.split("/")[1]
        if api in TITLES:
            if api not in self.enabled or self.unseen_yet(f"api {api}"):
                raise RefusedError(
                    403,
                    "PERMISSION_DENIED",
                    f"{TITLES[api]} has not been used in project {PROJECT} before or it is"
                    " disabled. Enable it by visiting https://console.developers.google.com/apis/"
                    f"api/{api}.googleapis.com then retry. If you enabled this API recently, wait a"
                    " few minutes for the action to propagate to our systems and retry.",
                    "SERVICE_DISABLED",
                )
            # https://cloud.google.com/apis/design/errors: a quota of requests is 429.
            if self.throttled and call.method != "GET":
                self.throttled -= 1
                raise RefusedError(
                    429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric", "RATE_LIMIT"
                )
        if permission:
            self.require(call, permission)

    @staticmethod
    def check_place(call: Call) -> None:
        """Refuse who is not signed in any more, another project, and a region that is none."""
        if call.caller == EXPIRED:
            # https://cloud.google.com/apis/design/errors: 401 for invalid credentials
            raise RefusedError(
                401, "UNAUTHENTICATED", "Request had invalid authentication credentials."
            )
        if call.part.get("project", "-") not in {PROJECT, NUMBER, "-", "_"}:
            # https://cloud.google.com/resource-manager/docs/access-control-proj: 403 hides absence
            raise RefusedError(403, "PERMISSION_DENIED", "The caller does not have permission")
        if call.part.get("region", "-") not in {REGION, "-"}:
            # https://cloud.google.com/functions/docs/troubleshooting: a location without service
            text = f"Permission denied on 'locations/{call.part['region']}' (or it may not exist)."
            raise RefusedError(403, "PERMISSION_DENIED", text)

    def require(self, call: Call, permission: str) -> None:
        """Refuse a caller whose permissions are known and do not hold this one."""
        self.used.add(permission)
        if call.caller in self.callers and permission not in self.callers[call.caller]:
            raise RefusedError(
                403,
                "PERMISSION_DENIED",
                f"Permission '{permission}' denied on resource (or it may not exist).",
            )

    def log(self, call: Call, code: int) -> None:
        self.calls.append((call.method, call.path, code))

    def unseen_yet(self, what: str) -> bool:
        """Return whether something new is still unknown; each call brings it one step closer."""
        if self.unseen[what] <= 0:
            return False
        self.unseen[what] -= 1
        return True

    def new(self, what: str) -> None:
        self.unseen[what] = self.delay

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def state(self) -> dict[str, Any]:
        """Return what two projects are compared by: everything but stamps, etags and serials."""
        return {
            "enabled": sorted(self.enabled),
            "resources": {
                _stable(name, value): _comparable(value)
                for name, value in sorted(self.resources.items())
            },
            "policies": {
                name: _comparable(value)
                for name, value in sorted(self.policies.items())
                if value.get("bindings")
            },
        }

    def changes(self) -> list[tuple[str, str, int]]:
        """Return the calls that changed something, or would have."""
        asking = (":getIamPolicy", ":testIamPermissions", ":generateUploadUrl")
        return [
            call
            for call in self.calls
            if call[0] != "GET" and not call[1].endswith(asking) and "/upload/" not in call[1]
        ]

    # --- policies (https://cloud.google.com/iam/docs/reference/rest/v1/Policy) --------------------

    def policy(self, name: str, version: int = 3) -> dict[str, Any]:
        """Return a policy as `getIamPolicy` does.

        Conditions are shown to who asks for version 3 only
        (https://cloud.google.com/iam/docs/allow-policies#specifying-version-get).
        """
        held = copy.deepcopy(self.policies.get(name, {"bindings": [], "etag": "ACAB"}))
        bindings = held.get("bindings", [])
        conditional = [b for b in bindings if "condition" in b]
        held["version"] = 3 if conditional and version >= 3 else 1
        if version < 3:
            for n, binding in enumerate(conditional):
                del binding["condition"]
                binding["role"] += f"_withcond_{n:x}"
        return held

    def set_policy(self, name: str, wanted: dict[str, Any], race: int = 409) -> dict[str, Any]:
        """Replace a policy, as `setIamPolicy` does, under the rules that it keeps."""
        etag = wanted.get("etag")
        if etag and etag != self.policy(name)["etag"]:
            # https://cloud.google.com/iam/docs/allow-policies#etag
            raise RefusedError(
                race,
                "ABORTED",
                "There were concurrent policy changes. Please retry the whole read-modify-write"
                " with exponential backoff.",
            )
        merged: dict[str, dict[str, Any]] = {}
        for binding in wanted.get("bindings", []):
            if "condition" in binding and wanted.get("version") != 3:
                # https://cloud.google.com/iam/docs/allow-policies#specifying-version-set
                raise invalid_policy("Conditions need a policy of version 3.")
            if not binding.get("members"):
                continue
            self.check_role(binding["role"])
            self.check_condition(binding)
            key = json.dumps([binding["role"], binding.get("condition")], sort_keys=True)
            one = merged.setdefault(key, {**binding, "members": []})
            one["members"] = sorted({*one["members"], *binding["members"]})
        for member in sorted({m for b in merged.values() for m in b["members"]}):
            self.check_member(member)
        bindings = [merged[key] for key in sorted(merged)]
        fingerprint = hashlib.sha256(json.dumps([bindings, self.next()]).encode()).hexdigest()
        self.policies[name] = {"bindings": bindings, "etag": fingerprint[:12]}
        return self.policy(name)

    def check_member(self, member: str) -> None:
        """Refuse an account that is not there, or not known everywhere yet.

        https://cloud.google.com/iam/docs/service-accounts-create: it "can take a few minutes"
        until a new account can be named in a policy.
        """
        kind, _, email = member.partition(":")
        if kind == "serviceAccount" and not self.knows_account(email):
            raise invalid_policy(f"Service account {email} does not exist.")

    def knows_account(self, email: str) -> bool:
        name = f"projects/{PROJECT}/serviceAccounts/{email}"
        return name in self.resources and not self.unseen_yet(name)

    def check_role(self, role: str) -> None:
        """https://cloud.google.com/iam/docs/roles-overview: a custom role has to be there."""
        if role.startswith("projects/"):
            held = self.resources.get(role)
            if held is None or held.get("deleted"):
                raise invalid_policy(f"Role ({role}) does not exist in the resource's hierarchy.")

    @staticmethod
    def check_condition(binding: dict[str, Any]) -> None:
        """https://cloud.google.com/iam/quotas: at most 12 logical operators in a condition."""
        expression = binding.get("condition", {}).get("expression", "")
        if expression.count("||") + expression.count("&&") > 12:
            raise invalid_policy("The condition has more than 12 logical operators.")


def invalid_policy(message: str) -> RefusedError:
    return RefusedError(400, "INVALID_ARGUMENT", message, "invalid")


_VARYING = {"etag", "createTime", "updateTime", "uid", "timeCreated", "updated", "revision", "id"}
_VARYING |= {
    "object",
    "metageneration",
    "selfLink",
    "userUpdateTime",
    "generation",
    "uniqueId",
    "oauth2ClientId",
}


def _stable(name: str, value: dict[str, Any]) -> str:
    """Return a name that does not depend on the order in which things were made."""
    if not name.startswith("notifications/"):
        return name
    return f"{name.rpartition('/')[0]}/{value['topic'].rpartition('/')[2]}"


def serial_of(name: str) -> int:
    """Return the digits that the platform ends a name with, here the same each time."""
    return 100_000 + int(hashlib.sha256(name.encode()).hexdigest(), 16) % 900_000


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if key not in _VARYING}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value
