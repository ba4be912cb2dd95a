"""What leaves over HL7: a signed report as ORU^R01, an order's status as ORM^O01, a received message as it came.

Each is made from what was committed, once, so that every try sends the same bytes under the same control ID. A result
tells who read it, where its images open, and whether it was corrected; a retraction is a correction (OBR-25 C) whose
text says so, never X, which cancels the order at many receivers. Source: HL7 v2.5.1 ch. 4.4.1, 7.3.1; IHE RAD TF-2 4.3
(RAD-3), 4.28 (RAD-28).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from hilum.core.event import EventName
from hilum.core.order import Filler, Order, OrderStatus
from hilum.core.patient import Patient
from hilum.core.report import OBR25_STATUS, ReportStatus, ReportVersion
from hilum.core.study import MatchState, Study
from hilum.delivery.ports import Encoded, EventContext
from hilum.hl7.er7 import Value
from hilum.hl7.segments_out import Outgoing, ndl, obr, orc, pid, pv1, study_time, xcn, zds
from hilum.settings import Destination, Settings
from hilum.workflow.inbound import APPLIED

# OBX-3 of the sections (LOINC), of the study's UID (DCM 113014) and of the link that opens it.
FINDINGS = ("59776-5", "Procedure findings", "LN")
IMPRESSION = ("19005-8", "Impression", "LN")
STUDY = ("113014", "DICOM Study", "DCM")
RETRACTED = "THIS REPORT HAS BEEN RETRACTED. Do not use what was reported before."


def encode_hl7(context: EventContext, destination: Destination, settings: Settings) -> Encoded | None:
    """Write the message for an event; None where HL7 has nothing to say of it."""
    encoder = ENCODERS.get(context.event.name)
    return encoder(context, destination, settings) if encoder else None


def oru_from_report(context: EventContext, destination: Destination, settings: Settings) -> Encoded | None:
    """ORU^R01 of a signed version: order, reader, text by sections, study and the link that opens its images."""
    patient, order, version = context.patient, context.order, context.version
    if patient is None or order is None or version is None or version.status not in OBR25_STATUS:
        return None
    control_id = _control_id(context)
    message = Outgoing(destination, settings)
    studies = _verified(context.studies)
    signed = message.time(version.signed_at or context.event.at)
    _begin(message, ("ORU", "R01", "ORU_R01"), control_id, context, patient, order)
    message.add("ORC", orc(order, "RE", order.status, signed))
    began = study_time(studies[0]) if studies else signed
    result: dict[int, Value] = {
        7: began,
        22: signed,
        25: OBR25_STATUS[version.status],
        32: ndl(version.interpreter),
    }
    message.add("OBR", obr(order) | result)
    _observations(message, version, signed, _links(studies, order, settings))
    return Encoded("ORU^R01", control_id, bytes(message), supersedes_key=f"report:{version.report_id}")


def orm_from_status(context: EventContext, destination: Destination, settings: Settings) -> Encoded | None:
    """ORM^O01 of a changed status to the placer (RAD-3); an external filler tells its own."""
    patient, order = context.patient, context.order
    if patient is None or order is None or order.filler is Filler.EXTERNAL:
        return None
    status = OrderStatus(context.event.details.get("status") or order.status)
    control_id = _control_id(context)
    message = Outgoing(destination, settings)
    at = message.time(context.event.at)
    _begin(message, ("ORM", "O01", "ORM_O01"), control_id, context, patient, order)
    message.add("ORC", orc(order, _control(context, order, status), status, at))
    message.add("OBR", obr(order) | {22: at})
    message.add("ZDS", zds(order))
    return Encoded("ORM^O01", control_id, bytes(message))


def raw_from_message(context: EventContext, destination: Destination, settings: Settings) -> Encoded | None:
    """A received message byte for byte, under its own control ID.

    What was refused is not handed on: its sender was told so, and sends it again once it is mended.
    """
    message = context.message
    if message is None or not message.control_id or context.event.details.get("outcome") != APPLIED:
        return None
    return Encoded(message.kind, message.control_id, message.raw)


ENCODERS: dict[EventName, Callable[[EventContext, Destination, Settings], Encoded | None]] = {
    EventName.REPORT_SIGNED: oru_from_report,
    EventName.ORDER_STATUS_CHANGED: orm_from_status,
    EventName.MESSAGE_RECEIVED: raw_from_message,
}


def _control_id(context: EventContext) -> str:
    """MSH-10: the event's id without the slow part of its time, 20 characters (v2.5.1 ch. 2.15.9.10)."""
    return context.event.id[6:]


def _begin(
    message: Outgoing,
    kind: tuple[str, str, str],
    control_id: str,
    context: EventContext,
    patient: Patient,
    order: Order,
) -> None:
    message.header(kind, control_id, context.event.at)
    message.add("PID", pid(patient))
    message.add("PV1", pv1(order))


def _control(context: EventContext, order: Order, status: OrderStatus) -> str:
    """ORC-1, table 0119: SC status changed; OC where someone other than the placer cancelled the order."""
    by_placer = context.event.peer == order.sender
    return "OC" if status is OrderStatus.CANCELLED and not by_placer else "SC"


def _verified(studies: tuple[Study, ...]) -> list[Study]:
    """The studies whose patient is proven, in the order they began."""
    proven = [study for study in studies if study.match_state is MatchState.VERIFIED]
    return sorted(proven, key=lambda study: (study.study_date, study.study_time, study.id))


def _links(studies: list[Study], order: Order, settings: Settings) -> list[tuple[str, str]]:
    """Study Instance UIDs with their absolute links; before images are here, the order's own."""
    uids = [study.study_instance_uid for study in studies] or [order.study_instance_uid]
    return [(uid, f"{settings.http.base_url}/viewer/launch?{_launch(uid)}") for uid in uids]


def _launch(uid: str) -> str:
    return urlencode({"requestType": "STUDY", "studyUID": uid})


def _observations(message: Outgoing, version: ReportVersion, signed: str, links: list[tuple[str, str]]) -> None:
    """OBX: the text by sections (FT), then for each study its UID (HD) and its link (RP, v2.5.1 ch. 2A.66)."""
    status = OBR25_STATUS[version.status]
    texts = [(FINDINGS, version.findings), (IMPRESSION, version.impression)]
    if version.status is ReportStatus.RETRACTED:
        status = message.destination.retraction
        texts.insert(0, (IMPRESSION, RETRACTED))
    observations: list[tuple[str, Value, Value]] = [("FT", code, text) for code, text in texts if text]
    for uid, link in links:
        observations += [("HD", STUDY, uid), ("RP", STUDY, (link, "HILUM", "Application", "HTML"))]
    for number, (data_type, code, value) in enumerate(observations, 1):
        message.add(
            "OBX",
            {
                1: str(number),
                2: data_type,
                3: code,
                4: str(number),
                5: value,
                11: status,
                14: signed,
                16: xcn(version.interpreter),
            },
        )
