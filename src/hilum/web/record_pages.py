"""The records that merges made one person, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hilum.core.actor import Actor
from hilum.core.errors import NotFound
from hilum.core.patient import Patient
from hilum.security.audit import Read
from hilum.security.policy import Action, require, scope_for
from hilum.storage.merges import MergeRecord, merges_of
from hilum.storage.reassignment_pages import family_of
from hilum.web import urls
from hilum.web.models.reassign import PastMerge, RecordRow, RecordsPage
from hilum.web.pages import Form, Pages, may, posting, see_other
from hilum.web.people import patient_from_registered
from hilum.workflow.source import Source
from hilum.workflow.unmerging import UnmergePatients, unmerge_patients

MAXIMUM_REASON = 500


@dataclass(frozen=True, slots=True)
class RecordPages:
    """The handlers of merged records."""

    pages: Pages

    def routes(self) -> list[Route]:
        """The paths of this subject."""
        return [
            Route("/patients/{patient_id}/records", self.show, methods=["GET"]),
            Route("/patients/{patient_id}/unmerge", posting(self.unmerge), methods=["POST"]),
        ]

    def show(self, request: Request) -> Response:
        """All records of one person, and the merges that were undone."""
        actor: Actor = request.state.actor
        require(actor, Action.READ_PATIENT)
        with self.pages.store.read() as connection:
            family = family_of(
                connection, request.path_params["patient_id"][:26], scope_for(actor, Action.READ_PATIENT)
            )
            if not family:
                raise NotFound("There is no such patient, or you may not see them.")
            merges = merges_of(connection, [each.id for each in family])
            frame = self.pages.frame(request, connection)
        people = {each.id: each for each in family}
        page = RecordsPage(
            frame=frame,
            patient=patient_from_registered(family[0]),
            patient_id=family[0].id,
            rows=tuple(_row(each, people, merges) for each in family),
            past=tuple(
                PastMerge("A merge was undone", each.undone_reason, each.undone_by, each.undone_at)
                for each in merges
                if each.undone_at is not None
            ),
            may_unmerge=may(actor, Action.MERGE_PATIENTS) and actor.is_person,
        )
        self.pages.read_log.record(actor, Read(Action.READ_PATIENT, family[0].id))
        return self.pages.answer("records.html", page)

    def unmerge(self, request: Request, form: Form) -> Response:
        """Take one record out of the person again."""
        actor: Actor = request.state.actor
        require(actor, Action.MERGE_PATIENTS)
        patient_id = request.path_params["patient_id"][:26]
        with self.pages.store.read() as connection:
            family = family_of(connection, patient_id, scope_for(actor, Action.MERGE_PATIENTS))
        people = {each.id: each for each in family}
        away = people.get(form.get("record", ""))
        into = people.get(away.merged_into or "") if away is not None else None
        if away is None or into is None:
            raise NotFound("There is no such merged record.", field="record")
        command = UnmergePatients(
            into.identifiers,
            away.identifiers,
            form.get("reason", "")[:MAXIMUM_REASON],
            Source("Hilum page", actor.name),
        )
        self.pages.store.run(unmerge_patients, command, actor)
        return see_other(urls.with_query(urls.records(family[0].id), done="unmerged"))


def _row(patient: Patient, people: Mapping[str, Patient], merges: list[MergeRecord]) -> RecordRow:
    into = people.get(patient.merged_into or "")
    since = next((each.at for each in merges if each.subsumed_id == patient.id and each.undone_at is None), None)
    return RecordRow(
        patient.id, patient_from_registered(patient), patient_from_registered(into).identifier if into else "", since
    )
