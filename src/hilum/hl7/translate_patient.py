"""PID, MRG, EVN, PV1, PD1 to registrations, merges and their undoing (HL7 v2.5.1 ch. 3.4; IHE RAD TF-2 4.1, 4.12).

PID-18 and PID-19 are no identifiers of a person here: account numbers change, and social security numbers are shared
by error. A birth date of which only the year or month is known says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime

from hilum.core.actor import Identifier
from hilum.core.errors import InvalidInput, MissingField
from hilum.core.patient import PatientIdentifier
from hilum.core.scope import Confidentiality
from hilum.hl7.er7 import Segment, Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.timestamps import date_from_hl7
from hilum.hl7.translate import (
    LONGEST_IDENTIFIER,
    bounded,
    identifiers_from_cx,
    name_from_xpn,
    physicians_from_xcn,
    plain,
)
from hilum.workflow.access import Visit
from hilum.workflow.registration import DemographicsSaid, MergePatients, RegisterPatient
from hilum.workflow.unmerging import UnmergePatients

# PID-8, HL7 table 0001, to Patient's Sex (0010,0040), PS3.3 C.7.1.1. A value that is not in the table says nothing.
SEX = {"F": "F", "M": "M", "O": "O", "A": "O", "U": "", "N": ""}

# PV1-16, HL7 table 0099 (user-defined), as senders fill it. Any other value means that someone is to be kept apart.
VIP_INDICATOR = {
    "N": Confidentiality.NORMAL, "0": Confidentiality.NORMAL, "NO": Confidentiality.NORMAL,
    "E": Confidentiality.EMPLOYEE, "EMP": Confidentiality.EMPLOYEE, "EMPLOYEE": Confidentiality.EMPLOYEE,
    "S": Confidentiality.SENSITIVE, "SENSITIVE": Confidentiality.SENSITIVE,
}  # fmt: skip
# PD1-12, HL7 table 0136: whether access to the patient's data is to be kept from others.
PROTECTION_INDICATOR = {"Y": Confidentiality.SENSITIVE, "N": Confidentiality.NORMAL}
# Attending, referring, consulting, admitting doctor.
TEAM_PLACES = (7, 8, 9, 17)
# Discharge and cancelled admission end a visit (HL7 v2.5.1 ch. 3.3.3, 3.3.11).
ENDS_A_VISIT = frozenset({"A03", "A11"})

_PARTIAL_DATE = re.compile(r"\d{4}(?:\d{2})?|\d{4}0000|\d{6}00")


def registration_from_adt(incoming: Incoming, *, name_required: bool) -> RegisterPatient:
    """Read an ADT message that says who someone is; a new patient has to have a name."""
    pid = require_segment(incoming.message, "PID")
    return RegisterPatient(
        identifiers=required_identifiers(incoming, pid),
        demographics=demographics_from_pid(incoming, pid, name_required=name_required),
        at=event_time(incoming),
        source=incoming.source,
        label=confidentiality_from_adt(incoming),
        visit=visit_from_adt(incoming),
    )


def merge_from_adt(incoming: Incoming, group: Segments) -> MergePatients:
    """Read a PID with its MRG: MRG-1 names who is subsumed (A40; A18, A34 and A36 of older senders)."""
    pid = require_segment(group, "PID")
    mrg = group.segment("MRG")
    if mrg is None:
        raise MissingField("The message has no MRG segment for this patient.", field=_missing_mrg(incoming, pid))
    subsumed = identifiers_from_cx(incoming, mrg, 1)
    if not subsumed:
        raise MissingField("No patient identifier is given.", field=incoming.place(mrg, 1))
    surviving, subsumed = _apart(required_identifiers(incoming, pid), subsumed)
    return MergePatients(
        identifiers=surviving,
        subsumed=subsumed,
        demographics=demographics_from_pid(incoming, pid),
        at=event_time(incoming),
        source=incoming.source,
    )


def unmerge_from_adt(incoming: Incoming, groups: Sequence[Segments]) -> UnmergePatients:
    """Read the two PID segments of an A37: whom the sender separates again (HL7 v2.5.1 ch. 3.3.37)."""
    if len(groups) != 2:
        raise InvalidInput("The message names other than two patients.", field="PID")
    one, other = (require_segment(group, "PID") for group in groups)
    mine, theirs = _apart(required_identifiers(incoming, one), required_identifiers(incoming, other))
    return UnmergePatients(mine, theirs, "ADT^A37", incoming.source)


def _missing_mrg(incoming: Incoming, pid: Segment) -> str:
    return incoming.place(pid).replace("PID", "MRG")


def _apart(
    surviving: tuple[PatientIdentifier, ...], subsumed: tuple[PatientIdentifier, ...]
) -> tuple[tuple[PatientIdentifier, ...], tuple[PatientIdentifier, ...]]:
    """Leave out what both sides name, since senders list all numbers of a person; never all of a side."""
    shared = {identifier.key for identifier in surviving} & {identifier.key for identifier in subsumed}
    own = tuple(identifier for identifier in surviving if identifier.key not in shared)
    gone = tuple(identifier for identifier in subsumed if identifier.key not in shared)
    if not own and not gone:
        return surviving, subsumed
    return own or surviving, gone or subsumed


def required_identifiers(incoming: Incoming, pid: Segment) -> tuple[PatientIdentifier, ...]:
    """The identifiers of PID-3; raises MissingField without one."""
    identifiers = identifiers_from_cx(incoming, pid, 3)
    if not identifiers:
        raise MissingField("No patient identifier is given.", field=incoming.place(pid, 3))
    return identifiers


def demographics_from_pid(incoming: Incoming, pid: Segment, *, name_required: bool = False) -> DemographicsSaid:
    """What PID-5, PID-7 and PID-8 say; the HL7 null deletes, except a name, without which nobody can be."""
    name = name_from_xpn(incoming, pid, 5)
    if name is None and name_required:
        raise MissingField("The patient has no name.", field=incoming.place(pid, 5))
    return DemographicsSaid(
        name=name,
        birth_date=_birth_date(incoming, pid),
        birth_date_deleted=pid.is_null(7),
        sex="" if pid.is_null(8) else SEX.get(plain(pid.get(8)).upper()) if pid.field(8) else None,
    )


def _birth_date(incoming: Incoming, pid: Segment) -> date | None:
    text = plain(pid.get(7))
    if not text or _PARTIAL_DATE.fullmatch(text):
        return None
    return date_from_hl7(text, field=incoming.place(pid, 7))


def confidentiality_from_adt(incoming: Incoming) -> Confidentiality | None:
    """The label that PV1-16 and PD1-12 give, the stricter of both; None where neither says anything."""
    said = []
    pv1, pd1 = incoming.message.segment("PV1"), incoming.message.segment("PD1")
    if pv1 is not None and pv1.field(16):
        indicator = plain(pv1.get(16)).upper()
        said.append(VIP_INDICATOR.get(indicator, Confidentiality.VIP) if indicator else Confidentiality.NORMAL)
    if pd1 is not None and pd1.field(12):
        said.append(PROTECTION_INDICATOR.get(plain(pd1.get(12)).upper(), Confidentiality.NORMAL))
    return max(said, key=lambda label: label.strictness, default=None)


def visit_from_adt(incoming: Incoming) -> Visit | None:
    """Who attends the patient in this visit (PV1-7, 8, 9, 17), and whether it ends with this message."""
    pv1 = incoming.message.segment("PV1")
    if pv1 is None:
        return None
    team = tuple(
        Identifier(physician.identifier, physician.authority)
        for place in TEAM_PLACES
        for physician in physicians_from_xcn(incoming, pv1, place)
        if physician.identifier
    )
    number = bounded(plain(pv1.get(19)), LONGEST_IDENTIFIER, "visit number", incoming.place(pv1, 19))
    # PV1-2, HL7 table 0004: inpatients stay until they are discharged.
    stay = plain(pv1.get(2)).upper() == "I"
    return Visit(number, team, stay=stay, ended=incoming.message.trigger in ENDS_A_VISIT)


def event_time(incoming: Incoming) -> datetime | None:
    """When it happened: EVN-6, else EVN-2, else when the message was made (MSH-7), in UTC."""
    header = incoming.message.header
    evn = incoming.message.segment("EVN")
    said = (incoming.time(evn, 6) or incoming.time(evn, 2)) if evn else None
    return incoming.past(said or incoming.time(header, 7))


def require_segment(group: Segments, name: str) -> Segment:
    """The first segment of that name; raises MissingField that names it."""
    segment = group.segment(name)
    if segment is None:
        raise MissingField(f"The message has no {name} segment.", field=name)
    return segment
