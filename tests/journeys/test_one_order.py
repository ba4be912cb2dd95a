"""One order's way from the EHR to the scanner and back, as docs/architecture.md walks it through the code."""

from __future__ import annotations

import re

import pytest

from fixtures.department import Department, Patient, accepted, eventually, fields, next_numbers

pytestmark = pytest.mark.xdist_group("department")


def test_an_order_travels_from_the_ehr_to_the_scanner_and_back(department: Department) -> None:
    patient = Patient(next_numbers(1)[0], "Reiß", "Ana")
    department.register(patient)
    placed = department.place(patient)

    item = department.worklist_item(placed.accession)
    assert item is not None
    assert str(item.PatientName) == "Reiß^Ana"
    assert item.PatientID == patient.number
    assert item.ScheduledProcedureStepSequence[0].Modality == "CT"
    department.add_user(f"reader-{patient.number}", "radiologist", "R42^GENHOSP")

    department.perform(placed, images=3)
    assert department.worklist_item(placed.accession) is None
    eventually(lambda: department.ehr.statuses(placed.placer) == ["SC", "IP", "CM"], "status messages SC, IP, CM")

    studies = department.qido(AccessionNumber=placed.accession, who=f"reader-{patient.number}")
    assert [study["0020000D"]["Value"] for study in studies] == [[placed.study_uid]]
    frame = department.get(f"/dicom-web/studies/{placed.study_uid}/rendered", f"reader-{patient.number}", status=None)
    assert frame.status_code in (200, 404, 406)
    instances = department.qido(f"/studies/{placed.study_uid}/instances", who=f"reader-{patient.number}")
    assert len(instances) == 3
    series, instance = instances[0]["0020000E"]["Value"][0], instances[0]["00080018"]["Value"][0]
    path = f"/dicom-web/studies/{placed.study_uid}/series/{series}/instances/{instance}/frames/1/rendered"
    picture = department.get(path, f"reader-{patient.number}")
    assert picture.headers["content-type"].startswith("image/")

    assert accepted(department.dictate(placed, "P", "No acute finding."))
    assert accepted(department.dictate(placed, "F", "No acute finding. Signed."))
    result = eventually(
        lambda: next((m for m in department.ehr.reports(placed.accession) if fields(m, "OBR")[0][25] == "F"), None),
        "the final result at the EHR",
    )
    check_result(department, result, placed.placer, placed.accession, patient, placed.study_uid)
    check_fhir(department, placed.placer, placed.study_uid)

    chain = eventually(
        lambda: (links := department.trace(placed.accession)) and links[10]["at"] and links, "the result link"
    )
    assert [number for number, link in chain.items() if link["at"] is None] == [2]


def check_result(
    department: Department, result: bytes, placer: str, accession: str, patient: Patient, study_uid: str
) -> None:
    """The ORU^R01 names patient, placer, filler and accession, and links to the images."""
    (pid,), (obr,) = fields(result, "PID"), fields(result, "OBR")
    assert patient.number in pid[3]
    assert obr[2].split("^")[0] == placer
    assert obr[3].split("^")[0] == accession
    assert "No acute finding. Signed." in result.decode()
    links = re.findall(r"https?://[^|\r^]+/viewer/launch\?[^|\r^]+", result.decode().replace("\\T\\", "&"))
    assert links, result
    opened = department.get(links[0].removeprefix(department.http), f"reader-{patient.number}", status=None)
    assert opened.status_code == 200, opened.text
    assert study_uid in links[0]


def check_fhir(department: Department, placer: str, study_uid: str) -> None:
    """ServiceRequest, ImagingStudy and DiagnosticReport point to each other."""
    (request,) = department.search("ServiceRequest", identifier=placer)
    reference = f"ServiceRequest/{request['id']}"
    (study,) = department.search("ImagingStudy", basedon=reference)
    (report,) = department.search("DiagnosticReport", **{"based-on": reference})
    assert any(identifier["value"] == f"urn:oid:{study_uid}" for identifier in study["identifier"])
    assert report["status"] == "final"
    assert [each["reference"] for each in report["basedOn"]] == [reference]
    assert [each["reference"] for each in report["imagingStudy"]] == [f"ImagingStudy/{study['id']}"]
    assert study["basedOn"][0]["reference"] == reference
    assert request["subject"] == report["subject"] or request["subject"]["reference"] == report["subject"]["reference"]
    assert "/viewer/launch" in str(report)


def test_the_external_fillers_numbers_are_adopted(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    number = patient.number[1:]
    accession, uid = f"EXT{number}", f"1.2.826.0.1.3680043.8.498.{number}"
    answer = department.send(
        f"{department.header('OMI^O23^OMI_O23')}\r{patient.pid}\rPV1|1|O\r"
        f"ORC|NW|PL{number}^EPIC|F{number}^RIS\rTQ1|1||||||20261124080000||R\r"
        f"OBR|1|PL{number}^EPIC|F{number}^RIS|CTCHEST^CT Chest^L\r"
        f"IPC|{accession}|RP{number}|{uid}|SPS{number}|CT|CTCHEST^CT Chest^L|CTROOM|ROOM1|CT01\r"
    )
    assert accepted(answer), answer
    item = department.worklist_item(accession)
    assert item is not None
    assert item.StudyInstanceUID == uid
    assert item.RequestedProcedureID == f"RP{number}"
    assert item.ScheduledProcedureStepSequence[0].ScheduledProcedureStepID == f"SPS{number}"
    assert item.ScheduledProcedureStepSequence[0].ScheduledStationAETitle == "CT01"


def test_a_second_similar_order_gets_a_card_that_opens_the_prior(department: Department) -> None:
    patient = Patient(next_numbers(1)[0])
    department.register(patient)
    placed = department.place(patient)
    department.perform(placed)
    assert accepted(department.dictate(placed, "F", "Nodule of 6 mm."))
    (person,) = department.search("Patient", identifier=patient.number)
    draft = {
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "order",
        "subject": {"reference": f"Patient/{person['id']}"},
        "code": {"coding": [{"code": "CTCHEST", "display": "CT Chest"}]},
    }
    body = {
        "hook": "order-sign",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {
            "userId": "Practitioner/1",
            "patientId": person["id"],
            "draftOrders": {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": draft}]},
        },
    }
    cards = department.post("/cds-services/prior-imaging-order-sign", body).json()["cards"]
    card = next(card for card in cards if placed.study_uid in str(card.get("links")))
    assert "CT" in card["summary"]
    assert re.search(r"\d{4}-\d{2}-\d{2}", card["detail"])
    link = card["links"][0]
    assert link["type"] == "absolute"
    assert department.get(link["url"].removeprefix(department.http), status=None).status_code == 200

    second = department.place(patient)
    chain = department.trace(second.accession)
    assert chain[2]["at"] is not None, "the prior check is tied to the order that followed"
