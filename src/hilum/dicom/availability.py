"""Instance Availability Notification as SCU: a destination is told what can be retrieved here (PS3.4 R, IHE RAD-49).

One N-CREATE a study. Its SOP Instance UID follows from the delivery, so that a repetition is known as one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from hilum.core.errors import HilumError, Unavailable
from hilum.delivery.images import ImageJob
from hilum.delivery.ports import SendOutcome, Sent
from hilum.dicom.dimse.messages import CommandField, CommandSet
from hilum.dicom.dimse.mpps import MODALITY_PERFORMED_PROCEDURE_STEP
from hilum.dicom.dimse.status import DUPLICATE_SOP_INSTANCE, SUCCESS
from hilum.dicom.encode import encode
from hilum.dicom.requestor import Called, NothingAccepted, associate
from hilum.dicom.upper_layer.syntaxes import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from hilum.settings import Configuration
from hilum.storage.completion import exam_uids
from hilum.storage.deliveries import Delivery
from hilum.storage.forwarding import shown_study
from hilum.storage.retrieval import StoredInstance, find_instances
from hilum.storage.shown import ShownStudy
from hilum.storage.store import Store

INSTANCE_AVAILABILITY_NOTIFICATION = "1.2.840.10008.5.1.4.33"
# PS3.7 C.4.3: told, with a remark; and told before.
_TAKEN = frozenset({SUCCESS, DUPLICATE_SOP_INSTANCE, 0x0107, 0x0116})
_NAMESPACE = uuid.UUID("6a1a9d8e-3f50-5b1c-9a64-6f6f1f0a7c11")


class Availability:
    """Tells destinations what is here."""

    def __init__(self, store: Store, configuration: Configuration) -> None:
        self._store = store
        self._configuration = configuration

    def tell(self, delivery: Delivery, job: ImageJob, called: Called) -> Sent:
        """Tell of each study of a delivery that may be shown."""
        wishes = [
            (INSTANCE_AVAILABILITY_NOTIFICATION, EXPLICIT_VR_LITTLE_ENDIAN),
            (INSTANCE_AVAILABILITY_NOTIFICATION, IMPLICIT_VR_LITTLE_ENDIAN),
        ]
        notices = [(study_id, self._notice(study_id)) for study_id in job.studies]
        if not any(notice for _, notice in notices):
            return Sent(SendOutcome.REJECTED, "not-shown")
        try:
            with associate(called, wishes) as requestor:
                (_, transfer_syntax), context_id = next(iter(requestor.contexts.items()))
                for study_id, notice in notices:
                    if notice is None:
                        continue
                    data_set = encode(notice, transfer_syntax, "")
                    status = requestor.invoke(context_id, _command(delivery, study_id), data_set).status
                    if status not in _TAKEN:
                        return Sent(SendOutcome.ERROR, f"status-{status or 0:04X}")
        except NothingAccepted as error:
            return Sent(SendOutcome.ERROR, error.code)
        except HilumError as error:
            outcome = SendOutcome.TRANSIENT if isinstance(error, Unavailable) else SendOutcome.AMBIGUOUS
            return Sent(outcome, error.code)
        return Sent(SendOutcome.ACCEPTED)

    def _notice(self, study_id: str) -> dict[str, Any] | None:
        with self._store.read() as connection:
            study = shown_study(connection, study_id)
            if study is None:
                return None
            instances = find_instances(connection, study_id)
            exams = exam_uids(connection, study_id, study.order_id)
        return notice_of(study, instances, exams, self._configuration.current.dicom.ae_title)


def notice_of(
    study: ShownStudy, instances: Iterable[StoredInstance], exams: Iterable[str], ae_title: str
) -> dict[str, Any]:
    """Return the attributes of a notification (PS3.4 table R.3.2-1)."""
    series: dict[str, list[dict[str, Any]]] = {}
    for each in instances:
        reference = {
            "ReferencedSOPClassUID": each.sop_class_uid,
            "ReferencedSOPInstanceUID": each.sop_instance_uid,
            "InstanceAvailability": "ONLINE",
            "RetrieveAETitle": ae_title,
        }
        series.setdefault(each.series_instance_uid, []).append(reference)
    return {
        "ReferencedPerformedProcedureStepSequence": [_exam(uid) for uid in exams],
        "StudyInstanceUID": study.study_instance_uid,
        "ReferencedSeriesSequence": [
            {"SeriesInstanceUID": uid, "ReferencedSOPSequence": references} for uid, references in series.items()
        ],
    }


def _exam(uid: str) -> dict[str, Any]:
    return {
        "ReferencedSOPClassUID": MODALITY_PERFORMED_PROCEDURE_STEP,
        "ReferencedSOPInstanceUID": uid,
        "PerformedWorkitemCodeSequence": [],
    }


def _command(delivery: Delivery, study_id: str) -> CommandSet:
    return CommandSet(
        affected_sop_class_uid=INSTANCE_AVAILABILITY_NOTIFICATION,
        affected_sop_instance_uid=f"2.25.{uuid.uuid5(_NAMESPACE, f'{delivery.id} {study_id}').int}",
        command_field=CommandField.N_CREATE_RQ,
    )
