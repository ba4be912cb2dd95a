"""A notice that something happened: the event and references to what it concerns, nothing of a patient but row ids.

Whoever may know more follows the references with a token of its own.
"""

from __future__ import annotations

from typing import Any

import orjson

from hilum.delivery.ports import Encoded, EventContext
from hilum.settings import Destination, Settings


def encode_json_notice(context: EventContext, destination: Destination, settings: Settings) -> Encoded:
    """Encode an event as JSON. Its id is the control ID, so that a receiver knows a repetition."""
    event = context.event
    body = orjson.dumps(notice_of(context, settings), option=orjson.OPT_SORT_KEYS)
    return Encoded(event.name.value, event.id, body)


def notice_of(context: EventContext, settings: Settings) -> dict[str, Any]:
    """Return what a notice says: names, numbers, identifiers and FHIR references."""
    event, order, version = context.event, context.order, context.version
    notice: dict[str, Any] = {"id": event.id, "event": event.name.value, "at": event.at.isoformat()}
    if context.patient is not None:
        notice["patient"] = {"reference": f"Patient/{context.patient.id}"}
    if order is not None:
        notice["order"] = {
            "reference": f"ServiceRequest/{order.id}",
            "accession_number": order.accession_number,
            "placer_order_number": order.placer_order_number,
            "filler_order_number": order.filler_order_number,
            "status": order.status.value,
        }
    if context.studies:
        notice["studies"] = [
            {"reference": f"ImagingStudy/{study.id}", "study_instance_uid": study.study_instance_uid}
            for study in context.studies
        ]
    if context.report is not None:
        notice["report"] = {"reference": f"DiagnosticReport/{context.report.id}"}
        if version is not None:
            notice["report"] |= {"version": version.version, "status": version.status.value}
    return notice | {"fhir": f"{settings.http.base_url}/fhir"}
