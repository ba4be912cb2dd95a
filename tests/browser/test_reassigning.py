"""Images of a stranger are moved to their patient by the keyboard alone, with both side by side, and taken back."""

from __future__ import annotations

import pytest
from chromium import barriers, picture
from hospital import Hospital
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.xdist_group("browser")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until a control has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_images_are_moved_and_taken_back_without_a_mouse(hospital: Hospital, reader: Page) -> None:
    placed = hospital.place("88120")
    hospital.scan(None, slices=2, StudyInstanceUID="2.25.70808", PatientID="777001", PatientName="Rivers^Sam")
    reader.goto("/studies/2.25.70808")
    reader.get_by_role("link", name="Move images").focus()
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("heading", level=1)).to_have_text("Move images")
    tab_to(reader, "#find")
    reader.keyboard.type(placed.accession_number)
    reader.keyboard.press("Enter")
    expect(reader.get_by_text("To an order found")).to_be_visible()
    tab_to(reader, "input[name=target]")
    reader.keyboard.press("Space")
    picture(reader, "reassign-choose")
    assert barriers(reader) == []
    tab_to(reader, "button.primary")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("heading", level=1)).to_have_text("Move the whole study")
    table = reader.locator("table.side-by-side")
    expect(table).to_contain_text("Rivers, Sam")
    expect(table).to_contain_text("Holloway, Nadja")
    expect(table.locator("tr.differs").first).to_contain_text("differs from the images")
    assert barriers(reader) == []
    tab_to(reader, "#reason")
    reader.keyboard.type("The nurse named her at the scanner.")
    tab_to(reader, "input[name=compared]")
    reader.keyboard.press("Space")
    picture(reader, "reassign-compare")
    tab_to(reader, "button.danger")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("status").first).to_contain_text("shown where they belong")
    picture(reader, "reassign-done")
    reader.goto("/studies/2.25.70808")
    assert reader.url.endswith(f"/orders/{placed.id}")
    expect(reader.locator("#banner")).to_contain_text("Holloway, Nadja")
    reader.get_by_role("link", name="Move images").click()
    expect(reader.get_by_role("heading", level=1)).to_have_text("Move images")
    tab_to(reader, "summary")
    reader.keyboard.press("Enter")
    tab_to(reader, "input[name=reason]")
    reader.keyboard.type("It was another nurse.")
    tab_to(reader, "button.danger")
    reader.keyboard.press("Enter")
    expect(reader.get_by_role("status").first).to_contain_text("Taken back")
    reader.goto("/studies/2.25.70808")
    expect(reader.locator("#banner")).to_contain_text("Rivers, Sam")
