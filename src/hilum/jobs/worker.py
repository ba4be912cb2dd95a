"""The `worker` role: the router, the lanes and the background jobs of one process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from hilum.delivery.check import check_delivery
from hilum.delivery.lanes import Lanes
from hilum.delivery.ports import Encoder, Sender
from hilum.delivery.router import Router
from hilum.jobs.audit_feed import AuditFeed
from hilum.jobs.gauges import lane_gauges
from hilum.jobs.runner import Job, Runner
from hilum.jobs.sealer import Sealer
from hilum.jobs.study_complete import instances_stored, study_complete
from hilum.security.live_keys import Keys
from hilum.settings import Configuration
from hilum.storage.store import Store

log = logging.getLogger(__name__)


class Worker:
    """Everything that happens without anyone asking. Several may run on one database; leases divide the work."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        encoders: Mapping[str, Encoder],
        senders: Mapping[str, Sender],
        keyring: Keys,
        further: Sequence[Job] = (),
    ) -> None:
        """Wire it, with `further` jobs that need more than these; raises RouteError when a route cannot be used."""
        self._senders = senders
        self._check = check_delivery(configuration.current, senders.keys())
        self._lanes = Lanes(store, configuration, encoders, senders)
        self._router = Router(store, configuration, encoders, on_routed=self._lanes.wake)
        jobs = [
            study_complete(store, configuration),
            instances_stored(store, configuration),
            lane_gauges(store, configuration),
            *further,
        ]
        self._jobs = Runner(store, jobs)
        # By itself and last to stop: what the others do at their end is still sealed.
        sealer = Sealer(store, lambda: keyring.audit, configuration.current.paths.seals / "latest.json")
        self._sealing = Runner(store, [sealer.job(), AuditFeed(store, configuration).job()])

    @property
    def alive(self) -> bool:
        """Tell whether router, lanes and jobs all run."""
        return self._router.alive and self._lanes.alive and self._jobs.alive and self._sealing.alive

    def start(self) -> None:
        """Begin."""
        if self._check:
            log.warning("routes or destinations need attention: see hilum check", extra={"count": len(self._check)})
        self._sealing.start()
        self._lanes.start()
        self._router.start()
        self._jobs.start()

    def drain(self, timeout: float = 30.0) -> None:
        """Finish what goes on, take nothing new, seal the audit trail; the leases end what does not end in time."""
        end = time.monotonic() + timeout

        def left() -> float:
            return max(0.5, end - time.monotonic())

        self._router.stop(left())
        ended = [self._lanes.stop(left()), self._jobs.stop(left()), self._sealing.stop(left())]
        for sender in self._senders.values():
            sender.close()
        if not all(ended):
            log.warning("the worker did not end in time", extra={"seconds": timeout})
