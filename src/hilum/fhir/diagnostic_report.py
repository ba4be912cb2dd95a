"""DiagnosticReport: the current signed version of a report, with its order, its images and the link that opens them."""

from __future__ import annotations

from base64 import b64encode
from datetime import tzinfo

from hilum.core.report import ReportStatus
from hilum.fhir import systems
from hilum.fhir.elements import (
    Resource,
    concept,
    finished,
    instant,
    launch_url,
    order_identifiers,
    patient_reference,
    physician_reference,
    reference,
)
from hilum.fhir.imaging_study import started
from hilum.storage.fhir_records import ReportRecord

# http://hl7.org/fhir/R4/valueset-diagnostic-report-status.html; a draft is nobody else's to read.
STATUS = {
    ReportStatus.PRELIMINARY: "preliminary",
    ReportStatus.FINAL: "final",
    ReportStatus.ADDENDED: "appended",
    ReportStatus.CORRECTED: "corrected",
    ReportStatus.RETRACTED: "entered-in-error",
}
CATEGORIES = (
    {"system": systems.LOINC, "code": "LP29684-5", "display": "Radiology"},
    {"system": systems.DIAGNOSTIC_SECTION, "code": "RAD", "display": "Radiology"},
)


def diagnostic_report_from_report(record: ReportRecord, base_url: str, zone: tzinfo) -> Resource:
    """Build the resource of a report; a retracted one keeps no conclusion."""
    version, order = record.version, record.order
    retracted = version.status is ReportStatus.RETRACTED
    numbers = order_identifiers(order)
    effective = min((moment for study in record.studies if (moment := started(study, zone))), default=None)
    resource = {
        "resourceType": "DiagnosticReport",
        "id": version.report_id,
        "identifier": [number for name in ("ACSN", "FILL") if (number := numbers[name])],
        "basedOn": [reference("ServiceRequest", order.id)],
        "status": STATUS[version.status],
        "category": [{"coding": [category]} for category in CATEGORIES],
        "code": concept(order.procedure),
        "subject": patient_reference(record.subject),
        "effectiveDateTime": effective,
        "issued": instant(version.signed_at or version.recorded_at),
        "resultsInterpreter": [who] if (who := physician_reference(version.interpreter)) else [],
        "imagingStudy": [reference("ImagingStudy", study.id) for study in record.studies],
        "conclusion": "" if retracted else version.impression.strip(),
        "presentedForm": _presented(record, base_url),
    }
    return finished(resource, version.version, version.recorded_at)


def _presented(record: ReportRecord, base_url: str) -> list[Resource]:
    version = record.version
    forms: list[Resource] = [
        {
            "contentType": "text/plain; charset=utf-8",
            "data": b64encode(version.text.encode("utf-8", "replace")).decode(),
            "title": "Report",
            "creation": instant(version.signed_at or version.recorded_at),
        }
    ]
    links = [launch_url(base_url, study) for study in record.studies]
    forms += [{"contentType": "text/html", "url": link, "title": "Images"} for link in links]
    return forms
