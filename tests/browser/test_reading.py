"""A radiologist's way from the first sign-in to a signed report, in a real browser against the real application."""

from __future__ import annotations

import pytest
from chromium import picture, sign_in, tab
from hospital import NADIA, ONE_TIME, PASSWORD, Hospital
from playwright.sync_api import Browser, Page, expect

from hilum.core.order import Order, Priority

pytestmark = pytest.mark.xdist_group("browser")

EXACT = "[data-stage][data-exact=true]"


@pytest.fixture(scope="module")
def orders(hospital: Hospital) -> tuple[Order, Order]:
    """An earlier routine exam, and a STAT one that comes later."""
    routine, stat = hospital.place("40021873"), hospital.place("40021873", priority=Priority.STAT)
    hospital.scan(routine, slices=3, **NADIA)
    hospital.scan(stat, **NADIA)
    return routine, stat


def test_one_time_password_opens_nothing_but_the_choice_of_another(hospital: Hospital, browser: Browser) -> None:
    with tab(browser, hospital.root, color_scheme="light") as page:
        sign_in(page, "okafor", ONE_TIME)
        expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
        page.goto("/exceptions")
        expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
        picture(page, "password-light")
        page.get_by_label("One-time password").fill(ONE_TIME)
        page.get_by_label("New password", exact=True).fill("a quiet room with many lamps")
        page.get_by_label("New password again").fill("a quiet room with many lamps")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Reading worklist")).to_be_visible()


def test_wrong_password_says_nothing_about_the_account(hospital: Hospital, browser: Browser) -> None:
    with tab(browser, hospital.root) as page:
        for name in ("feng", "nobody"):
            page.goto("/")
            page.get_by_label("User name").fill(name)
            page.get_by_label("Password").fill("wrong wrong wrong")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_have_text("That user name and password do not go together.")


def test_stat_comes_first_and_is_opened_by_keyboard_alone(
    hospital: Hospital, reader: Page, orders: tuple[Order, Order]
) -> None:
    routine, stat = orders
    reader.goto("/")
    expect(reader.locator("[data-row]")).to_have_count(2)
    picture(reader, "worklist-dark")
    reader.keyboard.press("j")
    expect(reader.locator(f"#open-{stat.id}")).to_be_focused()
    reader.keyboard.press("j")
    expect(reader.locator(f"#open-{routine.id}")).to_be_focused()
    reader.keyboard.press("k")
    reader.keyboard.press("Enter")
    expect(reader).to_have_url(f"{hospital.root}/orders/{stat.id}")
    expect(reader.locator(".banner-name")).to_have_text("Holloway, Nadia Ruth")


def test_search_finds_by_name_and_says_when_nothing_matches(reader: Page, orders: tuple[Order, Order]) -> None:
    reader.goto("/")
    reader.keyboard.press("/")
    reader.keyboard.type("nadia hollo")
    expect(reader.locator("[data-row]")).to_have_count(2)
    reader.keyboard.type("x")
    expect(reader.get_by_text("Nothing matches this filter.")).to_be_visible()


def test_open_worklist_shows_what_arrives_without_being_touched(
    hospital: Hospital, reader: Page, orders: tuple[Order, Order]
) -> None:
    reader.goto("/?modality=CT")
    expect(reader.locator("[data-row]")).to_have_count(2)
    later = hospital.place("88120", priority=Priority.URGENT)
    hospital.scan(later, slices=1, PatientID="88120", PatientName="Holloway^Nadja", PatientBirthDate="19830217")
    expect(reader.locator("[data-row]")).to_have_count(3, timeout=15_000)
    expect(reader.locator("[data-row]").nth(1)).to_contain_text("Holloway, Nadja")


def test_autosaved_draft_survives_a_colleague_and_is_signed_with_its_version_shown(
    hospital: Hospital, browser: Browser, reader: Page, orders: tuple[Order, Order]
) -> None:
    _, stat = orders
    reader.goto(f"/orders/{stat.id}")
    reader.wait_for_selector(EXACT)
    reader.get_by_role("button", name="Write report").click()
    reader.locator("#section-findings").fill("Lungs clear.")
    expect(reader.locator("[data-save-state]")).to_contain_text("Saved")
    with tab(browser, hospital.root) as other:
        sign_in(other, "okafor", "a quiet room with many lamps")
        other.goto(reader.url)
        assert other.locator("#section-findings").input_value() == "Lungs clear."
        other.locator("#section-impression").fill("Nothing acute.")
        expect(other.locator("[data-save-state]")).to_contain_text("Saved")
    reader.locator("#section-findings").fill("Lungs clear. 7 mm nodule, right upper lobe.")
    expect(reader.locator(".conflict")).to_be_visible()
    expect(reader.locator(".conflict")).to_contain_text("Okafor, Ifeoma")
    picture(reader, "conflict-dark")
    reader.get_by_role("button", name="Keep mine").click()
    expect(reader.locator("[data-save-state]")).to_contain_text("Saved")
    reader.locator("#section-impression").fill("7 mm nodule, right upper lobe. CT in 12 months.")
    expect(reader.locator("[data-save-state]")).to_contain_text("Saved")
    picture(reader, "editor-dark")
    reader.keyboard.press("Control+Enter")
    expect(reader.locator("#sign")).to_be_visible()
    reader.locator("[data-sign-confirm]").click()
    expect(reader.locator(".notice")).to_contain_text("Signed")
    expect(reader.locator(".version-current")).to_contain_text("version 1")
    expect(reader.locator(".version-current")).to_contain_text("Feng, Alan")
    expect(reader.locator(".station", has_text="Report")).to_have_class("station station-done")
    picture(reader, "order-signed-dark")


def test_correction_needs_its_reason_and_shows_the_changed_words(
    hospital: Hospital, reader: Page, orders: tuple[Order, Order]
) -> None:
    _, stat = orders
    reader.goto(f"/orders/{stat.id}")
    reader.get_by_role("button", name="Correct").click()
    findings = reader.locator("#section-findings")
    expect(findings).to_have_value("Lungs clear. 7 mm nodule, right upper lobe.")
    findings.fill("Lungs clear. 7 mm nodule, left upper lobe.")
    reader.keyboard.press("Control+Enter")
    expect(reader.locator("#sign")).to_be_hidden()
    reader.get_by_label("Why the report is corrected").fill("Side corrected.")
    reader.keyboard.press("Control+Enter")
    reader.locator("[data-sign-confirm]").click()
    expect(reader.locator(".version-current")).to_contain_text("Side corrected.")
    reader.locator(".diff summary").first.click()
    expect(reader.locator(".diff ins").first).to_have_text("left")
    picture(reader, "order-corrected-dark")


def test_withdrawn_report_waits_to_be_read_again(hospital: Hospital, reader: Page, orders: tuple[Order, Order]) -> None:
    _, stat = orders
    reader.goto("/")
    expect(reader.locator(f"#row-{stat.id}")).to_have_count(0)
    reader.goto(f"/orders/{stat.id}")
    reader.locator("#retract summary").click()
    reader.get_by_label("Why the report is withdrawn").fill("Dictated on the wrong patient.")
    reader.get_by_role("button", name="Retract report").click()
    expect(reader.locator(".version-current")).to_contain_text("Dictated on the wrong patient.")
    reader.goto("/")
    expect(reader.locator(f"#row-{stat.id}")).to_have_count(1)


def test_signed_out_tab_goes_to_the_login_instead_of_showing_old_rows(hospital: Hospital, browser: Browser) -> None:
    with tab(browser, hospital.root) as page:
        sign_in(page, "feng", PASSWORD)
        page.goto("/")
        page.context.clear_cookies(name="hilum_session")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=15_000)
