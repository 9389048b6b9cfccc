"""A deployed function: its declaration, and what an instance keeps between events.

Everything is opened at the first event and not at import, so that a cold start pays only for
what the event needs and no connection is carried across a fork.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import functions_framework
from werkzeug.exceptions import InternalServerError

from velib_core import logs
from velib_core.events.handler import react
from velib_core.events.network import Network
from velib_core.events.publisher import Publisher
from velib_core.lake.bucket import connect
from velib_core.settings.env import SettingsError
from velib_core.settings.network import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cloudevents.http import CloudEvent

    from velib_core.events.job import Job
    from velib_core.events.messages import Trigger


@functools.cache
def settings() -> Settings:
    """Return the settings of this instance, read once."""
    return Settings.from_env()


@functools.cache
def network() -> Network:
    """Return the network of this instance, its connections open."""
    return Network(settings(), connect(settings()), Publisher(settings()))


def function(job_for: Callable[[Trigger], Job | None]) -> Callable[[CloudEvent], None]:
    """Declare a function, under the name of what is decorated: trigger → job.

    ``job_for`` returns the job that a trigger asks for, bound to what it is about, or ``None``
    where there is nothing to do. The platform answers 200 after `react` has returned, and 500
    after it has raised; the platform then delivers the event again.
    """

    def handle(trigger: Trigger) -> Mapping[str, object]:
        job = job_for(trigger)
        return job(network()).summary() if job else {}

    @functools.wraps(job_for)
    def answer(event: CloudEvent) -> None:
        try:
            react(event, settings(), handle)
        except SettingsError as error:
            logs.log("ERROR", f"a setting is wrong: {error}", error="SettingsError")
            raise InternalServerError(str(error)) from error
        except Exception as error:
            # It is in the log by now. As an HTTP status it is not logged again by Flask.
            raise InternalServerError(str(error)) from error

    declared: Callable[[CloudEvent], None] = functions_framework.cloud_event(answer)
    return declared
