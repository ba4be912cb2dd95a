"""Answers to applied and refused messages: ACK, or for orders ORR^O02, ORG^O20, ORI^O24 with ORC (v2.5.1 ch. 4.4).

An order answer tells the placer the filler's number, and the accession and Study Instance UID where Hilum gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from hilum.core.errors import HilumError
from hilum.core.identifiers import new_id
from hilum.core.order import ORC5_STATUS, Order
from hilum.hl7.ack import SegmentFields, acknowledge
from hilum.hl7.er7 import Segment, Value
from hilum.hl7.messages_in import ORDER_CONTROL
from hilum.hl7.prepared import Response
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate_order import OrderGroup
from hilum.workflow.inbound import Applied

Answer = Callable[[Applied | None, HilumError | None], bytes]

# MSH-9 of the message -> MSH-9 of its answer.
ORDER_ANSWERS = {
    "ORM": ("ORR", "O02", "ORR_O02"),
    "OMG": ("ORG", "O20", "ORG_O20"),
    "OMI": ("ORI", "O24", "ORI_O24"),
}


def control_id() -> str:
    """A fresh MSH-10: 20 characters, the most that v2.3 to v2.5.1 allow (ST, ch. 2.15.9.10)."""
    return new_id()[6:]


def answer_to(
    incoming: Incoming, orders: Sequence[OrderGroup], now: datetime, respond: Response | None = None
) -> Answer:
    """Return the function that writes the answer to a message once it is applied or refused."""
    own_id = control_id()
    response = ORDER_ANSWERS.get(incoming.message.type) if orders and incoming.profile.answer == "orr" else None

    def answer(applied: Applied | None, error: HilumError | None) -> bytes:
        kind, extra = response, _segments(incoming, orders, applied.result if applied else ()) if response else []
        if respond is not None:
            kind, extra = respond(applied, error)
        return acknowledge(
            incoming.message,
            [error] if error else [],
            control_id=own_id,
            now=now,
            zone=incoming.profile.zone,
            response=kind,
            extra=extra,
        )

    return answer


def _segments(incoming: Incoming, orders: Sequence[OrderGroup], results: Sequence[Order]) -> list[SegmentFields]:
    """PID as sent, then ORC and OBR of each order."""
    segments: list[SegmentFields] = []
    pid = incoming.message.segment("PID")
    if pid is not None:
        segments.append(("PID", {1: "1"} | {number: pid.value(number) for number in (3, 5, 7, 8)}))
    for number, group in enumerate(orders):
        order = results[number] if number < len(results) else None
        segments.append(("ORC", _orc(group, order)))
        obr = group.first.segment("OBR")
        if obr is not None:
            segments.append(("OBR", _obr(number + 1, group, obr, order)))
            segments += [("IPC", _ipc(ipc, order)) for ipc in group.all("IPC")]
        if order is not None and incoming.message.type != "OMI" and obr is not None:
            segments.append(("ZDS", {1: (order.study_instance_uid, "HILUM", "Application", "DICOM")}))
    return segments


def _orc(group: OrderGroup, order: Order | None) -> dict[int, Value]:
    control = ORDER_CONTROL.get(group.control)
    refused = control.refused if control else "UA"
    placer = group.orc.value(2)
    if order is None:
        return {1: refused, 2: placer, 3: group.orc.value(3)}
    return {
        1: control.done if control else "OK",
        2: placer or (order.placer_order_number, order.placer_authority),
        3: (order.filler_order_number, order.filler_authority),
        5: ORC5_STATUS[order.status],
    }


def _obr(number: int, group: OrderGroup, obr: Segment, order: Order | None) -> dict[int, Value]:
    fields: dict[int, Value] = {1: str(number), 2: obr.value(2) or group.orc.value(2), 3: obr.value(3), 4: obr.value(4)}
    if order is not None:
        fields[3] = (order.filler_order_number, order.filler_authority)
        fields[18] = order.accession_number
        fields[19] = order.requested_procedure_id
    return fields


def _ipc(ipc: Segment, order: Order | None) -> dict[int, Value]:
    """The imaging procedure control segment as sent, with the numbers that stand."""
    fields: dict[int, Value] = {number: ipc.value(number) for number in range(1, 10)}
    if order is not None:
        fields |= {1: order.accession_number, 2: order.requested_procedure_id, 3: order.study_instance_uid}
    return fields
