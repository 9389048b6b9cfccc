"""The state of a lake in words: one sentence, what to type, and the figures."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import TYPE_CHECKING

from velib_cli.printed import age, counted, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator

    from velib_cli.dead_letters import DeadLetters
    from velib_cli.status import Alert, LakeStatus, LiveModel

LISTED = 10
"""Lines of a list that a person is shown."""


def sentence(state: LakeStatus) -> str:
    """Return the state of the lake in one sentence."""
    if state.findings:
        first = harmless(state.findings[0].text)
        if len(state.findings) == 1:
            return f"One thing needs attention: {first}."
        return f"{len(state.findings)} things need attention, the first: {first}."
    ahead = [str(model.horizon_min) for model in state.models if model.version]
    forecast = f"forecasts {' and '.join(ahead)} minutes ahead" if ahead else "no model yet"
    return f"All is well: {_newest(state)}; {forecast}."


def advice(state: LakeStatus) -> list[str]:
    """Return the lines that say what needs attention and what to type."""
    lines = []
    for number, finding in enumerate(state.findings, 1):
        lines.append(f"{number}. {harmless(finding.text)}")
        if finding.command:
            lines.append(f"   {harmless(finding.command)}")
    return lines


def rows(state: LakeStatus) -> Iterator[tuple[str, str]]:
    """Yield what a person reads: what it is about, and what there is, possibly in lines."""
    yield "newest snapshot", _newest(state)
    if state.newest_snapshot is not None:
        yield "days observed", f"{state.first_day} … {state.last_day}"
    yield "days missing", _listed(state.missing_days) or "none"
    counts = [
        (state.dailies, "daily", "dailies"),
        (state.observations_tables, "observations table", None),
    ]
    counts += [
        (state.evaluation_tables, "evaluation table", None),
        (state.forecast_log_days, "day of published forecasts", "days of published forecasts"),
    ]
    yield "days made", ", ".join(counted(*count) for count in counts)
    yield "last forecast from", _local(state.forecast_log_newest, state.tz) or "none yet"
    yield "live models", "\n".join(map(_model_line, state.models))
    yield "alerts", "\n".join(map(_alert_line, state.alerts)) or "none"
    quarantined = counted(state.quarantined, "object")
    yield "quarantined", f"{quarantined}, {state.quarantined_lately} in the last 24 hours"
    yield "dead letters", "\n".join(_dead_letter_lines(state.dead_letters))
    yield "to be made", _listed(state.fixes) or "nothing: all is up to date"


def _newest(state: LakeStatus) -> str:
    """Return when the newest snapshot was made, and its age where the lake is to grow."""
    when = _local(state.newest_snapshot, state.tz)
    if when is None or state.age_min is None:
        return "none yet"
    if not state.live:
        return f"as of {when}"
    return f"{when}, {age(state.age_min)} old (alert after {age(state.silence_max_min)})"


def _local(stamp: str | None, tz: str) -> str | None:
    """Return a stamp by the network's own clock, with the zone's abbreviation."""
    if stamp is None:
        return None
    instant = dt.datetime.fromisoformat(stamp).astimezone(zoneinfo.ZoneInfo(tz))
    return f"{instant:%Y-%m-%d %H:%M %Z}"


def _alert_line(alert: Alert) -> str:
    numbers = [
        f"{name} {value:g}"
        for name, value in (("value", alert.value), ("threshold", alert.threshold))
        if value is not None
    ]
    about = ", ".join([*numbers, alert.family, f"as of {alert.as_of}"])
    return harmless(f"{alert.level}: {alert.text} ({about})")


def _model_line(model: LiveModel) -> str:
    if model.problem or model.version is None:
        return harmless(f"{model.horizon_min} min: {model.problem or 'none is live'}")
    ago = "" if model.age_days is None else f", {_days(model.age_days)} ago"
    return harmless(
        f"{model.horizon_min} min: {model.version}, trained through {model.trained_through}{ago}"
    )


def _days(days: float) -> str:
    """Return a number of days with at most one decimal, as in ``2.5 days``."""
    return f"{days:g} {'day' if days == 1 else 'days'}"


def _dead_letter_lines(dead: DeadLetters) -> Iterator[str]:
    if dead.count is None:
        yield harmless(f"unknown: {dead.reason}")
    else:
        yield (f"{dead.count}{' or more' if dead.more else ''}") if dead.count else "none"
    for letter in dead.letters[:LISTED]:
        attempts = letter.attempts or "?"
        yield harmless(f"{letter.source}: {letter.subject} after {attempts} attempts")


def _listed(lines: list[str]) -> str:
    """Return the first lines, and how many more there are; all of them are in the JSON."""
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join([*map(harmless, lines[:LISTED]), *more])
