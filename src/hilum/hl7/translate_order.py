"""ORC, OBR, TQ1, IPC, ZDS to order commands: ORM^O01, OMG^O19 (RAD-2) and OMI^O23, ORM with ZDS (RAD-4, RAD-13).

Who fills an order (`filler` of the peer):
- `external`: its accession (IPC-1, OBR-18), Study Instance UID (IPC-3, ZDS-1), requested procedure ID and step IDs are
  adopted; an accession is required, a missing UID is given here.
- `hilum`: what stands in these fields is the placer's own and is not read; Hilum numbers the order.
- `auto`: an order with both accession and UID is external. One with either alone is filled by Hilum, under that
  accession or UID: whoever sends one means it to be found by it.

ORC/OBR groups of one message that share placer number and accession are the steps of one order (RAD-4: an ORC/OBR pair
for each step); all others are orders of their own. Sources: HL7 v2.5.1 ch. 4.4, 4.5; IHE RAD TF-2 4.2, 4.4, 4.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Identifier
from hilum.core.errors import InvalidInput, MissingField
from hilum.core.order import Code, Filler, Physician, Priority
from hilum.hl7.er7 import Segment, Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate import (
    bounded,
    code_of,
    entity_from_ei,
    is_coded,
    lines,
    physicians_from_xcn,
    plain,
    words_of_ce,
)
from hilum.hl7.translate_patient import demographics_from_pid, require_segment, required_identifiers
from hilum.hl7.translate_step import ExternalNumbers, numbers_from_ipc, numbers_from_obr, steps_of
from hilum.workflow.ordering import OrderReference, OrderRequest

# Priority, HL7 table 0485 (and the words some senders write), folded as IHE RAD TF-2 app. B does for Requested
# Procedure Priority: ASAP ("fill after S orders"), preoperative, callback and timing critical are after stat and before
# routine. An unknown value is routine, as an absent one is.
PRIORITY = {
    "S": Priority.STAT, "STAT": Priority.STAT,
    "A": Priority.URGENT, "ASAP": Priority.URGENT, "P": Priority.URGENT, "C": Priority.URGENT, "T": Priority.URGENT,
    "U": Priority.URGENT, "URGENT": Priority.URGENT,
    "R": Priority.ROUTINE, "ROUTINE": Priority.ROUTINE, "PRN": Priority.ROUTINE,
}  # fmt: skip

# Where a value may stand, the first that is valued counts: segment, field, component.
PRIORITY_PLACES = (("ORC", 7, 6), ("OBR", 27, 6), ("TQ1", 9, 1), ("OBR", 5, 1))
TIME_PLACES = (("OBR", 36, 1), ("TQ1", 7, 1), ("ORC", 7, 4), ("OBR", 27, 4))
ORDERING_PLACES = (("ORC", 12), ("OBR", 16), ("PV1", 8))
# Who is told besides: result copies to, attending, referring, consulting doctor.
COPIES_PLACES = (("OBR", 28), ("PV1", 7), ("PV1", 8), ("PV1", 9))


LONGEST_TEXT = 65_536


@dataclass(frozen=True, slots=True)
class OrderGroup:
    """The segments of one order in a message; several where each group is a step of the same order."""

    segments: tuple[Segments, ...]

    @property
    def first(self) -> Segments:
        """The group that speaks for the order."""
        return self.segments[0]

    @property
    def orc(self) -> Segment:
        """Its ORC segment."""
        orc = self.first.segment("ORC")
        assert orc is not None  # `order_groups` lets no other in
        return orc

    @property
    def control(self) -> str:
        """ORC-1, HL7 table 0119."""
        return plain(self.orc.get(1)).upper()

    def all(self, name: str) -> list[Segment]:
        """The segments of that name of all its groups."""
        return [segment for group in self.segments for segment in group.segments(name)]


def order_groups(incoming: Incoming) -> list[OrderGroup]:
    """Cut an order message into orders; raises MissingField where an ORC is missing."""
    groups = incoming.message.groups("ORC", "OBR")
    if not groups:
        raise MissingField("The message has no ORC segment.", field="ORC")
    merged: dict[object, list[Segments]] = {}
    for position, group in enumerate(groups):
        orc = group.segment("ORC")
        if orc is None:
            place = incoming.place(require_segment(group, "OBR")).replace("OBR", "ORC")
            raise MissingField("An OBR has no ORC before it.", field=place)
        obr = group.segment("OBR")
        number = entity_from_ei(incoming, orc, 2)
        accession = plain(obr.get(18)) if obr and incoming.profile.filler != "hilum" else ""
        key: object = (plain(orc.get(1)), number, accession) if number[0] and accession else position
        merged.setdefault(key, []).append(group)
    return [OrderGroup(tuple(segments)) for segments in merged.values()]


def reference_from_group(incoming: Incoming, group: OrderGroup) -> OrderReference:
    """How CA and DC name an order: by the placer's, the filler's and, from its filler, the accession number."""
    pid = require_segment(incoming.message, "PID")
    placer, filler = _numbers(incoming, group.first)
    return OrderReference(
        placer_order_number=placer[0],
        placer_authority=placer[1] or incoming.profile.authority,
        filler_order_number=filler[0],
        accession_number=_external(incoming, group).accession_number if incoming.profile.filler != "hilum" else "",
        source=incoming.source,
        patient_identifiers=required_identifiers(incoming, pid),
    )


def request_from_group(incoming: Incoming, group: OrderGroup) -> OrderRequest:
    """Read an order (NW) or its change (XO)."""
    pid = require_segment(incoming.message, "PID")
    obr = group.first.segment("OBR")
    if obr is None:
        raise MissingField("The order has no OBR segment.", field=incoming.place(group.orc).replace("ORC", "OBR"))
    placer, filler = _numbers(incoming, group.first)
    who, external = _filler_of(incoming, group)
    ordering = _ordering_physician(incoming, group.first)
    scheduled_at = _scheduled_at(incoming, group.first)
    return OrderRequest(
        placer_order_number=placer[0],
        placer_authority=placer[1] or incoming.profile.authority,
        procedure=_procedure(incoming, obr, external=who is Filler.EXTERNAL),
        source=incoming.source,
        patient_identifiers=required_identifiers(incoming, pid),
        demographics=demographics_from_pid(incoming, pid),
        filler=who,
        filler_order_number="" if incoming.profile.filler == "hilum" and group.control == "NW" else filler[0],
        filler_authority="" if incoming.profile.filler == "hilum" else filler[1],
        accession_number=external.accession_number,
        study_instance_uid=external.study_instance_uid,
        requested_procedure_id=external.requested_procedure_id,
        section=plain(obr.get(24)),
        priority=_priority(group.first),
        reason=bounded(words_of_ce(obr, 31), LONGEST_TEXT, "reason", incoming.place(obr, 31)),
        clinical_information=_clinical_information(incoming, obr, group.first),
        ordering_physician=ordering,
        copies_to=_copies(incoming, group.first, ordering),
        scheduled_at=scheduled_at,
        steps=steps_of(incoming, group.segments, external=who is Filler.EXTERNAL, at=scheduled_at),
        visit_number=_visit(incoming, 19, 199, "visit number"),
        patient_class=_visit(incoming, 2, 4, "patient class"),
    )


def _numbers(incoming: Incoming, group: Segments) -> tuple[tuple[str, str], tuple[str, str]]:
    """Placer and filler number, from ORC-2/3, else OBR-2/3; they must not name two orders."""
    orc, obr = group.segment("ORC"), group.segment("OBR")
    found = []
    for field in (2, 3):
        common, detail = entity_from_ei(incoming, orc, field), entity_from_ei(incoming, obr, field)
        if obr and common[0] and detail[0] and common[0] != detail[0]:
            raise InvalidInput(f"ORC-{field} and OBR-{field} differ.", field=incoming.place(obr, field))
        found.append(common if common[0] else detail)
    return found[0], found[1]


def _external(incoming: Incoming, group: OrderGroup) -> ExternalNumbers:
    ipcs = group.all("IPC")
    return numbers_from_ipc(incoming, ipcs) if ipcs else numbers_from_obr(incoming, group.segments)


def _filler_of(incoming: Incoming, group: OrderGroup) -> tuple[Filler, ExternalNumbers]:
    """Who numbers the order, and the numbers that are adopted; see the module."""
    if incoming.profile.filler == "hilum":
        return Filler.HILUM, ExternalNumbers()
    numbers = _external(incoming, group)
    if incoming.profile.filler == "external":
        if not numbers.accession_number and group.control == "NW":
            raise MissingField("The filler gives no accession number.", field=numbers.accession_place)
        return Filler.EXTERNAL, numbers
    if numbers.accession_number and numbers.study_instance_uid:
        return Filler.EXTERNAL, numbers
    return Filler.HILUM, ExternalNumbers(numbers.accession_number, numbers.study_instance_uid)


def _procedure(incoming: Incoming, obr: Segment, *, external: bool) -> Code:
    """OBR-4; a filler says in OBR-44 what the requested procedure is (RAD-4), while its OBR-4 names the service."""
    service = code_of(obr, 4)
    if not is_coded(service):
        service = code_of(obr, 4, 4)
    requested = code_of(obr, 44)
    chosen = requested if is_coded(requested) and (external or not is_coded(service)) else service
    bounded(chosen.scheme, 199, "coding system", incoming.place(obr, 4))
    return chosen


def _valued(group: Segments, places: Sequence[tuple[str, int, int]]) -> tuple[Segment, int, int] | None:
    for name, field, component in places:
        segment = group.segment(name)
        if segment is not None and plain(segment.get(field, component)):
            return segment, field, component
    return None


def _priority(group: Segments) -> Priority | None:
    """The urgency, or None where nothing is said of it."""
    found = _valued(group, PRIORITY_PLACES)
    if found is None:
        return None
    segment, field, component = found
    said = plain(segment.get(field, component)).upper()
    # Timing critical within minutes or hours: TM10, TH2 (table 0485).
    return Priority.URGENT if said[:1] == "T" else PRIORITY.get(said, Priority.ROUTINE)


def _scheduled_at(incoming: Incoming, group: Segments) -> datetime | None:
    found = _valued(group, TIME_PLACES)
    return incoming.time(*found) if found else None


def _ordering_physician(incoming: Incoming, group: Segments) -> Physician:
    for name, field in ORDERING_PLACES:
        segment = group.segment(name) or incoming.message.segment(name)
        if named := physicians_from_xcn(incoming, segment, field):
            return named[0]
    return Physician()


def _copies(incoming: Incoming, group: Segments, ordering: Physician) -> tuple[Physician, ...]:
    copies: dict[Identifier, Physician] = {}
    for name, field in COPIES_PLACES:
        segment = group.segment(name) or incoming.message.segment(name)
        for physician in physicians_from_xcn(incoming, segment, field):
            if physician.identifier and physician.key != ordering.key:
                copies.setdefault(physician.key, physician)
    return tuple(copies.values())


def _clinical_information(incoming: Incoming, obr: Segment, group: Segments) -> str:
    """OBR-13 and the notes to the order, those before its first OBX."""
    said = [plain(obr.text(13))]
    for segment in group:
        if segment.name == "OBX":
            break
        if segment.name == "NTE":
            said += [plain(repetition.text) for repetition in segment.repetitions(3)]
    return bounded(lines(said), LONGEST_TEXT, "clinical information", incoming.place(obr, 13))


def _visit(incoming: Incoming, field: int, limit: int, what: str) -> str:
    pv1 = incoming.message.segment("PV1")
    return bounded(plain(pv1.get(field)), limit, what, incoming.place(pv1, field)) if pv1 else ""
