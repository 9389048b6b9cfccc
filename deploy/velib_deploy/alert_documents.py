"""The alert policies and the dashboard of one network, from the documents for any network."""

from __future__ import annotations

import hashlib
import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from velib_deploy.target import Target

WATCH = Path(__file__).with_name("watch")


def documents(target: Target, functions: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the policies and the dashboard of a network's functions, by the name of their file."""
    names = "|".join(sorted(functions))
    values = {
        "network": target.network,
        "project": target.project,
        "services": names,
        "subscriptions": f"eventarc-{target.region}-({names})-.*",
    }

    def read(file: str) -> Any:  # noqa: ANN401 -- JSON is any value
        return json.loads(string.Template((WATCH / file).read_text("utf-8")).substitute(values))

    found = {f"{target.network}-alert-{n}": policy for n, policy in enumerate(read("alerts.json"))}
    found = {name: _labelled(policy, "userLabels") for name, policy in found.items()}
    return found | {f"{target.network}-dashboard": _labelled(read("dashboard.json"), "labels")}


def _labelled(document: dict[str, Any], labels: str) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:40]
    return {**document, labels: {**document[labels], "velib_digest": digest}}
