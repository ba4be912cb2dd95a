"""Who may open what: each page refuses its denied twin, and a refusal says nothing of what it hides."""

from __future__ import annotations

import re

import pytest
import requests
from hospital import NADIA, PASSWORD, STAFF, VANCE, Hospital, person

from hilum.core.order import Order
from hilum.core.report import ReportStatus
from hilum.security.tokens import issue
from hilum.workflow.reporting import DraftReport, SignReport, draft_report, sign_report
from hilum.workflow.source import Source

pytestmark = pytest.mark.xdist_group("browser")

HTML = {"Accept": "text/html"}
# Signs in with a password for once at first.
NEWCOMER = "okafor"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture(scope="module")
def signed(hospital: Hospital) -> Order:
    """Nadia's exam, ordered by Lindqvist and reported."""
    order = hospital.place("40021873")
    hospital.scan(order, slices=1, **NADIA)
    command = SignReport(order.id, ReportStatus.FINAL, "Clear.", "Normal.", None, Source("Hilum page", "feng"))
    hospital.application.store.run(sign_report, command, person("feng"))
    return order


@pytest.fixture(scope="module")
def foreign(hospital: Hospital) -> Order:
    """Nadja's exam, ordered by Vance."""
    return hospital.place("88120", ordering_physician=VANCE)


def session(hospital: Hospital, name: str) -> requests.Session:
    """A signed-in browser without the browser."""
    found = requests.Session()
    found.headers.update(HTML)
    token = TOKEN.search(found.get(hospital.root + "/auth/login").text)
    assert token
    form = {"csrf_token": token[1], "user_name": name, "password": PASSWORD, "next": "/auth/password"}
    answer = found.post(hospital.root + "/auth/login", data=form)
    assert answer.status_code == 200, answer.text
    found.headers["X-CSRF-Token"] = TOKEN.search(answer.text)[1]
    return found


@pytest.mark.parametrize("name", [account for account, *_ in STAFF if account != NEWCOMER])
def test_each_person_lands_on_a_page_that_their_role_may_see(hospital: Hospital, name: str) -> None:
    with requests.Session() as browser:
        browser.headers.update(HTML)
        token = TOKEN.search(browser.get(hospital.root + "/").text)
        assert token
        form = {"csrf_token": token[1], "user_name": name, "password": PASSWORD, "next": "/"}
        landed = browser.post(hospital.root + "/auth/login", data=form)
        assert landed.status_code == 200
        assert landed.url == hospital.root + ("/audit" if name == "auditor" else "/")
        assert f'class="brand" href="{"/audit" if name == "auditor" else "/"}"' in landed.text
        assert (">Worklist</a>" in landed.text) is (name != "auditor")


def test_physician_sees_the_own_patients_only(hospital: Hospital, signed: Order, foreign: Order) -> None:
    mine = session(hospital, "lindqvist")
    assert "Nadia" in mine.get(hospital.root + "/").text
    assert "Nadja" not in mine.get(hospital.root + "/").text
    assert mine.get(f"{hospital.root}/orders/{signed.id}").status_code == 200
    for path in (
        f"/orders/{foreign.id}",
        f"/orders/{foreign.id}/chain",
        f"/orders/{foreign.id}/report",
        f"/studies/{foreign.study_instance_uid}",
        f"/viewer/launch?requestType=STUDY&accessionNumber={foreign.accession_number}",
        "/viewer/launch?requestType=PATIENT&patientID=88120",
    ):
        answer = mine.get(hospital.root + path)
        assert answer.status_code == 404, path
        assert "Nadja" not in answer.text


def test_counts_and_searches_reveal_nothing_beyond_the_scope(hospital: Hospital, foreign: Order) -> None:
    mine, theirs = session(hospital, "lindqvist"), session(hospital, "vance")
    assert "Nothing matches" in mine.get(f"{hospital.root}/?text={foreign.accession_number}").text
    assert foreign.accession_number in theirs.get(f"{hospital.root}/?text={foreign.accession_number}").text
    assert re.search(r'id="status-all"[^>]*>All <span class="count">1<', theirs.get(hospital.root + "/").text)


def test_auditor_opens_no_page_with_patients(hospital: Hospital, signed: Order) -> None:
    auditor = session(hospital, "auditor")
    for path in ("/", "/worklist/rows", f"/orders/{signed.id}", "/exceptions"):
        answer = auditor.get(hospital.root + path)
        assert 'class="button" href="/audit"' in answer.text, "the way back is a page of theirs"
        assert answer.status_code == 403, path
        assert "Not for your role" in answer.text
        assert "Nadia" not in answer.text


def test_scheduler_sees_the_order_without_report_and_images_and_cannot_sign(hospital: Hospital, signed: Order) -> None:
    desk = session(hospital, "desk")
    page = desk.get(f"{hospital.root}/orders/{signed.id}").text
    assert "Reports are not shown to your role" in page
    assert "Images are not shown to your role" in page
    assert "Normal." not in page
    assert "data-viewer-model" not in page
    begun = desk.post(f"{hospital.root}/orders/{signed.id}/report/start", data={"kind": "addendum"})
    assert begun.status_code == 403
    assert desk.get(f"{hospital.root}/exceptions").status_code == 403


def test_nobody_but_a_radiologist_touches_a_draft(hospital: Hospital) -> None:
    store = hospital.application.store
    order = hospital.place("40021873")
    hospital.scan(order, slices=1, **NADIA)
    draft = store.run(draft_report, DraftReport(order.id, "Mine.", "", None), person("feng"))
    form = {"revision": str(draft.revision), "state": "final", "trust": "verified", "section.findings": "Theirs."}
    for name in ("desk", "tech", "admin", "lindqvist"):
        stranger = session(hospital, name)
        for verb in ("draft", "sign", "discard", "retract"):
            answer = stranger.post(f"{hospital.root}/reports/{draft.id}/{verb}", data={**form, "reason": "no"})
            assert answer.status_code == 403, (name, verb)
        assert stranger.get(f"{hospital.root}/reports/{draft.id}/edit").status_code == 403
    saved = session(hospital, "feng").post(f"{hospital.root}/reports/{draft.id}/draft", data=form)
    assert saved.status_code == 200, saved.text


def test_form_without_its_token_changes_nothing(hospital: Hospital) -> None:
    store = hospital.application.store
    order = hospital.place("40021873")
    hospital.scan(order, slices=1, **NADIA)
    draft = store.run(draft_report, DraftReport(order.id, "Mine.", "", None), person("feng"))
    feng = session(hospital, "feng")
    del feng.headers["X-CSRF-Token"]
    form = {"revision": str(draft.revision), "state": "final", "trust": "verified", "section.findings": "Forged."}
    assert feng.post(f"{hospital.root}/reports/{draft.id}/sign", data=form).status_code == 401
    assert "Nothing has been reported" not in feng.get(f"{hospital.root}/orders/{order.id}").text
    assert "Forged" not in feng.get(f"{hospital.root}/reports/{draft.id}/edit").text


def test_stale_text_equal_to_the_stored_one_is_no_conflict(hospital: Hospital) -> None:
    store = hospital.application.store
    order = hospital.place("40021873")
    hospital.scan(order, slices=1, **NADIA)
    draft = store.run(draft_report, DraftReport(order.id, "Clear.", "", None), person("feng"))
    feng = session(hospital, "feng")
    url = f"{hospital.root}/reports/{draft.id}/draft"
    form = {"revision": str(draft.revision), "section.findings": "Clear lungs.", "section.impression": ""}
    assert feng.post(url, data=form).status_code == 200
    again = feng.post(url, data=form)
    assert again.status_code == 200
    assert f'data-revision="{draft.revision + 1}"' in again.text
    other = feng.post(url, data={**form, "section.findings": "Something else."})
    assert other.status_code == 409
    assert "Clear lungs." in other.text
    signing = {**form, "state": "final", "trust": "verified"}
    assert feng.post(f"{hospital.root}/reports/{draft.id}/sign", data=signing).status_code == 409
    assert feng.post(url, data={**form, "section.findings": "x" * 60_001}).status_code == 422


def test_bearer_token_opens_a_launch_link_like_a_session(hospital: Hospital, signed: Order) -> None:
    keys, now = hospital.application.keyring, hospital.application.store.clock()
    token = issue(keys, subject="feng", role="radiologist", kind="user", minutes=5, now=now)
    bearer = {"Authorization": f"Bearer {token}", **HTML}
    link = f"{hospital.root}/viewer/launch?requestType=STUDY&studyUID={signed.study_instance_uid}"
    answer = requests.get(link, headers=bearer, allow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/orders/{signed.id}")
    assert "Holloway, Nadia Ruth" in requests.get(f"{hospital.root}/orders/{signed.id}", headers=bearer).text
    everything = requests.get(
        f"{hospital.root}/viewer/launch?requestType=PATIENT&patientID=40021873%5E%5E%5EGENHOSP", headers=bearer
    )
    assert signed.accession_number in everything.text
    assert "40021873" not in everything.url


def test_launch_answers_unknown_and_forbidden_studies_alike(hospital: Hospital, foreign: Order) -> None:
    mine = session(hospital, "lindqvist")

    def answer(uid: str) -> str:
        found = mine.get(f"{hospital.root}/viewer/launch?requestType=STUDY&studyUID={uid}")
        assert found.status_code == 404
        return re.sub(r"<code>.*?</code>", "", found.text)

    assert answer(foreign.study_instance_uid) == answer("1.2.3.4")


def test_signed_out_part_of_a_page_is_told_so_and_a_page_goes_to_the_login(hospital: Hospital) -> None:
    part = requests.get(hospital.root + "/worklist/rows", headers={**HTML, "HX-Request": "true"}, allow_redirects=False)
    assert part.status_code == 401
    page = requests.get(hospital.root + "/exceptions", headers=HTML, allow_redirects=False)
    assert (page.status_code, page.headers["location"]) == (303, "/auth/login?next=%2Fexceptions")


def test_every_opened_order_is_audited_before_it_is_shown(hospital: Hospital, signed: Order) -> None:
    import sqlalchemy as sa

    from hilum.storage import tables

    session(hospital, "vance").get(f"{hospital.root}/orders/{signed.id}")
    session(hospital, "tech").get(f"{hospital.root}/orders/{signed.id}")
    rows = tables.audit_event
    query = sa.select(rows.c.actor).where(rows.c.order_id == signed.id, rows.c.action == "read-order")
    with hospital.application.store.read() as connection:
        readers = set(connection.execute(query).scalars())
    assert "tech" in readers
    assert "vance" not in readers
