"""Every monitoring family that is made from the views of closed days."""

from __future__ import annotations

from velib_core.jobs.recipes import drift, dynamics, explainability, health, performance, stations

FAMILIES = (
    health.FAMILY,
    drift.FAMILY,
    performance.FAMILY,
    explainability.FAMILY,
    stations.FAMILY,
    dynamics.FAMILY,
)
