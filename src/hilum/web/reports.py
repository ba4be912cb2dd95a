"""A report as its panel and its editor show it: versions, what may be done next, and the draft being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from hilum.core.actor import Actor
from hilum.core.order import Order, OrderStatus
from hilum.core.report import DraftKind, Report, ReportStatus
from hilum.core.report import ReportVersion as SignedVersion
from hilum.security.policy import Action
from hilum.storage.pages import ReportDelivery
from hilum.web.models import Delivery, Draft, ReportPanel, ReportState, ReportVersion, Section
from hilum.web.pages import may, version_of

# A draft that nobody saved for so long may be taken over by a colleague.
IDLE = timedelta(minutes=15)
MAXIMUM_CHARACTERS = 60_000

STATES: dict[ReportStatus, ReportState] = {
    ReportStatus.DRAFT: "draft",
    ReportStatus.PRELIMINARY: "preliminary",
    ReportStatus.FINAL: "final",
    ReportStatus.ADDENDED: "addended",
    ReportStatus.CORRECTED: "corrected",
    ReportStatus.RETRACTED: "retracted",
}
FINAL = frozenset({ReportStatus.FINAL, ReportStatus.ADDENDED, ReportStatus.CORRECTED})
# Accepted is what a receiver answered; that a person has seen it is another word (docs/glossary.md).
DELIVERIES: dict[str, Literal["accepted", "refused"]] = {"delivered": "accepted", "dead": "refused"}


def state_of(status: ReportStatus, version: int, *, drafted: bool) -> ReportState:
    """The state of a report in one word: its signed version's, else whether someone writes."""
    if version:
        return STATES[status]
    return "draft" if drafted else "none"


def sections_of(version: SignedVersion) -> tuple[Section, ...]:
    """The sections of a version that have text."""
    if not version.impression:
        return (Section("findings", "Report", version.findings),) if version.findings else ()
    found = (Section("findings", "Findings", version.findings), Section("impression", "Impression", version.impression))
    return tuple(section for section in found if section.text)


def version_model(version: SignedVersion, deliveries: Sequence[ReportDelivery] = ()) -> ReportVersion:
    """A signed version with where it went."""
    return ReportVersion(
        version.version,
        STATES[version.status],
        version.interpreter.display or version.signed_by,
        version.signed_at or version.recorded_at,
        sections_of(version),
        version.reason,
        tuple(_delivery(delivery) for delivery in deliveries if delivery.version == version.version),
    )


def panel_model(
    report: Report | None,
    deliveries: Sequence[ReportDelivery],
    order: Order | None,
    actor: Actor,
    now: datetime,
    *,
    has_images: bool,
) -> ReportPanel:
    """The report beside the images, and what this actor may do with it."""
    if report is None:
        panel = ReportPanel("", "none", may_write=_may_begin(order, actor, has_images), readable=_reads(actor))
        return _versioned(panel)
    draft, status = report.draft, report.status if report.versions else None
    free = draft is None and may(actor, Action.SIGN_REPORT) and actor.is_person
    panel = ReportPanel(
        report_id=report.id,
        state=state_of(report.status, report.version, drafted=draft is not None),
        versions=tuple(version_model(version, deliveries) for version in reversed(report.versions))
        if _reads(actor)
        else (),
        draft_by=draft.signed_by if draft else "",
        draft_kind=report.draft_kind.value if draft else None,
        draft_at=draft.recorded_at if draft else None,
        may_write=draft is None and status in (None, ReportStatus.PRELIMINARY) and _may_begin(order, actor, has_images),
        may_continue=draft is not None and may(actor, Action.DRAFT_REPORT) and _may_take(draft, actor, now),
        may_addend=free and status in FINAL,
        may_correct=free and (status in FINAL or status is ReportStatus.RETRACTED),
        may_retract=free and (status in FINAL or status is ReportStatus.PRELIMINARY),
        readable=_reads(actor),
    )
    return _versioned(panel)


def draft_model(report: Report) -> Draft:
    """The draft of a report for its editor; a correction or addendum has the current version beside it."""
    draft = report.draft
    assert draft is not None
    base = last_with_text(report) if report.draft_kind is not DraftKind.REPORT else None
    return Draft(
        report.id,
        report.draft_kind.value,
        report.revision,
        draft_sections(report.draft_kind, draft.findings, draft.impression),
        draft.recorded_at,
        draft.reason,
        version_model(base) if base else None,
        MAXIMUM_CHARACTERS,
    )


def draft_sections(kind: DraftKind, findings: str, impression: str) -> tuple[Section, ...]:
    """The fields of a draft: an addendum is one text, which is kept in the place of the impression."""
    if kind is DraftKind.ADDENDUM:
        return (Section("addendum", "Addendum", impression),)
    return (Section("findings", "Findings", findings), Section("impression", "Impression", impression))


def last_with_text(report: Report) -> SignedVersion | None:
    """The newest signed version that says something: a retraction alone has no text to go on from."""
    return next((version for version in reversed(report.versions) if version.findings or version.impression), None)


def _may_take(draft: SignedVersion, actor: Actor, now: datetime) -> bool:
    return draft.signed_by == (actor.display or actor.name) or now - draft.recorded_at > IDLE


def _may_begin(order: Order | None, actor: Actor, has_images: bool) -> bool:
    if order is None or order.status is OrderStatus.CANCELLED or not actor.is_person:
        return False
    return may(actor, Action.DRAFT_REPORT) and (has_images or order.status is not OrderStatus.SCHEDULED)


def _reads(actor: Actor) -> bool:
    return may(actor, Action.READ_REPORT)


def _delivery(delivery: ReportDelivery) -> Delivery:
    return Delivery(delivery.destination, DELIVERIES.get(delivery.state, "waiting"), delivery.at)


def _versioned(panel: ReportPanel) -> ReportPanel:
    return replace(panel, version=version_of(panel))
