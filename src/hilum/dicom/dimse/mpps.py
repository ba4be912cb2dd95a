"""Link 6, Exam: Modality Performed Procedure Step N-CREATE and N-SET (PS3.4 F.7, IHE RAD TF-2 4.6 and 4.7).

What is missing or wrong is answered with its attribute; a step that is over is no longer updated (0110H, A506H).
"""

from __future__ import annotations

from hilum.archive.metadata import walk_dataset
from hilum.core.errors import HilumError, InvalidInput, MissingField
from hilum.core.identifiers import is_uid, new_uid
from hilum.core.order import PerformedStatus
from hilum.dicom.callers import Caller, caller_of
from hilum.dicom.dimse.dispatch import AssociationContext, Request, Response, Service
from hilum.dicom.dimse.messages import CommandField
from hilum.dicom.dimse.status import (
    INVALID_ATTRIBUTE_VALUE,
    INVALID_SOP_INSTANCE,
    MISSING_ATTRIBUTE,
    MISSING_ATTRIBUTE_VALUE,
    ServiceClass,
    error_comment_of,
)
from hilum.dicom.encode import tag_and_vr
from hilum.dicom.identifier import Keys
from hilum.dicom.performed_step import exam_report, missing_at_creation
from hilum.dicom.upper_layer.negotiation import Offer
from hilum.dicom.upper_layer.syntaxes import only
from hilum.settings import Configuration
from hilum.storage.store import Store
from hilum.workflow.acquisition import start_exam, update_exam
from hilum.workflow.source import Source

MODALITY_PERFORMED_PROCEDURE_STEP = "1.2.840.10008.3.1.2.3.3"
MAXIMUM_ATTRIBUTES = 4 << 20


class PerformedSteps:
    """Takes what modalities say of their exams."""

    def __init__(self, store: Store, configuration: Configuration) -> None:
        self._store = store
        self._configuration = configuration

    def service(self) -> Service:
        """Return the service to be offered."""
        handlers = {CommandField.N_CREATE_RQ: self.create, CommandField.N_SET_RQ: self.set}
        offer = Offer(only(MODALITY_PERFORMED_PROCEDURE_STEP))
        return Service("mpps", ServiceClass.PROCEDURE_STEP, offer, handlers, MAXIMUM_ATTRIBUTES)

    def create(self, context: AssociationContext, request: Request) -> Response:
        """Begin a performed step; where the modality left its UID out, it is given here and told."""
        caller, keys = self._read(context, request)
        uid = request.command.affected_sop_instance_uid or new_uid()
        if not is_uid(uid):
            return Response(INVALID_SOP_INSTANCE, error_comment="The SOP Instance UID is not a UID.")
        missing = missing_at_creation(keys)
        if missing is not None:
            return _missing(*missing)
        try:
            report = exam_report(keys, uid, caller, Source("DICOM MPPS N-CREATE", caller.ae_title))
        except InvalidInput as error:
            return _invalid(error)
        if report.status is not PerformedStatus.IN_PROGRESS:
            begins = InvalidInput("A step begins IN PROGRESS.", field="PerformedProcedureStepStatus")
            return _invalid(begins)
        self._store.run(start_exam, report, caller.actor)
        return Response(fields={"affected_sop_instance_uid": uid})

    def set(self, context: AssociationContext, request: Request) -> Response:
        """Lay further attributes over a performed step, up to its end."""
        caller, keys = self._read(context, request)
        uid = request.command.requested_sop_instance_uid or ""
        try:
            report = exam_report(keys, uid, caller, Source("DICOM MPPS N-SET", caller.ae_title))
        except InvalidInput as error:
            return _invalid(error)
        self._store.run(update_exam, report, caller.actor)
        return Response()

    def _read(self, context: AssociationContext, request: Request) -> tuple[Caller, Keys]:
        if request.data_set is None:
            raise MissingField("The request comes without an attribute list.")
        walk = walk_dataset(request.data_set.tobytes(), context.transfer_syntax)
        return caller_of(context, self._configuration.refresh()), Keys(walk.attributes)


def _missing(keyword: str, is_empty: bool) -> Response:
    """0121H for an attribute without value, 0120H for one that is not there (PS3.7 C.4.2, C.5.11, C.5.12)."""
    status, what = (MISSING_ATTRIBUTE_VALUE, "empty") if is_empty else (MISSING_ATTRIBUTE, "missing")
    return Response(status, error_comment=f"{keyword} is {what}.", fields=_naming(keyword))


def _invalid(error: HilumError) -> Response:
    """0106H with the attribute in question (PS3.7 C.5.10)."""
    fields = _naming(error.field) if error.field else {}
    return Response(INVALID_ATTRIBUTE_VALUE, error_comment=error_comment_of(error), fields=fields)


def _naming(keyword: str) -> dict[str, tuple[int, ...]]:
    try:
        return {"attribute_identifier_list": (tag_and_vr(keyword)[0],)}
    except ValueError:
        return {}
