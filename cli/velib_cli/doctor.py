"""Checks of a deployment from the outside: each says what it found and what to do about it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
import shutil
from typing import TYPE_CHECKING, Literal

import requests
from google.api_core.exceptions import GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1, storage
from velib_core.errors import PermanentError, TransientError
from velib_core.events.topics import DEAD_LETTER_TOPIC
from velib_core.lake.bucket import connect
from velib_core.lake.layout import Layout
from velib_core.settings.env import SettingsError
from velib_core.tables.snapshots_index import newest_snapshot
from velib_core.timeline.bins import bin_start
from velib_deploy import drift, gcloud
from velib_deploy.commands import RUNTIME, RUNTIME_ENDS
from velib_deploy.function_specs import FunctionSpecError, deployment, load_specs
from velib_deploy.plan import DeploymentError, make_plan
from velib_deploy.target import Target
from velib_local.emulator.pubsub_google import find_emulator

from velib_cli.targets import deployed_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from velib_core.settings.network import Settings

    from velib_cli.status import LakeStatus

PERMISSIONS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
CLOCK_TOLERANCE_S = 60
TIMEOUT_S = 10
RUNTIME_NOTICE_DAYS = 365

SUBJECTS = (
    *("snapshots", "days", "profiles", "documents", "models", "forecasts", "forecast log"),
    *("artefacts", "alerts", "quarantine", "dead letters"),
)
"""What a look at the contents of a lake is about."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding: ``ok``; ``failed``, with the command that fixes it; ``skipped``, with why."""

    name: str
    result: Literal["ok", "failed", "skipped"]
    detail: str
    fix_command: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return the check as a JSON object; programs know the command as ``mend``."""
        fields = dataclasses.asdict(self)
        return fields | {"mend": fields.pop("fix_command")}


def examine(
    environ: Mapping[str, str],
    bucket: str | None = None,
    project: str | None = None,
    region: str | None = None,
    file: Path | None = None,
) -> Iterator[Check]:
    """Yield every check that can be made of what is named; one that fails stops no other.

    Settings are those of the environment and of the file that a network was deployed with;
    without a bucket it is theirs.
    """
    yield from (_functions(), _emulator(), examine_runtime(dt.datetime.now(dt.UTC).date()))
    root = bucket or environ.get("GCS_BUCKET_ROOT")
    if not root:
        yield Check("deployment", "skipped", "name one with --bucket gs://BUCKET/FOLDER")
        return
    try:
        settings = deployed_settings(environ, root, project, file)
    except (SettingsError, FunctionSpecError) as error:
        yield Check("settings", "failed", str(error))
        return
    yield Check("settings", "ok", f"network {settings.network} in {settings.root}")
    again = _target(settings, region or "REGION", file).command()
    yield from _feeds(settings)
    yield _attempt("clock", _clock)
    yield _attempt("bucket", lambda: _bucket(settings, again))
    yield _attempt("newest snapshot", lambda: _newest(settings, region or "REGION"))
    if not settings.project:
        yield Check("project", "skipped", "name it with --project")
        return
    yield _attempt("topics", lambda: _topics(settings))
    yield _attempt("dead-letter subscription", lambda: _dead_letter(settings, again))
    yield from _project(settings, region, file, environ)


def examine_contents(state: LakeStatus) -> Iterator[Check]:
    """Yield a check for each subject that is well, and one for each finding."""
    found = {finding.subject for finding in state.findings}
    for subject in SUBJECTS:
        if subject not in found:
            yield Check(subject, "ok", "as written")
    for finding in state.findings:
        yield Check(finding.subject, "failed", finding.text, finding.command)


def _target(settings: Settings, region: str, file: Path | None) -> Target:
    return Target(settings.project, region, settings.bucket, settings.network, file=file)


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except GoogleAuthError as error:
        return Check(name, "failed", str(error), "gcloud auth application-default login")
    except (GoogleAPIError, PermanentError, TransientError, OSError) as error:
        return Check(name, "failed", str(error))


def _functions() -> Check:
    try:
        specs = load_specs()
    except FunctionSpecError as error:
        return Check("function.toml", "failed", str(error))
    return Check("function.toml", "ok", f"{len(specs)} valid ones")


def examine_runtime(today: dt.date) -> Check:
    """Return whether the functions' runtime is supported for more than a year from today."""
    left = (RUNTIME_ENDS - today).days
    detail = f"{RUNTIME} is supported until {RUNTIME_ENDS}, {left} days from now"
    if left > RUNTIME_NOTICE_DAYS:
        return Check("runtime", "ok", detail)
    expected = f"{detail}, expected more than {RUNTIME_NOTICE_DAYS}: see docs/OPERATING.md, Python"
    return Check("runtime", "failed", expected)


def _emulator() -> Check:
    jar = find_emulator()
    if jar is None:
        detail = "Google's emulator is not installed; --pubsub=embedded needs nothing"
        return Check("Pub/Sub emulator", "skipped", detail)
    return Check("Pub/Sub emulator", "ok", jar.name)


def _clock() -> Check:
    """Compare this machine's clock with that of the store, which stamps every object."""
    endpoint = storage.Client.create_anonymous_client().api_endpoint
    answer = requests.get(endpoint, timeout=TIMEOUT_S)
    skew = _clock_skew(answer.headers.get("Date"))
    if skew is None:
        return Check("clock", "skipped", f"{endpoint} does not report the time")
    reported = f"{skew:+.0f} s between the store's clock and this machine's"
    if abs(skew) > CLOCK_TOLERANCE_S:
        expected = f"{reported}, expected at most {CLOCK_TOLERANCE_S} s"
        return Check("clock", "failed", expected, "sudo timedatectl set-ntp true")
    return Check("clock", "ok", reported)


def _bucket(settings: Settings, again: str) -> Check:
    bucket = storage.Client(project=settings.project or None).bucket(settings.bucket)
    if not bucket.exists(timeout=TIMEOUT_S):
        return Check("bucket", "failed", f"there is no gs://{settings.bucket}", again)
    try:
        granted = bucket.test_iam_permissions(PERMISSIONS, timeout=TIMEOUT_S)
    except NotFound:
        return Check("bucket", "ok", f"{settings.bucket}; this store reports no permissions")
    missing = sorted(set(PERMISSIONS) - set(granted))
    if missing:
        command = f"gcloud storage buckets add-iam-policy-binding gs://{bucket.name}"
        fix_command = f"{command} --member=user:YOU --role=roles/storage.objectUser"
        return Check("bucket", "failed", f"you may not {', '.join(missing)}", fix_command)
    return Check("bucket", "ok", f"{settings.bucket}: {', '.join(PERMISSIONS)}")


def _newest(settings: Settings, region: str) -> Check:
    name = "newest snapshot"
    run_ingest = f"gcloud scheduler jobs run {settings.network}-ingest --location={region}"
    fix_command = f"{run_ingest} --project={settings.project or 'PROJECT'}"
    newest = newest_snapshot(connect(settings), Layout(settings))
    if newest is None:
        return Check(name, "failed", "there is none", fix_command)
    age = (dt.datetime.now(dt.UTC) - bin_start(newest.bin)).total_seconds() / 60
    reported = f"{newest.entry.name}, {age:.0f} min old"
    limit = settings.monitoring.silence_max_min
    if age > limit:
        return Check(name, "failed", f"{reported}, expected at most {limit:.0f} min", fix_command)
    return Check(name, "ok", reported)


def _topics(settings: Settings) -> Check:
    facts = deployment(load_specs(), settings, {})
    wanted = [settings.topic(fact[1]) for fact in facts if fact[0] == "topic"]
    wanted.append(settings.topic(DEAD_LETTER_TOPIC))
    with pubsub_v1.PublisherClient() as client:
        project = f"projects/{settings.project}"
        there = {topic.name for topic in client.list_topics(project=project, timeout=TIMEOUT_S)}
    missing = sorted(name.rpartition("/")[2] for name in set(wanted) - there)
    if missing:
        create = f"gcloud pubsub topics create {' '.join(missing)} --project={settings.project}"
        return Check("topics", "failed", f"missing {', '.join(missing)}", create)
    return Check("topics", "ok", f"{len(wanted)} topics")


def _dead_letter(settings: Settings, again: str) -> Check:
    name, topic = "dead-letter subscription", settings.topic(DEAD_LETTER_TOPIC)
    full = f"projects/{settings.project}/subscriptions/{settings.network}-{DEAD_LETTER_TOPIC}"
    with pubsub_v1.SubscriberClient() as client:
        try:
            held = client.get_subscription(subscription=full, timeout=TIMEOUT_S)
        except NotFound:
            return Check(name, "failed", f"there is no {full}", again)
    if held.topic != topic:
        delete = f"gcloud pubsub subscriptions delete {full} && {again}"
        return Check(name, "failed", f"{full} is of {held.topic}, expected {topic}", delete)
    return Check(name, "ok", full)


def _project(
    settings: Settings, region: str | None, file: Path | None, environ: Mapping[str, str]
) -> Iterator[Check]:
    """Compare what the cloud reports with the plan of deploy.sh."""
    why = ""
    if {"STORAGE_EMULATOR_HOST", "PUBSUB_EMULATOR_HOST"} & environ.keys():
        why = "servers of this machine have no project behind them"
    elif region is None:
        why = "name the region with --region"
    elif shutil.which("gcloud", path=environ.get("PATH")) is None:
        why = "the Google Cloud CLI is not installed"
    if why or region is None:
        yield Check("project", "skipped", why)
        return
    try:
        plan = make_plan(_target(settings, region, file))
    except (DeploymentError, FunctionSpecError) as error:
        yield Check("plan", "failed", str(error))
        return
    for name, planned, findings in drift.examine(plan, gcloud.asker(settings.project)):
        if not findings:
            yield Check(name, "ok", f"{planned} as planned")
        for finding in findings:
            yield Check(name, "failed", finding.detail, finding.fix_command)


def _feeds(settings: Settings) -> Iterator[Check]:
    yield _feed("GBFS feed", settings.gbfs_url or settings.status_url)
    if settings.weather_disabled:
        yield Check("weather", "skipped", "METEO_DISABLE=1")
    else:
        place = f"?latitude={settings.weather_lat}&longitude={settings.weather_lon}"
        yield _feed("weather", f"{settings.weather_url}{place}&current=temperature_2m")


def _feed(name: str, url: str) -> Check:
    try:
        answer = requests.get(url, timeout=TIMEOUT_S, stream=True)
    except requests.RequestException as error:
        return Check(name, "failed", f"{url}: {error}")
    with answer:
        if not answer.ok:
            return Check(name, "failed", f"{url} answered {answer.status_code}")
        skew = _clock_skew(answer.headers.get("Date"))
    if skew is not None and abs(skew) > CLOCK_TOLERANCE_S:
        return Check(name, "failed", f"{url}: its clock is {skew:+.0f} s from this machine's")
    return Check(name, "ok", url)


def _clock_skew(header: str | None) -> float | None:
    if header is None:
        return None
    try:
        theirs = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return (theirs - dt.datetime.now(dt.UTC)).total_seconds()
