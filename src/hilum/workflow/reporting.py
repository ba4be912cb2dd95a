"""Link 9, Report: draft, sign, add to, correct, retract; reports from dictation are taken in their reader's name.

All versions are kept. A signature is a named person's: of an account here, or the one whom a configured sender names
(OBR-32). Source: HL7 v2.5.1 ch. 7 (OBR-25, table 0123); IHE RAD TF-2 4.28 (RAD-28).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hilum.core.actor import Actor
from hilum.core.errors import IllegalTransition, InvalidInput, MissingField, NotFound, Stale
from hilum.core.event import EventName
from hilum.core.order import Order, OrderStatus, Physician
from hilum.core.report import AUTHORITATIVE, REPORT_TRANSITIONS, DraftKind, Report, ReportStatus, ReportVersion
from hilum.core.study import ExceptionKind
from hilum.security.guard import permit
from hilum.security.policy import Action
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.ordering import OrderReference, find_order
from hilum.workflow.source import Source

# A report's text beyond this is refused: no receiver takes it, and no reader writes it.
MAX_TEXT = 1_000_000

# Versions that a person makes here only with a reason.
EXPLAINED = frozenset({ReportStatus.CORRECTED, ReportStatus.RETRACTED})


@dataclass(frozen=True, slots=True)
class DraftReport:
    """Text as it is being written; `revision` is what the writer saw, or None to begin."""

    order_id: str
    findings: str
    impression: str
    revision: int | None
    kind: DraftKind = DraftKind.REPORT
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DiscardDraft:
    """Give up a draft; `revision` is the report as that person saw it."""

    order_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class SignReport:
    """A person signs a version. `revision` is the report as that person saw it.

    `reason` says why it is corrected or withdrawn; both need one.
    """

    order_id: str
    status: ReportStatus
    findings: str
    impression: str
    revision: int | None
    source: Source
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RelayReport:
    """A version that was signed in another system, in the name of its interpreter (OBR-32). `signed_at` is UTC."""

    order: OrderReference
    status: ReportStatus
    findings: str
    impression: str
    interpreter: Physician
    signed_at: datetime | None


def draft_report(uow: UnitOfWork, command: DraftReport, actor: Actor) -> Report:
    """Keep text that is being written; refuse it when someone else saved in the meantime, so nothing is overwritten."""
    order = _order(uow, command.order_id, actor, Action.DRAFT_REPORT)
    _check_text(command.findings, command.impression, command.reason)
    report = uow.reports.of_order(order.id)
    if report is None:
        report = uow.reports.add(order.id, order.patient_id)
        uow.emit(
            EventName.REPORT_DRAFTED,
            patient_id=order.patient_id,
            order_id=order.id,
            report_id=report.id,
            standard="Hilum page",
            peer=actor.name,
        )
    elif command.revision != report.revision:
        raise Stale("The report was changed by someone else in the meantime.")
    uow.reports.save_draft(
        report.id, command.kind, command.findings, command.impression, command.reason, actor.display or actor.name
    )
    saved = uow.reports.get(report.id)
    assert saved is not None
    return saved


def discard_draft(uow: UnitOfWork, command: DiscardDraft, actor: Actor) -> Report:
    """Give up the draft of a report; signed versions stay as they are."""
    order = _order(uow, command.order_id, actor, Action.DRAFT_REPORT)
    report = uow.reports.of_order(order.id)
    if report is None or report.draft is None:
        raise NotFound("There is no draft.")
    if command.revision != report.revision:
        raise Stale("The report was changed by someone else in the meantime.")
    uow.reports.discard_draft(report.id)
    saved = uow.reports.get(report.id)
    assert saved is not None
    return saved


def sign_report(uow: UnitOfWork, command: SignReport, actor: Actor) -> Report:
    """Sign a version here; it leaves for every destination the moment it is committed."""
    order = _order(uow, command.order_id, actor, Action.SIGN_REPORT)
    report = uow.reports.of_order(order.id)
    if report is not None and command.revision != report.revision:
        raise Stale("The report was changed by someone else in the meantime.")
    if command.status in EXPLAINED and not command.reason.strip():
        raise MissingField("Say why the report is corrected or withdrawn.", field="reason")
    return _add_version(
        uow,
        order,
        report,
        command.status,
        command.findings,
        command.impression,
        interpreter=_physician(actor),
        signed_at=uow.now,
        signed_by=actor.name,
        source=command.source,
        reason=command.reason.strip(),
    )


def relay_report(uow: UnitOfWork, command: RelayReport, actor: Actor) -> Report:
    """Take a version from a dictation system in the name of its interpreter."""
    order = find_order(uow, command.order)
    uow.patients.lock(order.patient_id)
    order = uow.orders.get(order.id)
    permit(
        uow,
        actor,
        Action.RELAY_REPORT,
        patient_id=order.patient_id,
        order_id=order.id,
        message_id=command.order.source.message_id,
    )
    if not command.interpreter.identifier:
        raise MissingField("The report names no interpreter.", field="OBR-32")
    report = uow.reports.of_order(order.id)
    if report is not None and _is_held(report, command):
        return report
    current = report.current if report else None
    # What another system signed overtakes nothing that was signed there later.
    relayed_at = current.signed_at if current and current.message_id else None
    if relayed_at and command.signed_at and command.signed_at < relayed_at:
        raise Stale("A version that was signed later is here already.", field="OBR-22")
    return _add_version(
        uow,
        order,
        report,
        command.status,
        command.findings,
        command.impression,
        interpreter=command.interpreter,
        signed_at=command.signed_at or uow.now,
        signed_by=command.interpreter.identifier,
        source=command.order.source,
    )


def _is_held(report: Report, command: RelayReport) -> bool:
    """Tell whether a version only comes again: the current one, or an earlier one of the same time of signature."""
    return any(
        _says_the_same(version, command) and (version is report.current or version.signed_at == command.signed_at)
        for version in report.versions
    )


def _says_the_same(current: ReportVersion, command: RelayReport) -> bool:
    return (current.status, current.findings, current.impression, current.interpreter.identifier) == (
        command.status,
        command.findings,
        command.impression,
        command.interpreter.identifier,
    )


def _add_version(
    uow: UnitOfWork,
    order: Order,
    report: Report | None,
    status: ReportStatus,
    findings: str,
    impression: str,
    *,
    interpreter: Physician,
    signed_at: datetime,
    signed_by: str,
    source: Source,
    reason: str = "",
) -> Report:
    _check_text(findings, impression, reason)
    if not (findings.strip() or impression.strip()) and status is not ReportStatus.RETRACTED:
        raise MissingField("The report has no text.", field="OBX-5")
    if order.status is OrderStatus.CANCELLED:
        raise IllegalTransition("The order was cancelled, so it cannot be reported.", field="OBR-3")
    before = report.status if report and report.versions else None
    if status not in REPORT_TRANSITIONS[before] or status is ReportStatus.DRAFT:
        raise IllegalTransition(
            f"A {before.value if before else 'new'} report cannot become {status.value}.", field="OBR-25"
        )
    if report is None:
        report = uow.reports.add(order.id, order.patient_id)
    version = ReportVersion(
        report.id,
        report.version + 1,
        status,
        findings,
        impression,
        interpreter,
        uow.now,
        signed_at,
        signed_by,
        source.peer,
        source.message_id,
        reason,
    )
    uow.reports.add_version(order.id, version)
    uow.emit(
        EventName.REPORT_SIGNED,
        patient_id=order.patient_id,
        order_id=order.id,
        report_id=report.id,
        report_version=version.version,
        standard=source.standard,
        peer=source.peer,
        message_id=source.message_id,
        details={"status": status.value},
    )
    _note_missing_images(uow, order, status)
    saved = uow.reports.get(report.id)
    assert saved is not None
    return saved


def _note_missing_images(uow: UnitOfWork, order: Order, status: ReportStatus) -> None:
    """A result without images may be a report on the wrong study: a person should look."""
    if status in AUTHORITATIVE and not uow.studies.of_order(order.id):
        uow.exceptions.add(ExceptionKind.REPORT_BEFORE_IMAGES, order_id=order.id, patient_id=order.patient_id)


def _order(uow: UnitOfWork, order_id: str, actor: Actor, action: Action) -> Order:
    order = uow.orders.get(order_id)
    uow.patients.lock(order.patient_id)
    permit(uow, actor, action, patient_id=order.patient_id, order_id=order.id)
    return uow.orders.get(order.id)


def _check_text(*texts: str) -> None:
    if any(len(text) > MAX_TEXT for text in texts):
        raise InvalidInput("The report is longer than a million characters.", field="OBX-5")


def _physician(actor: Actor) -> Physician:
    identifier = actor.identifiers[0] if actor.identifiers else None
    family, _, given = (actor.display or actor.name).partition(", ")
    return Physician(
        identifier.value if identifier else actor.name, family, given, identifier.authority if identifier else ""
    )
