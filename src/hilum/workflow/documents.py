"""Reports that come as documents: a new one, an addendum alone, a replacement, a withdrawal (HL7 v2.5.1 ch. 9.4).

A document says what it does to the one before it; here that becomes the next version of the report, which always holds
all of its text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.core.report import AUTHORITATIVE, Report, ReportStatus, with_addendum
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.ordering import find_order
from hilum.workflow.reporting import RelayReport, relay_report


class DocumentAct(StrEnum):
    """What a document does to the report that stands."""

    WRITES = "writes"
    ADDS = "adds"
    REPLACES = "replaces"
    WITHDRAWS = "withdraws"


@dataclass(frozen=True, slots=True)
class RelayDocument:
    """A document of another system; of a withdrawal only the order counts."""

    report: RelayReport
    act: DocumentAct


def relay_document(uow: UnitOfWork, command: RelayDocument, actor: Actor) -> Report:
    """Take a document as the next version of the report of its order."""
    order = find_order(uow, command.report.order)
    uow.patients.lock(order.patient_id)
    permit(
        uow, actor, Action.RELAY_REPORT,
        patient_id=order.patient_id, order_id=order.id, message_id=command.report.order.source.message_id,
    )  # fmt: skip
    report = uow.reports.of_order(order.id)
    if command.act is DocumentAct.WITHDRAWS:
        return _withdrawn(uow, report, command.report, actor)
    if command.act is DocumentAct.ADDS and report is not None and _has_addendum(report, command.report):
        return report
    return relay_report(uow, _next(report, command), actor)


def _next(report: Report | None, command: RelayDocument) -> RelayReport:
    said = command.report
    standing = report is not None and report.status in AUTHORITATIVE
    if report is None or not standing or said.status is not ReportStatus.FINAL:
        return said
    if command.act is DocumentAct.ADDS:
        base = next(each for each in reversed(report.versions) if each.findings or each.impression)
        findings, impression = with_addendum(base, _text_of(said))
        status = ReportStatus.CORRECTED if report.status is ReportStatus.RETRACTED else ReportStatus.ADDENDED
        return replace(said, status=status, findings=findings, impression=impression)
    if command.act is DocumentAct.REPLACES:
        return replace(said, status=ReportStatus.CORRECTED)
    return said


def _withdrawn(uow: UnitOfWork, report: Report | None, said: RelayReport, actor: Actor) -> Report:
    current = report.current if report else None
    if report is None or current is None:
        raise NotFound("There is no report to withdraw.", field="TXA-12")
    if report.status is ReportStatus.RETRACTED:
        return report
    interpreter = said.interpreter if said.interpreter.identifier else current.interpreter
    withdrawal = replace(said, status=ReportStatus.RETRACTED, findings="", impression="", interpreter=interpreter)
    return relay_report(uow, withdrawal, actor)


def _has_addendum(report: Report, said: RelayReport) -> bool:
    """Whether the addendum only comes again."""
    current = report.current
    text = current.impression or current.findings if current else ""
    return text.endswith(f"ADDENDUM\n{_text_of(said).strip()}")


def _text_of(said: RelayReport) -> str:
    return "\n".join(part for part in (said.findings, said.impression) if part)
