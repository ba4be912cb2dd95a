"""One entry of the exceptions page: in which words, with which facts, and which orders it might belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hilum.core.actor import Actor
from hilum.core.patient import PersonName
from hilum.core.study import ExceptionKind, MatchState
from hilum.core.text import fold
from hilum.security.policy import Action
from hilum.storage.dead_letters import DeadLetter
from hilum.storage.exception_list import ListedItem, OrderCandidate
from hilum.storage.pages import StudyShown
from hilum.web import urls
from hilum.web.models import Candidate, ExceptionRow
from hilum.web.pages import may
from hilum.web.people import date_from_dicom, patient_from_images, patient_from_registered

Family = Literal["unmatched", "conflict", "check", "dead-letter", "recovery"]
DEAD_LETTER: Family = "dead-letter"

# (tab, title, why) of each kind; what a message was refused for stands in its note.
WORDS: dict[ExceptionKind, tuple[Family, str, str]] = {
    ExceptionKind.IMAGES_WITHOUT_ORDER: (
        "unmatched", "Images without an order", "The patient is known, but no order has these numbers."),
    ExceptionKind.IMAGES_OF_UNKNOWN_PATIENT: (
        "unmatched", "Images of an unknown patient", "No registered patient has this identifier and name."),
    ExceptionKind.EXAM_WITHOUT_ORDER: (
        "unmatched", "Exam without an order", "A modality reports an exam whose order is not known."),
    ExceptionKind.REPORT_WITHOUT_ORDER: (
        "unmatched", "Report without an order", "A report came for an order that is not known."),
    ExceptionKind.IMAGES_OF_ANOTHER_PATIENT: (
        "conflict", "Images of another patient", "The images name another patient than the order of their numbers."),
    ExceptionKind.WRONG_WORKLIST_ENTRY: (
        "conflict", "Wrong worklist entry chosen", "The modality says so. Its images are withheld."),
    ExceptionKind.HELD_BY_RULE: (
        "check", "Images held by a rule", "A rule of the configuration holds them back. They are withheld."),
    ExceptionKind.INSTANCE_WITH_OTHER_BYTES: (
        "conflict", "Other bytes under a known image number", "The first image is shown, the other is kept beside it."),
    ExceptionKind.IMAGES_WITH_OTHER_NUMBERS: (
        "conflict", "Images with other numbers", "Their accession number is not that of the order of their study."),
    ExceptionKind.REJECTION_WAITS: (
        "conflict", "Rejection note that did not act",
        "Its sender may not reject, or it names images of another study or patient. Its images are still shown."),
    ExceptionKind.DEMOGRAPHICS_DIFFER: (
        "conflict", "Patient named differently", "A message names the patient differently from the register."),
    ExceptionKind.IMAGES_AFTER_CANCELLATION: (
        "check", "Images after a cancellation", "Images or an exam came for an order that had ended."),
    ExceptionKind.IMAGES_AFTER_REPORT: (
        "check", "Images after the report", "Images came after the report was signed; it may need an addendum."),
    ExceptionKind.BYTES_UNUSABLE: (
        "recovery", "Bytes that are no usable instance",
        "Torn by a crash, decayed, or refused by the index: see hilum quarantine list."),
    ExceptionKind.SENT_WHILE_MARKED: (
        "check", "Images sent again while marked for deletion",
        "Whoever sent them was told that they are stored, so they are kept. Mark them again if they are to go."),
    ExceptionKind.REJECTED_AFTER_REPORT: (
        "check", "Images rejected after the report", "The report may rest on images that are not to be used."),
    ExceptionKind.IMAGES_AFTER_MOVE: (
        "conflict", "New series for images that were moved",
        "It carries the numbers of images that a person moved to somebody else. It is withheld until someone decides."),
    ExceptionKind.IMAGES_MOVED_AWAY: (
        "check", "Order whose images were moved away",
        "They were of another patient or order, so this exam may have to be made yet."),
    ExceptionKind.ORDER_WHILE_MERGED: (
        "check", "Order placed while two patients were one",
        "Their merge was undone. The order stays where it was placed: look for which of the two it is."),
    ExceptionKind.REPORT_BEFORE_IMAGES: (
        "check", "Report before images", "A report was signed for an order that has no images."),
    ExceptionKind.INSTANCE_DAMAGED: (
        "recovery", "Damaged image", "Its stored bytes are not those that were received: bring them back from a copy."),
    ExceptionKind.CONTROL_ID_REUSED: (
        "recovery", "Message number used twice", "A sender used a message control ID again for another message."),
    ExceptionKind.MESSAGE_REFUSED: (
        "recovery", "Message refused", "The sender was told why; nothing of the message was applied."),
}  # fmt: skip
TABS: tuple[tuple[str, str], ...] = (
    ("", "All"),
    ("conflict", "Conflicts"),
    ("unmatched", "Unmatched"),
    ("check", "To check"),
    ("dead-letter", "Not delivered"),
    ("recovery", "Recovery"),
)


def kinds_of(tab: str) -> tuple[ExceptionKind, ...]:
    """The kinds that stand under a tab; the first tab has all."""
    return tuple(kind for kind, (family, _, _) in WORDS.items() if tab in ("", family))


def row_of_item(listed: ListedItem, candidates: Sequence[OrderCandidate], actor: Actor) -> ExceptionRow:
    """An entry with what it speaks of."""
    family, title, why = WORDS[listed.item.kind]
    resolves = may(actor, Action.RESOLVE_EXCEPTION) and actor.is_person
    return ExceptionRow(
        exception_id=listed.item.id,
        kind=family,
        title=_title(title, listed),
        why=why,
        since=listed.item.at,
        patient=patient_from_images(listed.study.sent) if listed.study else None,
        facts=_facts(listed),
        candidates=tuple(candidate_model(candidate, listed.study) for candidate in candidates if listed.study),
        href=_href(listed),
        move_href=urls.reassign(listed.study.study.id) if resolves and listed.study else "",
        may_link=resolves and is_linkable(listed),
        may_dismiss=resolves and listed.item.kind is not ExceptionKind.REJECTION_WAITS,
        may_release=resolves and listed.is_withheld,
        may_reject=may(actor, Action.REJECT_IMAGES) and listed.item.kind is ExceptionKind.REJECTION_WAITS,
    )


def row_of_dead_letter(letter: DeadLetter, actor: Actor) -> ExceptionRow:
    """A delivery that its receiver refused."""
    facts = (
        ("Message", f"{letter.kind} {letter.control_id}".strip()),
        ("Tries", str(letter.attempts)),
        ("Accession", letter.accession_number or ""),
    )
    return ExceptionRow(
        exception_id=letter.id,
        kind=DEAD_LETTER,
        title=f"Not delivered to {letter.destination}",
        why=f"{letter.reason or 'The receiver refused it'}. Later messages of this lane wait behind it.",
        since=letter.sent_at or letter.created_at,
        facts=tuple((name, value) for name, value in facts if value),
        href=urls.order(letter.order_id) if letter.order_id else "",
        may_replay=may(actor, Action.OPERATE_QUEUE),
    )


def is_linkable(listed: ListedItem) -> bool:
    """Whether the entry is about a study that has no order yet."""
    state = listed.study.study.match_state if listed.study else None
    return state in (MatchState.UNVERIFIED, MatchState.CONFLICT)


def candidate_model(found: OrderCandidate, shown: StudyShown | None) -> Candidate:
    """An order with what agrees with the images and what contradicts them."""
    order, patient = found.order, found.patient
    agreement = _agreement(found, shown) if shown else []
    return Candidate(
        order.id,
        f"{order.procedure.meaning or order.procedure.value} ({order.modality})",
        patient_from_registered(patient),
        order.accession_number,
        order.placed_at,
        tuple(name for name, agrees in agreement if agrees),
        tuple(name for name, agrees in agreement if not agrees),
    )


def _agreement(found: OrderCandidate, shown: StudyShown) -> list[tuple[str, bool]]:
    """What both sides say, and whether they say the same; what one side leaves out is neither."""
    sent, study, known = shown.sent, shown.study, found.patient.demographics
    pairs: list[tuple[str, str, str]] = [
        ("Family name", fold(PersonName.from_dicom(sent.name).family), fold(known.name.family)),
        ("Given name", fold(PersonName.from_dicom(sent.name).given), fold(known.name.given)),
        ("Birth date", str(date_from_dicom(sent.birth_date) or ""), str(known.birth_date or "")),
        ("Sex", sent.sex, known.sex),
        ("Accession", study.accession_number, found.order.accession_number),
    ]
    compared = [(name, one == other) for name, one, other in pairs if one and other]
    if sent.identifier:
        compared.insert(0, ("Patient ID", sent.identifier in found.identifiers))
    if study.modalities:
        compared.append(("Modality", found.order.modality in study.modalities))
    if study.study_instance_uid == found.order.study_instance_uid:
        compared.append(("Study UID", True))
    return compared


def _title(title: str, listed: ListedItem) -> str:
    if listed.study is None:
        return title
    study = listed.study.study
    count = f"{study.instance_count} image{'' if study.instance_count == 1 else 's'}"
    by = f" from {listed.peer}" if listed.peer else ""
    modality = "/".join(study.modalities)
    named = study.description if study.description.startswith(modality) else f"{modality} {study.description}".strip()
    return f"{title}: {named or 'no description'}, {count}{by}"


def _facts(listed: ListedItem) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    if listed.study is not None:
        study = listed.study.study
        facts += [
            ("Accession as sent", study.accession_number or "none"),
            ("Study Instance UID", study.study_instance_uid),
        ]
    if listed.order is not None:
        facts.append(("Order", f"{listed.order.accession_number} {listed.order.procedure.meaning}".strip()))
    if listed.message is not None:
        message = listed.message
        facts.append(("Message", f"{message.kind} {message.control_id} from {message.sender}".strip()))
    if listed.item.note:
        facts.append(("Note", listed.item.note))
    return tuple(facts)


def _href(listed: ListedItem) -> str:
    if listed.study is not None and listed.is_shown:
        return urls.study(listed.study.study.study_instance_uid)
    return urls.order(listed.order.id) if listed.order is not None else ""
