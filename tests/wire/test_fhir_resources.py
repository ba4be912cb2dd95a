"""Each FHIR resource says what the chain knows, refers to the others, and is valid by an outside model of R4."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fhirclient.models.fhirelementfactory as factory
import pytest

from fixtures.fhir_server import PAGE, WILSON, Clinic, open_clinic
from hilum.core.order import OrderStatus, Priority
from hilum.core.patient import PatientIdentifier
from hilum.core.report import ReportStatus
from hilum.fhir import diagnostic_report, patient, service_request, systems
from hilum.storage.fhir_criteria import Number
from hilum.storage.store import Store
from hilum.workflow.reporting import DraftReport, draft_report


@pytest.fixture
def clinic(store: Store, tmp_path: Path) -> Iterator[Clinic]:
    with open_clinic(store, tmp_path / "home") as opened:
        yield opened


def valid(resource: dict[str, Any]) -> dict[str, Any]:
    """Build the resource by fhirclient's strict model, which refuses what R4 does not know or lacks."""
    model = factory.FHIRElementFactory.instantiate(resource["resourceType"], resource)
    assert model.as_json()["resourceType"] == resource["resourceType"]
    return resource


def coded(identifiers: list[dict[str, Any]]) -> dict[str, tuple[str | None, str]]:
    return {i["type"]["coding"][0]["code"]: (i.get("system"), i["value"]) for i in identifiers if "type" in i}


def test_the_chain_can_be_followed_from_the_order_to_the_images_and_the_report(clinic: Clinic) -> None:
    person = clinic.register("M1")
    order = clinic.place("M1")
    uid = clinic.image("M1", order, count=3)
    signed = clinic.sign(order)

    request = valid(clinic.get(f"ServiceRequest/{order.id}"))
    (study,) = map(valid, clinic.found("ImagingStudy", basedon=f"ServiceRequest/{order.id}"))
    (report,) = map(valid, clinic.found("DiagnosticReport", based_on=f"ServiceRequest/{order.id}"))

    subject = {"reference": f"Patient/{person.id}", "type": "Patient", "display": "Doe, Jane"}
    assert request["subject"] == study["subject"] == report["subject"] == subject
    assert valid(clinic.get(subject["reference"]))["name"][0]["family"] == "Doe"
    assert study["basedOn"][0]["reference"] == report["basedOn"][0]["reference"] == f"ServiceRequest/{order.id}"
    assert [each["reference"] for each in report["imagingStudy"]] == [f"ImagingStudy/{study['id']}"]
    assert study["identifier"][0] == {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
    assert coded(study["identifier"])["ACSN"] == ("urn:hilum:accession-number", order.accession_number)
    endpoint = valid(clinic.get(study["endpoint"][0]["reference"]))
    assert endpoint["address"] == f"{clinic.root}/dicom-web"
    assert endpoint["connectionType"]["code"] == "dicom-wado-rs"
    assert report["id"] == signed.id
    links = [form["url"] for form in report["presentedForm"] if "url" in form]
    assert links == [f"{clinic.root}/viewer/launch?requestType=STUDY&studyUID={uid}"]


def test_an_order_shows_all_its_numbers_and_what_was_asked(clinic: Clinic) -> None:
    clinic.register("M1")
    order = clinic.place("M1", priority=Priority.STAT)
    request = valid(clinic.get(f"ServiceRequest/{order.id}"))
    numbers = coded(request["identifier"])
    assert numbers["PLAC"] == ("urn:hilum:placer-order-number:EPIC", order.placer_order_number)
    assert numbers["FILL"][1] == order.filler_order_number
    assert numbers["ACSN"][1] == order.accession_number
    assert {"system": "urn:dicom:uid", "value": f"urn:oid:{order.study_instance_uid}"} in request["identifier"]
    assert request["code"]["coding"][0] == {"system": "http://loinc.org", "code": "CTCHEST", "display": "CT Chest"}
    assert (request["status"], request["intent"], request["priority"]) == ("active", "order", "stat")
    requester = {"system": "urn:hilum:practitioner:GENHOSP", "value": "D77"}
    assert request["requester"] == {"type": "Practitioner", "identifier": requester, "display": "House, Gregory"}
    assert request["reasonCode"] == [{"text": "cough"}]
    assert request["note"] == [{"text": "smoker"}]


def test_a_study_lists_its_series_and_instances_in_the_facilitys_time(clinic: Clinic) -> None:
    clinic.register("M1")
    order = clinic.place("M1")
    clinic.image("M1", order, count=2)
    clinic.image("M1", order, count=1)
    (study,) = map(valid, clinic.found("ImagingStudy"))
    assert (study["numberOfSeries"], study["numberOfInstances"], study["status"]) == (2, 3, "available")
    assert [len(series["instance"]) for series in study["series"]] == [2, 1]
    assert study["series"][0]["instance"][0]["number"] == 1
    assert study["series"][0]["instance"][0]["sopClass"]["code"] == "urn:oid:1.2.840.10008.5.1.4.1.1.2"
    assert study["modality"] == [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}]
    assert study["started"] == "2026-03-01T10:15:00+01:00"
    assert "tag" not in study["meta"]


def test_images_without_an_order_are_shown_as_unverified_and_based_on_nothing(clinic: Clinic) -> None:
    clinic.register("M1")
    clinic.image("M1")
    (study,) = map(valid, clinic.found("ImagingStudy"))
    assert study["meta"]["tag"][0]["code"] == "unverified"
    assert study["note"][0]["text"].startswith("Unverified")
    assert "basedOn" not in study


def test_images_of_an_unknown_patient_or_in_conflict_are_not_shown(clinic: Clinic) -> None:
    clinic.register("M1")
    clinic.register("M2", family="Roe")
    order = clinic.place("M1")
    shown = clinic.image("M1", order)
    clinic.image("M2", order, family="Roe")
    clinic.image("NOBODY", family="Nobody")
    assert [study["identifier"][0]["value"] for study in clinic.found("ImagingStudy")] == [f"urn:oid:{shown}"]
    assert clinic.found("ImagingStudy", identifier=order.accession_number)[0]["subject"]["display"] == "Doe, Jane"


def test_a_draft_is_nobody_elses_to_read(clinic: Clinic) -> None:
    clinic.register("M1")
    order = clinic.place("M1")
    draft = clinic.store.run(draft_report, DraftReport(order.id, "secret", "secret", None), PAGE)
    assert clinic.found("DiagnosticReport") == []
    clinic.get(f"DiagnosticReport/{draft.id}", answered=404)
    signed = clinic.sign(order, ReportStatus.PRELIMINARY, revision=draft.revision)
    clinic.store.run(draft_report, DraftReport(order.id, "secret", "secret", signed.revision), PAGE)
    (report,) = clinic.found("DiagnosticReport")
    assert report["status"] == "preliminary"
    assert "secret" not in str(report) + base64.b64decode(report["presentedForm"][0]["data"]).decode()


def test_each_version_of_a_report_has_its_status_and_its_version(clinic: Clinic) -> None:
    clinic.register("M1")
    order = clinic.place("M1")
    clinic.image("M1", order)
    revision, seen = None, []
    for status in (
        ReportStatus.PRELIMINARY,
        ReportStatus.FINAL,
        ReportStatus.ADDENDED,
        ReportStatus.CORRECTED,
        ReportStatus.RETRACTED,
    ):
        signed = clinic.sign(order, status, f"Impression as {status}.", revision)
        revision = signed.revision
        report = valid(clinic.get(f"DiagnosticReport/{signed.id}"))
        seen.append((report["status"], report["meta"]["versionId"].split("-")[0], report.get("conclusion")))
        assert report["resultsInterpreter"][0]["display"] == "Reed, Robin"
    assert seen == [
        ("preliminary", "1", "Impression as preliminary."),
        ("final", "2", "Impression as final."),
        ("appended", "3", "Impression as addended."),
        ("corrected", "4", "Impression as corrected."),
        ("entered-in-error", "5", None),
    ]
    assert base64.b64decode(report["presentedForm"][0]["data"]).decode().startswith("THIS REPORT IS WITHDRAWN.")


def test_the_text_of_a_report_is_there_whole(clinic: Clinic) -> None:
    clinic.register("M1", family="Müller")
    order = clinic.place("M1")
    clinic.sign(order, impression="Größe 6 mm.")
    (report,) = clinic.found("DiagnosticReport")
    text = base64.b64decode(report["presentedForm"][0]["data"]).decode()
    assert "Lungs are clear." in text
    assert "Größe 6 mm." in text
    assert report["conclusion"] == "Größe 6 mm."
    assert {c["coding"][0]["code"] for c in report["category"]} == {"LP29684-5", "RAD"}


def test_a_merged_patient_points_to_the_survivor_who_answers_to_both_numbers(clinic: Clinic) -> None:
    gone, stays = clinic.register("OLD", given="Jan"), clinic.register("NEW")
    order = clinic.place("OLD")
    before = clinic.get(f"Patient/{stays.id}")["meta"]["versionId"]
    clinic.merge("NEW", "OLD")

    subsumed = valid(clinic.get(f"Patient/{gone.id}"))
    assert subsumed["active"] is False
    assert subsumed["link"] == [{"other": {"reference": f"Patient/{stays.id}"}, "type": "replaced-by"}]
    survivor = valid(clinic.get(f"Patient/{stays.id}"))
    assert survivor["active"] is True
    assert survivor["link"] == [{"other": {"reference": f"Patient/{gone.id}"}, "type": "replaces"}]
    assert {(i["value"], i["use"]) for i in survivor["identifier"]} == {("NEW", "usual"), ("OLD", "old")}
    assert survivor["meta"]["versionId"] != before, "what changed by a merge must not be answered by 304"

    for number in ("OLD", "NEW"):
        assert clinic.ids("Patient", identifier=number) == [stays.id]
        assert clinic.ids("ServiceRequest", **{"patient.identifier": number}) == [order.id]
    for row_id in (gone.id, stays.id):
        assert clinic.ids("ServiceRequest", patient=row_id) == [order.id]
    assert clinic.get(f"ServiceRequest/{order.id}")["subject"]["reference"] == f"Patient/{stays.id}"
    assert clinic.ids("Patient", active="false") == [gone.id]


def test_one_study_whose_images_came_under_both_numbers_of_a_merged_patient_is_one(clinic: Clinic) -> None:
    clinic.register("OLD")
    clinic.register("NEW")
    order = clinic.place("NEW")
    clinic.merge("NEW", "OLD")
    clinic.image("NEW", order, count=2)
    clinic.image("OLD", order, count=1)
    (study,) = clinic.found("ImagingStudy", basedon=order.id)
    assert (study["numberOfSeries"], study["numberOfInstances"]) == (2, 3)


def test_more_instances_than_a_list_takes_are_counted_and_tagged_but_not_listed(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.fhir.reading.INSTANCES_OF_A_LIST", 3)
    clinic.register("M1")
    for _ in range(2):
        clinic.image("M1", clinic.place("M1"), count=2)
    first, second = clinic.found("ImagingStudy")
    assert len(first["series"][0]["instance"]) == 2
    assert "instance" not in second["series"][0]
    assert second["numberOfInstances"] == 2
    assert second["meta"]["tag"][0]["code"] == "SUBSETTED"
    whole = clinic.get(f"ImagingStudy/{second['id']}")
    assert len(whole["series"][0]["instance"]) == 2


def test_a_copied_physician_may_read_it(clinic: Clinic) -> None:
    clinic.register("M1")
    order = clinic.place("M1", copies_to=(WILSON,))
    assert clinic.ids("ServiceRequest", "wilson") == [order.id]


def test_the_tables_cover_every_status() -> None:
    assert set(service_request.STATUS) == set(OrderStatus)
    assert set(service_request.PRIORITY) == set(Priority)
    assert set(diagnostic_report.STATUS) == set(ReportStatus) - {ReportStatus.DRAFT}
    assert set(patient.GENDER) == {"M", "F", "O", ""}


@pytest.mark.parametrize(
    ("authority", "system"),
    [
        ("GENHOSP", "urn:hilum:authority:GENHOSP"),
        ("Gen Hösp|1", "urn:hilum:authority:Gen%20H%C3%B6sp%7C1"),
        ("1.2.36.146", "urn:oid:1.2.36.146"),
        ("https://ehr.example/mrn", "https://ehr.example/mrn"),
        ("", None),
    ],
)
def test_an_authority_and_its_system_lead_to_each_other(authority: str, system: str | None) -> None:
    assert systems.system_of(authority, Number.PATIENT) == system
    if system is not None:
        assert systems.patient_authority(system) == authority
        assert PatientIdentifier("1", systems.patient_authority(system)).authority == authority
