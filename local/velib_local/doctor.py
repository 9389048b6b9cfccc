"""Checks of a deployment from the outside: each says what it found and what to do about it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import email.utils
from typing import TYPE_CHECKING, Literal

import requests
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import pubsub_v1, storage
from velib_core.events import TOPICS
from velib_core.layout import Layout
from velib_core.settings import Settings, SettingsError

from velib_local.function_specs import FunctionSpecError, load_specs
from velib_local.pubsub_google import find_emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PERMISSIONS = ("storage.objects.create", "storage.objects.get", "storage.objects.list")
CLOCK_TOLERANCE_S = 60
TIMEOUT_S = 10


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding: ``ok``, ``failed``, or ``skipped`` with the reason."""

    name: str
    result: Literal["ok", "failed", "skipped"]
    detail: str


def examine(environ: Mapping[str, str]) -> list[Check]:
    """Run every check that the environment allows; a check that fails does not stop the rest."""
    checks = [_functions(), _emulator()]
    if not environ.get("GCS_BUCKET_ROOT"):
        hint = "no deployment named: set GCS_BUCKET_ROOT=gs://BUCKET/FOLDER to check one"
        return [*checks, Check("deployment", "skipped", hint)]
    try:
        settings = Settings.from_env(environ)
    except SettingsError as error:
        return [*checks, Check("settings", "failed", str(error))]
    checks.append(Check("settings", "ok", f"network {settings.network} in {settings.root}"))
    checks.append(_attempt("bucket", lambda: _bucket(settings)))
    checks.append(_attempt("topics", lambda: _topics(settings)))
    checks.extend(_feeds(settings))
    return checks


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (GoogleAPIError, GoogleAuthError, OSError, SettingsError) as error:
        return Check(name, "failed", str(error))


def _functions() -> Check:
    try:
        specs = load_specs()
    except FunctionSpecError as error:
        return Check("functions", "failed", str(error))
    return Check("functions", "ok", f"{len(specs)} with a valid function.toml")


def _emulator() -> Check:
    jar = find_emulator()
    if jar is None:
        detail = "Google's emulator is not installed; --pubsub=embedded needs nothing"
        return Check("Pub/Sub emulator", "skipped", detail)
    return Check("Pub/Sub emulator", "ok", jar.name)


def _bucket(settings: Settings) -> Check:
    bucket = storage.Client(project=settings.project or None).bucket(settings.bucket)
    granted = bucket.test_iam_permissions(PERMISSIONS, timeout=TIMEOUT_S)
    missing = sorted(set(PERMISSIONS) - set(granted))
    if missing:
        detail = f"missing {', '.join(missing)}: grant roles/storage.objectUser on {bucket.name}"
        return Check("bucket", "failed", detail)
    return Check("bucket", "ok", f"{settings.bucket}: {', '.join(PERMISSIONS)}")


def _topics(settings: Settings) -> Check:
    wanted = [settings.topic(name) for name in (*TOPICS.values(), *Layout(settings).notified)]
    with pubsub_v1.PublisherClient() as client:
        project = f"projects/{settings.project}"
        there = {topic.name for topic in client.list_topics(project=project, timeout=TIMEOUT_S)}
    missing = sorted(set(wanted) - there)
    if missing:
        return Check("topics", "failed", f"missing {', '.join(missing)}: run deploy.sh")
    return Check("topics", "ok", f"{len(wanted)} topics")


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
