"""Deletion of a study, a series or an instance over DICOMweb: the first of two steps.

What is deleted is hidden at once, at every door, and removed after the time of grace; until then an administrator can
take it back. PS3.18 has no such transaction; the form is the one that archives share.
"""

from __future__ import annotations

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from hilum.core.errors import InvalidInput, NotFound
from hilum.dicom.web.door import Door, actor_of, path_uid
from hilum.security.policy import Action, scope_for
from hilum.storage.retrieval import find_study
from hilum.workflow.deletion import MarkForDeletion, mark_for_deletion
from hilum.workflow.source import Source

LONGEST_REASON = 500
NO_REASON = "Deleted over DICOMweb, no reason was given."


class Delete:
    """The deleting of resources, at each of the three levels."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def delete(self, request: Request) -> Response:
        """`DELETE /studies/{study}`, `…/series/{series}`, `…/instances/{instance}`; `reason` may say why."""
        actor = actor_of(request)
        self._door.permit(actor, Action.DELETE_IMAGES)
        uid = path_uid(request, "study", "StudyInstanceUID")
        reason = request.query_params.get("reason", "").strip() or NO_REASON
        if len(reason) > LONGEST_REASON or not reason.isprintable():
            raise InvalidInput(f"reason is a line of at most {LONGEST_REASON} letters.", field="reason")
        with self._door.store.read() as connection:
            study = find_study(connection, uid, scope_for(actor, Action.DELETE_IMAGES))
        if study is None:
            raise NotFound("There is no such study.")
        first = self._door.instances(request, study)[0]
        levels = request.path_params
        command = MarkForDeletion(
            study.id,
            reason,
            timedelta(days=self._door.configuration.current.archive.deletion_grace_days),
            Source("DICOMweb DELETE", actor.name),
            first.series_instance_uid if "series" in levels else None,
            first.sop_instance_uid if "instance" in levels else None,
        )
        self._door.store.run(mark_for_deletion, command, actor)
        return Response(status_code=204)
