"""Shows in the metrics how much waits for each destination, and since when."""

from __future__ import annotations

from hilum import telemetry
from hilum.jobs.runner import Job
from hilum.settings import Configuration
from hilum.storage.lanes import depths
from hilum.storage.store import Store

EACH_SECONDS = 5.0


def lane_gauges(store: Store, configuration: Configuration) -> Job:
    """Make the job; a destination for which nothing waits shows zero."""

    def run() -> None:
        with store.read() as connection:
            found = {one.destination: one for one in depths(connection)}
        now = store.clock()
        for name in {destination.name for destination in configuration.current.destination} | set(found):
            one = found.get(name)
            age = (now - one.oldest_at).total_seconds() if one else 0.0
            telemetry.set_lanes(name, one.depth if one else 0, max(0.0, age))

    return Job("lane-gauges", EACH_SECONDS, run)
