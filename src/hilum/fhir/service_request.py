"""ServiceRequest: an imaging order under all its numbers."""

from __future__ import annotations

from hilum.core.order import OrderStatus, Priority
from hilum.fhir import systems
from hilum.fhir.elements import (
    Resource,
    bare,
    concept,
    finished,
    instant,
    modality,
    order_identifiers,
    patient_reference,
    physician_reference,
    uid_identifier,
)
from hilum.storage.fhir_records import OrderRecord

# http://hl7.org/fhir/R4/valueset-request-status.html
STATUS = {
    OrderStatus.SCHEDULED: "active",
    OrderStatus.IN_PROGRESS: "active",
    OrderStatus.PARTIAL: "active",
    OrderStatus.COMPLETED: "completed",
    OrderStatus.CANCELLED: "revoked",
    OrderStatus.DISCONTINUED: "revoked",
}
# http://hl7.org/fhir/R4/valueset-request-priority.html
PRIORITY = {Priority.STAT: "stat", Priority.URGENT: "urgent", Priority.ROUTINE: "routine"}
INTENT = "order"
CATEGORY = {"system": systems.SNOMED, "code": "363679005", "display": "Imaging"}


def service_request_from_order(record: OrderRecord) -> Resource:
    """Build the resource of an order."""
    order = record.order
    numbers = order_identifiers(order)
    resource = {
        "resourceType": "ServiceRequest",
        "id": order.id,
        "identifier": [*(number for number in numbers.values() if number), uid_identifier(order.study_instance_uid)],
        "status": STATUS[order.status],
        "intent": INTENT,
        "category": [{"coding": [CATEGORY]}],
        "priority": PRIORITY[order.priority],
        "code": concept(order.procedure),
        "orderDetail": [{"coding": [modality(order.modality)]}] if order.modality else [],
        "subject": patient_reference(record.subject),
        "encounter": {"type": "Encounter", "identifier": {"value": order.visit_number}} if order.visit_number else {},
        "occurrenceDateTime": instant(order.scheduled_at) if order.scheduled_at else None,
        "authoredOn": instant(order.placed_at),
        "requester": physician_reference(order.ordering_physician),
        "reasonCode": [{"text": order.reason}] if order.reason else [],
        "bodySite": [{"text": order.body_region}] if order.body_region else [],
        "note": [bare({"text": order.clinical_information})] if order.clinical_information else [],
    }
    return finished(resource, order.revision, record.updated_at)
