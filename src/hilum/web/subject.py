"""What a page is about: one order with its proven images, or one study that no order is known for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

from hilum.core.actor import Actor
from hilum.core.codes import region_of, same_family
from hilum.core.order import Code, Order
from hilum.core.study import ExceptionItem, ExceptionKind, MatchState, Study
from hilum.security.policy import Action
from hilum.storage.chain import order_events
from hilum.storage.pages import (
    Person,
    PriorExam,
    StudyShown,
    image_count,
    open_items_of_order,
    open_items_of_study,
    other_exams,
    person_of,
    report_deliveries,
    studies_of_order,
)
from hilum.web import urls
from hilum.web.chain_of_order import chain_from_events, chain_without_order
from hilum.web.models import Chain, Identity, OrderHead, Patient, Prior, Trust, ViewerModel
from hilum.web.pages import may, version_of
from hilum.web.people import patient_from_images, patient_from_person
from hilum.web.reports import STATES
from hilum.web.viewer import performed_at, viewer_model

# What of an order's open entries casts doubt on whose images these are, worst first.
ORDER_DOUBTS: dict[ExceptionKind, tuple[Trust, str]] = {
    ExceptionKind.IMAGES_OF_ANOTHER_PATIENT: (
        "conflict",
        "Images sent under this order's numbers name another patient. They are not shown here.",
    ),
    ExceptionKind.WRONG_WORKLIST_ENTRY: (
        "unverified",
        "An exam was made under the wrong worklist entry. Its images are withheld until someone decides.",
    ),
    ExceptionKind.DEMOGRAPHICS_DIFFER: (
        "unverified",
        "A message about this order names the patient differently from the register.",
    ),
}
STUDY_DOUBTS = {
    ExceptionKind.IMAGES_OF_ANOTHER_PATIENT: "The images name another patient than the order whose numbers they carry.",
    ExceptionKind.IMAGES_WITH_OTHER_NUMBERS: "The images carry an accession number that is not their order's.",
    ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT: "No registered patient matches what the images say.",
    ExceptionKind.IMAGES_WITHOUT_ORDER: "The patient is known, but no order matches these images.",
}
UNMATCHED = "These images are not matched to an order."
TRUST: dict[MatchState, Trust] = {
    MatchState.VERIFIED: "verified",
    MatchState.UNVERIFIED: "unverified",
    MatchState.CONFLICT: "conflict",
    MatchState.WITHHELD: "conflict",
}
TRUST_RANK: dict[str, int] = {"verified": 0, "unverified": 1, "conflict": 2}


@dataclass(frozen=True, slots=True)
class Subject:
    """One order, or one study without an order; `person` is empty where no registered patient is proven."""

    href: str
    patient: Patient
    identity: Identity
    head: OrderHead
    studies: tuple[StudyShown, ...]
    order: Order | None = None
    person: Person | None = None
    exception_href: str = ""

    @property
    def study_ids(self) -> list[str]:
        """The row ids of its studies."""
        return [shown.study.id for shown in self.studies]


def subject_of_order(connection: Any, order: Order, actor: Actor) -> Subject:
    """Gather what is known of an order."""
    person = person_of(connection, order.patient_id)
    identity, item = _order_identity(open_items_of_order(connection, order.id))
    head = OrderHead(
        order.id,
        order.procedure.meaning or order.procedure.value,
        order.modality,
        order.priority.value,
        order.status.value.replace("-", " "),
        order.accession_number,
        order.study_instance_uid,
        order.placer_order_number,
        order.filler_order_number,
        order.ordering_physician.display,
        order.reason or order.clinical_information,
        order.scheduled_at,
    )
    studies = tuple(studies_of_order(connection, order.id))
    return Subject(
        urls.order(order.id),
        patient_from_person(person, connection, actor),
        identity,
        head,
        studies,
        order,
        person,
        _resolve(item, actor),
    )


def subject_of_study(connection: Any, shown: StudyShown, actor: Actor) -> Subject:
    """Gather what is known of a study without an order."""
    study = shown.study
    items = open_items_of_study(connection, study.id)
    item = next((item for item in items if item.kind in STUDY_DOUBTS), items[0] if items else None)
    reason = STUDY_DOUBTS.get(item.kind, UNMATCHED) if item else UNMATCHED
    person = person_of(connection, study.patient_id) if study.patient_id else None
    head = OrderHead(
        "",
        study.description or "Study without an order",
        "/".join(study.modalities),
        "routine",
        "no order",
        _claimed(study),
        study.study_instance_uid,
    )
    return Subject(
        urls.study(study.study_instance_uid),
        patient_from_person(person, connection, actor) if person else patient_from_images(shown.sent),
        Identity(TRUST[study.match_state], reason),
        head,
        (shown,),
        None,
        person,
        _resolve(item, actor),
    )


def _claimed(study: Study) -> str:
    """The accession number on the images; that of images in conflict, or moved to somebody else, is another's."""
    return study.accession_number if study.match_state is MatchState.UNVERIFIED else ""


def chain_of(connection: Any, subject: Subject) -> tuple[Chain, int]:
    """The subject's chain, its version covering what an open page refreshes, and the number of its images."""
    images = image_count(connection, subject.study_ids)
    if subject.order is not None:
        events = order_events(connection, subject.order)
        chain = chain_from_events(events, report_deliveries(connection, subject.order.id))
    else:
        study = subject.studies[0].study
        chain = chain_without_order(study.first_received_at, "")
    version = version_of(chain, subject.patient, subject.identity, subject.head, images, subject.exception_href)
    return replace(chain, version=version), images


def images_model(connection: Any, subject: Subject, actor: Actor, zone: ZoneInfo) -> ViewerModel | None:
    """The subject's own images, for those who may see images."""
    if not may(actor, Action.READ_IMAGES):
        return None
    return viewer_model(
        connection,
        subject.studies,
        subject.patient,
        zone,
        label="This study",
        description=subject.head.procedure,
        accession_number=subject.head.accession_number,
    )


def priors_of(
    connection: Any, subject: Subject, zone: ZoneInfo, beside: str, actor: Actor
) -> tuple[tuple[Prior, ...], ViewerModel | None]:
    """The person's other studies, those that bear on this one first, and the one that is opened beside it."""
    if subject.person is None:
        return (), None
    exams = other_exams(connection, subject.person.family, subject.study_ids)
    priors = [_prior(exam, subject, zone) for exam in exams]
    priors.sort(key=lambda prior: (prior.relevance != "relevant", -prior.performed_at.timestamp()))
    opened = next((exam for exam in exams if exam.shown.study.study_instance_uid == beside), None)
    if opened is None or not may(actor, Action.READ_IMAGES):
        return tuple(priors), None
    accession = opened.order.accession_number if opened.order else _claimed(opened.shown.study)
    model = viewer_model(
        connection,
        [opened.shown],
        subject.patient,
        zone,
        label="Prior",
        description=_description(opened),
        accession_number=accession,
    )
    return tuple(priors), model


def has_images(subject: Subject) -> bool:
    """Whether anything of the subject has arrived that may be shown."""
    return any(shown.images for shown in subject.studies)


def _prior(exam: PriorExam, subject: Subject, zone: ZoneInfo) -> Prior:
    study = exam.shown.study
    modality = exam.order.modality if exam.order else next(iter(study.modalities), "")
    region = exam.order.body_region if exam.order else region_of(Code("", "", study.description))
    own = subject.order.body_region if subject.order else region_of(Code("", "", subject.head.procedure))
    family = same_family(modality, subject.head.modality)
    why = _why(same_region=bool(own) and own == region, family=family, known=bool(own and region))
    if study.match_state is not MatchState.VERIFIED:
        why = ", ".join(part for part in (why, "unverified") if part)
    return Prior(
        study.study_instance_uid,
        performed_at(study, zone) or study.first_received_at,
        modality,
        _description(exam),
        "relevant" if (own and own == region) or (family and not (own and region)) else "other",
        STATES[exam.report_status] if exam.report_status else "none",
        exam.shown.images,
        urls.order(exam.order.id) if exam.order else urls.study(study.study_instance_uid),
        why,
    )


def _why(*, same_region: bool, family: bool, known: bool) -> str:
    if same_region:
        return "same region and modality" if family else "same region"
    return "same modality" if family and not known else ""


def _description(exam: PriorExam) -> str:
    return (exam.order.procedure.meaning if exam.order else "") or exam.shown.study.description or "Study"


def _order_identity(items: Sequence[ExceptionItem]) -> tuple[Identity, ExceptionItem | None]:
    for kind, (trust, reason) in ORDER_DOUBTS.items():
        for item in items:
            if item.kind is kind:
                return Identity(trust, reason), item
    return Identity(), None


def _resolve(item: ExceptionItem | None, actor: Actor) -> str:
    return urls.exception(item.id) if item is not None and may(actor, Action.RESOLVE_EXCEPTION) else ""
