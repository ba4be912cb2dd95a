"""How long the values of an order may be; what is longer is refused with its place, never cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hilum.core.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from hilum.workflow.ordering import OrderRequest

# SH, the value representation of Accession Number and Requested Procedure ID (PS3.5 6.2).
SHORT_STRING = 16
# So that an own step ID (requested procedure ID, dash, number) stays that short too.
MOST_STEPS = 99


def check_limits(command: OrderRequest) -> None:
    """Raise InvalidInput or TooLarge, with its HL7 field, for what is too long or too much."""
    limits = (
        (command.accession_number, SHORT_STRING, "OBR-18", "accession number"),
        (command.requested_procedure_id, SHORT_STRING, "OBR-19", "requested procedure ID"),
        (command.placer_order_number, 199, "ORC-2", "placer order number"),
        (command.filler_order_number, 199, "ORC-3", "filler order number"),
        (command.procedure.value, 64, "OBR-4", "procedure code"),
        (command.procedure.meaning, 250, "OBR-4", "procedure text"),
        (command.patient_class, 4, "PV1-2", "patient class"),
        *((step.step_id, SHORT_STRING, "OBR-20", "scheduled procedure step ID") for step in command.steps),
        *((step.station_ae_title, SHORT_STRING, "IPC-9", "station AE title") for step in command.steps),
        *((step.station_name, SHORT_STRING, "IPC-7", "station name") for step in command.steps),
        *((step.modality, SHORT_STRING, "OBR-24", "modality") for step in command.steps),
    )
    if len(command.steps) > MOST_STEPS:
        raise TooLarge(f"The order has more than {MOST_STEPS} steps.", field="OBR-20")
    named = [step.step_id for step in command.steps if step.step_id]
    if len(set(named)) < len(named):
        raise InvalidInput("Two steps of the order have the same ID.", field="OBR-20")
    for value, limit, place, name in limits:
        if len(value) > limit:
            raise InvalidInput(f"The {name} is longer than {limit} characters.", field=place)
