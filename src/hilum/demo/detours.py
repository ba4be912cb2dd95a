"""Exceptions that are part of the chain: images under a wrong patient ID, and an order cancelled before it starts."""

from __future__ import annotations

from typing import Any

from hilum.demo.journey import Journey
from hilum.demo.play import Refused, agree, eventually


def wrong_patient(journey: Journey, stranger: str) -> None:
    """Images with the order's accession number and another patient's ID stay readable, and out of the order's study."""
    modality, dictation, ehr = journey.players.modality, journey.players.dictation, journey.players.ehr
    journey.place()
    journey.worklist()
    at, study_uid = journey.order["performed_at"], journey.step["study"]
    modality.ask("choose", accession=journey.step["accession"], at=at, patient_id=stranger)
    modality.ask("acquire", within=120, seed=journey.anatomy, nodule_mm=journey.nodule_mm, noise_seed=1)
    with journey.programme.link(journey.act, 7, "CR → Hilum", "DICOM C-STORE, QIDO-RS, FHIR ImagingStudy") as leg:
        modality.ask("store", within=120)

        def readable() -> dict[str, Any] | None:
            found: dict[str, Any] | None = dictation.ask("study", study=study_uid)
            return found

        study = eventually(readable, "the images are accepted but cannot be found (QIDO-RS)")
        agree("the patient ID of the images", stranger, study["patient"])
        claimed = ehr.ask("search", resource="ImagingStudy", basedon=f"ServiceRequest/{journey.request_id}")
        agree("the number of studies that claim the order", 0, len(claimed))
        of_patient = dictation.ask("studies_of", patient_id=journey.patient["identifier"])
        if study_uid in [match["study"] for match in of_patient]:
            raise Refused("another patient's images are among this patient's studies")
        leg.seen = "readable, unverified, and not in the order's study"


def cancel_before_start(journey: Journey) -> None:
    """An order cancelled before it starts leaves the worklist and is revoked."""
    journey.place()
    journey.worklist()
    with journey.programme.link(journey.act, 5, "EHR → Hilum, CR ⇄ Hilum", "HL7 ORM^O01 CA, DICOM MWL C-FIND") as leg:
        journey.players.ehr.ask("cancel", patient=journey.patient, order=journey.order)

        def gone() -> bool | None:
            number, modality = journey.patient["identifier"], journey.order["modality"]
            items = journey.players.modality.ask("worklist", patient_id=number, modality=modality)
            return None if journey.step["step"] in [item["step"] for item in items] else True

        def revoked() -> bool | None:
            found = journey.players.ehr.ask("search", resource="ServiceRequest", identifier=journey.order["placer"])
            return True if found and found[0]["status"] == "revoked" else None

        eventually(gone, "the cancelled step is still on the worklist")
        eventually(revoked, "the cancelled ServiceRequest is not revoked")
        leg.seen = "off the worklist, revoked"


def nothing_crossed(journeys: list[Journey]) -> None:
    """Everything the EHR got names one of its orders, with that order's own patient and filler number."""
    first = journeys[0]
    with first.programme.link("all", 10, "Hilum → EHR", "HL7, every message of this run") as leg:
        orders = {journey.order["placer"]: journey for journey in journeys}
        received = first.players.ehr.ask("received")
        for got in received:
            owner = orders.get(got["placer"])
            if owner is None:
                raise Refused(f"{got['kind']} came for an order the EHR did not place")
            agree("PID-3 at the EHR", owner.patient["identifier"], got["patient"])
            agree("the filler order number at the EHR", owner.order["filler"], got["filler"])
            if got["kind"] == "ORU^R01" and not owner.acquired:
                raise Refused("a result came for an order without an examination")
        leg.seen = f"{len(received)} messages, each with its own patient and order"
