"""The router's thread: sees committed events within milliseconds and has them routed.

Many processes may run one; the lease in the database lets a single one route at a time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from hilum import telemetry
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError
from hilum.core.identifiers import new_id
from hilum.delivery.ports import Encoder
from hilum.delivery.routing import ROUTER_LEASE, Routed, RouteEvents, route_events
from hilum.delivery.rules import RouteError, Rules
from hilum.settings import Configuration, Settings
from hilum.storage.lanes import ChangeProbe, has_unrouted
from hilum.storage.leases import TakeLease, give_back
from hilum.storage.store import Store

log = logging.getLogger(__name__)

ACTOR = system_actor("router")
# SQLite tells for a microsecond whether anything was committed; PostgreSQL is asked the question itself.
LOOK_SECONDS, ASK_SECONDS, IDLE_SECONDS = 0.015, 0.03, 0.05
AFTER_REFUSAL_SECONDS = 0.5
# Looks without an event before the router slows down.
BUSY_LOOKS = 200


class Router:
    """Routes events as they are committed. `on_routed` is called after each commit that put something into a lane."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        encoders: Mapping[str, Encoder],
        on_routed: Callable[[], None] = lambda: None,
    ) -> None:
        """Compile the routes. RouteError when the configuration has one that cannot be used."""
        self._store = store
        self._configuration = configuration
        self._encoders = encoders
        self._on_routed = on_routed
        self._holder = new_id()
        self._revision = configuration.revision
        self._settings = configuration.current
        self._rules = Rules.of(self._settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="router", daemon=True)

    @property
    def alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to look for events."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Finish the batch at hand and let another process be the router."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        else:
            self._give_back()

    def route_once(self) -> Routed:
        """Route one batch now."""
        settings = self._current_settings()
        routed = self._store.run(route_events, RouteEvents(self._holder, settings, self._rules, self._encoders), ACTOR)
        if routed.failures:
            telemetry.count_route_failures(routed.failures)
        if routed.deliveries:
            self._on_routed()
        return routed

    def _current_settings(self) -> Settings:
        settings = self._configuration.refresh()
        revision = self._configuration.revision
        if revision != self._revision:
            self._revision = revision
            try:
                self._rules, self._settings = Rules.of(settings), settings
            except RouteError as error:
                # As with a file that became invalid altogether, what was in force goes on.
                log.error("a changed route cannot be used, so the routes before it stay", exc_info=error)
        return self._settings

    def _loop(self) -> None:
        probe = ChangeProbe(self._store.engine)
        idle = 0
        while not self._stop.is_set():
            try:
                found, wait = self._look(probe, idle)
                idle = 0 if found else idle + 1
            except Exception as error:  # the edge of a loop that must live
                log.error("routing failed", exc_info=error)
                telemetry.count_job_failure("router")
                probe.forget()
                wait = AFTER_REFUSAL_SECONDS
            self._stop.wait(wait)
        probe.close()
        self._give_back()

    def _look(self, probe: ChangeProbe, idle: int) -> tuple[bool, float]:
        """Look once and route what is there; return whether there was something, and how long to wait now."""
        if not self._waits(probe):
            if idle >= BUSY_LOOKS:
                return False, IDLE_SECONDS
            return False, LOOK_SECONDS if probe.cheap else ASK_SECONDS
        routed = self.route_once()
        probe.forget()
        return True, 0.0 if routed.held else AFTER_REFUSAL_SECONDS

    def _waits(self, probe: ChangeProbe) -> bool:
        if not probe.changed():
            return False
        with self._store.read() as connection:
            return has_unrouted(connection)

    def _give_back(self) -> None:
        try:
            self._store.run(give_back, TakeLease(ROUTER_LEASE, self._holder, 0), ACTOR)
        except HilumError as error:
            log.warning("the router's lease was not given back", exc_info=error)
