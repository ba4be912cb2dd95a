"""Audit of reads: once per subject, study, action and five minutes, and always before the first byte leaves."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hilum.core.actor import Actor
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork

WINDOW_SECONDS = 300.0
REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Read:
    """Someone reads something of a patient, an order or a study; a list that names nobody has none of them."""

    action: Action
    patient_id: str | None = None
    order_id: str | None = None
    study_id: str | None = None


def record_read(uow: UnitOfWork, command: Read, actor: Actor) -> None:
    """Permit and audit a read."""
    permit(
        uow, actor, command.action,
        patient_id=command.patient_id, order_id=command.order_id, study_id=command.study_id,
    )  # fmt: skip


def record_reads(uow: UnitOfWork, command: tuple[Read, ...], actor: Actor) -> None:
    """Permit and audit the reads of one page, in one commit."""
    for read in command:
        record_read(uow, read, actor)


class ReadLog:
    """Remembers which reads of this process are audited already."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._seen: OrderedDict[tuple[Any, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def record(self, actor: Actor, read: Read, verb: Callable[[UnitOfWork, Any, Actor], Any] = record_read,
               command: Any = None) -> None:  # fmt: skip
        """Permit and audit a read unless the same one was recorded within the window; return when it is durable.

        `verb` with `command` may stand in for `record_read` where a read also means something to the chain. Raises
        what the policy refuses with; a refusal is never remembered.
        """
        now = self._monotonic()
        if not self._fresh(actor, (read,), now, verb):
            return
        self._store.run(verb, read if command is None else command, actor)
        self._remember(actor, (read,), now, verb)

    def record_all(self, actor: Actor, reads: Iterable[Read]) -> None:
        """Permit and audit the reads of one page as `record` does, in one commit and each once."""
        now = self._monotonic()
        fresh = self._fresh(actor, tuple(dict.fromkeys(reads)), now)
        if fresh:
            self._store.run(record_reads, fresh, actor)
            self._remember(actor, fresh, now)

    def _fresh(self, actor: Actor, reads: tuple[Read, ...], now: float, verb: Any = record_read) -> tuple[Read, ...]:
        since = now - WINDOW_SECONDS
        with self._lock:
            return tuple(read for read in reads if self._seen.get(_key(actor, read, verb), -WINDOW_SECONDS) <= since)

    def _remember(self, actor: Actor, reads: tuple[Read, ...], now: float, verb: Any = record_read) -> None:
        """Note the reads. A verb of its own has recorded the read too, while it runs though the read is recorded."""
        with self._lock:
            for key in [_key(actor, read, each) for read in reads for each in dict.fromkeys((verb, record_read))]:
                self._seen[key] = now
                self._seen.move_to_end(key)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)


def _key(actor: Actor, read: Read, verb: Any) -> tuple[Any, ...]:
    return (actor.name, actor.role, actor.kind, actor.door, actor.address, read, verb)
