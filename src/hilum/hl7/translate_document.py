"""TXA and OBX of an MDM to a document of a report (HL7 v2.5.1 ch. 9.5, 9.6).

The order is named by TXA-14 and TXA-15, else by ORC or OBR; a document that names none is of no order here, and is
acknowledged and kept. Who answers for it is who authenticated it (TXA-22), else who wrote it (TXA-9).
"""

from __future__ import annotations

from hilum.core.errors import Unsupported
from hilum.core.order import Physician
from hilum.core.report import ReportStatus
from hilum.hl7.er7 import Segment
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate import entity_from_ei, physician_from_ndl, physicians_from_xcn, plain
from hilum.hl7.translate_patient import require_segment, required_identifiers
from hilum.hl7.translate_report import TEXT_TYPES, sections_of
from hilum.workflow.documents import DocumentAct, RelayDocument
from hilum.workflow.ordering import OrderReference
from hilum.workflow.reporting import RelayReport

# TXA-17, HL7 table 0271: dictated, documented, in progress, incomplete, pre-authenticated; authenticated, legally so.
COMPLETION = {
    **dict.fromkeys(("DI", "DO", "IP", "IN", "PA"), ReportStatus.PRELIMINARY),
    **dict.fromkeys(("AU", "LA"), ReportStatus.FINAL),
}
# TXA-19, HL7 table 0273: cancelled or no longer available.
WITHDRAWN = frozenset({"CA", "OB"})


def document_of(incoming: Incoming, act: DocumentAct) -> RelayDocument | None:
    """Read a document; None where it names no order."""
    txa = require_segment(incoming.message, "TXA")
    order = _order_of(incoming, txa)
    if order is None:
        return None
    texts = [obx for obx in incoming.message.segments("OBX") if plain(obx.get(2)).upper() in TEXT_TYPES]
    findings, impression = sections_of([obx for obx in texts if obx.field(5)])
    if plain(txa.get(19)).upper() in WITHDRAWN:
        act = DocumentAct.WITHDRAWS
    report = RelayReport(
        order=order,
        status=ReportStatus.RETRACTED if act is DocumentAct.WITHDRAWS else _status(incoming, txa),
        findings=findings,
        impression=impression,
        interpreter=_interpreter(incoming, txa),
        signed_at=incoming.past(
            incoming.time(txa, 22, 15) or incoming.time(txa, 8) or incoming.time(txa, 6) or incoming.time(txa, 4)
        ),
    )
    return RelayDocument(report, act)


def _order_of(incoming: Incoming, txa: Segment) -> OrderReference | None:
    message = incoming.message
    placer, filler = entity_from_ei(incoming, txa, 14), entity_from_ei(incoming, txa, 15)
    for name in ("ORC", "OBR"):
        segment = message.segment(name)
        if not placer[0] and not filler[0] and segment is not None:
            placer, filler = entity_from_ei(incoming, segment, 2), entity_from_ei(incoming, segment, 3)
    obr = message.segment("OBR")
    accession = plain(obr.get(18)) if obr else ""
    if not (placer[0] or filler[0] or accession):
        return None
    return OrderReference(
        placer_order_number=placer[0],
        placer_authority=placer[1] or incoming.profile.authority,
        filler_order_number=filler[0],
        accession_number=accession,
        source=incoming.source,
        patient_identifiers=required_identifiers(incoming, require_segment(message, "PID")),
    )


def _status(incoming: Incoming, txa: Segment) -> ReportStatus:
    said = plain(txa.get(17)).upper()
    if said not in COMPLETION:
        raise Unsupported("This completion status is not one of a report.", field=incoming.place(txa, 17))
    return COMPLETION[said]


def _interpreter(incoming: Incoming, txa: Segment) -> Physician:
    for field in (22, 9):
        for person in physicians_from_xcn(incoming, txa, field):
            if person.identifier:
                return person
    obr = incoming.message.segment("OBR")
    return physician_from_ndl(incoming, obr, 32) if obr is not None else Physician()
