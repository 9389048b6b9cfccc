"""One run of a monitoring family: its edition, its instant, its bounds, out of settings and data.

Every instant is the data's own, not the clock's on the wall: a replay writes the same documents.
"""

from __future__ import annotations
