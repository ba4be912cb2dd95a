"""ImagingStudy: a study that is shown, its order where that is proven, and a plain word where it is not."""

from __future__ import annotations

import re
from datetime import datetime, tzinfo
from html import escape

from hilum.core.identifiers import is_uid
from hilum.core.study import MatchState, Study
from hilum.fhir import systems
from hilum.fhir.elements import (
    SUBSETTED,
    Resource,
    bare,
    concept,
    finished,
    launch_url,
    modality,
    order_identifiers,
    patient_reference,
    physician_reference,
    reference,
    typed_identifier,
    uid_identifier,
)
from hilum.fhir.endpoint import DICOMWEB, IMAGE_DISPLAY
from hilum.storage.fhir_records import InstanceRecord, SeriesRecord, StudyRecord

STATUS = "available"
UNVERIFIED = {"system": systems.MATCH_STATE, "code": "unverified", "display": "Unverified: no order is proven"}
UNVERIFIED_NOTE = "Unverified: the patient is as the images name them, and no order is proven."
_SOP_CLASS_SYSTEM = "urn:ietf:rfc:3986"
_CODE = re.compile(r"\S+( \S+)*")


def imaging_study_from_study(record: StudyRecord, base_url: str, zone: tzinfo) -> Resource:
    """Build the resource of a study; times of the images are read in the facility's `zone`."""
    study, order = record.study, record.order
    verified = study.match_state is MatchState.VERIFIED
    # The number on the images names another patient's order where they contradict it or were moved.
    claimed = _accession(study) if study.match_state is MatchState.UNVERIFIED else None
    accession = order_identifiers(order)["ACSN"] if order else claimed
    tags = ([] if verified else [UNVERIFIED]) + ([] if _complete(record) else [SUBSETTED])
    modalities = study.modalities or tuple(dict.fromkeys(series.modality for series in record.series))
    resource = {
        "resourceType": "ImagingStudy",
        "id": study.id,
        "meta": {"tag": tags} if tags else {},
        "text": _narrative(record, launch_url(base_url, study)),
        "identifier": [uid_identifier(study.study_instance_uid), *([accession] if accession else [])],
        "status": STATUS,
        "modality": [modality(code) for code in modalities if _CODE.fullmatch(code)],
        "subject": patient_reference(record.subject),
        "started": started(study, zone),
        "basedOn": [reference("ServiceRequest", order.id)] if order else [],
        "referrer": physician_reference(order.ordering_physician) if order else {},
        "endpoint": [reference("Endpoint", DICOMWEB), reference("Endpoint", IMAGE_DISPLAY)],
        "numberOfSeries": len(record.series),
        "numberOfInstances": sum(series.instance_count for series in record.series),
        "procedureCode": [concept(order.procedure)] if order else [],
        "reasonCode": [{"text": order.reason}] if order and order.reason else [],
        "note": [] if verified else [{"text": UNVERIFIED_NOTE}],
        "description": study.description or (order.procedure.meaning if order else ""),
        "series": [_series(series, zone) for series in record.series],
    }
    return finished(resource, study.revision, record.updated_at)


def started(study: Study, zone: tzinfo) -> str | None:
    """Return when the images say the study began: a moment, or the day alone where they give no time."""
    performed = study.performed_at
    if performed is None:
        return None
    local = performed.replace(tzinfo=zone)
    return local.isoformat(timespec="seconds") if study.study_time.strip() else _day(local)


def _day(moment: datetime) -> str:
    return moment.date().isoformat()


def _complete(record: StudyRecord) -> bool:
    return all(series.instances is not None for series in record.series)


def _accession(study: Study) -> Resource:
    return typed_identifier(study.accession_number, "ACSN", systems.ACCESSION_NUMBER)


def _narrative(record: StudyRecord, link: str) -> Resource:
    study = record.study
    words = " ".join(part for part in ("/".join(study.modalities), study.description) if part) or "Images"
    warning = "" if study.match_state is MatchState.VERIFIED else f"<p>{escape(UNVERIFIED_NOTE)}</p>"
    opening = f'<p><a href="{escape(link)}">{escape(words)}</a></p>'
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{warning}{opening}</div>'}


def _series(series: SeriesRecord, zone: tzinfo) -> Resource:
    return bare(
        {
            "uid": series.series_instance_uid,
            "number": series.number if series.number is not None and series.number >= 0 else None,
            "modality": modality(series.modality if _CODE.fullmatch(series.modality) else "OT"),
            "description": series.description,
            "numberOfInstances": series.instance_count,
            "bodySite": bare({"display": series.body_part}),
            "instance": [_instance(each) for each in series.instances or () if is_uid(each.sop_instance_uid)],
        }
    )


def _instance(instance: InstanceRecord) -> Resource:
    return bare(
        {
            "uid": instance.sop_instance_uid,
            "sopClass": {"system": _SOP_CLASS_SYSTEM, "code": f"urn:oid:{instance.sop_class_uid}"},
            "number": instance.number if instance.number is not None and instance.number >= 0 else None,
        }
    )
