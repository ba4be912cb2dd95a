"""The small viewer on images that came as DICOM and go as rendered frames: scroll, window, zoom, and whose they are."""

from __future__ import annotations

import hashlib

import pytest
from chromium import picture
from hospital import NADIA, SLICES, Hospital
from playwright.sync_api import Page, expect

from hilum.core.order import Order

pytestmark = pytest.mark.xdist_group("browser")

EXACT = "[data-stage][data-exact=true]"


@pytest.fixture(scope="module")
def order(hospital: Hospital) -> Order:
    """An order with one CT series."""
    placed = hospital.place("40021873")
    hospital.scan(placed, **NADIA)
    return placed


def canvas(page: Page) -> str:
    """A digest of the pixels on screen, once they are exactly what was asked for."""
    page.wait_for_selector(EXACT)
    return hashlib.sha256(page.evaluate("document.querySelector('[data-canvas]').toDataURL()").encode()).hexdigest()


def brightness(page: Page) -> float:
    """The mean grey of the canvas."""
    page.wait_for_selector(EXACT)
    return page.evaluate(
        """() => {
          const shown = document.querySelector("[data-canvas]");
          const copy = new OffscreenCanvas(shown.width, shown.height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(shown, 0, 0);
          const { data } = copy.getImageData(0, 0, shown.width, shown.height);
          let sum = 0;
          for (let index = 0; index < data.length; index += 4) sum += data[index];
          return (4 * sum) / data.length;
        }"""
    )


def test_scrolling_and_windowing_change_the_picture(reader: Page, order: Order) -> None:
    reader.goto(f"/orders/{order.id}")
    first = canvas(reader)
    expect(reader.locator("[data-window-text]")).to_have_text("C 40  W 400")
    expect(reader.locator("[data-edge=left]")).to_have_text("R")
    expect(reader.locator("[data-edge=bottom]")).to_have_text("P")
    reader.locator("[data-stage]").focus()
    reader.keyboard.press("ArrowDown")
    expect(reader.locator("[data-frame-text]")).to_contain_text(f"2 of {SLICES}")
    second = canvas(reader)
    assert second != first
    soft = brightness(reader)
    reader.keyboard.press("2")
    expect(reader.locator("[data-window-text]")).to_have_text("C -600  W 1500")
    assert canvas(reader) != second
    assert brightness(reader) > soft
    picture(reader, "viewer-lung-dark")
    reader.keyboard.press("0")
    assert canvas(reader) == second


def test_dragging_shows_a_preview_at_once_and_then_the_exact_picture(reader: Page, order: Order) -> None:
    reader.goto(f"/orders/{order.id}")
    before = canvas(reader)
    box = reader.locator("[data-stage]").bounding_box()
    assert box
    reader.mouse.move(box["x"] + 200, box["y"] + 200)
    reader.mouse.down()
    reader.mouse.move(box["x"] + 380, box["y"] + 140, steps=5)
    reader.mouse.up()
    expect(reader.locator("[data-window-text]")).not_to_have_text("C 40  W 400")
    assert canvas(reader) != before


def test_zoom_is_drawn_and_taken_back(reader: Page, order: Order) -> None:
    reader.goto(f"/orders/{order.id}")
    fitted = canvas(reader)
    reader.locator("[data-stage]").focus()
    for _ in range(4):
        reader.keyboard.press("+")
    reader.wait_for_timeout(300)
    assert canvas(reader) != fitted
    reader.keyboard.press("r")
    reader.wait_for_timeout(300)
    assert canvas(reader) == fitted


def test_image_without_a_window_says_so_and_can_be_windowed(hospital: Hospital, reader: Page) -> None:
    placed = hospital.place("40021873")
    hospital.scan(placed, slices=1, WindowCenter=None, WindowWidth=None, Modality="MR", RescaleIntercept=None, **NADIA)
    reader.goto(f"/orders/{placed.id}")
    fitted = canvas(reader)
    expect(reader.locator("[data-window-text]")).to_have_text("Fitted window")
    box = reader.locator("[data-stage]").bounding_box()
    assert box
    reader.mouse.move(box["x"] + 200, box["y"] + 200)
    reader.mouse.down()
    reader.mouse.move(box["x"] + 100, box["y"] + 220, steps=4)
    reader.mouse.up()
    expect(reader.locator("[data-window-text]")).to_contain_text("W ")
    assert canvas(reader) != fitted


def test_earlier_exam_opens_beside_and_is_marked_as_prior(hospital: Hospital, reader: Page, order: Order) -> None:
    later = hospital.place("40021873")
    hospital.scan(later, slices=2, **NADIA)
    reader.goto(f"/orders/{later.id}")
    reader.get_by_role("link", name="Open beside").first.click()
    expect(reader.locator("[data-viewer]")).to_have_count(2)
    expect(reader.locator(".viewer-beside .corner-prior")).to_contain_text("Prior")
    reader.wait_for_selector(".viewer-beside " + EXACT)
    picture(reader, "order-beside-dark")


def test_opening_the_page_reads_the_order_and_fetching_images_begins_the_reading(
    hospital: Hospital, reader: Page
) -> None:
    placed = hospital.place("40021873")
    hospital.scan(placed, slices=1, **NADIA)
    reader.goto(f"/orders/{placed.id}")
    canvas(reader)
    reading = reader.locator(".station", has_text="Reading")
    expect(reading).to_have_class("station station-done", timeout=15_000)


def test_a_reader_rejects_images_and_whoever_has_them_open_is_told(reader: Page, hospital: Hospital) -> None:
    placed = hospital.place("40021873")
    hospital.scan(placed, **NADIA)
    reader.goto(f"/orders/{placed.id}")
    canvas(reader)
    other = reader.context.new_page()
    other.goto(f"/orders/{placed.id}")
    other.locator("details.reject summary").click()
    other.get_by_label("In your words").fill("left and right are swapped")
    other.get_by_role("button", name="Reject", exact=True).click()
    expect(other.get_by_text("Rejected. The images are hidden everywhere.")).to_be_visible()
    expect(other.locator("[data-viewer]")).to_have_count(0)
    expect(reader.locator("[data-images-new-text]")).to_contain_text("must not be used any more", timeout=10_000)
    other.close()
