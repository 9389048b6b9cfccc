"""What time it is: this machine's clock, or the simulated one of a local cloud."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

SIMULATED_CLOCK = "SIMULATED_CLOCK"
"""Names a file with an ISO instant. The local cloud sets it where it plays other days than today;
no deployment does, and nothing that a feed says is ever taken for the clock."""


def now() -> dt.datetime:
    """Return the instant, aware in UTC."""
    simulated = os.environ.get(SIMULATED_CLOCK)
    if not simulated:
        return dt.datetime.now(dt.UTC)
    return dt.datetime.fromisoformat(Path(simulated).read_text("utf-8")).astimezone(dt.UTC)
