"""Data types of HL7 v2 to nouns of the core: CX, EI, XPN, XCN, NDL, CE/CWE (v2.5.1 ch. 2A).

The HL7 null in a field that can't be deleted here is read as nothing said. What is longer than its field in DICOM, or
than any system sends, is refused with the place, never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hilum.core.errors import InvalidInput
from hilum.core.order import Code, Physician
from hilum.core.patient import PatientIdentifier, PersonName
from hilum.hl7.er7 import Repetition, Segment
from hilum.hl7.escapes import Null
from hilum.hl7.profiles import Incoming

# Identifier types (HL7 table 0203) of a visit or a bill; they come in PID-3 too, but do not tell who someone is.
NOT_OF_A_PERSON = frozenset({"AN", "VN"})
# Types for which the sender's default authority is meant when CX.4 is empty. A number of another kind (SS, DL …) would
# under that authority be taken for a medical record number, so without its own authority it is no key.
OF_THE_SENDER = frozenset({"", "MR", "PI", "PT", "PID", "MRN"})

LONGEST_IDENTIFIER = 64  # LO, Patient ID (0010,0020), PS3.5 6.2
LONGEST_AUTHORITY = 227  # HD, v2.5.1 ch. 2A.36
LONGEST_NAME_PART = 194  # FN, v2.5.1 ch. 2A.30
LONGEST_TYPE = 10


def plain(text: str) -> str:
    """A value without blanks around it; the HL7 null is nothing here, and a NUL that an escape brought is dropped."""
    return "" if isinstance(text, Null) else text.replace("\x00", "").strip()


def bounded(text: str, limit: int, what: str, field: str) -> str:
    """A value that fits; raises InvalidInput that names the place."""
    if len(text) > limit:
        raise InvalidInput(f"The {what} is longer than {limit} characters.", field=field)
    return text


def identifiers_from_cx(incoming: Incoming, segment: Segment, field: int) -> tuple[PatientIdentifier, ...]:
    """The identifiers of a person in a CX field, each once; the authority is CX.4.1, else CX.4.2, else the sender's."""
    found: dict[tuple[str, str], PatientIdentifier] = {}
    for repetition in segment.repetitions(field):
        value, type_code = plain(repetition.get()), plain(repetition.get(5)).upper()
        authority = plain(repetition.get(4, 1)) or plain(repetition.get(4, 2))
        if not value or type_code in NOT_OF_A_PERSON or (not authority and type_code not in OF_THE_SENDER):
            continue
        place = incoming.place(segment, field)
        identifier = PatientIdentifier(
            bounded(value, LONGEST_IDENTIFIER, "patient identifier", place),
            bounded(authority or incoming.profile.authority, LONGEST_AUTHORITY, "assigning authority", place),
            bounded(type_code or "MR", LONGEST_TYPE, "identifier type", place),
        )
        found.setdefault((identifier.value, identifier.authority), identifier)
    return tuple(found.values())


def entity_from_ei(incoming: Incoming, segment: Segment | None, field: int) -> tuple[str, str]:
    """Number and authority of an order (EI.1; EI.2, else EI.3); the authority is empty where the sender names none."""
    if segment is None:
        return "", ""
    number = plain(segment.get(field))
    authority = plain(segment.get(field, 2)) or plain(segment.get(field, 3))
    place = incoming.place(segment, field)
    return bounded(number, 199, "order number", place), bounded(authority, LONGEST_AUTHORITY, "authority", place)


def name_from_xpn(incoming: Incoming, segment: Segment, field: int) -> PersonName | None:
    """The legal name (XPN.7 L) of a person, else the first; None where none is given."""
    names = [repetition for repetition in segment.repetitions(field) if _is_given(repetition)]
    if not names:
        return None
    chosen = next((name for name in names if plain(name.get(7)).upper() == "L"), names[0])
    place = incoming.place(segment, field)
    parts = [bounded(plain(chosen.get(number)), LONGEST_NAME_PART, "name", place) for number in (1, 2, 3, 5, 4)]
    return PersonName(*parts)


def _is_given(name: Repetition) -> bool:
    return bool(plain(name.get(1)) or plain(name.get(2)))


def physicians_from_xcn(incoming: Incoming, segment: Segment | None, field: int) -> tuple[Physician, ...]:
    """The persons of an XCN field who have an identifier or a name; the authority is XCN.9.1, else XCN.9.2."""
    if segment is None or not segment.field(field):
        return ()
    place = incoming.place(segment, field)
    return tuple(
        physician
        for repetition in segment.repetitions(field)
        if (physician := _physician(repetition.get, 9, place)).identifier or physician.family
    )


def physician_from_ndl(incoming: Incoming, segment: Segment, field: int) -> Physician:
    """The person of an NDL field (OBR-32): NDL.1 is a CNN whose parts are subcomponents.

    Some senders write the person as XCN instead; it is told by a name in NDL.2, where NDL has a time.
    """
    place = incoming.place(segment, field)
    if plain(segment.get(field, 1, 2)) or not plain(segment.get(field, 2))[:1].isalpha():
        return _physician(lambda component, part=1: segment.get(field, 1, component) if part == 1 else "", 9, place)
    return _physician(lambda component, part=1: segment.get(field, component, part), 9, place)


def _physician(part: Callable[..., str], authority: int, place: str) -> Physician:
    return Physician(
        bounded(plain(part(1)), 199, "physician's identifier", place),
        bounded(plain(part(2)), LONGEST_NAME_PART, "physician's name", place),
        bounded(plain(part(3)), LONGEST_NAME_PART, "physician's name", place),
        bounded(plain(part(authority)) or plain(part(authority, 2)), LONGEST_AUTHORITY, "authority", place),
    )


def code_from_ce(repetition: Repetition | None, first: int = 1) -> Code:
    """A coded value: identifier, text, system; of the alternate triple with `first` = 4."""
    if repetition is None:
        return Code("")
    value, meaning, scheme = (plain(repetition.get(first + offset)) for offset in range(3))
    return Code(value, scheme, meaning)


def code_of(segment: Segment | None, field: int, first: int = 1) -> Code:
    """The first repetition of a coded field; empty where there is none."""
    return code_from_ce(next(iter(segment.repetitions(field)), None) if segment else None, first)


def is_coded(code: Code) -> bool:
    """Whether a coded value says anything."""
    return bool(code.value or code.meaning)


def words_of_ce(segment: Segment | None, field: int) -> str:
    """All repetitions of a coded field as text: their meaning, else their code."""
    if segment is None:
        return ""
    codes = (code_from_ce(repetition) for repetition in segment.repetitions(field))
    return "; ".join(code.meaning or code.value for code in codes if is_coded(code))


def lines(texts: Iterable[str]) -> str:
    """Texts one below the other, empty ones left out."""
    return "\n".join(text for text in texts if text)
