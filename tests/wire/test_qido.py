"""QIDO-RS as viewers and scripts ask it: what is found, what is shown of it, and what is never shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from fixtures.dicom_files import ct_image, part10_bytes
from fixtures.dicomweb_server import JSON, Archive, counted_statements, open_archive, path_of
from fixtures.fhir_server import WILSON
from hilum.storage import tables
from hilum.storage.store import Store

OHIF_STUDIES = "/studies?limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060%2C00080090%2C00100030"


@pytest.fixture
def archive(store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door on each backend."""
    with open_archive(store, tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def light(sqlite_store: Store, tmp_path: Path) -> Iterator[Archive]:
    """The door on SQLite, for what does not depend on the backend."""
    with open_archive(sqlite_store, tmp_path / "home") as opened:
        yield opened


def value(found: dict, tag: str) -> object:
    values = found[tag].get("Value", [None])
    return values[0].get("Alphabetic") if isinstance(values[0], dict) else values[0]


def test_a_study_is_found_with_the_attributes_of_the_standard(archive: Archive) -> None:
    image = archive.scan()
    (found,) = archive.search()
    assert value(found, "0020000D") == image.StudyInstanceUID
    assert value(found, "00080020") == "20260102"
    assert value(found, "00080056") == "ONLINE"
    assert found["00080061"]["Value"] == ["CT"]
    assert value(found, "00080090") == "House^Gregory"
    assert value(found, "00100010") == "Doe^Jane"
    assert value(found, "00201206") == 1 and value(found, "00201208") == 1
    assert value(found, "00081190") == f"{archive.dicomweb}/studies/{image.StudyInstanceUID}"
    assert found["00080050"] == {"vr": "SH"}, "a required attribute without a value is there, empty"


FINDING = [
    {"PatientName": "Müller^Jörg"},
    {"PatientName": "muller"},
    {"PatientName": "*ULL*"},
    {"PatientName": "mul?er^jorg"},
    {"PatientName": "^jorg"},
    {"PatientName": "jo mu", "fuzzymatching": "true"},
    {"00100010": "MULLER*"},
    {"PatientID": "M-1"},
    {"00100020": "M-?"},
    {"PatientBirthDate": "19700501"},
    {"PatientBirthDate": "19700101-19701231"},
    {"PatientSex": "M"},
    {"StudyDate": "20260302"},
    {"StudyDate": "20260302-"},
    {"StudyDate": "20260301-20260303"},
    {"StudyDate": "2026-03-02"},
    {"StudyTime": "0815-09"},
    {"StudyTime": "0830"},
    {"StudyID": "S7"},
    {"StudyDescription": "schädel*"},
    {"StudyDescription": "SCHADEL NATIV"},
    {"AccessionNumber": "ACC7"},
    {"AccessionNumber": "A*7"},
    {"ModalitiesInStudy": "MR"},
    {"ModalitiesInStudy": "PT\\MR"},
    {"ModalitiesInStudy": "PT,MR"},
    {"ReferringPhysicianName": "cuddy*"},
]
MISSING = [
    {"PatientName": "Mull"},
    {"PatientName": "100%*"},
    {"PatientID": "m-1%"},
    {"StudyDate": "20270101-"},
    {"AccessionNumber": "ACC_"},
    {"ModalitiesInStudy": "US"},
    {"StudyInstanceUID": "1.2.3"},
]


def test_each_key_finds_the_study_it_describes_and_no_other(archive: Archive) -> None:
    archive.scan()
    image = archive.scan(
        PatientName="Müller^Jörg", PatientID="M-1", PatientBirthDate="19700501", PatientSex="M", StudyDate="20260302",
        StudyTime="083015.5", StudyID="S7", StudyDescription="Schädel nativ", AccessionNumber="ACC7", Modality="MR",
        ReferringPhysicianName="Cuddy^Lisa",
    )  # fmt: skip
    for wanted in FINDING:
        assert archive.uids(**wanted) == {image.StudyInstanceUID}, wanted
    for wanted in MISSING:
        assert archive.uids(**wanted) == set(), wanted


def test_several_uids_are_taken_with_comma_backslash_or_repeated(light: Archive) -> None:
    one, two, _ = light.scan(), light.scan(), light.scan()
    both = {one.StudyInstanceUID, two.StudyInstanceUID}
    for joint in (",", "\\"):
        assert light.uids(StudyInstanceUID=joint.join(both)) == both
    assert light.uids(StudyInstanceUID=list(both)) == both


def test_series_and_instances_are_listed_under_their_study_and_by_themselves(archive: Archive) -> None:
    first = archive.scan(SeriesDescription="Lung", SeriesNumber=3, BodyPartExamined="CHEST")
    archive.scan(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID, InstanceNumber=2)
    archive.scan(StudyInstanceUID=first.StudyInstanceUID, SeriesNumber=1, Modality="SR")
    archive.scan()
    study = path_of(first, "study")
    series = archive.search(f"{study}/series")
    assert [value(each, "00200011") for each in series] == [1, 3]
    assert [value(each, "00201209") for each in series] == [1, 2]
    assert [value(e, "0020000E") for e in archive.search("/series", Modality="CT", SeriesDescription="lu*")] == [
        first.SeriesInstanceUID
    ]
    assert len(archive.search(f"{study}/instances")) == 3
    listed = archive.search(f"{path_of(first, 'series')}/instances")
    assert [value(each, "00200013") for each in listed] == [1, 2]
    assert value(listed[0], "00080018") == first.SOPInstanceUID
    assert value(listed[0], "00081190") == archive.dicomweb + path_of(first)
    assert value(listed[0], "00280100") == 16 and value(listed[0], "00083002") == "1.2.840.10008.1.2.1"
    assert len(archive.search("/instances", SOPClassUID=first.SOPClassUID, InstanceNumber="2")) == 1
    assert {each["00080061"]["Value"][0] for each in archive.search(StudyInstanceUID=first.StudyInstanceUID)} == {"CT"}


def test_the_requests_of_ohif_are_answered(light: Archive) -> None:
    image = light.scan(SeriesDescription="Lung")
    assert len(light.fetch(OHIF_STUDIES, headers=JSON).json()) == 1
    for query in ("PatientName=*doe*", "StudyDate=20260101-20261231", "ModalitiesInStudy=CT", "00100020=P1",
                  f"StudyInstanceUID={image.StudyInstanceUID}"):  # fmt: skip
        assert len(light.fetch(f"{OHIF_STUDIES}&{query}", headers=JSON).json()) == 1, query
    fields = "00080021%2C00080031%2C0008103E%2C00200011"
    (series,) = light.fetch(f"{path_of(image, 'study')}/series?includefield={fields}", headers=JSON).json()
    assert value(series, "0008103E") == "Lung" and value(series, "00080060") == "CT"


def test_an_outside_client_searches_at_all_three_levels(light: Archive) -> None:
    image = light.scan()
    client = light.client()
    assert len(client.search_for_studies(search_filters={"PatientID": "P1"}, fields=["StudyDescription"])) == 1
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    assert len(client.search_for_series(image.StudyInstanceUID)) == 1
    assert len(client.search_for_instances(image.StudyInstanceUID, image.SeriesInstanceUID)) == 1
    for _ in range(4):
        light.scan()
    assert len(client.search_for_studies(limit=2, get_remaining=True)) == 5


def test_nothing_found_is_no_content(light: Archive) -> None:
    light.fetch("/studies", status=204, headers=JSON)


def test_a_page_tells_what_remains_and_where_the_next_one_is(light: Archive) -> None:
    for day in range(1, 6):
        light.scan(StudyDate=f"2026010{day}")
    page = light.fetch("/studies?limit=2&offset=1&PatientName=doe*", headers=JSON)
    assert [value(each, "00080020") for each in page.json()] == ["20260104", "20260103"]
    assert 'There are 2 additional results that can be requested"' in page.headers["warning"]
    assert page.headers["x-total-count"] == "5"
    following = page.links["next"]["url"]
    assert following.startswith(f"{light.dicomweb}/studies?PatientName=doe%2A&limit=2&cursor=")
    light.scan(StudyDate="20260109")  # newer: pages by number would show a study twice
    rest = light.fetch(following.removeprefix(light.dicomweb), headers=JSON)
    assert [value(each, "00080020") for each in rest.json()] == ["20260102", "20260101"]
    assert "link" not in rest.headers and "warning" not in rest.headers
    last = light.fetch("/studies?limit=2&offset=4", headers=JSON)
    assert len(last.json()) == 2 and "warning" not in last.headers and "link" not in last.headers


@pytest.mark.parametrize(
    ("query", "name"),
    [("NoSuchAttribute=1", "NoSuchAttribute"), ("99990001=1", "99990001"), ("includefield=Nonsense", "Nonsense"),
     ("limit=-1", "limit"), ("offset=x", "offset"), ("cursor=a%20b", "cursor"), ("StudyDate=yesterday", "StudyDate"),
     ("StudyInstanceUID=1.2..%2F..%2Fetc", "StudyInstanceUID"), ("PatientName=a&PatientName=b", "PatientName")],
)  # fmt: skip
def test_a_query_that_means_nothing_is_refused_by_name(light: Archive, query: str, name: str) -> None:
    problem = light.fetch(f"/studies?{query}", status=400, headers=JSON)
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["field"] == name and name in problem.json()["title"]


def test_a_known_attribute_that_cannot_be_matched_is_a_warning(light: Archive) -> None:
    light.scan()
    answer = light.fetch("/studies?PatientComments=x&InstitutionName=", headers=JSON)
    assert len(answer.json()) == 1
    assert answer.headers["warning"].startswith("299 ") and "PatientComments" in answer.headers["warning"]
    assert "InstitutionName" not in answer.headers["warning"], "an empty key only asks for the attribute"


def test_fields_are_included_on_wish(light: Archive) -> None:
    light.scan(InstitutionName="General", PatientComments="secret", Manufacturer="ACME")
    assert "00080080" not in light.search()[0]
    assert value(light.search(includefield="InstitutionName")[0], "00080080") == "General"
    assert value(light.search(includefield="all")[0], "00080080") == "General"
    assert value(light.search("/instances", includefield="00104000,00080070")[0], "00104000") == "secret"
    assert "00104000" not in light.search("/instances")[0]


def test_the_truth_of_the_chain_is_shown_and_matched(archive: Archive) -> None:
    archive.register("100", "Duvall", "Ann", date(1971, 2, 3))
    order = archive.place("100")
    image = archive.scan(order, PatientID="100", PatientName="Duval^Anne", PatientBirthDate="19710203",
                         AccessionNumber="")  # fmt: skip
    (found,) = archive.search()
    assert value(found, "00100010") == "Duvall^Ann"
    assert value(found, "00100021") == "GENHOSP"
    assert value(found, "00080050") == order.accession_number
    assert archive.uids(AccessionNumber=order.accession_number) == {image.StudyInstanceUID}
    assert archive.uids(PatientName="Duval^Anne") == set()
    assert archive.uids(PatientID="100", IssuerOfPatientID="GENHOSP") == {image.StudyInstanceUID}
    assert archive.uids(PatientID="100", IssuerOfPatientID="OTHER") == set()


def test_after_a_merge_the_survivor_is_shown_and_found_by_either_identifier(archive: Archive) -> None:
    archive.register("100", "Old", "Name")
    archive.register("200", "New", "Name")
    image = archive.scan(archive.place("100"), PatientID="100", PatientName="Old^Name")
    assert value(archive.search()[0], "00100020") == "100"
    archive.merge("200", "100")
    (found,) = archive.search(PatientID="200")
    assert (value(found, "00100020"), value(found, "00100010")) == ("200", "New^Name")
    assert archive.uids(PatientID="100") == {image.StudyInstanceUID}
    assert archive.uids(PatientName="old*") == set()


def test_images_of_another_patient_never_answer_to_the_accession_they_claim(archive: Archive) -> None:
    archive.register("100")
    archive.register("200", "Roe", "Richard", date(1950, 1, 1))
    order = archive.place("100")
    image = archive.scan(order, PatientID="200", PatientName="Roe^Richard", PatientBirthDate="19500101")
    (found,) = archive.search()
    assert value(found, "0020000D") == image.StudyInstanceUID and value(found, "00080050") is None
    assert archive.uids(AccessionNumber=order.accession_number) == set()
    right = archive.scan(order, PatientID="100", PatientName="Doe^Jane")
    (found,) = archive.search()
    assert value(found, "00100020") == "100", "for one UID the verified study is shown"
    assert right.StudyInstanceUID == image.StudyInstanceUID


def test_what_is_withheld_is_not_listed_or_counted(archive: Archive) -> None:
    kept = archive.scan(Modality="CT")
    hidden = archive.scan(StudyInstanceUID=kept.StudyInstanceUID, Modality="MR")
    with archive.store.engine.begin() as db:
        where = tables.series.c.series_instance_uid == hidden.SeriesInstanceUID
        db.execute(sa.update(tables.series).where(where).values(withheld=True))
    (found,) = archive.search()
    assert (value(found, "00201206"), value(found, "00201208")) == (1, 1)
    assert found["00080061"]["Value"] == ["CT"]
    assert archive.uids(ModalitiesInStudy="MR") == set()
    assert len(archive.search("/series")) == 1 and len(archive.search("/instances")) == 1
    with archive.store.engine.begin() as db:
        db.execute(sa.update(tables.study).values(match_state="withheld"))
    assert archive.search() == [] and archive.search("/series") == []


def test_other_bytes_under_a_known_uid_are_not_listed(light: Archive) -> None:
    image = light.scan()
    other = ct_image(StudyInstanceUID=image.StudyInstanceUID, SeriesInstanceUID=image.SeriesInstanceUID,
                     SOPInstanceUID=image.SOPInstanceUID, InstanceNumber=9)  # fmt: skip
    light.keep(part10_bytes(other))
    (found,) = light.search("/instances")
    assert value(found, "00200013") == 1
    assert value(light.search()[0], "00201208") == 1


def test_a_referring_physician_sees_only_their_patients(archive: Archive) -> None:
    archive.register("100")
    archive.register("200", "Roe", "Richard")
    mine = archive.scan(archive.place("100"), PatientID="100")
    theirs = archive.scan(archive.place("200", ordering_physician=WILSON), PatientID="200", PatientName="Roe^Richard")
    archive.scan(PatientID="unknown", PatientName="No^Body")
    assert archive.uids("house") == {mine.StudyInstanceUID}
    assert archive.uids("wilson") == {theirs.StudyInstanceUID}
    assert archive.uids("house", StudyInstanceUID=theirs.StudyInstanceUID) == set()
    assert archive.search(f"{path_of(theirs, 'study')}/series", "house") == []
    assert archive.search("/instances", "house", SOPInstanceUID=theirs.SOPInstanceUID) == []


@pytest.mark.parametrize("who", ["auditor", "scheduler"])
def test_a_role_without_images_is_denied_and_the_attempt_is_audited(light: Archive, who: str) -> None:
    light.scan()
    light.fetch("/studies", who, status=403, headers=JSON)
    with light.store.read() as db:
        rows = db.execute(sa.select(tables.audit_event).where(tables.audit_event.c.outcome == "refused")).all()
    assert len(rows) == 1, "the refusal stands in the audit trail"


def test_a_list_costs_a_bounded_number_of_statements(light: Archive) -> None:
    for number in range(12):
        light.register(str(number), f"Name{number}")
        light.scan(PatientID=str(number), PatientName=f"Name{number}^Jane")
    light.search()  # audited once per window
    for path in ("/studies", "/series", "/instances"):
        with counted_statements(light.store) as sent:
            assert len(light.search(path)) == 12
        assert len([each for each in sent if each.startswith("SELECT")]) <= 3, path


def test_other_forms_are_not_acceptable_and_odd_accept_headers_are_survived(light: Archive) -> None:
    light.scan()
    light.fetch("/studies", status=406, headers={"Accept": "text/csv"})
    for odd in (";;;", "*/*;q=x", ",,,application/json", '"', "application/*", "a" * 9000):
        light.fetch("/studies", headers={"Accept": odd})


def test_the_plan_of_a_search_by_uid_uses_the_index(sqlite_store: Store) -> None:
    from hilum.core.scope import EVERYTHING
    from hilum.storage.qido import Key, Page, find_studies

    with counted_statements(sqlite_store) as sent, sqlite_store.read() as db:
        find_studies(db, [Key("StudyInstanceUID", ("1.2.3",))], EVERYTHING, Page(10))
        find_studies(db, [Key("PatientID", ("P1",))], EVERYTHING, Page(10))
    queries = [each for each in sent if each.startswith("SELECT")]
    assert len(queries) == 2
    with sqlite_store.engine.connect() as db:
        for query in queries:
            arguments = tuple("x" for _ in range(query.count("?")))
            plan = " ".join(str(row[-1]) for row in db.exec_driver_sql("EXPLAIN QUERY PLAN " + query, arguments))
            assert "SCAN study" not in plan, plan


def test_every_study_comes_once_by_the_links_also_where_dates_are_alike(archive: Archive) -> None:
    scanned = {archive.scan(StudyDate=day).StudyInstanceUID for day in ("20260101", "20260101", "20260102", "") * 2}
    seen: list[str] = []
    path = "/studies?limit=3"
    while path:
        page = archive.fetch(path, headers=JSON)
        seen += [each["0020000D"]["Value"][0] for each in page.json()]
        path = page.links.get("next", {}).get("url", "").removeprefix(archive.dicomweb)
    assert len(seen) == 8 and set(seen) == scanned
    archive.fetch("/studies?cursor=no-such-study", status=409, headers=JSON)
    archive.fetch("/series?cursor=x", status=400, headers=JSON)
    archive.fetch("/studies?cursor=x", "auditor", status=403, headers=JSON)


def test_series_and_instances_of_a_study_are_matched_by_any_attribute(light: Archive) -> None:
    request = pydicom.Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "STEP7", "RP1"
    first = light.scan(RequestAttributesSequence=[request], PerformedProcedureStepStartDate="20260102",
                       ImageComments="Schrägaufnahme", KVP=120, SliceThickness=1.25)  # fmt: skip
    light.scan(StudyInstanceUID=first.StudyInstanceUID, PerformedProcedureStepStartDate="20260103", KVP=80)
    study = path_of(first, "study")
    for query, count in (
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "STEP7"}, 1),
        ({"00400275.00401001": "RP*"}, 1),
        ({"RequestAttributesSequence.ScheduledProcedureStepID": "STEP"}, 0),
        ({"PerformedProcedureStepStartDate": "20260102-20260103"}, 2),
        ({"PerformedProcedureStepStartDate": "20260103-"}, 1),
    ):
        assert len(light.search(f"{study}/series", **query)) == count, query
    for query, count in (
        ({"ImageComments": "schragauf*"}, 1), ({"KVP": "120"}, 1), ({"KVP": "120.0"}, 1), ({"KVP": "x"}, 0),
        ({"SliceThickness": "1.25", "KVP": "80"}, 0), ({"ImageComments": "*" * 900 + "x"}, 0),
    ):  # fmt: skip
        assert len(light.search(f"{study}/instances", **query)) == count, query
    page = light.fetch(f"{study}/instances?PatientComments=&KVP=120&KVP=80&limit=1", headers=JSON)
    assert "There are 1 additional" in page.headers["warning"] and "offset=1" in page.headers["link"]
    beyond = light.fetch(f"{study}/series?KVP=120", headers=JSON)
    assert "KVP" in beyond.headers["warning"], "series are not indexed by it"
    assert "KVP" in light.fetch("/instances?KVP=120", headers=JSON).headers["warning"], "not across studies"
    light.fetch(f"{study}/instances?KVP=120", "auditor", status=403, headers=JSON)


def test_options_that_are_not_applied_are_said(light: Archive) -> None:
    light.scan()
    answer = light.fetch("/studies?emptyvaluematching=true&multiplevaluematching=false", headers=JSON)
    assert "These options are not applied: emptyvaluematching" in answer.headers["warning"]
    assert "warning" not in light.fetch("/studies?fuzzymatching=true&PatientName=doe", headers=JSON).headers


def test_the_next_page_begins_at_its_place_in_the_index(light: Archive) -> None:
    from hilum.core.scope import EVERYTHING
    from hilum.storage.qido import Page, find_studies

    for _ in range(3):
        light.scan()
    with light.store.read() as db:
        (first, *_), _ = find_studies(db, [], EVERYTHING, Page(1))
        with counted_statements(light.store) as sent:
            rest, more = find_studies(db, [], EVERYTHING, Page(10, after=first.study.id))
    assert len(rest) == 2 and more == 0
    listed = next(each for each in sent if "ORDER BY" in each)
    with light.store.engine.connect() as db:
        arguments = tuple("x" for _ in range(listed.count("?")))
        plan = [str(row[-1]) for row in db.exec_driver_sql("EXPLAIN QUERY PLAN " + listed, arguments)]
    assert any(step.startswith("SEARCH study USING INDEX") and "study_date" in step for step in plan), plan
