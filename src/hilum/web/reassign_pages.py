"""Whose images are these? A person moves, splits and joins studies, sees both patients first, and can take it back.

Nothing is moved by the first page: it leads to a second one with both patients side by side, and only that one's form
does it, provided that the study is still whose the page said it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import InvalidInput, NotFound
from hilum.core.order import Order
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.exception_list import find_orders, likely_orders
from hilum.storage.pages import StudyShown, report_of_order, study_shown
from hilum.storage.reassignment_pages import (
    SeriesListed,
    family_of,
    find_patients,
    order_by_id,
    series_of,
    studies_of_person,
    study_by_id,
)
from hilum.storage.reassignments import Reassignment, reassignments_of
from hilum.web import urls
from hilum.web.exception_rows import candidate_model
from hilum.web.models import Patient
from hilum.web.models.reassign import (
    Compared,
    ConfirmPage,
    MovableSeries,
    MovedStudy,
    OtherStudy,
    PastMove,
    PersonFound,
    ReassignPage,
)
from hilum.web.pages import Form, Pages, posting, see_other
from hilum.web.people import patient_from_images, patient_from_registered
from hilum.workflow.reassignment import (
    JoinStudies,
    ReassignStudy,
    UndoReassignment,
    Whose,
    join_studies,
    reassign_study,
    undo_reassignment,
)

MAXIMUM_TEXT = 64
MAXIMUM_REASON = 500
MOST_CHOSEN = 200
NOT_HERE = "There is no such study, or you may not see it."
_WORDS = {"move": "Moved as a whole", "split": "Split off in part", "join": "Joined with another study"}


@dataclass(frozen=True, slots=True)
class _Target:
    """Where images are to go: a person, perhaps an order of theirs, or another study of the same person."""

    patient: Patient
    patient_id: str
    order: Order | None = None
    into: StudyShown | None = None


@dataclass(frozen=True, slots=True)
class ReassignPages:
    """The handlers of reassignment."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        root = urls.REASSIGN + "/{study_id}"
        return [
            Route("/studies/{study_instance_uid}/reassign", self.by_uid, methods=["GET"]),
            Route(root, self.choose, methods=["GET"]),
            Route(root, posting(self.move), methods=["POST"]),
            Route(root + "/confirm", self.confirm, methods=["GET"]),
            Route(root + "/undo", posting(self.undo), methods=["POST"]),
        ]

    def by_uid(self, request: Request) -> Response:
        """The first step, for the study that is shown for a UID."""
        actor = self._actor(request)
        scope = scope_for(actor, Action.REASSIGN_STUDY)
        with self.pages.store.read() as connection:
            shown = study_shown(connection, request.path_params["study_instance_uid"][:64], scope)
        if shown is None:
            raise NotFound(NOT_HERE)
        return see_other(urls.reassign(shown.study.id))

    def choose(self, request: Request) -> Response:
        """Which images, and where to: what is likely, or what a text finds."""
        actor = self._actor(request)
        scope = scope_for(actor, Action.REASSIGN_STUDY)
        text = request.query_params.get("text", "").strip()[:MAXIMUM_TEXT]
        with self.pages.store.read() as connection:
            shown = self._study(request, connection, actor)
            own = shown.study.patient_id
            found = find_orders(connection, scope, text) if text else likely_orders(connection, scope, shown)
            page = ReassignPage(
                frame=self.pages.frame(request, connection, "exceptions"),
                study=self._moved(connection, shown, actor),
                series=tuple(_series_model(each) for each in series_of(connection, shown.study.id)),
                chosen=tuple(request.query_params.getlist("series")[:MOST_CHOSEN]),
                text=text,
                orders=tuple(candidate_model(each, shown) for each in found if each.order.id != shown.study.order_id),
                people=tuple(
                    PersonFound(each.id, patient_from_registered(each))
                    for each in find_patients(connection, scope, text)
                ),
                others=tuple(_other(each) for each in studies_of_person(connection, own, shown.study.id))
                if own
                else (),
                past=_past(reassignments_of(connection, [shown.study.id])),
            )
        self._audit(actor, shown)
        return self.pages.answer("reassign.html", page)

    def confirm(self, request: Request) -> Response:
        """Both patients side by side, and the form that does it."""
        actor = self._actor(request)
        chosen = request.query_params.getlist("series")[:MOST_CHOSEN]
        with self.pages.store.read() as connection:
            shown = self._study(request, connection, actor)
            target = self._target(connection, request.query_params.get("target", ""), actor)
            study = self._moved(connection, shown, actor)
            all_series = series_of(connection, shown.study.id)
            part = [each for each in all_series if each.series_instance_uid in chosen]
            whole = not part or len(part) == len(all_series) or target.into is not None
            page = ConfirmPage(
                frame=self.pages.frame(request, connection, "exceptions"),
                study=study,
                heading=_heading(target, whole=whole),
                target=request.query_params.get("target", ""),
                target_name=target.patient.name,
                series=tuple(_series_model(each) for each in (all_series if whole else part)),
                is_whole=whole,
                compared=_compared(study, target),
                seen=json.dumps(asdict(Whose.of(shown.study))),
            )
        self._audit(actor, shown)
        self.pages.read_log.record(actor, Read(Action.READ_PATIENT, target.patient_id))
        return self.pages.answer("reassign_confirm.html", page)

    def move(self, request: Request, form: Form) -> Response:
        """Do what was confirmed."""
        actor = self._actor(request)
        if form.get("compared") != "yes":
            raise InvalidInput("Say that you have compared both patients.", field="compared")
        study_id, reason = request.path_params["study_id"][:26], form.get("reason", "")[:MAXIMUM_REASON]
        seen = _seen(form.get("seen", ""))
        with self.pages.store.read() as connection:
            target = self._target(connection, form.get("target", ""), actor)
        if target.into is not None:
            self.pages.store.run(join_studies, JoinStudies(study_id, seen, target.into.study.id, reason), actor)
        else:
            order_id = target.order.id if target.order else None
            series = tuple(form.get("series", "").split()[:MOST_CHOSEN])
            command = ReassignStudy(study_id, seen, target.patient_id, order_id, reason, series)
            study_id = self.pages.store.run(reassign_study, command, actor).into_study_id
        return see_other(urls.with_query(urls.reassign(study_id), done="moved"))

    def undo(self, request: Request, form: Form) -> Response:
        """Take back what was moved."""
        actor = self._actor(request)
        command = UndoReassignment(form.get("reassignment", "")[:26], form.get("reason", "")[:MAXIMUM_REASON])
        done = self.pages.store.run(undo_reassignment, command, actor)
        return see_other(urls.with_query(urls.reassign(done.study_id), done="moved-back"))

    @staticmethod
    def _actor(request: Request) -> Actor:
        actor: Actor = request.state.actor
        require(actor, Action.REASSIGN_STUDY)
        return actor

    def _audit(self, actor: Actor, shown: StudyShown) -> None:
        study = shown.study
        self.pages.read_log.record(actor, Read(Action.READ_ORDER, study.patient_id, study.order_id, study.id))

    def _study(self, request: Request, connection: Any, actor: Actor) -> StudyShown:
        scope = scope_for(actor, Action.REASSIGN_STUDY)
        shown = study_by_id(connection, request.path_params["study_id"][:26], scope)
        if shown is None:
            raise NotFound(NOT_HERE)
        return shown

    def _moved(self, connection: Any, shown: StudyShown, actor: Actor) -> MovedStudy:
        study = shown.study
        order = order_by_id(connection, study.order_id, scope_for(actor, Action.READ_ORDER)) if study.order_id else None
        report = report_of_order(connection, study.order_id) if study.order_id else None
        family = (
            family_of(connection, study.patient_id, scope_for(actor, Action.READ_PATIENT)) if study.patient_id else []
        )
        return MovedStudy(
            study.id,
            study.study_instance_uid,
            _title(shown),
            patient_from_images(shown.sent),
            patient_from_registered(family[0]) if family else None,
            order.accession_number if order else "",
            report is not None and report.version > 0 and report.status.value != "retracted",
        )

    def _target(self, connection: Any, text: str, actor: Actor) -> _Target:
        """What a choice names, if the actor may see it. Raises NotFound."""
        scope = scope_for(actor, Action.REASSIGN_STUDY)
        kind, _, row_id = text[:40].partition(":")
        order = order_by_id(connection, row_id, scope) if kind == "order" else None
        into = study_by_id(connection, row_id, scope) if kind == "study" else None
        patient_id = row_id if kind == "patient" else ""
        if order is not None:
            patient_id = order.patient_id
        elif into is not None:
            patient_id = into.study.patient_id or ""
        family = family_of(connection, patient_id, scope) if patient_id else []
        if not family:
            raise NotFound("Choose a patient, an order or a study.", field="target")
        return _Target(patient_from_registered(family[0]), family[0].id, order, into)


def _seen(text: str) -> Whose:
    """Whose the study was when the page was made. Raises InvalidInput."""
    try:
        said = json.loads(text[:200])
        return Whose(said["patient_id"], said["order_id"], said["match_state"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("The form is not whole; open the page again.", field="seen") from error


def _title(shown: StudyShown) -> str:
    study = shown.study
    modality = "/".join(study.modalities)
    count = f"{study.instance_count} image{'' if study.instance_count == 1 else 's'}"
    return " · ".join(part for part in (modality, study.description, study.study_date, count) if part)


def _series_model(series: SeriesListed) -> MovableSeries:
    number = "" if series.number is None else f"{series.number} "
    label = f"{number}{series.modality} {series.description}".strip()
    return MovableSeries(series.series_instance_uid, label or "Series", series.images, series.withheld)


def _other(shown: StudyShown) -> OtherStudy:
    return OtherStudy(shown.study.id, _title(shown))


def _heading(target: _Target, *, whole: bool) -> str:
    if target.into is not None:
        return "Join with another study"
    return "Move the whole study" if whole else "Split a part off"


def _compared(study: MovedStudy, target: _Target) -> tuple[Compared, ...]:
    """Each attribute as the images say it, as it is shown now, and as it will be."""
    nobody = Patient("", "", "", None, "")
    sent, now, then = study.sent, study.registered or nobody, target.patient
    rows = [
        ("Name", *(each.name for each in (sent, now, then))),
        ("Patient ID", *(each.identifier for each in (sent, now, then))),
        ("Issuer", *(each.authority for each in (sent, now, then))),
        ("Birth date", *(str(each.birth_date or "") for each in (sent, now, then))),
        ("Sex", *(each.sex for each in (sent, now, then))),
    ]
    order = target.order
    accession = order.accession_number if order else ""
    if target.into is None:
        rows.append(("Accession", "", study.accession_number, accession))
    if order is not None:
        rows.append(("Procedure", "", "", order.procedure.meaning or order.procedure.value))
    return tuple(Compared(*row) for row in rows)


def _past(done: Sequence[Reassignment]) -> tuple[PastMove, ...]:
    standing = next((each.id for each in done if each.undone_at is None), "")
    return tuple(
        PastMove(
            each.id,
            _WORDS[each.kind],
            each.reason,
            each.by,
            each.at,
            f"Taken back by {each.undone_by}: {each.undone_reason}" if each.undone_at else "",
            each.id == standing,
        )
        for each in done
    )
