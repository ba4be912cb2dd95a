"""MDM messages: which event does what to the report of an order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from hilum.core.actor import Actor
from hilum.hl7.prepared import Prepared, elsewhere, journaled, kept, named_here
from hilum.hl7.profiles import Incoming
from hilum.hl7.translate_document import document_of
from hilum.hl7.translate_patient import require_segment
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.documents import DocumentAct, relay_document
from hilum.workflow.inbound import Applied

# Where the verbs say that something is wrong, and where it stands in an MDM.
PLACES = {
    "ORC-2": "TXA-14",
    "ORC-3": "TXA-15",
    "OBR-3": "TXA-15",
    "OBR-22": "TXA-22",
    "OBR-25": "TXA-17",
    "OBR-32": "TXA-22",
}


def _document(act: DocumentAct) -> Callable[[Incoming], Prepared]:
    """A document with its text, or the end of one."""

    def read(incoming: Incoming) -> Prepared:
        document = document_of(incoming, act)
        if document is None:
            return kept(incoming, Action.RELAY_REPORT)

        def apply(uow: UnitOfWork, message_id: str, actor: Actor) -> Applied:
            order = named_here(uow, journaled(document.report.order, message_id))
            sourced = replace(document, report=replace(document.report, order=order))
            report = elsewhere(partial(relay_document, uow, sourced, actor), PLACES)
            return Applied(report, patient_id=report.patient_id, order_id=report.order_id)

        return Prepared(apply)

    return read


def _notice(incoming: Incoming) -> Prepared:
    """A document that is told of without its text."""
    require_segment(incoming.message, "TXA")
    return kept(incoming, Action.RELAY_REPORT)


# MSH-9.2 (HL7 table 0003).
MDM: dict[str, Callable[[Incoming], Prepared]] = {
    "T01": _notice,  # a new document
    "T02": _document(DocumentAct.WRITES),
    "T03": _notice,  # another status
    "T04": _document(DocumentAct.WRITES),
    "T05": _notice,  # an addendum
    "T06": _document(DocumentAct.ADDS),
    "T07": _notice,  # an edit
    "T08": _document(DocumentAct.REPLACES),
    "T09": _notice,  # a replacement
    "T10": _document(DocumentAct.REPLACES),
    "T11": _document(DocumentAct.WITHDRAWS),
}
