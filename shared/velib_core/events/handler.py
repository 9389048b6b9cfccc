"""Handle one event and answer the platform: acknowledge, or raise for a retry."""

from __future__ import annotations

import resource
import sys
import time
import traceback
from typing import TYPE_CHECKING

from velib_core import logs
from velib_core.errors import PermanentError, TransientError
from velib_core.events.messages import ObjectFinalized, Trigger
from velib_core.events.parsing import parse
from velib_core.lake import lineage
from velib_core.lake.layout import ForeignNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cloudevents.http import CloudEvent

    from velib_core.settings.network import Settings


MAX_ID_LENGTH = 128
"""Of an event's id where it is noted; those of the platform are shorter."""


def react(
    event: CloudEvent, settings: Settings, handle: Callable[[Trigger], Mapping[str, object]]
) -> None:
    """Handle one event and give the platform its answer.

    Returns (the event is acknowledged) after success and after a permanent error, which is
    logged with its reason. Raises after a transient one and after a bug, so that the platform
    delivers again and in the end moves the message to the dead-letter topic. Writes one line: a
    summary (what ``handle`` returned, the duration and the process's peak memory), or the error;
    that of a bug has its stack trace.
    """
    started = time.monotonic()
    event_id = str(event["id"])[:MAX_ID_LENGTH]
    with logs.context(event_id=event_id):
        try:
            trigger = parse(event, settings)
        except ForeignNameError as error:
            logs.log("WARNING", f"ignored: {error}")
            return
        except PermanentError as error:
            logs.log("ERROR", f"permanent error: {error}", error=type(error).__name__)
            return
        cause = trigger.name if isinstance(trigger, ObjectFinalized) else repr(trigger)
        with logs.context(trigger=repr(trigger)), lineage.handling(event_id, cause):
            summary = _answered(handle, trigger)
            if summary is not None:
                seconds = round(time.monotonic() - started, 3)
                logs.log("INFO", "done", **summary, duration_s=seconds, peak_mib=peak_mib())


def _answered(
    handle: Callable[[Trigger], Mapping[str, object]], trigger: Trigger
) -> Mapping[str, object] | None:
    """Return the summary of what a trigger led to; ``None`` after a permanent error."""
    try:
        return handle(trigger)
    except PermanentError as error:
        logs.log("ERROR", f"permanent error: {error}", error=type(error).__name__)
        return None
    except TransientError as error:
        logs.log("WARNING", f"will retry: {error}", error=type(error).__name__)
        raise
    except Exception as error:
        # Error Reporting takes a stack trace from this field:
        # https://cloud.google.com/error-reporting/docs/formatting-error-messages
        trace = traceback.format_exc()
        logs.log("ERROR", f"bug: {error!r}", error=type(error).__name__, stack_trace=trace)
        raise


def peak_mib() -> int:
    """Return the process's peak resident memory in MiB."""
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
