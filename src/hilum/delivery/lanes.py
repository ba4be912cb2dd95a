"""The workers: each destination has a crew of its own, so that one that hangs never slows another.

A lane is sent in strict order by whoever holds its lease; a send happens outside of any transaction. A destination that
can't be reached is tried by one worker at a time, at growing pauses, until it answers again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hilum import telemetry
from hilum.core.actor import system_actor
from hilum.core.errors import HilumError
from hilum.core.identifiers import new_id
from hilum.delivery.ports import Encoder, Sender, SendOutcome, Sent
from hilum.delivery.tries import (
    LEASE_SECONDS,
    MakeBody,
    RenewLeases,
    Settled,
    SettleTry,
    TakeDelivery,
    make_body,
    renew_leases,
    retry_pause,
    settle_try,
    take_delivery,
)
from hilum.settings import Configuration, Destination
from hilum.storage.deliveries import Delivery
from hilum.storage.lanes import has_ready_lane
from hilum.storage.store import Store

log = logging.getLogger(__name__)

ACTOR = system_actor("delivery")
LANES_AT_ONCE = 4
LOOK_SECONDS = 0.1
# A destination that can't be reached is tried at least this often while something waits for it.
LONGEST_PAUSE = 5.0
RENEW_SECONDS = LEASE_SECONDS / 3
SETTLE_TRIES = 5
UNREACHABLE = frozenset({SendOutcome.TRANSIENT})


@dataclass(slots=True)
class _Crew:
    """The workers of one destination. `failures` in a row say that it can't be reached."""

    pool: ThreadPoolExecutor
    busy: int = 0
    failures: int = 0
    paused_until: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Lanes:
    """Sends what waits in lanes, for the destinations whose kind has a sender here."""

    def __init__(
        self,
        store: Store,
        configuration: Configuration,
        encoders: Mapping[str, Encoder],
        senders: Mapping[str, Sender],
        *,
        lanes_at_once: int = LANES_AT_ONCE,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._configuration = configuration
        self._encoders = encoders
        self._senders = senders
        self._lanes_at_once = lanes_at_once
        self._chance = chance
        self._holder = new_id()
        self._crews: dict[str, _Crew] = {}
        self._sending: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="lanes", daemon=True)

    @property
    def alive(self) -> bool:
        """Tell whether the thread that hands out the work runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once, since something new waits."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the sends that go on and take no more; tell whether all of them ended in time."""
        end = time.monotonic() + timeout
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        while any(crew.busy for crew in self._crews.values()) and time.monotonic() < end:
            self._keep_leases()
            time.sleep(0.01)
        for crew in self._crews.values():
            crew.pool.shutdown(wait=False)
        return not any(crew.busy for crew in self._crews.values())

    # The thread that hands out the work

    def _loop(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            try:
                self._hand_out()
                self._keep_leases()
            except Exception as error:  # the edge of a loop that must live
                log.error("lanes could not be looked at", exc_info=error)
                telemetry.count_job_failure("lanes")
                self._stopping.wait(1.0)

    def _hand_out(self) -> None:
        """Give each destination that has a lane ready one more worker; a worker that finds work wakes this again."""
        settings = self._configuration.refresh()
        free = [
            destination
            for destination in settings.destination
            if destination.kind in self._senders and self._has_room(self._crew(destination.name))
        ]
        if not free or self._stopping.is_set():
            return
        now = self._store.clock()
        with self._store.read() as connection:
            ready = [one.name for one in free if has_ready_lane(connection, one.name, now)]
        for name in ready:
            crew = self._crew(name)
            with crew.lock:
                crew.busy += 1
            crew.pool.submit(self._work, crew, name)

    def _crew(self, destination: str) -> _Crew:
        if destination not in self._crews:
            pool = ThreadPoolExecutor(self._lanes_at_once, thread_name_prefix=f"lane-{destination}")
            self._crews[destination] = _Crew(pool)
        return self._crews[destination]

    def _has_room(self, crew: _Crew) -> bool:
        if crew.failures and time.monotonic() < crew.paused_until:
            return False
        return crew.busy < (1 if crew.failures else self._lanes_at_once)

    def _keep_leases(self) -> None:
        """Renew the leases of sends that take long."""
        now = time.monotonic()
        slow = [delivery_id for delivery_id, since in list(self._sending.items()) if now - since > RENEW_SECONDS]
        if slow:
            self._store.run(renew_leases, RenewLeases(slow, self._holder), ACTOR)
            self._sending.update({key: now for key in slow if key in self._sending})

    # A worker

    def _work(self, crew: _Crew, name: str) -> None:
        """Send one delivery after the other, each from the lane that has waited the longest, until none is ready."""
        try:
            delivery = self._store.run(take_delivery, TakeDelivery(name, self._holder), ACTOR)
            while delivery is not None:
                if crew.busy < self._lanes_at_once:
                    self._wake.set()
                delivery = self._try(crew, delivery)
        except HilumError as error:
            log.warning("a lane could not go on", extra={"destination": name}, exc_info=error)
        except Exception as error:  # the edge of a thread of a pool, which would swallow it
            log.error("a worker failed", extra={"destination": name}, exc_info=error)
            telemetry.count_job_failure("lanes")
        finally:
            with crew.lock:
                crew.busy -= 1

    def _try(self, crew: _Crew, delivery: Delivery) -> Delivery | None:
        """Try one delivery and settle it; return the next."""
        settings = self._configuration.current
        destination = settings.destination_named(delivery.destination)
        if destination is None:
            # Taken away from the configuration at this moment; its lanes wait until it is back.
            return None
        self._sending[delivery.id] = time.monotonic()
        try:
            if not delivery.body:
                made = self._store.run(
                    make_body, MakeBody(delivery, destination, settings, self._encoders), ACTOR
                )  # fmt: skip
                if made is None:
                    return self._store.run(take_delivery, TakeDelivery(destination.name, self._holder), ACTOR)
                delivery = made
            sent = self._send(delivery, destination)
            goes_on = self._note(crew, destination, sent.outcome) and not self._stopping.is_set()
            settled = self._settle(
                SettleTry(delivery, destination, sent, self._chance(), self._holder if goes_on else None)
            )
        finally:
            self._sending.pop(delivery.id, None)
        self._report(delivery, destination, sent, settled)
        return settled.next

    def _send(self, delivery: Delivery, destination: Destination) -> Sent:
        try:
            return self._senders[destination.kind].send(delivery, destination)
        except Exception as error:  # a sender's defect must not stop the lane for good, nor pass for an answer
            log.error("a sender failed", extra={"destination": destination.name, "kind": delivery.kind}, exc_info=error)
            telemetry.count_job_failure("sender")
            return Sent(SendOutcome.AMBIGUOUS, "sender-failed")

    def _note(self, crew: _Crew, destination: Destination, outcome: SendOutcome) -> bool:
        """Keep whether a destination can be reached; tell whether its worker may go on at once."""
        with crew.lock:
            if outcome not in UNREACHABLE:
                crew.failures = 0
                return True
            crew.failures += 1
            pause = min(retry_pause(destination, crew.failures, 0.0), LONGEST_PAUSE)
            crew.paused_until = time.monotonic() + pause
            return False

    def _settle(self, command: SettleTry) -> Settled:
        """Store the outcome, through short outages of the database too: what is not stored is sent again."""
        for attempt in range(1, SETTLE_TRIES + 1):
            try:
                return self._store.run(settle_try, command, ACTOR)
            except HilumError as error:
                if not error.retryable or attempt == SETTLE_TRIES:
                    raise
                self._stopping.wait(0.2 * attempt)
        raise AssertionError("unreachable")

    def _report(self, delivery: Delivery, destination: Destination, sent: Sent, settled: Settled) -> None:
        telemetry.count_delivery(destination.name, sent.outcome.value)
        if settled.state == "delivered":
            telemetry.time_delivery(destination.name, settled.seconds)
        elif settled.state == "dead":
            log.error(
                "a delivery became a dead letter, and its lane waits",
                extra={"destination": destination.name, "delivery_id": delivery.id, "code": sent.reason},
            )
