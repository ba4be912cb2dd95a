"""Each page in both colours without a barrier that axe-core knows of, by a person's eyes kept as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest
from chromium import barriers, picture, sign_in, tab
from hospital import NADIA, PASSWORD, SLICES, Hospital, person
from playwright.sync_api import Browser, Page

from hilum.core.actor import Identifier
from hilum.core.order import Order, Priority
from hilum.core.report import ReportStatus
from hilum.storage.audit_records import find_person
from hilum.workflow.access import BreakGlass, break_glass
from hilum.workflow.reporting import DraftReport, SignReport, draft_report, sign_report
from hilum.workflow.source import Source

pytestmark = pytest.mark.xdist_group("browser")

EXACT = "[data-stage][data-exact=true]"
FINDINGS = "Lungs: 7 mm solid nodule, right upper lobe.\n\nPleura: no effusion.\n\nMediastinum: no enlarged node."


@dataclass(frozen=True)
class Scene:
    """What the pages show."""

    reported: Order
    written: Order
    report_id: str


@pytest.fixture(scope="module")
def scene(hospital: Hospital) -> Scene:
    """A reported exam with two versions, one with a draft, one that waits, and unverified images."""
    store, reader = hospital.application.store, person("okafor")
    reported = hospital.place("40021873")
    hospital.scan(reported, slices=4, **NADIA)
    page = Source("Hilum page", "okafor")
    first = store.run(
        sign_report, SignReport(reported.id, ReportStatus.FINAL, FINDINGS, "Stable nodule.", None, page), reader
    )
    changed = FINDINGS.replace("right", "left")
    again = SignReport(
        reported.id, ReportStatus.CORRECTED, changed, "Stable nodule.", first.revision, page, "Side corrected."
    )
    store.run(sign_report, again, reader)
    written = hospital.place("40021873", priority=Priority.STAT)
    hospital.scan(written, slices=SLICES, **NADIA)
    draft = store.run(draft_report, DraftReport(written.id, FINDINGS, "", None), person("feng"))
    hospital.place("88120", priority=Priority.URGENT)
    hospital.scan(None, slices=2, StudyInstanceUID="2.25.70707", PatientID="777001", PatientName="Rivers^Sam")
    return Scene(reported, written, draft.id)


@pytest.fixture(scope="module", params=[pytest.param("dark", marks=pytest.mark.full), "light"])
def theme(request: pytest.FixtureRequest) -> str:
    """The colours that the person's system asks for."""
    return str(request.param)


@pytest.fixture(scope="module")
def page(hospital: Hospital, browser: Browser, theme: str) -> Iterator[Page]:
    """A tab in which a radiologist is signed in."""
    with tab(browser, hospital.root, color_scheme=theme) as opened:
        sign_in(opened, "feng", PASSWORD)
        yield opened


def address(name: str, scene: Scene) -> str:
    """Where a page stands."""
    return {
        "worklist": "/",
        "worklist-all": "/?status=all",
        "worklist-empty": "/?text=zzz",
        "order-reported": f"/orders/{scene.reported.id}",
        "order-beside": f"/orders/{scene.written.id}?beside={scene.reported.study_instance_uid}",
        "editor": f"/reports/{scene.report_id}/edit",
        "study-unverified": "/studies/2.25.70707",
        "exceptions": "/exceptions",
        "reassign": "/studies/2.25.70707/reassign",
        "not-here": "/orders/none",
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "worklist",
        "worklist-all",
        "worklist-empty",
        "order-reported",
        "order-beside",
        "editor",
        "study-unverified",
        "exceptions",
        "reassign",
        "not-here",
    ],
)
def test_page_has_no_barrier(page: Page, scene: Scene, theme: str, name: str) -> None:
    page.goto(address(name, scene))
    if page.locator("[data-stage]").count():
        page.wait_for_selector(EXACT)
    picture(page, f"{name}-{theme}")
    assert barriers(page) == []


def test_sign_in_has_no_barrier(hospital: Hospital, browser: Browser, theme: str) -> None:
    with tab(browser, hospital.root, color_scheme=theme) as opened:
        opened.goto("/")
        picture(opened, f"login-{theme}")
        assert barriers(opened) == []


def open_by_emergency(hospital: Hospital) -> str:
    """Let a physician break the glass of a patient who is not theirs; return the patient."""
    store = hospital.application.store
    hospital.place("88120")
    with store.read() as db:
        patient = find_person(db, "88120", "GENHOSP")
    assert patient
    page = Source("Hilum page", "vance")
    command = BreakGlass(Identifier("88120", "GENHOSP"), "Unconscious in the emergency room", timedelta(hours=1), page)
    store.run(break_glass, command, person("vance"))
    return patient


def test_pages_of_access_and_audit_have_no_barrier(hospital: Hospital, browser: Browser, theme: str) -> None:
    patient = open_by_emergency(hospital)
    seen = {
        "vance": {"break-glass": "/access/break-glass", "sessions": "/auth/sessions"},
        "auditor": {
            "audit": "/audit",
            "audit-report": f"/audit/patient/{patient}",
            "reviews": "/access/reviews",
            "reviews-all": "/access/reviews?all=1",
            "not-for-auditors": "/exceptions",
        },
    }
    for name, pages in seen.items():
        with tab(browser, hospital.root, color_scheme=theme) as opened:
            sign_in(opened, name, PASSWORD)
            for called, path in pages.items():
                opened.goto(path)
                picture(opened, f"{called}-{theme}")
                assert barriers(opened) == [], called


def test_dialogs_have_no_barrier(page: Page, scene: Scene) -> None:
    page.goto(f"/reports/{scene.report_id}/edit")
    page.locator("#section-impression").fill("Stable nodule.")
    page.keyboard.press("Control+Enter")
    assert barriers(page) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert barriers(page) == []


def test_chosen_colours_hold_on_every_later_page(hospital: Hospital, browser: Browser) -> None:
    with tab(browser, hospital.root, color_scheme="light") as opened:
        sign_in(opened, "feng", PASSWORD)
        opened.get_by_role("button", name="Colours").click()
        opened.goto("/exceptions")
        assert opened.locator("html").get_attribute("data-theme") == "dark"
