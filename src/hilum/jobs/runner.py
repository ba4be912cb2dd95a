"""Background jobs: a thread each, at an interval with jitter, one process at a time where a job has a lease.

A run that fails is logged and counted and comes again at its next turn; it never takes the others with it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hilum import telemetry
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError
from hilum.core.identifiers import new_id
from hilum.storage.leases import TakeLease, give_back, take_lease
from hilum.storage.store import Store

log = logging.getLogger(__name__)

ACTOR = system_actor("jobs")
JITTER = 0.2
# A process that was killed keeps a job from the others for so long.
LEASE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of background work.

    `due` is a cheap look that tells whether there is something to do, so that an idle system commits nothing; `lease`
    names the lease under which `run` is called, empty where the work guards itself; `last` is called once at the end.
    """

    name: str
    seconds: float
    run: Callable[[], None]
    due: Callable[[], bool] = lambda: True
    lease: str = ""
    last: Callable[[], None] | None = None


class Runner:
    """Runs jobs until it is stopped."""

    def __init__(self, store: Store, jobs: Sequence[Job], *, chance: Callable[[], float] = random.random) -> None:
        self._store = store
        self._chance = chance
        self._holder = new_id()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._loop, args=(job,), name=f"job-{job.name}", daemon=True) for job in jobs
        ]

    @property
    def alive(self) -> bool:
        """Tell whether all jobs have their threads."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin with all jobs."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the runs that go on; tell whether all of them ended in time."""
        end = time.monotonic() + timeout
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def run_once(self, job: Job) -> bool:
        """Run a job now if it is due and its lease is to be had; tell whether it ran without failing."""
        try:
            if not job.due() or not self._leased(job):
                return False
            job.run()
        except HilumError as error:
            log.warning("a job could not run", extra={"jobs": job.name}, exc_info=error)
        except Exception as error:  # the edge of a loop that must live
            log.error("a job failed", extra={"jobs": job.name}, exc_info=error)
        else:
            return True
        telemetry.count_job_failure(job.name)
        return False

    def _leased(self, job: Job) -> bool:
        if not job.lease:
            return True
        return self._store.run(take_lease, TakeLease(job.lease, self._holder, LEASE_SECONDS), ACTOR)

    def _loop(self, job: Job) -> None:
        while not self._stop.wait(job.seconds * (1 - JITTER + 2 * JITTER * self._chance())):
            self.run_once(job)
        self._end(job)

    def _end(self, job: Job) -> None:
        try:
            if job.last is not None:
                job.last()
            if job.lease:
                self._store.run(give_back, TakeLease(job.lease, self._holder, 0), ACTOR)
        except Exception as error:  # the edge: what comes after the last run must not hang on it
            log.error("a job did not end well", extra={"jobs": job.name}, exc_info=error)
            telemetry.count_job_failure(job.name)
