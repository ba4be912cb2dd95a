"""What a verb gets: one transaction's view of the repositories, the clock, identifiers, events and audit.

A verb may be run again after a conflict, so everything it does goes through here and nothing else happens.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import sqlalchemy as sa

from hilum.core.actor import Actor
from hilum.core.errors import Conflict, Defect, HilumError, InvalidInput
from hilum.core.event import Event, EventName
from hilum.core.identifiers import new_id
from hilum.storage import tables

if TYPE_CHECKING:
    from hilum.storage.access import Access
    from hilum.storage.deliveries import Deliveries
    from hilum.storage.exams import Exams
    from hilum.storage.exceptions import Exceptions
    from hilum.storage.messages import Messages
    from hilum.storage.orders import Orders
    from hilum.storage.patients import Patients
    from hilum.storage.reports import Reports
    from hilum.storage.studies import Studies
    from hilum.storage.users import Users

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Signer = Callable[[Mapping[str, Any]], tuple[str, bytes]]

# Statements of the hot paths are built once: to build one anew costs three times what it costs to run.
_counter = tables.counter
_COUNT_ON = (
    _counter.update()
    .where(_counter.c.name == sa.bindparam("counter"))
    .values(value=_counter.c.value + sa.bindparam("by", type_=sa.BigInteger))
    .returning(_counter.c.value)
)
_BEGIN_COUNT = _counter.insert()
_INSERT_EVENT = tables.event.insert()
_INSERT_AUDIT = tables.audit_event.insert()


@dataclass(slots=True)
class AuditWriter:
    """Numbers the audit rows of one committing thread without gaps: a number counts only once it is committed."""

    name: str
    sign: Signer
    committed: int = 0


class Asked(NamedTuple):
    """What a verb was last permitted or refused: an action, and whose data it is about."""

    action: str
    patient_id: str | None = None
    order_id: str | None = None
    study_id: str | None = None
    message_id: str | None = None


class UnitOfWork:
    """One transaction. `now` is UTC and the same for everything in it."""

    def __init__(
        self, connection: sa.Connection, now: datetime, writer: AuditWriter, *, is_retried: bool = False
    ) -> None:
        self.connection = connection
        self.now = now
        # Whether the whole transaction is run again when it meets another one.
        self.is_retried = is_retried
        # Set by the guard; says in the audit row of a refusal what was refused.
        self.asked: Asked | None = None
        self._writer = writer
        self._events: list[dict[str, Any]] = []
        self._audit: list[dict[str, Any]] = []
        self._depth = 0

    @cached_property
    def patients(self) -> Patients:
        from hilum.storage.patients import Patients

        return Patients(self)

    @cached_property
    def orders(self) -> Orders:
        from hilum.storage.orders import Orders

        return Orders(self)

    @cached_property
    def exams(self) -> Exams:
        from hilum.storage.exams import Exams

        return Exams(self)

    @cached_property
    def studies(self) -> Studies:
        from hilum.storage.studies import Studies

        return Studies(self)

    @cached_property
    def reports(self) -> Reports:
        from hilum.storage.reports import Reports

        return Reports(self)

    @cached_property
    def messages(self) -> Messages:
        from hilum.storage.messages import Messages

        return Messages(self)

    @cached_property
    def deliveries(self) -> Deliveries:
        from hilum.storage.deliveries import Deliveries

        return Deliveries(self)

    @cached_property
    def exceptions(self) -> Exceptions:
        from hilum.storage.exceptions import Exceptions

        return Exceptions(self)

    @cached_property
    def access(self) -> Access:
        from hilum.storage.access import Access

        return Access(self)

    @cached_property
    def users(self) -> Users:
        from hilum.storage.users import Users

        return Users(self)

    @staticmethod
    def new_id() -> str:
        """Return a fresh row identifier."""
        return new_id()

    @property
    def on_postgresql(self) -> bool:
        """Tell whether verbs commit concurrently, so that rows have to be locked."""
        return self.connection.dialect.name == "postgresql"

    def lock_keys(self, *keys: str) -> None:
        """Wait until no other verb works with these keys: for things of which there is no row yet to lock."""
        if self.on_postgresql:
            hashes = {hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys}
            for number in sorted(int.from_bytes(digest, "big", signed=True) for digest in hashes):
                self.connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))

    def next_number(self, name: str, count: int = 1) -> int:
        """Take the next `count` numbers of a counter and return the last; numbers of refused verbs are given again."""
        changed = self.connection.execute(_COUNT_ON, {"counter": name, "by": count}).scalar()
        if changed is None:
            self.connection.execute(_BEGIN_COUNT, {"name": name, "value": count})
            return count
        return int(changed)

    def emit(self, name: EventName, **subject: Any) -> Event:
        """Record that something happened; it commits with the state it speaks of."""
        event = Event(id=new_id(), name=name, at=subject.pop("at", self.now), **subject)
        self._events.append(
            {
                "id": event.id,
                "name": event.name.value,
                "at": event.at,
                "patient_id": event.patient_id,
                "order_id": event.order_id,
                "study_id": event.study_id,
                "report_id": event.report_id,
                "report_version": event.report_version,
                "message_id": event.message_id,
                "standard": event.standard,
                "peer": event.peer,
                "details": dict(event.details),
            }
        )
        return event

    def audit(
        self,
        actor: Actor,
        action: str,
        *,
        outcome: str = "allowed",
        reason: str = "",
        patient_id: str | None = None,
        order_id: str | None = None,
        study_id: str | None = None,
        message_id: str | None = None,
    ) -> None:
        """Write an audit row; it commits with what it speaks of."""
        row: dict[str, Any] = {
            "writer": self._writer.name,
            "sequence": self._writer.committed + len(self._audit) + 1,
            "at": self.now,
            "actor": _storable(actor.name[:200]),
            "role": actor.role.value,
            "door": actor.door.value,
            "address": _storable(actor.address),
            "action": action,
            "outcome": outcome,
            "reason": _storable(reason),
            "purpose": actor.purpose,
            "patient_id": patient_id,
            "order_id": order_id,
            "study_id": study_id,
            "message_id": message_id,
        }
        self._audit.append(row)

    def attempt(self, verb: Callable[[], Result]) -> Result:
        """Run a part of a verb in a savepoint: when it raises, all of it is undone and the error goes on."""
        # Plain statements: SQLAlchemy's nested transactions cost three times as much, on every verb.
        marks, name = self.mark(), f"part_{self._depth}"
        self.connection.exec_driver_sql(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            result = verb()
        except BaseException as error:
            self._depth -= 1
            self.rewind(marks)
            self._roll_back_to(name, error)
            raise
        self._depth -= 1
        self.connection.exec_driver_sql(f"RELEASE SAVEPOINT {name}")
        return result

    def _roll_back_to(self, savepoint: str, error: BaseException) -> None:
        """Undo what came after a savepoint; where the whole transaction is lost, what the database said goes on."""
        try:
            self.connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {savepoint}")
            self.connection.exec_driver_sql(f"RELEASE SAVEPOINT {savepoint}")
        except sa.exc.SQLAlchemyError:
            if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
                raise error from error.__cause__
            raise

    def attempt_decided(self, verb: Callable[[], Result]) -> Result:
        """Run a part of a verb as `attempt` does; what the database refuses for good becomes a `HilumError`."""
        try:
            return self.attempt(verb)
        except sa.exc.IntegrityError as error:
            if self.is_retried:
                raise
            raise Conflict("The change contradicts what is stored.") from error
        except sa.exc.DataError as error:
            raise InvalidInput("A value does not fit its field.") from error

    def attempt_inner(self, verb: Callable[[], Result]) -> Result:
        """Run a verb inside another one: everything that goes wrong in it becomes a `HilumError` after its undoing.

        What concerns the whole transaction (a lost connection, a deadlock) goes on, so that `store.run` can try again.
        """
        try:
            return self.attempt_decided(verb)
        except (HilumError, sa.exc.DatabaseError):
            raise
        except Exception as error:  # the edge where a defect in one message must not stop the sender's next ones
            log.error("a verb failed", exc_info=error)
            raise Defect from error

    def mark(self) -> tuple[int, int]:
        """Return where the unwritten events and audit rows stand, for `rewind`."""
        return len(self._events), len(self._audit)

    def events_since(self, marks: tuple[int, int]) -> list[Event]:
        """Return the events recorded since `mark`, as they would be committed."""
        return [Event(**{**row, "name": EventName(row["name"])}) for row in self._events[marks[0] :]]

    def rewind(self, marks: tuple[int, int]) -> None:
        """Forget the events and audit rows recorded since `mark`."""
        del self._events[marks[0] :]
        del self._audit[marks[1] :]

    def refuse(self, actor: Actor, verb_name: str, error: HilumError) -> None:
        """Record that a verb was refused, and why, after everything it did was undone."""
        asked = self.asked or Asked(verb_name.replace("_", "-"))
        self.audit(actor, outcome="refused", reason=error.code, **asked._asdict())

    def flush(self) -> int:
        """Write the collected events and audit rows; return the number of audit rows."""
        if self._events:
            self.connection.execute(_INSERT_EVENT, self._events)
        for row in self._audit:
            row["key_id"], row["mac"] = self._writer.sign(row)
        if self._audit:
            self.connection.execute(_INSERT_AUDIT, self._audit)
        written = len(self._audit)
        self._events.clear()
        self._audit.clear()
        return written


def _storable(text: str) -> str:
    """Return text as every database hands it back: what it would change in an audit row would break the row's MAC."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()
