"""Signing where the settings ask for the password again, and the page of sessions, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from chromium import barriers, picture, sign_in, tab
from hospital import NADIA, PASSWORD, Hospital, open_hospital
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HILUM_SECURITY__PASSWORD_AGAIN", "true")
        with open_hospital(tmp_path_factory.mktemp("strict") / "home") as opened:
            opened.register("40021873", "Holloway", "Nadia Ruth", date(1958, 7, 2))
            yield opened


@pytest.fixture
def editor(hospital: Hospital, browser: Browser) -> Iterator[Page]:
    """A radiologist whose finished text waits for the signature."""
    order = hospital.place("40021873")
    hospital.scan(order, slices=1, **NADIA)
    with tab(browser, hospital.root, color_scheme="dark") as page:
        sign_in(page, "feng", PASSWORD)
        page.goto(f"/orders/{order.id}")
        page.get_by_role("button", name="Write report").click()
        page.locator("#section-findings").fill("Lungs clear.")
        page.locator("#section-impression").fill("Normal.")
        expect(page.locator("[data-save-state]")).to_contain_text("Saved")
        yield page


def test_the_dialog_does_not_sign_before_the_password_is_there(editor: Page) -> None:
    editor.keyboard.press("Control+Enter")
    expect(editor.locator("#sign")).to_be_visible()
    editor.locator("[data-sign-confirm]").click()
    expect(editor.get_by_label("Your password")).to_be_focused()
    expect(editor.locator("#sign")).to_be_visible()
    assert barriers(editor) == []
    picture(editor, "sign-password-dark")
    editor.get_by_label("Your password").fill(PASSWORD)
    editor.keyboard.press("Enter")
    expect(editor.locator(".notice")).to_contain_text("Signed")


def test_a_wrong_password_signs_nothing_and_keeps_the_text(editor: Page) -> None:
    address = editor.url
    editor.keyboard.press("Control+Enter")
    editor.get_by_label("Your password").fill("wrong wrong wrong")
    editor.keyboard.press("Control+Enter")
    expect(editor.get_by_text("The password is wrong.")).to_be_visible()
    editor.goto(address)
    expect(editor.locator("#section-findings")).to_have_value("Lungs clear.")


def test_sessions_are_ended_on_their_page(hospital: Hospital, browser: Browser) -> None:
    with tab(browser, hospital.root) as here, tab(browser, hospital.root) as there:
        for page in (here, there):
            sign_in(page, "tech", PASSWORD)
        here.get_by_title("Where you are signed in").click()
        expect(here.get_by_role("heading", name="Where you are signed in")).to_be_visible()
        assert barriers(here) == []
        picture(here, "sessions")
        here.get_by_role("button", name="End", exact=True).click()
        expect(here.locator("tbody tr")).to_have_count(1)
        there.goto("/")
        expect(there.get_by_label("User name")).to_be_visible()
