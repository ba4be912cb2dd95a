"""Images whose patient is not proven are readable at once, and nobody can overlook that they are not proven."""

from __future__ import annotations

import pytest
from chromium import picture
from hospital import NADIA, Hospital
from playwright.sync_api import Page, expect

from hilum.core.order import Order

pytestmark = pytest.mark.xdist_group("browser")

EXACT = "[data-stage][data-exact=true]"
STRANGER = {"PatientID": "777001", "PatientName": "Rivers^Sam", "PatientBirthDate": "19700503"}


@pytest.fixture(scope="module")
def unknown(hospital: Hospital) -> str:
    """The Study Instance UID of images that no order and no patient is known for."""
    return hospital.scan(None, slices=2, StudyInstanceUID="2.25.70707", AccessionNumber="OUT-1", **STRANGER)


@pytest.fixture(scope="module")
def contradicted(hospital: Hospital) -> Order:
    """An order under whose accession number another patient's images came."""
    placed = hospital.place("40021873")
    hospital.scan(None, slices=2, StudyInstanceUID="2.25.80808", AccessionNumber=placed.accession_number, **STRANGER)
    return placed


def test_unverified_study_is_on_the_worklist_under_its_chip(reader: Page, unknown: str) -> None:
    reader.goto("/?status=unverified")
    row = reader.locator("[data-row]", has_text="777001").first
    expect(row.locator(".chip-bad")).to_have_text("Unverified")


def test_unverified_images_have_band_and_watermark_and_no_report_button(reader: Page, unknown: str) -> None:
    reader.goto(f"/studies/{unknown}")
    reader.wait_for_selector(EXACT)
    expect(reader.get_by_role("alert")).to_contain_text("Unverified")
    expect(reader.locator(".watermark")).to_have_text("Unverified")
    expect(reader.get_by_role("button", name="Write report")).to_have_count(0)
    expect(reader.locator(".station-missing").first).to_contain_text("No order is known")
    picture(reader, "study-unverified-dark")


def test_images_of_another_patient_are_not_shown_on_the_orders_page(reader: Page, contradicted: Order) -> None:
    reader.goto(f"/orders/{contradicted.id}")
    expect(reader.get_by_role("alert")).to_contain_text("Identity conflict")
    expect(reader.locator("[data-viewer]")).to_have_count(0)
    expect(reader.locator("main")).not_to_contain_text("Rivers")
    reader.goto("/studies/2.25.80808")
    expect(reader.locator(".watermark")).to_have_text("Identity conflict")
    expect(reader.locator(".banner")).not_to_contain_text(contradicted.accession_number)
    picture(reader, "study-conflict-dark")


def test_signature_is_refused_when_identity_became_doubtful_meanwhile(hospital: Hospital, reader: Page) -> None:
    placed = hospital.place("40021873")
    hospital.scan(placed, slices=1, **NADIA)
    reader.goto(f"/orders/{placed.id}")
    reader.get_by_role("button", name="Write report").click()
    reader.locator("#section-impression").fill("Normal.")
    expect(reader.locator("[data-save-state]")).to_contain_text("Saved")
    hospital.scan(None, slices=1, StudyInstanceUID="2.25.90909", AccessionNumber=placed.accession_number, **STRANGER)
    # The banner of the open page turns by itself; the form still says what the person believed.
    expect(reader.get_by_role("alert")).to_contain_text("Identity conflict", timeout=15_000)
    reader.keyboard.press("Control+Enter")
    reader.locator("[data-sign-confirm]").click()
    expect(reader.get_by_role("heading")).to_have_text("Changed in the meantime")
    expect(reader.locator("main")).to_contain_text("Nothing was signed")
    reader.goto(f"/orders/{placed.id}")
    expect(reader.locator(".version")).to_have_count(0)


def test_person_links_unknown_images_to_an_order_with_a_reason(hospital: Hospital, reader: Page) -> None:
    placed = hospital.place("88120")
    uid = hospital.scan(
        None,
        slices=1,
        StudyInstanceUID="2.25.60606",
        PatientID="UNKNOWN-1",
        PatientName="Holloway^Nadja",
        PatientBirthDate="19830217",
    )
    reader.goto(f"/studies/{uid}")
    reader.get_by_role("link", name="Resolve").click()
    reader.get_by_text("Link to order…").click()
    candidate = reader.locator(".candidate", has_text=placed.accession_number)
    expect(candidate.locator(".agreement")).to_contain_text("Birth date agrees")
    expect(candidate.locator(".agreement")).to_contain_text("Patient ID contradicts")
    picture(reader, "exceptions-link-dark")
    candidate.locator("input").check()
    reader.get_by_label("How you know").fill("Same person by photograph and birth date.")
    reader.get_by_role("button", name="Link to the chosen order").click()
    expect(reader.locator(".notice")).to_have_text("Linked to the order.")
    reader.wait_for_selector(EXACT)
    expect(reader.locator(".watermark")).to_have_count(0)
