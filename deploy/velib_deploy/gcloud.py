"""How a project is asked and changed: by the ``gcloud`` command, with patience where that helps."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Ask: TypeAlias = "Callable[..., Any]"
"""The words of a gcloud command → its answer, as JSON is read."""

ASK_TIMEOUT_S = 60
RUN_TIMEOUT_S = 1800
PAUSES_S = (5, 10, 20, 40, 60, 60, 60, 60, 60)
"""Between attempts at what the platform does not know everywhere yet; six minutes in all. Changes
of rights are known within seven minutes (cloud.google.com/iam/docs/access-change-propagation)."""


class GcloudError(RuntimeError):
    """A command that failed, with the last words that it said."""


class NotFoundError(GcloudError):
    """What a command was about does not exist."""


_ABSENT = re.compile(
    r"NOT_FOUND|\b404\b|not found|does not exist|Unknown service account", re.IGNORECASE
)

_NOT_YET = (
    # An API that was enabled a moment ago: service-usage/docs/enable-disable
    r"has not been used in project .* before or it is disabled",
    r"SERVICE_DISABLED",
    # A service account that was made a moment ago: iam/docs/service-accounts-create
    r"Service account \S+ (?:does not exist|was not found)",
    r"iam\.serviceaccounts\.actAs",
    # A role that was made or granted a moment ago: iam/docs/access-change-propagation
    r"Role \S+ does not exist",
    r"does not have permission to publish messages to the Cloud Pub/Sub topic",
    r"missing permission on the build service account",
    r"Unable to retrieve the repository metadata",
    # The first trigger of a project: eventarc/docs/troubleshooting
    r"Permission denied while using the Eventarc Service Agent",
    # Two changes at once, too many a minute, a server that restarts: apis/design/errors
    r"concurrent policy changes|ABORTED|conditionNotMet|HTTPError 412|\[412\]",
    r"Quota exceeded for quota metric|rate.?limit",
    r"\bUNAVAILABLE\b|HTTPError 50[234]|unable to queue the operation",
)
"""What errors say that pass with time, and the page below cloud.google.com that describes them."""


_REMEDIES = (
    (
        r"No such file or directory: 'gcloud'",
        "Install the Google Cloud CLI",
        "https://cloud.google.com/sdk/docs/install",
    ),
    (
        r"gcloud auth login|UNAUTHENTICATED|invalid authentication|\breauth",
        "Sign in",
        "gcloud auth login",
    ),
    (
        r"billing",
        "Give the project a billing account",
        "gcloud billing projects link {project} --billing-account=BILLING_ACCOUNT",
    ),
    (
        r"locations?/\S+ \(or it may not exist\)|location constraint",
        "Choose a region that has all services (docs/OPERATING.md, Where)",
        "gcloud functions regions list --project={project}",
    ),
    (
        r"storage\.buckets\.get\b|bucket name is not available",
        "Choose another --bucket: this one is of another project, or you may not look at it",
        "gcloud storage buckets list --project={project}",
    ),
    (
        r"\b403\b|PERMISSION_DENIED|does not have permission|denied on resource",
        "Check --project, and what your account may do (docs/OPERATING.md, Who deploys)",
        "gcloud projects list",
    ),
)
"""What errors say that a person has to do something about, what that is, and with which command."""


def remedy(error: GcloudError, project: str) -> tuple[str, str] | None:
    """Return what to do about an error or its cause, and the command; ``None`` to try again."""
    text = f"{error} {error.__cause__ or ''}"
    for pattern, advice, command in _REMEDIES:
        if re.search(pattern, text, re.IGNORECASE):
            return advice, command.format(project=project)
    return None


def _passes(error: GcloudError) -> bool:
    return any(re.search(pattern, str(error), re.IGNORECASE) for pattern in _NOT_YET)


def patient(attempt: Callable[[], Any], pause: Callable[[float], None] = time.sleep) -> Any:  # noqa: ANN401 -- whatever the attempt returns
    """Return what an attempt returns, repeated while it fails for what passes with time."""
    for seconds in PAUSES_S:
        try:
            return attempt()
        except GcloudError as error:
            if not _passes(error):
                raise
            pause(seconds)
    return attempt()


def asker(project: str, pause: Callable[[float], None] | None = None) -> Ask:
    """Return what asks a project, each question once; with a pause, patiently."""

    @functools.cache
    def ask(*words: str) -> Any:  # noqa: ANN401 -- JSON is any value
        flags = [f"--project={project}", "--format=json", "--quiet"]
        command = ["gcloud", *words, *flags]
        answer = patient(lambda: run(command), pause) if pause else run(command, ASK_TIMEOUT_S)
        try:
            return json.loads(answer or "null")
        except ValueError as error:
            raise GcloudError(f"gcloud {' '.join(words)}: no JSON: {error}") from error

    return ask


def run(command: Sequence[str], timeout: float = RUN_TIMEOUT_S) -> str:
    """Run a command; return what it prints, raise `GcloudError` with what it says if it fails."""
    said = shlex.join(command[:5])
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GcloudError(f"{said}: {error}") from error
    if done.returncode:
        message = _message(done.stderr)
        absent = _ABSENT.search(message) and not re.search(r"\b403\b|PERMISSION_DENIED", message)
        raise (NotFoundError if absent else GcloudError)(f"{said}: {message}")
    return done.stdout


def _message(stderr: str) -> str:
    """Return the error of a command: from the line that begins with ERROR on, without traces."""
    text = stderr.strip() or "failed without a message"
    at = text.rfind("ERROR:")
    return " ".join(text[max(at, 0) :].split())[:2000]
