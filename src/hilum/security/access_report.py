"""Who opened my record: what was done with the data of one person, under all identities merged into them.

Reading the report is itself recorded, so a later one shows it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.security.audit import Read, record_read
from hilum.security.audit_codes import meaning_of
from hilum.security.policy import Action
from hilum.storage.audit_records import AuditRecord, Family, every_row_about, family_of, find_person
from hilum.storage.store import Store

COLUMNS = ("time", "who", "role", "what", "outcome", "reason", "purpose", "door", "address", "identity", "row")
# A spreadsheet would take a text that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class AccessLine:
    """One line of the report; `identity` is the number under which the data stood when it was done."""

    at: datetime
    who: str
    role: str
    what: str
    was_refused: bool
    reason: str
    purpose: str
    door: str
    address: str
    identity: str
    row: str


def access_line(record: AuditRecord, family: Family) -> AccessLine:
    """Put a row of the trail into words."""
    identity = next(iter(family.identifiers.get(record.patient_id or "", ())), "")
    return AccessLine(
        record.at, record.actor, record.role, meaning_of(record.action).words, record.outcome != "allowed",
        record.reason, record.purpose, record.door, record.address, identity, record.id,
    )  # fmt: skip


def person_named(store: Store, identifier: str, authority: str) -> str:
    """Return the patient who holds an identifier; NotFound where nobody or more than one does."""
    with store.read() as connection:
        found = find_person(connection, identifier, authority)
    if found is None:
        raise NotFound("No patient has this number, or several have it.", field="identifier")
    return found


def report_as_csv(store: Store, patient_id: str, actor: Actor) -> Iterator[str]:
    """Give the whole report line by line, having recorded that it is read. Raises NotFound before the first line."""
    with store.read() as connection:
        family = family_of(connection, patient_id)
    if family is None:
        raise NotFound("There is no such patient.")
    store.run(record_read, Read(Action.READ_AUDIT, patient_id=family.survivor_id), actor)
    return _lines(store, family)


def _lines(store: Store, family: Family) -> Iterator[str]:
    yield _csv(COLUMNS)
    with store.read() as connection:
        for record in every_row_about(connection, family.members):
            line = access_line(record, family)
            moment = line.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            outcome = "refused" if line.was_refused else "done"
            yield _csv(
                (moment, line.who, line.role, line.what, outcome, line.reason, line.purpose, line.door, line.address,
                 line.identity, line.row)
            )  # fmt: skip


def _csv(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(f"'{value}" if value.startswith(_FORMULA) else value for value in values)
    return text.getvalue()
