"""Images that a rule of the configuration holds back: stored, and kept from sight until a person releases them."""

from __future__ import annotations

from hilum.core.study import ExceptionKind, Study
from hilum.storage.unit_of_work import UnitOfWork


def hold_back(uow: UnitOfWork, study: Study, series_id: str | None, sop_instance_uid: str) -> None:
    """Withhold the series of an image, also where other images of it were seen before, and list it for a person."""
    if series_id is not None:
        uow.studies.withhold_series([series_id], True)
    uow.exceptions.add(
        ExceptionKind.HELD_BY_RULE,
        study_id=study.id,
        order_id=study.order_id,
        patient_id=study.patient_id,
        note=sop_instance_uid,
    )
