"""How many closed days a training needs, and when they ask for one themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from velib_core.timeline.bins import Day

LEAST_DAYS = 3
"""A day each to learn from, to tune on and to evaluate with."""

DAYS_OF_A_YOUNG_NETWORK = 14
"""From so many days on a model gains little by a day, and the weekly schedule is enough."""


def is_asked_for_by(day: Day, dailies: Collection[Day]) -> bool:
    """Return whether the end of a day asks for training: the newest day of a young network.

    ``dailies`` are the days that are compacted. So a new network has a model as soon as
    `LEAST_DAYS` days are closed, and a better one each day until `DAYS_OF_A_YOUNG_NETWORK` are.
    """
    young = LEAST_DAYS <= len(dailies) < DAYS_OF_A_YOUNG_NETWORK
    return young and day == max(dailies)
