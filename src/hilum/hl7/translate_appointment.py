"""SCH, AIS, AIG, AIL, AIP, TQ1 of an SIU to the appointment of an order's steps (HL7 v2.5.1 ch. 10.4; IHE RAD-48).

The order is named by SCH-26 and SCH-27, or where a profile puts them. An appointment that names none is of no order
here; it is acknowledged and kept. Resources whose segment action code says that they are taken away (D) don't count.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from hilum.core.order import Physician
from hilum.hl7.er7 import Segment, Segments
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate import bounded, entity_from_ei, physicians_from_xcn, plain
from hilum.hl7.translate_patient import require_segment, required_identifiers
from hilum.hl7.translate_step import SHORT_STRING
from hilum.workflow.appointments import Slot
from hilum.workflow.ordering import OrderReference

LONGEST_LOCATION = 199
DELETED = "D"  # HL7 table 0206
# Where a beginning may stand, the first that is valued counts: of the service, the equipment, the place, the person.
BEGINNINGS = (("AIS", 4), ("AIG", 8), ("AIL", 6), ("AIP", 6))


def order_of_appointment(incoming: Incoming) -> OrderReference | None:
    """Return the order that an appointment is for; None where it names none."""
    sch = require_segment(incoming.message, "SCH")
    placer, filler = entity_from_ei(incoming, sch, 26), entity_from_ei(incoming, sch, 27)
    if not placer[0] and not filler[0]:
        return None
    return OrderReference(
        placer_order_number=placer[0],
        placer_authority=placer[1] or incoming.profile.authority,
        filler_order_number=filler[0],
        source=incoming.source,
        patient_identifiers=required_identifiers(incoming, require_segment(incoming.message, "PID")),
    )


def slots_of_appointment(incoming: Incoming) -> tuple[Slot, ...]:
    """Return a slot for each group of resources with a service, or one for the whole appointment."""
    message = incoming.message
    groups = [group for group in message.groups("RGS", "AIS") if _standing(group.segments("AIS"))]
    at = _beginning_of_all(incoming)
    return tuple(_slot(incoming, group, at) for group in groups) or (_slot(incoming, message, at),)


def _slot(incoming: Incoming, group: Segments, at: datetime | None) -> Slot:
    beginning = at
    for name, field in reversed(BEGINNINGS):
        for segment in _standing(group.segments(name))[:1]:
            beginning = incoming.time(segment, field) or beginning
    station, where, who = (_first(group, incoming, name) for name in ("AIG", "AIL", "AIP"))
    return Slot(
        start_at=beginning,
        station_name=_station(incoming, station),
        location=_location(incoming, where),
        performing_physician=next(iter(physicians_from_xcn(incoming, who, 3)), Physician()),
    )


def _first(group: Segments, incoming: Incoming, name: str) -> Segment | None:
    """A resource of the group, else the only one of the message."""
    here = _standing(group.segments(name))
    everywhere = _standing(incoming.message.segments(name))
    return here[0] if here else everywhere[0] if len(everywhere) == 1 else None


def _standing(segments: Sequence[Segment]) -> list[Segment]:
    return [segment for segment in segments if plain(segment.get(2)).upper() != DELETED]


def _beginning_of_all(incoming: Incoming) -> datetime | None:
    """SCH-11.4, until v2.4, or TQ1-7."""
    sch, tq1 = require_segment(incoming.message, "SCH"), incoming.message.segment("TQ1")
    return incoming.time(sch, 11, 4) or (incoming.time(tq1, 7) if tq1 else None)


def _station(incoming: Incoming, aig: Segment | None) -> str:
    """AIG-3, the equipment; a name too long for a worklist (SH) is none."""
    name = (plain(aig.get(3)) or plain(aig.get(3, 2))) if aig else ""
    return name if len(name) <= SHORT_STRING else ""


def _location(incoming: Incoming, ail: Segment | None) -> str:
    """AIL-3: point of care and room (PL.1, PL.2)."""
    if ail is None:
        return ""
    words = " ".join(word for word in (plain(ail.get(3)), plain(ail.get(3, 2))) if word)
    return bounded(words, LONGEST_LOCATION, "location", incoming.place(ail, 3))
