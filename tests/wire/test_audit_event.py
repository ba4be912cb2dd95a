"""The audit trail over FHIR: who may read it, what each row says, and what a search finds, on both databases."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fhirclient.models.auditevent import AuditEvent
from fhirclient.models.bundle import Bundle

import hilum
from fixtures.fhir_server import ASKERS, Clinic, open_clinic
from hilum.core.actor import Actor, ActorKind, Door, Role
from hilum.fhir.audit_event import audit_event_from_record
from hilum.security.audit import Read
from hilum.security.audit_codes import MEANINGS, meaning_of
from hilum.security.policy import Action
from hilum.storage import tables
from hilum.storage.audit_records import AuditRecord, _about
from hilum.storage.store import Store
from hilum.storage.unit_of_work import UnitOfWork
from hilum.workflow.accounts import sign_in_failed

PROFILE = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
SOURCES = Path(hilum.__file__).parent
DCM = "http://dicom.nema.org/resources/ontology/DCM"
BROWSER = Actor("rad1", Role.RADIOLOGIST, ActorKind.PERSON, Door.PAGE, address="10.0.0.7")


@pytest.fixture
def clinic(store: Store, tmp_path: Path) -> Iterator[Clinic]:
    ASKERS.setdefault("admin", Actor("root", Role.ADMIN, ActorKind.PERSON, Door.FHIR))
    with open_clinic(store, tmp_path / "home") as opened:
        yield opened


def trail(clinic: Clinic, **parameters: Any) -> list[dict[str, Any]]:
    """What an auditor finds; every resource is valid."""
    found = clinic.found(
        "AuditEvent", "auditor", **{name.replace("_name", "-name"): v for name, v in parameters.items()}
    )
    for resource in found:
        AuditEvent(resource)
    return found


def words(resource: dict[str, Any]) -> str:
    return next(each["code"] for each in resource["subtype"] if each["system"] == "urn:hilum:audit-action")


def test_every_action_has_a_meaning() -> None:
    said = {str(action) for action in Action}
    for source in SOURCES.rglob("*.py"):
        said |= set(re.findall(r'\.audit\(\s*\w+, "([a-z-]+)"', source.read_text()))
    assert "break-glass-reason" in said
    assert said <= {str(word) for word in MEANINGS}
    assert meaning_of("a verb of later").event.value == "110100"


def test_only_auditors_and_administrators_read_the_trail(clinic: Clinic) -> None:
    clinic.register("1")
    for who in ("auditor", "admin"):
        row = clinic.ids("AuditEvent", who)[0]
        assert clinic.get(f"AuditEvent/{row}", who)["id"] == row
    for who in ("service", "radiologist", "technologist", "scheduler", "house"):
        clinic.get("AuditEvent", who, 403)
        clinic.get(f"AuditEvent/{row}", who, 403)
    clinic.get("AuditEvent/01ZZZZZZZZZZZZZZZZZZZZZZZZ.1", "auditor", 404)
    clinic.get("AuditEvent/nothing", "auditor", 404)
    # An auditor reads the trail and nothing else.
    clinic.get("Patient", "auditor", 403)


def test_a_read_says_who_what_and_whose_as_balp_wants_it(clinic: Clinic) -> None:
    person = clinic.register("1").id
    order = clinic.place("1")
    clinic.get(f"ServiceRequest/{order.id}", "radiologist")
    (read,) = trail(clinic, patient=person, subtype="read-order")
    assert (read["action"], read["outcome"], read["type"]["code"]) == ("R", "0", "rest")
    assert [each["code"] for each in read["subtype"]] == ["read", "read-order"]
    by_type = {agent["type"]["coding"][0]["code"]: agent for agent in read["agent"]}
    assert by_type["IRCP"]["name"] == "rad1"
    assert by_type["IRCP"]["requestor"] is True
    assert by_type["IRCP"]["role"][0]["coding"][0]["code"] == "radiologist"
    assert by_type["IRCP"]["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert by_type["110153"]["who"]["display"] == "Hilum"
    assert "110152" in by_type
    assert [entity["what"]["reference"] for entity in read["entity"]] == [
        f"Patient/{person}", f"ServiceRequest/{order.id}",
    ]  # fmt: skip
    assert read["entity"][0]["role"]["code"] == "1"
    assert read["source"]["site"] == "Radiology"


def test_a_read_with_a_known_address_claims_its_profile_and_a_search_none(clinic: Clinic) -> None:
    person = clinic.register("1").id
    clinic.read_log.record(BROWSER, Read(Action.READ_PATIENT, patient_id=person))
    clinic.read_log.record(BROWSER, Read(Action.READ_PATIENT))
    search, read = trail(clinic, subtype="read-patient")
    assert read["meta"]["profile"] == [PROFILE + "PatientRead"]
    client = next(agent for agent in read["agent"] if agent["type"]["coding"][0]["code"] == "110152")
    assert client["network"] == {"address": "10.0.0.7", "type": "2"}
    assert "profile" not in search["meta"]
    assert (search["action"], search["subtype"][0]["code"]) == ("E", "search-type")
    assert search["entity"][0]["role"]["code"] == "24"


# What the profiles of BALP ask for: https://profiles.ihe.net/ITI/BALP/1.1.4/ (Read, Create, Update and Patient…).
BALP = {
    "Read": ("R", {"read", "vread"}, "110152", "110153", {"IRCP"}),
    "Create": ("C", {"create"}, "110153", "110152", {"AUT", "INF", "CST"}),
    "Update": ("U", {"update", "patch"}, "110153", "110152", {"AUT", "INF", "CST"}),
}
AGENTS = {"110152", "110153", "IRCP", "AUT", "INF", "CST"}


def meets(resource: dict[str, Any], profile: str) -> None:
    """Fail where a row lacks what the profile that it claims asks for: fixed values, slices and their numbers."""
    action, interactions, client, server, people = BALP[profile.removeprefix("Patient")]
    assert (resource["type"]["code"], resource["action"], resource["outcome"]) == ("rest", action, "0")
    assert resource["recorded"] and resource["source"]["observer"]
    assert len([each for each in resource["subtype"] if each["code"] in interactions]) == 1
    agents: dict[str, dict[str, Any]] = {}
    for agent in resource["agent"]:
        code = agent["type"]["coding"][0]["code"]
        assert code in AGENTS and code not in agents, "a slice twice"
        assert agent["who"] and "media" not in agent
        agents[code] = agent
    assert set(agents) - {client, server} <= people
    for code in (client, server):
        assert agents[code]["network"]["address"]
    for code in people & set(agents):
        assert agents[code]["requestor"] is True and "network" not in agents[code]
    (data,) = (each for each in resource["entity"] if each["type"]["code"] == "2")
    assert data["role"]["code"] in {"4", "3", "20"} and data["what"]
    persons = [each for each in resource["entity"] if each["type"]["code"] == "1"]
    assert len(persons) == (1 if profile.startswith("Patient") else 0)
    for each in persons:
        assert each["role"]["code"] == "1" and each["what"]["reference"].startswith("Patient/")


def test_every_row_that_claims_a_profile_meets_it_and_each_profile_is_claimed(clinic: Clinic) -> None:
    """Every action, with every set of subjects, by a person and a program."""
    person, order = clinic.register("1").id, clinic.place("1").id
    clinic.image("1", clinic.place("1"))
    with clinic.store.read() as db:
        study = db.execute(sa.select(tables.study.c.id)).scalar_one()
    engine = Actor("engine", Role.SERVICE, ActorKind.SERVICE, Door.FHIR, address="10.0.0.8")

    def note(uow: UnitOfWork, command: None, actor: Actor) -> None:
        for action in MEANINGS:
            for whose, ordered, images in itertools.product((None, person), (None, order), (None, study)):
                uow.audit(actor, str(action), patient_id=whose, order_id=ordered, study_id=images, message_id=images)

    for actor in (BROWSER, engine):
        clinic.store.run(note, None, actor)
    claimed: dict[str, set[str]] = {}
    with clinic.store.read() as db:
        rows = db.execute(sa.select(tables.audit_event).where(tables.audit_event.c.address.like("10.%"))).all()
    for row in rows:
        resource = audit_event_from_record(audit_record_of(row), "http://hilum", "Radiology")
        AuditEvent(resource)
        for profile in resource["meta"].get("profile", ()):
            meets(resource, profile.removeprefix(PROFILE))
            claimed.setdefault(profile.removeprefix(PROFILE), set()).add(words(resource))
        if resource["subtype"][0]["code"] == "search-type":
            assert "profile" not in resource["meta"], "no query is kept, and the profile of queries wants it"
    assert set(claimed) == {"Read", "Create", "Update", "PatientRead", "PatientCreate", "PatientUpdate"}
    assert {"read-images", "read-report", "read-order", "read-patient"} <= claimed["PatientRead"]


def audit_record_of(row: Any) -> AuditRecord:
    """A row as the searches give it."""
    fields = [name for name in AuditRecord.__dataclass_fields__ if name != "survivor_id"]
    return AuditRecord(*(getattr(row, name) for name in fields))


def test_what_comes_by_dicom_or_hl7_is_a_dicom_event(clinic: Clinic) -> None:
    clinic.register("1")
    clinic.image("1", clinic.place("1"))
    stored = trail(clinic, subtype="store-images")[0]
    assert (stored["type"]["system"], stored["type"]["code"], stored["action"]) == (DCM, "110104", "C")
    source = next(agent for agent in stored["agent"] if agent["type"]["coding"][0]["code"] == "110153")
    assert (source["name"], source["requestor"]) == ("CT01", True)


def test_a_wrong_password_is_a_failed_login(clinic: Clinic) -> None:
    clinic.store.run(sign_in_failed, "rad1", BROWSER)
    (failed,) = trail(clinic, outcome="8")
    assert (failed["type"]["code"], failed["subtype"][0]["code"], failed["outcomeDesc"]) == (
        "110114",
        "110122",
        "password",
    )


def test_a_refusal_names_the_patient_who_was_asked_for(clinic: Clinic) -> None:
    person = clinic.register("1").id
    clinic.get(f"Patient/{person}", "wilson", 404)
    (refused,) = trail(clinic, patient=person, outcome="8")
    assert words(refused) == "read-patient"
    assert next(agent for agent in refused["agent"] if "name" in agent)["name"] == "wilson"


def test_searches_find_what_was_asked_for(clinic: Clinic) -> None:
    one, other = clinic.register("1").id, clinic.register("2").id
    order = clinic.place("1")
    clinic.get(f"Patient/{one}", "radiologist")
    clinic.get(f"ServiceRequest/{order.id}", "radiologist")
    clinic.get(f"Patient/{other}", "house", 404)
    assert {words(each) for each in trail(clinic, **{"patient.identifier": "urn:hilum:authority:GENHOSP|1"})} >= {
        "register-patient", "place-order", "read-patient",
    }  # fmt: skip
    assert [words(each) for each in trail(clinic, agent="house")] == ["read-patient"]
    assert trail(clinic, agent="hous") == []
    assert [words(each) for each in trail(clinic, agent_name="HOU")] == ["read-patient"]
    assert {words(each) for each in trail(clinic, entity=f"ServiceRequest/{order.id}")} == {"read-order"}
    assert {words(each) for each in trail(clinic, action="C")} == {"place-order"}
    assert {words(each) for each in trail(clinic, action="R", patient=one)} >= {"read-patient"}
    assert {each["outcome"] for each in trail(clinic, outcome="0")} == {"0"}
    assert trail(clinic, date="lt2020") == []
    assert len(trail(clinic, date="ge2020", subtype="register-patient")) == 2
    assert trail(clinic, subtype="nothing-like-it") == []
    assert trail(clinic, **{"agent-role": "radiologist"})
    clinic.get("AuditEvent", "auditor", 400, family="Doe")


def test_a_merged_patient_s_rows_are_the_survivor_s(clinic: Clinic) -> None:
    kept, gone = clinic.register("1").id, clinic.register("2").id
    clinic.merge("1", "2")
    for patient in (kept, gone):
        found = trail(clinic, patient=patient, subtype="register-patient")
        assert len(found) == 2
        assert {each["entity"][0]["what"]["reference"] for each in found} == {f"Patient/{kept}"}


def test_pages_go_back_in_time_and_miss_nothing(clinic: Clinic) -> None:
    for number in range(12):
        clinic.register(str(number))
    seen: list[str] = []
    page = clinic.get("AuditEvent", "auditor", subtype="register-patient", _count=5)
    while True:
        Bundle(page)
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        following = next((link["url"] for link in page["link"] if link["relation"] == "next"), "")
        if not following:
            break
        page = clinic.ask("GET", following.removeprefix(clinic.root), "auditor").json()
    assert len(seen) == len(set(seen)) == 12
    times = [clinic.get(f"AuditEvent/{row}", "auditor")["recorded"] for row in seen]
    assert times == sorted(times, reverse=True)
    forward = clinic.ids("AuditEvent", "auditor", subtype="register-patient", _sort="date")
    assert forward == seen[::-1]


def test_to_read_the_trail_is_in_the_trail(clinic: Clinic) -> None:
    person = clinic.register("1").id
    clinic.get("AuditEvent", "auditor", patient=person)
    query = sa.select(tables.audit_event.c.actor).where(
        tables.audit_event.c.action == "read-audit", tables.audit_event.c.patient_id == person
    )
    with clinic.store.read() as connection:
        assert list(connection.execute(query).scalars()) == ["auditor"]


def test_the_trail_of_a_patient_goes_by_an_index(clinic: Clinic) -> None:
    with clinic.store.read() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET enable_seqscan = off"))
        text = str(_about(["x"]).limit(5).compile(connection.engine, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = "\n".join(str(row) for row in connection.execute(sa.text(explain + text)))
    assert plan.count("ix_audit_event_patient_id") == 2
    assert "SCAN audit_event" not in plan
