"""Queries about patients: QBP^Q22 by what is known of a person (IHE PDQ, ITI-21), QBP^Q23 for their other numbers (PIX,
ITI-9), answered by RSP^K22 and RSP^K23 (v2.5.1 ch. 3.3.56 to 3.3.59).

Numbers of merged records belong to their survivor. What is found is read, and audited, as at every other door. Answers
are not continued (DSC): QAK says how many there are, and whoever gets fewer asks for less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hilum.core.actor import Actor, Identifier
from hilum.core.errors import HilumError, InvalidInput, MissingField, NotFound
from hilum.core.patient import Patient, PatientIdentifier
from hilum.hl7.ack import SegmentFields
from hilum.hl7.er7 import Segment, Value
from hilum.hl7.prepared import Prepared, Response
from hilum.hl7.profiles import Incoming
from hilum.hl7.segments_out import pid
from hilum.hl7.timestamps import date_from_hl7
from hilum.security.guard import permit
from hilum.security.policy import Action, scope_for
from hilum.storage.patient_query import PersonSought, is_known_authority, people_like
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.inbound import Applied

MOST = 50
# QPD-3 of a PDQ query: @ and the field of PID that a parameter is compared with.
PARAMETERS = {
    "@PID.3": "identifier", "@PID.3.1": "identifier", "@PID.3.4": "authority", "@PID.3.4.1": "authority",
    "@PID.5": "family", "@PID.5.1": "family", "@PID.5.1.1": "family", "@PID.5.2": "given",
    "@PID.7": "birth_date", "@PID.7.1": "birth_date", "@PID.8": "sex",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """What a query came to: how many fit, and the PID of those that are told."""

    hits: int
    people: tuple[dict[int, Value], ...]


def demographics_query(incoming: Incoming) -> Prepared:
    """QBP^Q22: the persons of whom something is known."""

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        permit(uow, actor, Action.READ_PATIENT, message_id=message_id)
        qpd = _qpd(incoming)
        sought = _sought(qpd)
        domains = _domains(uow, qpd, 8)
        hits, people = people_like(uow.connection, scope_for(actor, Action.READ_PATIENT), sought, _asked_for(incoming))
        for patient in people:
            uow.audit(actor, Action.READ_PATIENT, patient_id=patient.id, message_id=message_id)
        told = [_told(patient, _of(uow.patients.identifiers_of_family(patient.id), domains)) for patient in people]
        return Applied(Found(hits, tuple(told)))

    return Prepared(apply, respond=_response(incoming, ("RSP", "K22", "RSP_K21")))


def identifiers_query(incoming: Incoming) -> Prepared:
    """QBP^Q23: the other numbers of whoever has a number."""

    def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
        permit(uow, actor, Action.READ_PATIENT, message_id=message_id)
        qpd = _qpd(incoming)
        value, authority = qpd.get(3), qpd.get(3, 4) or incoming.profile.authority
        if not value:
            raise MissingField("The query names no patient.", field="QPD-3")
        domains = _domains(uow, qpd, 4)
        patient = uow.patients.find(Identifier(value, authority))
        if patient is None:
            raise NotFound("No patient has this number.", field="QPD-3")
        permit(uow, actor, Action.READ_PATIENT, patient_id=patient.id, message_id=message_id)
        others = [
            each
            for each in _of(uow.patients.identifiers_of_family(patient.id), domains)
            if (each.value, each.authority) != (value, authority)
        ]
        # ITI TF-2 3.9.4.2.2.6: nothing is told of the person but the numbers.
        listed: list[Value] = [_cx(each) for each in others]
        told: tuple[dict[int, Value], ...] = ({3: listed, 5: " "},) if others else ()
        return Applied(Found(len(told), told), patient_id=patient.id)

    return Prepared(apply, respond=_response(incoming, ("RSP", "K23", "RSP_K23")))


QBP: dict[str, Callable[[Incoming], Prepared]] = {"Q22": demographics_query, "Q23": identifiers_query}


def _response(incoming: Incoming, kind: tuple[str, str, str]) -> Response:
    """MSA, then QAK, the query as it was asked, and a PID for each person."""

    def respond(applied: Applied | None, error: HilumError | None) -> tuple[tuple[str, str, str], list[SegmentFields]]:
        qpd = incoming.message.segment("QPD")
        query = {number: qpd.value(number) for number in range(1, min(len(qpd), 30) + 1)} if qpd else {}
        found = applied.result if applied else Found(0, ())
        state = "AE" if error else "OK" if found.people else "NF"
        qak: dict[int, Value] = {1: query.get(2), 2: state, 3: query.get(1)}
        if not error:
            qak |= {4: str(found.hits), 5: str(len(found.people)), 6: str(found.hits - len(found.people))}
        return kind, [("QAK", qak), ("QPD", query), *(("PID", person) for person in found.people)]

    return respond


def _qpd(incoming: Incoming) -> Segment:
    qpd = incoming.message.segment("QPD")
    if qpd is None:
        raise MissingField("The query has no QPD segment.", field="QPD")
    if not qpd.get(2):
        raise MissingField("The query has no tag.", field="QPD-2")
    return qpd


def _sought(qpd: Segment) -> PersonSought:
    """The parameters of QPD-3; one that is not answered here is refused, since without it strangers would be found."""
    found: dict[str, str] = {}
    for number, parameter in enumerate(qpd.repetitions(3), 1):
        name, value = parameter.get(1), parameter.get(2).strip()
        if not value:
            continue
        if name not in PARAMETERS:
            raise InvalidInput("This parameter of a query is not answered.", field=f"QPD-3[{number}].1")
        found[PARAMETERS[name]] = value.rstrip("*") if PARAMETERS[name] in ("family", "given") else value
    if not any(found.get(name) for name in ("identifier", "family", "given", "birth_date")):
        raise MissingField("The query asks for nobody in particular.", field="QPD-3")
    born = date_from_hl7(found.pop("birth_date"), field="QPD-3") if "birth_date" in found else None
    return PersonSought(birth_date=born, **found)


def _domains(uow: UnitOfWork, qpd: Segment, field: int) -> set[str]:
    """The authorities whose numbers are wanted; empty for all. One that nobody knows is an error (ITI-9, ITI-21)."""
    wanted = set()
    for number, domain in enumerate(qpd.repetitions(field), 1):
        if authority := domain.get(4):
            if not is_known_authority(uow.connection, authority):
                raise NotFound("No number of this domain is known here.", field=f"QPD-{field}[{number}]")
            wanted.add(authority)
    return wanted


def _asked_for(incoming: Incoming) -> int:
    """RCP-2.1, within what is told at once."""
    said = incoming.message.get("RCP-2.1")
    count = int(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0
    return min(count or MOST, MOST)


def _of(identifiers: Iterable[PatientIdentifier], domains: set[str]) -> list[PatientIdentifier]:
    return [each for each in identifiers if not domains or each.authority in domains]


def _told(patient: Patient, identifiers: list[PatientIdentifier]) -> dict[int, Value]:
    return {**pid(patient), 3: [_cx(each) for each in identifiers]}


def _cx(identifier: PatientIdentifier) -> Value:
    return identifier.value, "", "", identifier.authority, identifier.type_code
